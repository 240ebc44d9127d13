"""More small things, for desks and tables. See base.py for the frame and the contract of a kind."""

import numpy as np

from ovseg3d.synth.geometry import box, cylinder, lathe, panel, rounded_box, tube
from ovseg3d.synth.kinds.base import Kind, kind
from ovseg3d.synth.materials import paint, picture


@kind("apple")
class Apple(Kind):
    styles = ("round",)
    sizes = ((0.07, 0.085), (0.07, 0.085), (0.075, 0.09))
    natural = ("red", "green", "yellow")
    stands = "top"

    def build(self, size, style, look):
        w, d, h = size
        r = min(w, d) / 2
        body = h * 0.9
        t = np.linspace(-np.pi / 2, np.pi / 2, 17)
        profile = [
            (r * np.cos(a) ** 0.8, body * (0.5 + 0.5 * np.sin(a)) - 0.12 * body * max(0, np.sin(a)) ** 8) for a in t
        ]
        profile[0], profile[-1] = (0, 0), (0, profile[-1][1])
        stalk = tube([(0, 0, body * 0.84), (0.002, 0, body * 0.95), (0.006, 0, h)], 0.0022, paint("#4a3420"), sides=6)
        return [lathe(profile, (0, 0, 0), look.main, smooth_degrees=70), stalk]


@kind("banana")
class Banana(Kind):
    styles = ("curved",)
    sizes = ((0.17, 0.21), (0.06, 0.075), (0.034, 0.038))
    natural = ("yellow", "yellow", "green")
    stands = "top"

    def build(self, size, style, look):
        w, d, h = size
        t = np.linspace(-1, 1, 15)
        r = h / 2
        bend = d - 2 * r
        path = np.stack([t * (w / 2), bend * t**2 - bend / 2, np.full_like(t, r)], -1)
        radius = r * (1 - np.abs(t) ** 3.5 * 0.75)
        tips = [tube(path[k], radius[k] * 1.03, look.second, sides=10) for k in (slice(0, 2), slice(-2, None))]
        return [tube(path, radius, look.main, sides=12), *tips]


@kind("clock")
class Clock(Kind):
    styles = ("table",)
    sizes = ((0.14, 0.2), (0.06, 0.08), (0.15, 0.21))
    stands = "top"

    def build(self, size, style, look):
        w, d, h = size
        r = min(w, h - 0.015) / 2
        n = 128
        y, x = (np.mgrid[0:n, 0:n] + 0.5) / n * 2 - 1
        far, angle = np.hypot(x, y), np.degrees(np.arctan2(x, -y)) % 360
        face = np.full((n, n, 3), 240.0)
        marks = (far > 0.76) & (far < 0.92) & (np.abs((angle + 15) % 30 - 15) < 3.5)
        for hand, length, wide in ((305.0, 0.5, 0.06), (60.0, 0.74, 0.04)):
            c, s = np.sin(np.radians(hand)), -np.cos(np.radians(hand))
            along, across = x * c + y * s, np.abs(x * s - y * c)
            marks |= (across < wide) & (along > -0.1) & (along < length)
        face[marks] = 35
        rim = look.main
        outline = [(np.cos(a) * r, np.sin(a) * r) for a in np.linspace(0, 2 * np.pi, 33)[:-1]]
        from ovseg3d.synth.geometry import prism

        side = 2 * r * 0.94 / np.sqrt(2)
        middle = 0.015 + r
        return [
            prism(outline, d, (0, 0, middle), rim),
            panel(side, side, (0, -d / 2 - 0.0006, middle - side / 2), picture(face.astype(np.uint8))),
            box((w * 0.6, d, 0.02), (0, 0, 0), look.second),
        ]


@kind("pen holder")
class PenHolder(Kind):
    styles = ("round",)
    sizes = ((0.08, 0.095), (0.08, 0.095), (0.17, 0.2))
    stands = "top"

    def build(self, size, style, look):
        w, d, h = size
        r, cup = min(w, d) / 2, h * 0.55
        rng = look.rng
        parts = [
            lathe([(0, 0), (r, 0), (r, cup), (r - 0.004, cup), (r - 0.004, 0.006), (0, 0.006)], (0, 0, 0), look.main)
        ]
        for k, colour in enumerate(("#c43c2e", "#2c5aa0", "#e0b040", "#2f2f33", "#3f8a55")):
            a = k * 1.2566 + rng.uniform(-0.3, 0.3)
            c, s = np.cos(a), np.sin(a)
            top = (c * (r - 0.006), s * (r - 0.006), h * rng.uniform(0.84, 0.98))
            parts.append(tube([(-c * r * 0.4, -s * r * 0.4, 0.01), top], 0.0045, paint(colour), sides=8))
        return parts


@kind("teapot")
class Teapot(Kind):
    styles = ("round",)
    sizes = ((0.22, 0.26), (0.14, 0.16), (0.14, 0.17))
    stands = "top"

    def build(self, size, style, look):
        w, d, h = size
        r = d / 2
        t = np.linspace(0.12, 0.86, 12) * np.pi
        belly = [(r * np.sin(a), h * 0.38 * (1 - np.cos(a))) for a in t]
        parts = [
            lathe([(0, belly[0][1]), *belly, (0, belly[-1][1])], (0, 0, -belly[0][1]), look.main, smooth_degrees=50)
        ]
        top = belly[-1][1] - belly[0][1]
        lid = [
            (0, top - 0.002),
            (r * 0.55, top - 0.002),
            (r * 0.4, top + 0.01),
            (0.01, top + 0.016),
            (0.013, h - 0.008),
            (0, h),
        ]
        parts += [lathe(lid, (0, 0, 0), look.second, smooth_degrees=50)]
        reach = w / 2 - 0.006
        spout = np.array(
            [(r * 0.8, 0, h * 0.25), (r * 1.1, 0, h * 0.35), (reach * 0.9, 0, h * 0.58), (reach, 0, h * 0.68)]
        )
        parts += [tube(spout, (0.019, 0.015, 0.01, 0.008), look.main)]
        a = np.linspace(-0.45, 0.5, 9) * np.pi
        bow = np.stack([-r * 0.85 - np.cos(a) * (w / 2 - r * 0.85 - 0.006), 0 * a, h * 0.4 + np.sin(a) * h * 0.24], -1)
        return [*parts, tube(bow, 0.007, look.main)]


@kind("tissue box")
class TissueBox(Kind):
    styles = ("flat",)
    sizes = ((0.2, 0.24), (0.11, 0.13), (0.1, 0.13))
    stands = "top"

    def build(self, size, style, look):
        w, d, h = size
        body = h * 0.68
        t = np.linspace(-1, 1, 11)
        from ovseg3d.synth.geometry import sheet

        z = np.linspace(0, 1, 7)
        wave = np.sin(t * 5)[:, None] * 0.012 * z + 0.008 * np.cos(t * 3)[:, None] * z**2
        rise = body + (h - body) * z[None, :] * (0.85 + 0.15 * np.cos(t * 2.2))[:, None]
        grid = np.stack([np.broadcast_to(t[:, None] * w * 0.22 * (1 - 0.3 * z), wave.shape), wave, rise], -1)
        return [
            rounded_box((w, d, body), (0, 0, 0), look.main, 0.004, steps=2),
            cylinder(d * 0.25, 0.0008, (0, 0, body), look.second),
            sheet(grid, paint("#f2f0ea")),
        ]


@kind("monitor")
class Monitor(Kind):
    styles = ("flat",)
    sizes = ((0.5, 0.62), (0.17, 0.22), (0.42, 0.5))
    colour_shows = False
    stands = "top"

    def build(self, size, style, look):
        from ovseg3d.synth.kinds.things import screen_image

        w, d, h = size
        tall = w * 0.6
        return [
            rounded_box((w * 0.42, d, 0.012), (0, 0, 0), look.second, 0.005, steps=2),
            box((0.05, 0.03, h - tall * 0.5), (0, d * 0.25, 0.01), look.second),
            rounded_box((w, 0.03, tall), (0, d * 0.1, h - tall), look.main, 0.006, steps=2),
            panel(w - 0.024, tall - 0.024, (0, d * 0.1 - 0.0155, h - tall + 0.012),
                  picture(screen_image(look.rng, "text" if look.seed % 2 else "scene"), gloss=0.05)),
        ]  # fmt: skip
