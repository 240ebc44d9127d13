"""What stands in kitchens: counters, refrigerators, ovens, machines. See base.py for a kind's contract."""

import numpy as np

from ovseg3d.synth.geometry import box, cylinder, lathe, rounded_box, tube
from ovseg3d.synth.kinds.base import Kind, kind, style
from ovseg3d.synth.kinds.shapes import CHROME, DARK, STEEL, bar_handle, drawers, lying
from ovseg3d.synth.materials import paint

GLASS = paint("#2b3138", gloss=0.25)


@kind("counter")
class Counter(Kind):
    styles = ("kitchen",)
    sizes = ((1.4, 2.2), (0.6, 0.66), (0.88, 0.94))
    stands = "wall"
    surface = 1.0

    def build(self, size, style, look):
        w, d, h = size
        body = h - 0.04
        parts = [
            box((w - 0.02, d - 0.1, 0.1), (0, 0.04, 0), DARK),
            box((w - 0.02, d - 0.04, body - 0.1), (0, 0.02, 0.1), look.main),
            box((w + 0.02, d, 0.04), (0, 0, body), look.second),
        ]
        columns = max(3, round(w / 0.5))
        cell = (w - 0.02) / columns
        for k in range(columns):
            x = -w / 2 + 0.01 + cell * (k + 0.5)
            y = -d / 2 + 0.04
            parts.append(box((cell - 0.012, 0.02, body - 0.33), (x, y - 0.008, 0.11), look.main))
            parts.append(box((cell - 0.012, 0.02, 0.18), (x, y - 0.008, body - 0.2), look.main))
            parts.append(bar_handle(cell * 0.5, (x, y - 0.016, body - 0.1)))
            parts.append(bar_handle(cell * 0.5, (x, y - 0.016, body - 0.27)))
        return parts


@style("counter", "island", sizes=((1.3, 1.9), (0.8, 0.95), (0.88, 0.95)))
def counter_island(size, look):
    w, d, h = size
    body = h - 0.06
    parts = [
        box((w - 0.3, d - 0.3, body), (0, 0.05, 0), look.main),
        rounded_box((w, d, 0.06), (0, 0, body), look.second, 0.01, steps=2),
    ]
    for k in range(3):
        parts.append(
            box(((w - 0.3) / 3 - 0.04, 0.02, body - 0.14), ((k - 1) * (w - 0.3) / 3, -d / 2 + 0.2, 0.07), look.main)
        )
    return parts


@style("counter", "bar", sizes=((1.3, 2.0), (0.45, 0.6), (1.02, 1.12)))
def counter_bar(size, look):
    w, d, h = size
    body = h - 0.05
    parts = [box((w - 0.1, d * 0.55, body), (0, d * 0.15, 0), look.main), box((w, d, 0.05), (0, 0, body), look.second)]
    count = max(4, round(w / 0.3))
    for k in range(count):
        x = ((k + 0.5) / count - 0.5) * (w - 0.1)
        parts.append(box((0.05, 0.03, body), (x, -d * 0.125 - 0.015, 0), look.second))
    return [*parts, tube([(-w / 2 + 0.05, -d * 0.3, 0.2), (w / 2 - 0.05, -d * 0.3, 0.2)], 0.018, CHROME)]


@style("counter", "with hob", sizes=((1.6, 2.2), (0.6, 0.66), (0.88, 0.94)))
def counter_hob(size, look):
    w, d, h = size
    body = h - 0.05
    parts = [
        box((w - 0.02, d - 0.1, 0.1), (0, 0.04, 0), DARK),
        box((w - 0.02, d - 0.04, body - 0.1), (0, 0.02, 0.1), look.main),
        box((w + 0.02, d, 0.035), (0, 0, body), look.second),
        box((0.56, d * 0.75, 0.006), (w * 0.2, 0, body + 0.035), GLASS),
    ]
    for x in (-0.13, 0.13):
        for y in (-0.12, 0.12):
            parts.append(cylinder(0.085, 0.003, (w * 0.2 + x, y, body + 0.041), STEEL, segments=24))
            parts.append(cylinder(0.065, 0.002, (w * 0.2 + x, y, body + 0.044), DARK, segments=24))
    parts += drawers(w - 0.04, body - 0.12, max(3, round(w / 0.55)), 3, -d / 2 + 0.04, 0.11, look.main, pulls="bar")
    return parts


@kind("refrigerator")
class Refrigerator(Kind):
    styles = ("two doors",)
    sizes = ((0.58, 0.72), (0.6, 0.7), (1.6, 1.9))
    stands = "wall"

    def build(self, size, style, look):
        w, d, h = size
        split = h * 0.66
        parts = [
            box((w, d - 0.07, h - 0.03), (0, 0.035, 0.03), look.main),
            box((w - 0.06, d - 0.1, 0.03), (0, 0.03, 0), DARK),
        ]
        for z, tall in ((0.05, split - 0.06), (split, h - split)):
            parts.append(rounded_box((w, 0.06, tall - 0.005), (0, -d / 2 + 0.03, z), look.main, 0.012, steps=2))
        for z in (split - 0.3, split + 0.18):
            parts.append(bar_handle(0.34 if z < split else 0.22, (-w / 2 + 0.06, -d / 2, z), upright=True))
        return parts


@style("refrigerator", "side by side", sizes=((0.85, 0.95), (0.65, 0.72), (1.7, 1.85)))
def fridge_wide(size, look):
    w, d, h = size
    parts = [
        box((w, d - 0.07, h - 0.03), (0, 0.035, 0.03), look.main),
        box((w - 0.06, d - 0.1, 0.03), (0, 0.03, 0), DARK),
    ]
    for s in (-1, 1):
        parts.append(
            rounded_box((w / 2 - 0.006, 0.06, h - 0.06), (s * w / 4, -d / 2 + 0.03, 0.05), look.main, 0.01, steps=2)
        )
        parts.append(bar_handle(h * 0.45, (s * 0.045, -d / 2, h * 0.55), upright=True))
    parts.append(box((w * 0.24, 0.01, 0.34), (-w / 4, -d / 2 - 0.002, h * 0.55), DARK))
    parts.append(box((w * 0.18, 0.012, 0.08), (-w / 4, -d / 2 - 0.006, h * 0.69), STEEL))
    return parts


@style("refrigerator", "retro", sizes=((0.58, 0.68), (0.6, 0.68), (1.4, 1.6)))
def fridge_retro(size, look):
    w, d, h = size
    split = h * 0.72
    parts = [rounded_box((w, d - 0.06, h - 0.08), (0, 0.03, 0.08), look.main, 0.1)]
    for z, tall in ((0.13, split - 0.14), (split, h - split - 0.04)):
        parts.append(rounded_box((w - 0.03, 0.1, tall), (0, -d / 2 + 0.06, z), look.main, 0.05))
    for x in (-w / 2 + 0.08, w / 2 - 0.08):
        for y in (-d / 2 + 0.1, d / 2 - 0.08):
            parts.append(cylinder(0.02, 0.09, (x, y, 0), CHROME, segments=10))
    parts.append(
        tube(
            [
                (w * 0.36, -d / 2, split - 0.12),
                (w * 0.36, -d / 2 - 0.02, split - 0.2),
                (w * 0.36, -d / 2, split - 0.28),
            ],
            0.014,
            CHROME,
        )
    )
    parts.append(box((w * 0.3, 0.008, 0.03), (0, -d / 2 + 0.008, split + (h - split) * 0.5), CHROME))
    return parts


@style("refrigerator", "drawers below", sizes=((0.6, 0.75), (0.62, 0.7), (1.75, 1.95)))
def fridge_drawers(size, look):
    w, d, h = size
    low = h * 0.36
    parts = [box((w, d - 0.07, h - 0.03), (0, 0.035, 0.03), look.second)]
    parts.append(rounded_box((w, 0.06, h - low - 0.01), (0, -d / 2 + 0.03, low), look.main, 0.012, steps=2))
    parts.append(bar_handle(0.5, (w / 2 - 0.07, -d / 2, low + 0.4), upright=True))
    for k in range(2):
        parts.append(
            rounded_box(
                (w, 0.06, low / 2 - 0.03), (0, -d / 2 + 0.03, 0.04 + k * (low / 2 - 0.02)), look.main, 0.012, steps=2
            )
        )
        parts.append(bar_handle(w * 0.7, (0, -d / 2, 0.04 + (k + 0.75) * (low / 2 - 0.02))))
    return parts


def rings(w, d, z):
    """Four cooking rings on top of a stove."""
    return [
        lathe(
            [(r - 0.02, 0), (r, 0), (r, 0.012), (r - 0.02, 0.012), (r - 0.02, 0)], (x * w, y * d, z), DARK, segments=20
        )
        for x, y, r in ((-0.25, -0.22, 0.1), (0.25, -0.22, 0.075), (-0.25, 0.2, 0.075), (0.25, 0.2, 0.1))
    ]


def oven_front(w, y, z, tall, look, *, dials=5):
    """A glazed oven door with a handle, and a row of dials above it.

    Args:
        w, tall: width and height in metres.
        y, z: the face's depth and lower edge.
        look: materials.
        dials: how many.
    """
    parts = [
        box((w - 0.04, 0.025, tall - 0.14), (0, y, z), look.main),
        box((w * 0.7, 0.006, (tall - 0.14) * 0.5), (0, y - 0.014, z + (tall - 0.14) * 0.2), GLASS),
        bar_handle(w * 0.75, (0, y - 0.012, z + (tall - 0.14) * 0.88)),
    ]
    for k in range(dials):
        parts.append(
            lying(
                0.022, 0.03, (((k + 0.5) / dials - 0.5) * w * 0.8, y - 0.01, z + tall - 0.07), look.second, segments=14
            )
        )
    return parts


@kind("oven")
class Oven(Kind):
    styles = ("stove",)
    sizes = ((0.55, 0.65), (0.58, 0.64), (0.86, 0.93))
    stands = "wall"

    def build(self, size, style, look):
        w, d, h = size
        return [
            box((w, d - 0.03, h - 0.012), (0, 0.015, 0), look.main),
            *oven_front(w, -d / 2 + 0.02, 0.14, h - 0.17, look),
            box((w - 0.04, 0.02, 0.1), (0, -d / 2 + 0.02, 0.02), look.main),
            *rings(w, d, h - 0.012),
        ]


@style("oven", "splashback", sizes=((0.6, 0.75), (0.6, 0.66), (1.08, 1.18)))
def oven_splash(size, look):
    w, d, h = size
    top = h - 0.2
    parts = [box((w, d - 0.03, top), (0, 0.015, 0), look.main), box((w, 0.06, 0.2), (0, d / 2 - 0.03, top), look.main)]
    parts += [box((w * 0.3, 0.01, 0.08), (0, d / 2 - 0.064, top + 0.06), GLASS)]
    parts += oven_front(w, -d / 2 + 0.02, 0.2, top - 0.1, look, dials=0)
    parts += [box((w - 0.04, 0.025, 0.16), (0, -d / 2 + 0.02, 0.02), look.main)]
    for k in (-0.38, -0.27, 0.27, 0.38):
        parts.append(lying(0.022, 0.03, (k * w, d / 2 - 0.07, top + 0.1), DARK, segments=14))
    return [*parts, *rings(w, d * 0.85, top)]


@style("oven", "double", sizes=((0.55, 0.62), (0.56, 0.62), (1.3, 1.5)))
def oven_double(size, look):
    w, d, h = size
    return [
        box((w, d - 0.03, h), (0, 0.015, 0), look.main),
        *oven_front(w, -d / 2 + 0.02, 0.06, h * 0.5, look, dials=0),
        *oven_front(w, -d / 2 + 0.02, h * 0.5, h * 0.48, look, dials=4),
    ]


@kind("microwave")
class Microwave(Kind):
    styles = ("keys",)
    sizes = ((0.45, 0.54), (0.34, 0.4), (0.26, 0.31))
    stands = "top"

    def build(self, size, style, look):
        w, d, h = size
        y = -d / 2
        parts = [
            rounded_box((w, d - 0.02, h - 0.015), (0, 0.01, 0.015), look.main, 0.012, steps=2),
            box((w * 0.68, 0.012, h - 0.05), (-w * 0.14, y + 0.008, 0.03), look.second),
            box((w * 0.54, 0.006, h - 0.13), (-w * 0.17, y + 0.001, 0.07), GLASS),
            bar_handle(h * 0.6, (w * 0.16, y + 0.006, h * 0.52), upright=True),
            box((w * 0.17, 0.006, 0.035), (w * 0.36, y + 0.016, h - 0.075), paint("#2f6f5a")),
        ]
        for i in range(3):
            for j in range(4):
                parts.append(
                    box((w * 0.04, 0.008, 0.018), (w * (0.3 + 0.06 * i), y + 0.014, 0.05 + j * (h - 0.16) / 4), IV)
                )
        return [
            *parts,
            *(
                cylinder(0.015, 0.015, (x * w, yy * d, 0), DARK, segments=8)
                for x in (-0.4, 0.4)
                for yy in (-0.35, 0.35)
            ),
        ]


IV = paint("#d8d6cf")


@style("microwave", "dials")
def microwave_dials(size, look):
    w, d, h = size
    y = -d / 2
    return [
        box((w, d - 0.02, h), (0, 0.01, 0), look.main),
        box((w * 0.68, 0.014, h - 0.02), (-w * 0.15, y + 0.008, 0.01), look.main),
        box((w * 0.5, 0.006, h - 0.12), (-w * 0.16, y, 0.06), GLASS),
        lying(0.035, 0.03, (w * 0.36, y + 0.01, h * 0.68), look.second),
        lying(0.035, 0.03, (w * 0.36, y + 0.01, h * 0.32), look.second),
    ]


@style("microwave", "round", sizes=((0.45, 0.52), (0.36, 0.4), (0.28, 0.32)))
def microwave_round(size, look):
    w, d, h = size
    y = -d / 2
    return [
        rounded_box((w, d - 0.02, h), (0, 0.01, 0), look.main, 0.07),
        lying(h * 0.34, 0.02, (-w * 0.16, y + 0.015, h * 0.5), look.second, segments=28),
        lying(h * 0.27, 0.02, (-w * 0.16, y + 0.01, h * 0.5), GLASS, segments=28),
        lying(0.03, 0.03, (w * 0.33, y + 0.01, h * 0.62), look.second),
        box((w * 0.14, 0.012, 0.03), (w * 0.33, y + 0.008, h * 0.3), DARK),
    ]


@kind("washing machine")
class WashingMachine(Kind):
    styles = ("front",)
    sizes = ((0.56, 0.62), (0.55, 0.62), (0.83, 0.88))
    stands = "wall"

    def build(self, size, style, look):
        w, d, h = size
        y = -d / 2 + 0.03
        r = w * 0.32
        door = lathe(
            [(r - 0.06, 0), (r, 0), (r, 0.03), (r - 0.06, 0.045), (r - 0.06, 0)], (0, 0, 0), look.second, segments=32
        )
        bubble = lathe([(0, 0), (r - 0.05, 0), (r - 0.08, 0.02), (0, 0.03)], (0, 0, 0), GLASS, segments=32)
        return [
            rounded_box((w, d - 0.04, h), (0, 0.02, 0), look.main, 0.012, steps=2),
            box((w - 0.01, 0.01, 0.1), (0, y - 0.005, h - 0.12), look.main),
            *(p.moved((0, y - 0.008, h * 0.46), roll=np.pi / 2) for p in (door, bubble)),
            lying(0.035, 0.03, (w * 0.12, y - 0.015, h - 0.07), look.second),
            box((w * 0.25, 0.012, 0.06), (-w * 0.32, y - 0.01, h - 0.1), STEEL),
            box((w * 0.15, 0.012, 0.03), (w * 0.35, y - 0.01, h - 0.085), DARK),
        ]


@style("washing machine", "top", sizes=((0.58, 0.66), (0.58, 0.66), (1.0, 1.1)))
def washer_top(size, look):
    w, d, h = size
    top = h - 0.16
    parts = [
        rounded_box((w, d, top), (0, 0, 0), look.main, 0.015, steps=2),
        box((w, 0.1, 0.16), (0, d / 2 - 0.05, top), look.main),
    ]
    parts += [
        rounded_box((w * 0.8, d * 0.66, 0.02), (0, -0.06, top), look.second, 0.008, steps=2),
        box((w * 0.5, d * 0.4, 0.004), (0, -0.06, top + 0.02), GLASS),
    ]
    for k in (-0.36, -0.2, 0.34):
        parts.append(lying(0.03, 0.03, (k * w, d / 2 - 0.11, top + 0.09), STEEL))
    return parts


@style("washing machine", "square door", sizes=((0.56, 0.64), (0.55, 0.62), (0.84, 0.9)))
def washer_square(size, look):
    w, d, h = size
    y = -d / 2 + 0.02
    return [
        box((w, d - 0.03, h), (0, 0.015, 0), look.main),
        rounded_box((w * 0.74, 0.04, w * 0.74), (0, y - 0.005, h * 0.16), look.second, 0.06),
        lying(w * 0.25, 0.03, (0, y - 0.015, h * 0.16 + w * 0.37), GLASS, segments=28),
        *(lying(0.02, 0.03, (x * w, y, h - 0.07), DARK) for x in (0.1, 0.2, 0.3, 0.4)),
        box((w * 0.3, 0.012, 0.07), (-w * 0.28, y, h - 0.11), STEEL),
    ]
