"""Plates, cups and bins. See base.py for a kind's contract."""

import numpy as np

from ovseg3d.synth.geometry import ball, box, cylinder, lathe, tube
from ovseg3d.synth.kinds.base import Kind, kind, style
from ovseg3d.synth.kinds.shapes import DARK, knob, lying, ring, skin
from ovseg3d.synth.materials import paint

IV = paint("#d8d6cf")


@kind("plate")
class Plate(Kind):
    styles = ("rimmed",)
    sizes = ((0.22, 0.28), (0.22, 0.28), (0.02, 0.026))
    stands = "top"

    def build(self, size, style, look):
        w, d, h = size
        r = min(w, d) / 2
        profile = [
            (0, 0),
            (r * 0.55, 0),
            (r * 0.62, 0.004),
            (r, h - 0.004),
            (r, h),
            (r * 0.66, 0.011),
            (r * 0.6, 0.007),
            (0, 0.007),
        ]
        rim = lathe([(r * 0.9, h * 0.86), (r * 0.985, h + 0.0006)], (0, 0, 0), look.second, segments=36)
        return [lathe(profile, (0, 0, 0), look.main, segments=36), rim]


@style("plate", "deep", sizes=((0.2, 0.25), (0.2, 0.25), (0.035, 0.045)))
def plate_deep(size, look):
    w, d, h = size
    r = min(w, d) / 2
    profile = [
        (0, 0),
        (r * 0.5, 0),
        (r * 0.72, h * 0.75),
        (r, h - 0.005),
        (r, h),
        (r * 0.72, h * 0.85),
        (r * 0.55, 0.01),
        (0, 0.008),
    ]
    return [lathe(profile, (0, 0, 0), look.main, segments=36)]


@style("plate", "square")
def plate_square(size, look):
    w, d, h = size
    s = min(w, d)
    out = [ring(s * 0.6, s * 0.6, 0, power=8, n=36), ring(s, s, h * 0.85, power=8, n=36), ring(s, s, h, power=8, n=36)]
    return [skin([*out, ring(s * 0.68, s * 0.68, 0.009, power=8, n=36)], look.main)]


@style("plate", "with food", sizes=((0.23, 0.28), (0.23, 0.28), (0.05, 0.06)))
def plate_food(size, look):
    w, d, _ = size
    r, low = min(w, d) / 2, 0.024
    profile = [(0, 0), (r * 0.55, 0), (r, low - 0.004), (r, low), (r * 0.66, 0.011), (0, 0.007)]
    parts = [lathe(profile, (0, 0, 0), look.main, segments=36)]
    parts.append(ball(0.03, (-r * 0.25, r * 0.15, 0.006), paint("#7a4a2b"), squash=0.7, segments=14))
    for k in range(7):
        a = k * 2.4
        parts.append(
            ball(
                0.011, (r * 0.28 + 0.03 * np.cos(a), -r * 0.1 + 0.035 * np.sin(a), 0.007), paint("#5c8f3a"), segments=8
            )
        )
    parts.append(ball(0.026, (-r * 0.1, -r * 0.3, 0.006), paint("#e2c56a"), squash=0.8, segments=12))
    return parts


@kind("cup")
class Cup(Kind):
    styles = ("saucer",)
    sizes = ((0.14, 0.16), (0.14, 0.16), (0.075, 0.09))
    stands = "top"

    def build(self, size, style, look):
        w, d, h = size
        r = min(w, d) / 2
        dish = lathe(
            [(0, 0), (r * 0.5, 0), (r, 0.014), (r, 0.017), (r * 0.5, 0.006), (0, 0.006)],
            (0, 0, 0),
            look.main,
            segments=32,
        )
        s = r * 0.58
        body = [
            (0, 0.006),
            (s * 0.5, 0.006),
            (s * 0.55, 0.015),
            (s * 0.9, h * 0.5),
            (s, h),
            (s - 0.004, h),
            (s * 0.8, h * 0.45),
            (0, 0.02),
        ]
        t = np.linspace(-0.5, 0.5, 9) * np.pi
        handle = np.stack([s * 0.86 + np.cos(t) * 0.024, 0 * t, h * 0.62 + np.sin(t) * 0.02], -1)
        tea = cylinder(s * 0.85, 0.002, (0, 0, h * 0.74), paint("#6b3d1c"))
        return [dish, lathe(body, (0, 0, 0), look.main), tube(handle, 0.004, look.main), tea]


@style("cup", "paper", sizes=((0.08, 0.095), (0.08, 0.095), (0.12, 0.15)), word="paper cup")
def cup_paper(size, look):
    w, d, h = size
    r = min(w, d) / 2
    lid = [(0, h - 0.014), (r, h - 0.018), (r, h - 0.008), (r * 0.86, h), (r * 0.8, h - 0.003), (0, h - 0.003)]
    return [
        cylinder(r * 0.7, h - 0.012, (0, 0, 0), look.main, top=r * 0.94),
        lathe([(r * 0.79, h * 0.3), (r * 0.9, h * 0.68)], (0, 0, 0), look.second).moved((0, 0, 0)),
        lathe(lid, (0, 0, 0), IV),
    ]


@style("cup", "goblet", sizes=((0.075, 0.09), (0.075, 0.09), (0.14, 0.18)))
def cup_goblet(size, look):
    w, d, h = size
    r = min(w, d) / 2
    profile = [
        (0, 0),
        (r * 0.75, 0),
        (r * 0.7, 0.006),
        (0.008, 0.012),
        (0.008, h * 0.4),
        (r * 0.8, h * 0.55),
        (r, h * 0.78),
        (r * 0.9, h),
        (r * 0.86, h),
        (r * 0.9, h * 0.78),
        (r * 0.6, h * 0.56),
        (0, h * 0.48),
    ]
    return [lathe(profile, (0, 0, 0), look.main)]


@style("cup", "beaker", sizes=((0.07, 0.085), (0.07, 0.085), (0.09, 0.12)))
def cup_beaker(size, look):
    w, d, h = size
    r = min(w, d) / 2
    profile = [(0, 0), (r * 0.78, 0), (r, h), (r - 0.004, h), (r * 0.72, 0.008), (0, 0.008)]
    return [
        lathe(profile, (0, 0, 0), look.main),
        lathe([(r * 0.955, h * 0.8), (r * 0.985, h * 0.9)], (0, 0, 0), look.second).moved(),
    ]


@kind("bin")
class Bin(Kind):
    styles = ("pedal",)
    sizes = ((0.26, 0.34), (0.28, 0.36), (0.42, 0.65))

    def build(self, size, style, look):
        w, d, h = size
        r = min(w, d) / 2 - 0.01
        body = h - r * 0.35
        t = np.linspace(0, np.pi / 2, 7)
        dome = [(r * np.cos(a), body + 0.012 + r * 0.33 * np.sin(a)) for a in t]
        return [
            lathe([(0, 0.02), (r, 0.02), (r, body), (0, body)], (0, 0, 0), look.main, segments=32),
            lathe([(0, 0), (r + 0.004, 0), (r + 0.004, 0.03), (0, 0.03)], (0, 0, 0), look.second, segments=32),
            lathe([(0, body + 0.002), (r + 0.004, body + 0.002), *dome], (0, 0, 0), look.second, segments=32),
            box((0.09, 0.05, 0.015), (0, -r - 0.015, 0.012), DARK),
        ]


@style("bin", "basket", sizes=((0.26, 0.34), (0.26, 0.34), (0.28, 0.36)))
def bin_basket(size, look):
    w, d, h = size
    r = min(w, d) / 2
    wall = [
        (0, 0),
        (r * 0.76, 0),
        (r * 0.97, h - 0.02),
        (r, h - 0.02),
        (r, h),
        (r * 0.94, h),
        (r * 0.73, 0.01),
        (0, 0.01),
    ]
    bags = [
        ball(0.06, (x * r, y * r, h * z), paint(c), segments=12)
        for x, y, z, c in ((0.3, 0.1, 0.55, "#e9e6df"), (-0.3, -0.15, 0.5, "#d9d2bc"), (0.0, 0.3, 0.45, "#e9e6df"))
    ]
    return [lathe(wall, (0, 0, 0), look.main, segments=30), *bags]


@style("bin", "wheels", sizes=((0.48, 0.58), (0.55, 0.68), (0.95, 1.08)))
def bin_wheels(size, look):
    w, d, h = size
    top = h - 0.1
    rings_ = [
        ring(w * 0.78, d * 0.66, 0.04, power=8, at=(0, -0.02)),
        ring(w * 0.96, d * 0.86, top, power=8, at=(0, -0.02)),
    ]
    lid = skin(
        [
            ring(w, d * 0.92, top, power=8, at=(0, -0.02)),
            ring(w, d * 0.92, top + 0.03, power=8, at=(0, -0.02)),
            ring(w * 0.7, d * 0.6, h, power=5, at=(0, -0.02)),
        ],
        look.second,
    )
    parts = [
        skin(rings_, look.main),
        lid,
        tube([(-w * 0.35, d / 2 - 0.03, top + 0.02), (w * 0.35, d / 2 - 0.03, top + 0.02)], 0.018, look.main),
    ]
    for s in (-1, 1):
        parts.append(lying(0.1, 0.05, (0, 0, 0), DARK).moved((s * (w / 2 - 0.06), d / 2 - 0.12, 0.1), yaw=np.pi / 2))
    return parts


@style("bin", "swing lid", sizes=((0.3, 0.38), (0.24, 0.3), (0.5, 0.68)))
def bin_swing(size, look):
    w, d, h = size
    body = h * 0.72
    shape = [(-w * 0.44, 0), (w * 0.44, 0), (w / 2, body), (-w / 2, body)]
    roof = [(-w / 2, body), (w / 2, body), (w * 0.3, h), (-w * 0.3, h)]
    from ovseg3d.synth.geometry import prism

    flap = box(
        (w * 0.5, 0.006, (h - body) * 0.75),
        (0, -d / 2 - 0.002, body + (h - body) * 0.1),
        look.second.but(colour=tuple(0.7 * c for c in look.second.colour)),
    )
    return [
        prism(shape, d, (0, 0, 0), look.main),
        prism(roof, d, (0, 0, 0), look.second),
        flap,
        knob((0, -d / 2, body + (h - body) * 0.25)),
    ]
