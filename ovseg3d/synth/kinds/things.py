"""Small things: what lies on tables and floors. See base.py for the frame and the contract of a kind."""

import numpy as np

from ovseg3d.synth.geometry import ball, box, cylinder, lathe, panel, pillow, rounded_box, sheet, tube
from ovseg3d.synth.kinds.base import Kind, kind
from ovseg3d.synth.materials import paint, picture


def screen_image(rng: np.random.Generator, kind_of: str = "scene") -> np.ndarray:
    """A picture (h, w, 3) uint8 for screens: soft hills under a sky, or windows with lines of text."""
    h, w = 96, 160
    y, x = np.mgrid[0:h, 0:w] / np.array([h, w])[:, None, None]
    if kind_of == "scene":
        top, low = rng.uniform(90, 200, 3), rng.uniform(150, 250, 3)
        image = top + (low - top) * y[..., None]
        for k in range(3):
            ridge = 0.45 + 0.15 * k + 0.1 * np.sin(x * rng.uniform(4, 11) + rng.uniform(0, 6))
            image = np.where((y > ridge)[..., None], rng.uniform(30, 150, 3), image)
    else:
        image = np.full((h, w, 3), 60.0) + np.array([0, 15, 40]) * y[..., None]
        for x0, y0, x1, y1 in ((0.06, 0.1, 0.58, 0.86), (0.64, 0.2, 0.94, 0.7)):
            inside = (x > x0) & (x < x1) & (y > y0) & (y < y1)
            image = np.where(inside[..., None], 235.0, image)
            image = np.where((inside & (y < y0 + 0.08))[..., None], np.array([90, 120, 160.0]), image)
            for k in range(6):
                line = inside & (abs(y - y0 - 0.16 - 0.09 * k) < 0.02) & (x < x0 + (x1 - x0) * rng.uniform(0.4, 0.95))
                image = np.where((line & (x > x0 + 0.03))[..., None], 120.0, image)
    return image.clip(0, 255).astype(np.uint8)


@kind("television")
class Television(Kind):
    styles = ("stand",)
    sizes = ((0.9, 1.2), (0.2, 0.26), (0.58, 0.76))
    colour_shows = False
    stands = "top"

    def build(self, size, style, look):
        w, d, h = size
        image = (screen_image(look.rng) * 0.45).astype(np.uint8)
        return [
            rounded_box((w * 0.4, d, 0.02), (0, 0, 0), look.second, 0.008, steps=2),
            box((0.08, 0.04, 0.1), (0, 0.02, 0.01), look.second),
            box((w, 0.05, h - 0.06), (0, 0.02, 0.06), look.main),
            panel(w - 0.03, h - 0.1, (0, -0.006, 0.085), picture(image, gloss=0.1)),
        ]


@kind("laptop")
class Laptop(Kind):
    styles = ("open",)
    sizes = ((0.31, 0.37), (0.27, 0.32), (0.21, 0.25))
    stands = "top"

    def build(self, size, style, look):
        w, d, h = size
        base = d * 0.78
        y = -d / 2 + base / 2
        lean = np.arctan2(d - base, h)
        long = np.hypot(h - 0.016, d - base)
        parts = [
            rounded_box((w, base, 0.016), (0, y, 0), look.main, 0.005, steps=2),
            box((w * 0.88, base * 0.46, 0.002), (0, y + base * 0.17, 0.016), paint("#2a2c30")),
            box((w * 0.34, base * 0.26, 0.001), (0, y - base * 0.28, 0.016), look.second),
        ]
        lid = [
            box((w, 0.008, long), (0, 0.004, 0), look.main),
            panel(w - 0.016, long - 0.02, (0, -0.001, 0.012), picture(screen_image(look.rng, "text"), gloss=0.06)),
        ]
        hinge = (0, -d / 2 + base - 0.006, 0.013)
        return parts + [p.moved(hinge, roll=-lean) for p in lid]


@kind("keyboard")
class Keyboard(Kind):
    styles = ("full",)
    sizes = ((0.36, 0.45), (0.13, 0.15), (0.02, 0.028))
    stands = "top"

    def build(self, size, style, look):
        w, d, h = size
        parts = [rounded_box((w, d, h - 0.006), (0, 0, 0), look.main, 0.006, steps=2)]
        columns, rows = 15, 5
        step_x, step_y = (w - 0.02) / columns, (d - 0.02) / rows
        for j in range(rows):
            i = 0
            while i < columns:
                wide = 5 if (i, j) == (4, 0) else 1
                x = -w / 2 + 0.01 + step_x * (i + wide / 2)
                y = -d / 2 + 0.01 + step_y * (j + 0.5)
                parts.append(box((step_x * wide - 0.003, step_y - 0.003, 0.007), (x, y, h - 0.007), look.second))
                i += wide
        return parts


@kind("mouse")
class Mouse(Kind):
    styles = ("plain",)
    sizes = ((0.06, 0.07), (0.1, 0.12), (0.034, 0.04))
    stands = "top"

    def build(self, size, style, look):
        w, d, h = size
        return [
            rounded_box((w, d, h), (0, 0, 0), look.main, h * 0.48, steps=5),
            box((0.008, 0.02, 0.008), (0, -d * 0.26, h - 0.005), look.second),
        ]


@kind("mug")
class Mug(Kind):
    styles = ("straight", "tapered")
    sizes = ((0.11, 0.13), (0.08, 0.09), (0.085, 0.105))
    stands = "top"

    def build(self, size, style, look):
        w, d, h = size
        r = d / 2
        low = r * (0.78 if style == "tapered" else 1.0)
        cup = lathe(
            [(0, 0), (low * 0.94, 0), (low, 0.006), (r, h), (r - 0.005, h), (low - 0.007, 0.012), (0, 0.012)],
            (0, 0, 0), look.main, smooth_degrees=35,
        )  # fmt: skip
        drink = cylinder(low - 0.004, 0.002, (0, 0, h * 0.78), paint("#3b2416"))
        t = np.linspace(-0.5 * np.pi, 0.5 * np.pi, 9)
        reach = w - d
        handle = np.stack([r * 0.93 + np.cos(t) * reach, 0 * t, h * 0.5 + np.sin(t) * h * 0.3], -1)
        shift = (-(w - d) / 2, 0, 0)
        return [p.moved(shift) for p in (cup, drink, tube(handle, 0.006, look.main))]


@kind("bowl")
class Bowl(Kind):
    styles = ("round",)
    sizes = ((0.2, 0.3), (0.2, 0.3), (0.08, 0.12))
    stands = "top"

    def build(self, size, style, look):
        w, d, h = size
        r = min(w, d) / 2
        t = np.linspace(0, 1, 8)
        outside = [(r * (0.4 + 0.6 * s**0.6), 0.01 + (h - 0.01) * s**1.3) for s in t]
        inside = [(x - 0.006, z + 0.004) for x, z in outside[::-1]]
        inside[0] = (r - 0.006, h)
        profile = [(0, 0), (r * 0.4, 0), *outside, *inside, (0, 0.014)]
        return [lathe(profile, (0, 0, 0), look.main, smooth_degrees=50)]


@kind("bottle")
class Bottle(Kind):
    styles = ("wine", "water")
    sizes = ((0.07, 0.085), (0.07, 0.085), (0.22, 0.31))
    stands = "top"

    def build(self, size, style, look):
        w, d, h = size
        r = min(w, d) / 2
        neck = 0.014
        t = np.linspace(0, np.pi / 2, 6)
        shoulder = [(neck + (r - neck) * np.cos(a), h * 0.6 + h * 0.15 * np.sin(a)) for a in t]
        body = [(0, 0), (r * 0.9, 0), (r, 0.008), *shoulder, (neck, h - 0.025), (0, h - 0.025)]
        label = lathe([(r + 0.0006, h * 0.2), (r + 0.0006, h * 0.46)], (0, 0, 0), look.second)
        cap = cylinder(neck + 0.002, 0.03, (0, 0, h - 0.03), look.second)
        return [lathe(body, (0, 0, 0), look.main, smooth_degrees=35), label, cap]


@kind("book")
class Book(Kind):
    styles = ("closed", "stack")
    sizes = ((0.14, 0.22), (0.2, 0.28), (0.02, 0.05))
    stands = "top"

    def build(self, size, style, look):
        w, d, h = size
        rng, parts, z = look.rng, [], 0.0
        count = 3 if style == "stack" else 1
        for k in range(count):
            t = h / count
            cover = (look.main, look.second, look.main.but(colour=look.second.colour, second=look.main.colour))[k]
            turn = 0.0 if count == 1 else rng.uniform(-0.06, 0.06)
            # Books of a stack are a little smaller, so that turned ones stay within the stack's box.
            s = 1.0 if count == 1 else 0.9
            one = [
                box((w * s, d * s, 0.003), (0, 0, 0), cover),
                box((w * s, d * s, 0.003), (0, 0, t - 0.003), cover),
                box((0.004, d * s, t - 0.006), (-w * s / 2 + 0.002, 0, 0.003), cover),
                box((w * s - 0.01, d * s - 0.012, t - 0.006), (0.001, 0, 0.003), paint("#ece6d6")),
            ]
            parts += [p.moved((0, 0, z), yaw=turn) for p in one]
            z += t
        return parts


@kind("ball")
class Ball(Kind):
    styles = ("plain", "bands")
    sizes = ((0.2, 0.26), (0.2, 0.26), (0.2, 0.26))

    def build(self, size, style, look):
        r = min(size) / 2
        parts = [ball(r, (0, 0, 0), look.main)]
        if style == "bands":
            t = np.radians(np.linspace(-16, 16, 7))
            belt = [(np.cos(a) * (r + 0.0005), r + np.sin(a) * (r + 0.0005)) for a in t]
            parts.append(lathe(belt, (0, 0, 0), look.second, smooth_degrees=60))
        return [p.moved((0, 0, -r)).moved((0, 0, r), roll=0.5, yaw=0.4) for p in parts]


@kind("cushion")
class Cushion(Kind):
    styles = ("square",)
    sizes = ((0.4, 0.5), (0.4, 0.5), (0.14, 0.18))
    stands = "top"

    def build(self, size, style, look):
        return [pillow(size, (0, 0, 0), look.main)]


@kind("plant")
class Plant(Kind):
    styles = ("leafy", "spiky")
    sizes = ((0.45, 0.7), (0.45, 0.7), (0.7, 1.3))
    natural = ("green",)

    def build(self, size, style, look):
        w, d, h = size
        rng = look.rng
        r = min(w, d) / 2
        pot_h, pot_r = h * 0.27, min(r * 0.5, h * 0.16)
        soil = pot_h * 0.9
        pot = lathe(
            [(0, 0), (pot_r * 0.72, 0), (pot_r, pot_h), (pot_r * 0.9, pot_h), (pot_r * 0.88, soil), (0, soil)],
            (0, 0, 0), look.second,
        )  # fmt: skip
        earth = cylinder(pot_r * 0.87, 0.004, (0, 0, pot_h * 0.9), paint("#3a2c20"))
        parts = [pot, earth]
        count = 22 if style == "leafy" else 18
        greens = [look.main, look.main.but(colour=tuple(0.72 * c for c in look.main.colour))]
        for k in range(count):
            turn = k * 2.39996 + rng.uniform(-0.2, 0.2)
            rise = rng.uniform(0.5, 1.0) if style == "leafy" else rng.uniform(0.75, 1.0)
            out = r * (1.05 - 0.55 * rise if style == "leafy" else 0.75 * (k / count) + 0.1)
            start = np.array([0, 0, pot_h * 0.9])
            tip = np.array([np.cos(turn) * out, np.sin(turn) * out, pot_h + (h - pot_h) * rise * 0.97])
            middle = start * 0.45 + tip * 0.55 + [0, 0, 0.08 * h]
            middle[:2] *= 0.55
            s = np.linspace(0, 1, 8)[:, None]
            path = (1 - s) ** 2 * start + 2 * s * (1 - s) * middle + s**2 * tip
            wide = (0.055 if style == "leafy" else 0.022) * np.sqrt(h)
            shape = np.sin(np.pi * np.clip((s - 0.42) / 0.58, 0.02, 0.99)) if style == "leafy" else 1.02 - s
            side = np.array([-np.sin(turn), np.cos(turn), 0])
            half = np.maximum(wide * shape, 0.004)
            fold = [0, 0, 0.25] * half
            parts.append(
                sheet(np.stack([path - side * half + fold, path, path + side * half + fold], 1), greens[k % 2])
            )
        # Leaves are kept inside the stated box.
        return [_inside(p, r, h) for p in parts]


def _inside(part, radius, height):
    from dataclasses import replace

    points = part.soup.points.copy()
    points[..., :2] = points[..., :2].clip(-radius, radius)
    points[..., 2] = points[..., 2].clip(0, height)
    return replace(part, soup=replace(part.soup, points=points))


@kind("vase")
class Vase(Kind):
    styles = ("slender",)
    sizes = ((0.12, 0.2), (0.12, 0.2), (0.2, 0.36))
    stands = "top"

    def build(self, size, style, look):
        w, d, h = size
        r = min(w, d) / 2
        t = np.linspace(0, 1, 14)
        outside = [(r * (0.62 + 0.38 * np.sin(3.6 * s + 0.2)), h * s) for s in t]
        scale = r / max(x for x, _ in outside)
        outside = [(x * scale, z) for x, z in outside]
        inside = [(outside[-1][0] - 0.008, h), (outside[-4][0] - 0.01, h * 0.75), (0, h * 0.7)]
        return [lathe([(0, 0), *outside, *inside], (0, 0, 0), look.main, smooth_degrees=50)]


@kind("bear")
class Bear(Kind):
    styles = ("sitting",)
    sizes = ((0.28, 0.4), (0.26, 0.36), (0.38, 0.5))
    stands = "top"

    def build(self, size, style, look):
        _, _, h = size
        fur, pale, dark = look.main, look.second, paint("#1c1614")
        s = h
        parts = [
            ball(0.25 * s, (0, 0.05 * s, 0), fur, squash=1.1),
            ball(0.19 * s, (0, 0.02 * s, 0.58 * s), fur),
            ball(0.085 * s, (0, -0.13 * s, 0.66 * s), pale, squash=0.85),
            ball(0.028 * s, (0, -0.205 * s, 0.73 * s), dark),
        ]
        for k in (-1, 1):
            parts += [
                ball(0.065 * s, (k * 0.15 * s, 0.03 * s, 0.87 * s), fur),
                ball(0.02 * s, (k * 0.075 * s, -0.155 * s, 0.79 * s), dark),
                ball(0.1 * s, (k * 0.17 * s, -0.22 * s, 0), fur, squash=0.9),
                ball(0.06 * s, (k * 0.17 * s, -0.275 * s, 0.03 * s), pale, squash=0.9),
                ball(0.09 * s, (k * 0.25 * s, -0.04 * s, 0.26 * s), fur, squash=1.3),
            ]
        box_low, box_high = (np.array([f([p.soup.points.min((0, 1)) if f is np.min else p.soup.points.max((0, 1))
                                          for p in parts], axis=0)]) for f in (np.min, np.max))  # fmt: skip
        grow = np.diag(np.array(size) / (box_high - box_low)[0])
        middle = grow @ ((box_low + box_high)[0] / 2)
        return [p.transformed(grow, np.array([-middle[0], -middle[1], 0.0])) for p in parts]
