"""Where clothes are kept, and shoes: dressers, night stands, shoes. See base.py for a kind's contract."""

import numpy as np

from ovseg3d.synth.geometry import box, cylinder, rounded_box, sheet, tube
from ovseg3d.synth.kinds.base import Kind, kind, style
from ovseg3d.synth.kinds.furniture import legs
from ovseg3d.synth.kinds.shapes import IVORY, drawers, knob, ring, skin
from ovseg3d.synth.materials import paint


@kind("dresser")
class Dresser(Kind):
    styles = ("six drawers",)
    sizes = ((1.1, 1.5), (0.42, 0.5), (0.75, 0.9))
    stands = "wall"
    surface = 1.0

    def build(self, size, style, look):
        w, d, h = size
        foot = 0.1
        return [
            box((w - 0.02, d - 0.03, h - foot - 0.03), (0, 0.015, foot), look.main),
            box((w, d, 0.03), (0, 0, h - 0.03), look.main),
            *legs(w - 0.04, d - 0.04, foot, 0.05, look.second),
            *drawers(w - 0.06, h - foot - 0.07, 2, 3, -d / 2 + 0.025, foot + 0.02, look.main, pulls="two"),
        ]


@style("dresser", "tall", sizes=((0.6, 0.8), (0.42, 0.5), (1.1, 1.35)), surface=1)
def dresser_tall(size, look):
    w, d, h = size
    return [
        box((w, d - 0.03, h - 0.06), (0, 0.015, 0.04), look.main),
        box((w + 0.02, d, 0.03), (0, 0, h - 0.03), look.second),
        box((w - 0.06, d - 0.08, 0.04), (0, 0, 0), look.second),
        *drawers(w - 0.03, h - 0.12, 1, 5, -d / 2 + 0.025, 0.06, look.main, pulls="two"),
    ]


@style("dresser", "mirror", sizes=((1.0, 1.3), (0.42, 0.5), (1.45, 1.7)), surface=0)
def dresser_mirror(size, look):
    w, d, h = size
    top = h * 0.5
    glass = paint("#aebcc4", gloss=0.5)
    y = d / 2 - 0.03
    return [
        box((w, d - 0.02, top - 0.06), (0, 0.01, 0.06), look.main),
        *legs(w, d - 0.04, 0.06, 0.06, look.second),
        *drawers(w - 0.04, top - 0.1, 3, 2, -d / 2 + 0.015, 0.08, look.main),
        box((w * 0.7, 0.03, h - top - 0.04), (0, y, top + 0.04), look.main),
        box((w * 0.7 - 0.08, 0.01, h - top - 0.12), (0, y - 0.018, top + 0.08), glass),
        *(box((0.03, 0.03, 0.1), (s * w * 0.3, y, top), look.main) for s in (-1, 1)),
    ]


@style("dresser", "legs", sizes=((1.1, 1.5), (0.42, 0.48), (0.78, 0.92)))
def dresser_legs(size, look):
    w, d, h = size
    foot = 0.24
    return [
        rounded_box((w, d - 0.02, h - foot), (0, 0.01, foot), look.main, 0.012, steps=2),
        *legs(w - 0.1, d - 0.06, foot, 0.05, look.second, round_leg=True),
        *drawers(w - 0.05, h - foot - 0.05, 3, 2, -d / 2 + 0.015, foot + 0.025, look.second, pulls="bar"),
    ]


@kind("night stand")
class NightStand(Kind):
    styles = ("drawer",)
    sizes = ((0.4, 0.5), (0.36, 0.42), (0.5, 0.62))
    stands = "wall"
    surface = 1.0

    def build(self, size, style, look):
        w, d, h = size
        low = h * 0.58
        return [
            box((w, d, 0.025), (0, 0, h - 0.025), look.main),
            box((w - 0.03, d - 0.03, h - low - 0.025), (0, 0.01, low), look.main),
            *legs(w - 0.02, d - 0.02, h - 0.025, 0.04, look.main),
            box((w - 0.05, d - 0.05, 0.02), (0, 0, 0.14), look.main),
            *drawers(w - 0.07, h - low - 0.04, 1, 1, -d / 2 + 0.02, low + 0.005, look.second),
        ]


@style("night stand", "two drawers")
def night_two(size, look):
    w, d, h = size
    return [
        box((w, d - 0.02, h - 0.1), (0, 0.01, 0.08), look.main),
        box((w + 0.02, d, 0.02), (0, 0, h - 0.02), look.main),
        *legs(w, d - 0.04, 0.08, 0.04, look.second),
        *drawers(w - 0.03, h - 0.12, 1, 2, -d / 2 + 0.015, 0.09, look.second),
    ]


@style("night stand", "open")
def night_open(size, look):
    w, d, h = size
    t = 0.02
    return [
        *(box((t, d, h), (s * (w - t) / 2, 0, 0), look.main) for s in (-1, 1)),
        *(box((w, d, t), (0, 0, z), look.main) for z in (0.05, h * 0.5, h - t)),
        box((w - 2 * t, 0.012, h), (0, d / 2 - 0.006, 0), look.second),
        box((w * 0.5, d * 0.6, 0.05), (-w * 0.1, 0, 0.05 + t), paint("#7d4b43")),
        box((w * 0.46, d * 0.58, 0.04), (-w * 0.1, 0, 0.1 + t), paint("#41607a")),
    ]


@style("night stand", "round", sizes=((0.4, 0.48), (0.4, 0.48), (0.5, 0.6)))
def night_round(size, look):
    w, d, h = size
    r = min(w, d) / 2
    parts = [
        cylinder(r, 0.025, (0, 0, h - 0.025), look.main, segments=32),
        cylinder(r - 0.02, h * 0.28, (0, 0, h * 0.72 - 0.025), look.main, segments=32),
        box((r * 0.9, 0.02, h * 0.2), (0, -r + 0.035, h * 0.74), look.second),
        knob((0, -r + 0.02, h * 0.84)),
    ]
    for k in range(3):
        a = np.pi / 2 + k * 2 * np.pi / 3
        c, s = np.cos(a), np.sin(a)
        parts.append(tube([(c * r * 0.95, s * r * 0.95, 0), (c * r * 0.6, s * r * 0.6, h * 0.72)], 0.016, look.second))
    return parts


def last(length, w, heights):
    """Rings of a shoe from heel to toe along -y: (share of the length, width share, height)."""
    rings = []
    for y, wide, high in heights:
        t = np.linspace(0, 2 * np.pi, 21)
        x = np.cos(t) * wide * w / 2
        z = np.where(np.sin(t) > 0, np.sin(t) * (high - 0.02), np.sin(t) * 0.012) + 0.03
        rings.append(np.stack([x, np.full(21, length / 2 - y * length), z], -1))
    return rings


SHAPE = (
    (0.0, 0.55, 0.07),
    (0.03, 0.72, 0.085),
    (0.2, 0.75, 0.09),
    (0.4, 0.78, 0.085),
    (0.55, 0.92, 0.072),
    (0.75, 1.0, 0.058),
    (0.9, 0.86, 0.05),
    (0.97, 0.55, 0.042),
    (1.0, 0.2, 0.036),
)


def sole(w, d, high, material):
    """A shoe's sole, its toe towards -y."""
    t = np.linspace(0, 2 * np.pi, 33)
    y = -np.cos(t) * d / 2
    half = w / 2 * (0.86 - 0.14 * np.cos(2 * np.pi * (0.5 - y / d) + 0.5)) * np.abs(np.sin(t)) ** 0.55
    x = half * np.sign(np.sin(t))
    return skin([np.stack([x, y, np.full(33, z)], -1) for z in (0.0, high)], material)


@kind("shoe")
class Shoe(Kind):
    styles = ("laced",)
    sizes = ((0.095, 0.11), (0.26, 0.31), (0.11, 0.13))

    def build(self, size, style, look):
        w, d, h = size
        k = h / 0.12
        collar = skin(
            [ring(w * 0.66, d * 0.36, z, at=(0, d * 0.29), n=20) for z in (0.06, h * 0.8)]
            + [ring(w * 0.72, d * 0.4, h, at=(0, d * 0.28), n=20)]
            + [
                ring(w * 0.55, d * 0.3, h, at=(0, d * 0.28), n=20),
                ring(w * 0.5, d * 0.26, h * 0.55, at=(0, d * 0.28), n=20),
            ],
            look.main,
        )
        upper = skin(last(d * 0.97, w * 0.96, [(a, b, c * k) for a, b, c in SHAPE]), look.main, smooth=70)
        laces = [
            tube([(-w * 0.22, y, z), (0, y - 0.004, z + 0.008), (w * 0.22, y, z)], 0.0035, IVORY, sides=6)
            for y, z in ((d * (0.1 - 0.055 * j), (0.094 - 0.008 * j) * k) for j in range(4))
        ]
        return [sole(w, d, 0.03, look.second), upper, collar, *laces]


@style("shoe", "boot", sizes=((0.1, 0.115), (0.27, 0.31), (0.2, 0.3)))
def shoe_boot(size, look):
    w, d, h = size
    upper = skin(last(d * 0.97, w * 0.96, SHAPE), look.main, smooth=70)
    shaft = skin(
        [ring(w * 0.72, d * 0.4, z, at=(0, d * 0.28), n=20) for z in (0.05, h * 0.6)]
        + [ring(w * 0.9, d * 0.44, h, at=(0, d * 0.26), n=20), ring(w * 0.8, d * 0.38, h, at=(0, d * 0.26), n=20)]
        + [ring(w * 0.6, d * 0.3, h * 0.6, at=(0, d * 0.28), n=20)],
        look.main,
    )
    return [sole(w, d, 0.03, look.second), box((w * 0.74, d * 0.26, 0.03), (0, d * 0.34, 0), look.second), upper, shaft]


@style("shoe", "slipper", sizes=((0.095, 0.11), (0.26, 0.3), (0.075, 0.09)))
def shoe_slipper(size, look):
    w, d, h = size
    t, s = np.linspace(-1, 1, 13), np.linspace(0, 1, 7)
    y = -d * 0.02 - s * d * 0.44
    grid = np.stack(
        [
            np.sin(t[:, None] * np.pi / 2) * w / 2 * (0.95 - 0.5 * s**4),
            np.broadcast_to(y, (13, 7)),
            0.022 + np.cos(t[:, None] * np.pi / 2) * (h - 0.025) * (1 - 0.55 * s**2),
        ],
        -1,
    )
    return [sole(w, d, 0.022, look.second), sheet(grid, look.main)]


@style("shoe", "sandal", sizes=((0.09, 0.105), (0.25, 0.29), (0.07, 0.09)))
def shoe_sandal(size, look):
    w, d, h = size
    parts = [sole(w, d, 0.025, look.second)]
    t = np.linspace(0, np.pi, 11)
    for y, wide, high, lean in ((-0.3, 0.98, 0.6, 0.0), (-0.12, 0.92, 0.8, 0.0), (0.3, 0.76, 1.0, 0.12)):
        bow = np.stack(
            [np.cos(t) * wide * w / 2, y * d + lean * d * np.sin(t), 0.018 + np.sin(t) * (h * high - 0.02)], -1
        )
        band = np.stack([bow + [0, -0.012, 0], bow + [0, 0.012, 0]], 1)
        parts.append(sheet(band, look.main))
    return parts
