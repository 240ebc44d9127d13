"""Furniture: things that stand on the floor. See base.py for the frame and the contract of a kind."""

import numpy as np

from ovseg3d.synth.geometry import box, cylinder, lathe, pillow, rounded_box, tube
from ovseg3d.synth.kinds.base import Kind, kind
from ovseg3d.synth.materials import glow, paint, wood


def legs(w, d, h, thick, material, *, inset=0.0, round_leg=False):
    """Four legs under a w x d top.

    Args:
        w, d: of the top in metres.
        h: of the legs in metres.
        thick: of a leg in metres.
        material: of all of it.
        inset: from the edge of the top, in metres.
        round_leg: turned legs, thinner below.
    """
    x, y = w / 2 - thick / 2 - inset, d / 2 - thick / 2 - inset
    make = (
        (lambda at: cylinder(thick * 0.35, h, at, material, top=thick / 2, segments=14))
        if round_leg
        else (lambda at: box((thick, thick, h), at, material))
    )
    return [make((sx * x, sy * y, 0)) for sx in (-1, 1) for sy in (-1, 1)]


@kind("bed")
class Bed(Kind):
    styles = ("headboard", "divan")
    sizes = ((0.9, 1.8), (1.9, 2.1), (0.7, 1.1))
    stands = "wall"

    def build(self, size, style, look):
        w, d, h = size
        base = 0.28
        sheet = paint("#e9e6df")
        parts = [box((w, d - 0.04, base - 0.1), (0, -0.02, 0.1), look.second)]
        parts += legs(w, d - 0.04, 0.1, 0.08, look.second)
        parts += [rounded_box((w - 0.04, d - 0.1, 0.2), (0, -0.03, base), sheet, 0.06)]
        # The cover hangs over the sides and leaves the pillows free.
        parts += [rounded_box((w + 0.03, d * 0.68, 0.23), (0, -d * 0.16 + 0.02, base - 0.005), look.main, 0.05)]
        parts += [
            pillow((min(0.65, w * 0.42), 0.42, 0.15), (x, d / 2 - 0.32, base + 0.18), sheet)
            for x in ((-w * 0.24, w * 0.24) if w > 1.2 else (0,))
        ]
        if style == "headboard":
            parts += [rounded_box((w, 0.05, h), (0, d / 2 - 0.025, 0), look.second, 0.02)]
        return parts


@kind("table")
class Table(Kind):
    styles = ("square legs", "round")
    sizes = ((0.8, 1.6), (0.6, 0.9), (0.45, 0.76))
    surface = 1.0

    def build(self, size, style, look):
        w, d, h = size
        if style == "round":
            r = min(w, d) / 2
            top = lathe([(0, h - 0.035), (r - 0.02, h - 0.035), (r, h - 0.015), (r, h), (0, h)], (0, 0, 0), look.main,
                        segments=40)  # fmt: skip
            foot = lathe([(0, 0), (r * 0.6, 0), (r * 0.58, 0.03), (0.05, 0.08), (0.04, h - 0.03)], (0, 0, 0),
                         look.second)  # fmt: skip
            return [top, foot]
        apron = look.second
        return [
            rounded_box((w, d, 0.035), (0, 0, h - 0.035), look.main, 0.008, steps=2),
            box((w - 0.12, d - 0.12, 0.07), (0, 0, h - 0.105), apron),
            *legs(w, d, h - 0.035, 0.055, apron, inset=0.03),
        ]


@kind("desk")
class Desk(Kind):
    styles = ("drawers", "trestle")
    sizes = ((1.0, 1.5), (0.55, 0.75), (0.72, 0.78))
    stands = "wall"
    surface = 1.0

    def build(self, size, style, look):
        w, d, h = size
        parts = [rounded_box((w, d, 0.03), (0, 0, h - 0.03), look.main, 0.006, steps=2)]
        if style == "trestle":
            for x in (-w / 2 + 0.12, w / 2 - 0.12):
                for s in (-1, 1):
                    parts.append(tube([(x, s * (d / 2 - 0.05), 0.0), (x, s * 0.06, h - 0.03)], 0.018, look.second))
                parts.append(box((0.04, d * 0.6, 0.03), (x, 0, 0.25), look.second))
            return parts
        body = 0.4
        x = w / 2 - body / 2 - 0.02
        parts += [box((body, d - 0.06, h - 0.05), (x, 0.01, 0.02), look.main)]
        for k in range(3):
            tall = (h - 0.1) / 3
            z = 0.04 + k * tall
            parts += [box((body - 0.03, 0.02, tall - 0.02), (x, -d / 2 + 0.03, z), look.second)]
            parts += [box((0.12, 0.02, 0.015), (x, -d / 2 + 0.012, z + tall * 0.6), paint("#333333"))]
        parts += [box((0.04, d - 0.06, h - 0.03), (-w / 2 + 0.04, 0, 0), look.main)]
        parts += [box((w - 0.5, 0.02, 0.3), (-0.2, d / 2 - 0.06, h - 0.33), look.main)]
        return parts


@kind("chair")
class Chair(Kind):
    styles = ("slats", "shell", "padded")
    sizes = ((0.42, 0.52), (0.44, 0.55), (0.8, 0.98))

    def build(self, size, style, look):
        w, d, h = size
        seat = 0.45
        if style == "shell":
            parts = [rounded_box((w, d, 0.04), (0, 0, seat - 0.04), look.main, 0.018)]
            grid = []
            for t in np.linspace(0, 1, 9):
                z, lean = seat + t * (h - seat), d / 2 - 0.04 + 0.03 * t
                half = w / 2 * (1 - 0.25 * max(0, t - 0.6) / 0.4)
                grid.append([(x, lean - 0.06 * (x / w * 2) ** 2, z) for x in np.linspace(-half, half, 9)])
            from ovseg3d.synth.geometry import sheet

            parts += [sheet(np.array(grid), look.main)]
            for sx in (-1, 1):
                for sy in (-1, 1):
                    foot, top = (sx * w * 0.46, sy * d * 0.46, 0), (sx * w * 0.3, sy * d * 0.3, seat - 0.03)
                    parts.append(tube([foot, top], 0.014, look.second))
            return parts
        soft = style == "padded"
        parts = [rounded_box((w, d, 0.07 if soft else 0.03), (0, 0, seat - 0.03), look.main, 0.03 if soft else 0.008)]
        parts += legs(w, d, seat - 0.03, 0.04, look.second)
        back = d / 2 - 0.02
        for x in (-w / 2 + 0.02, w / 2 - 0.02):
            parts.append(box((0.04, 0.035, h - seat + 0.03), (x, back, seat - 0.03), look.second))
        if soft:
            tall = h - seat
            parts += [rounded_box((w - 0.05, 0.06, tall * 0.7), (0, back - 0.01, h - tall * 0.75), look.main,
                                  0.028)]  # fmt: skip
        else:
            for k in range(3):
                z = seat + 0.1 + k * (h - seat - 0.16) / 2
                parts.append(box((w - 0.07, 0.022, 0.06), (0, back, z), look.main))
        return parts


@kind("sofa")
class Sofa(Kind):
    styles = ("block", "slim")
    sizes = ((1.4, 2.1), (0.8, 0.95), (0.72, 0.9))
    stands = "wall"

    def build(self, size, style, look):
        w, d, h = size
        arm = 0.2 if style == "block" else 0.11
        foot, seat = 0.1, 0.43
        arm_high = 0.6 if style == "block" else 0.55
        parts = [box((w - 0.06, d - 0.08, seat - foot - 0.12), (0, 0, foot), look.main)]
        parts += legs(w - 0.06, d - 0.06, foot, 0.06, look.second, round_leg=True)
        parts += [rounded_box((w, 0.22, h - foot), (0, d / 2 - 0.11, foot), look.main, 0.07)]
        for s in (-1, 1):
            parts += [rounded_box((arm, d - 0.02, arm_high - foot), (s * (w - arm) / 2, -0.01, foot), look.main, 0.06)]
        seats = 2 if w < 1.75 else 3
        inner = (w - 2 * arm) / seats
        for k in range(seats):
            x = -w / 2 + arm + inner * (k + 0.5)
            parts += [rounded_box((inner - 0.012, d - 0.26, 0.17), (x, -0.09, seat - 0.16), look.main, 0.045)]
            parts += [rounded_box((inner - 0.012, 0.17, h - seat - 0.02), (x, d / 2 - 0.26, seat), look.main, 0.06)]
        return parts


@kind("bookshelf")
class Bookshelf(Kind):
    styles = ("full", "sparse")
    sizes = ((0.7, 1.1), (0.26, 0.34), (1.5, 2.0))
    stands = "wall"
    colours = ("#8c2f2b", "#2f5c7d", "#d9c7a0", "#3d6b4a", "#c98b2b", "#5b4a78", "#e8e3d8", "#333940", "#a85c7a")

    def build(self, size, style, look):
        w, d, h = size
        t, rng = 0.025, look.rng
        parts = [box((t, d, h), (s * (w - t) / 2, 0, 0), look.main) for s in (-1, 1)]
        parts += [box((w - 2 * t, 0.012, h - 0.02), (0, d / 2 - 0.006, 0.01), look.second)]
        count = max(3, round(h / 0.36))
        gap = (h - 0.05 - t) / count
        covers = [paint(c) for c in self.colours]
        for k in range(count + 1):
            parts += [box((w - 2 * t, d, t), (0, 0, 0.05 + k * gap if k < count else h - t), look.main)]
        parts += [box((w - 2 * t, 0.02, 0.05), (0, -d / 2 + 0.03, 0), look.main)]
        for k in range(count):
            x, z = -w / 2 + t + 0.01, 0.05 + k * gap + t
            until = w / 2 - t - (0.02 if style == "full" and rng.random() < 0.6 else rng.uniform(0.1, 0.6) * w)
            while x < until - 0.05:
                thick, tall = rng.uniform(0.022, 0.055), gap * rng.uniform(0.58, 0.86)
                deep = d * rng.uniform(0.62, 0.82)
                cover = covers[int(rng.integers(len(covers)))]
                parts.append(box((thick - 0.002, deep, tall), (x + thick / 2, -d / 2 + 0.02 + deep / 2, z), cover))
                x += thick
        return parts


@kind("cabinet")
class Cabinet(Kind):
    styles = ("doors", "drawers")
    sizes = ((0.8, 1.5), (0.38, 0.48), (0.5, 0.9))
    stands = "wall"
    surface = 1.0

    def build(self, size, style, look):
        w, d, h = size
        foot = 0.08
        parts = [box((w, d - 0.02, h - foot), (0, 0.01, foot), look.main)]
        parts += legs(w, d, foot, 0.05, paint("#3a342e"), inset=0.03)
        rows, columns = (1, max(2, round(w / 0.45))) if style == "doors" else (3, max(1, round(w / 0.7)))
        cell_w, cell_h = w / columns, (h - foot) / rows
        for i in range(columns):
            for j in range(rows):
                x, z = -w / 2 + cell_w * (i + 0.5), foot + cell_h * j
                parts.append(box((cell_w - 0.02, 0.02, cell_h - 0.02), (x, -d / 2 + 0.01, z + 0.01), look.second))
                side = cell_w * (0.36 if i % 2 == 0 else -0.36) if style == "doors" else 0.0
                parts.append(cylinder(0.014, 0.025, (0, 0, 0), paint("#2e2b28"), segments=10)
                             .moved((x + side, -d / 2, z + cell_h * 0.55), roll=np.pi / 2))  # fmt: skip
        return parts


@kind("lamp")
class Lamp(Kind):
    styles = ("standing", "desk")
    sizes = ((0.32, 0.45), (0.32, 0.45), (1.35, 1.7))

    def build(self, size, style, look):
        w, d, h = size
        r = min(w, d) / 2
        shade_h = min(0.3, h * 0.42)
        stem = h - shade_h * 0.5
        foot = lathe([(0, 0), (r * 0.75, 0), (r * 0.72, 0.02), (0.014, 0.035), (0.012, stem), (0, stem)],
                     (0, 0, 0), look.second)  # fmt: skip
        shade = lathe(
            [(r * 0.97, h - shade_h), (r, h - shade_h), (r * 0.68, h), (r * 0.65, h), (r * 0.97, h - shade_h)],
            (0, 0, 0), look.main, segments=32,
        )  # fmt: skip
        bulb = lathe([(0, h - shade_h * 0.55), (0.035, h - shade_h * 0.4), (0, h - shade_h * 0.2)], (0, 0, 0),
                     glow("#ffe9c0", 1.6))  # fmt: skip
        return [foot, shade, bulb]


@kind("stool")
class Stool(Kind):
    styles = ("round",)
    sizes = ((0.32, 0.42), (0.32, 0.42), (0.42, 0.5))

    def build(self, size, style, look):
        w, d, h = size
        r = min(w, d) / 2
        parts = [lathe([(0, h - 0.05), (r - 0.015, h - 0.05), (r, h - 0.03), (r, h - 0.015), (r - 0.015, h), (0, h)],
                       (0, 0, 0), look.main)]  # fmt: skip
        for k in range(4):
            a = np.pi / 4 + k * np.pi / 2
            c, s = np.cos(a), np.sin(a)
            parts.append(
                tube([(c * r * 0.98, s * r * 0.98, 0), (c * r * 0.6, s * r * 0.6, h - 0.04)], 0.016, look.second)
            )
        return parts


@kind("box")
class Box(Kind):
    styles = ("lidded", "open")
    sizes = ((0.35, 0.7), (0.3, 0.45), (0.28, 0.45))

    def build(self, size, style, look):
        w, d, h = size
        if style == "lidded":
            return [
                box((w - 0.02, d - 0.02, h - 0.06), (0, 0, 0), look.main),
                rounded_box((w, d, 0.065), (0, 0, h - 0.065), look.second, 0.012, steps=2),
            ]
        t = 0.015
        parts = [box((w, d, t), (0, 0, 0), look.main)]
        parts += [box((w, t, h), (0, s * (d - t) / 2, 0), look.main) for s in (-1, 1)]
        parts += [box((t, d - 2 * t, h), (s * (w - t) / 2, 0, 0), look.main) for s in (-1, 1)]
        return parts


@kind("rug")
class Rug(Kind):
    styles = ("bordered", "round")
    sizes = ((1.4, 2.2), (1.0, 1.6), (0.012, 0.012))
    stands = "flat"
    finishes = ("cloth",)

    def build(self, size, style, look):
        w, d, h = size
        if style == "round":
            r = min(w, d) / 2
            return [
                cylinder(r, h, (0, 0, 0), look.second, segments=48),
                cylinder(r - 0.12, 0.002, (0, 0, h), look.main, segments=48),
            ]
        edge = 0.1
        return [
            box((w, d, h - 0.002), (0, 0, 0), look.second),
            box((w - 2 * edge, d - 2 * edge, 0.002), (0, 0, h - 0.002), look.main),
        ]


__all__ = ["legs", "wood"]
