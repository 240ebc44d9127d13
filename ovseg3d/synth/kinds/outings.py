"""What people carry, ride and play: backpacks, guitars, bicycles. See base.py for a kind's contract."""

import numpy as np

from ovseg3d.synth.geometry import box, rounded_box, sheet, tube
from ovseg3d.synth.kinds.base import Kind, kind, style
from ovseg3d.synth.kinds.shapes import CHROME, DARK, IVORY, STEEL, lying, ring, skin, slab, wheel


@kind("backpack")
class Backpack(Kind):
    styles = ("day",)
    sizes = ((0.28, 0.34), (0.2, 0.26), (0.4, 0.48))

    def build(self, size, style, look):
        w, d, h = size
        body = d * 0.62
        y = d / 2 - 0.04 - body / 2
        parts = [
            rounded_box((w, body, h - 0.03), (0, y, 0), look.main, min(0.09, body * 0.45)),
            rounded_box((w * 0.76, d * 0.3, h * 0.42), (0, -d / 2 + d * 0.15, 0.02), look.second, 0.045),
            tube([(-w * 0.3, -d * 0.42, h * 0.36), (w * 0.3, -d * 0.42, h * 0.36)], 0.006, DARK, sides=6),
            tube([(-0.05, y, h - 0.04), (-0.04, y, h), (0.04, y, h), (0.05, y, h - 0.04)], 0.009, DARK),
            tube(
                [
                    (-w * 0.36, y - body * 0.42, h * 0.45),
                    (-w * 0.3, y - body * 0.45, h * 0.8),
                    (0, y - body * 0.42, h * 0.92),
                    (w * 0.3, y - body * 0.45, h * 0.8),
                    (w * 0.36, y - body * 0.42, h * 0.45),
                ],
                0.006,
                DARK,
                sides=6,
            ),
        ]
        for s in (-1, 1):
            a = np.linspace(0, 1, 9)
            bow = np.stack(
                [
                    s * (w * 0.2 + 0.04 * np.sin(a * np.pi)),
                    d / 2 - 0.05 + 0.045 * np.sin(a * np.pi),
                    0.05 + a * (h - 0.12),
                ],
                -1,
            )
            parts.append(tube(bow, 0.014, look.second, sides=8))
            parts.append(rounded_box((0.05, body * 0.7, h * 0.3), (s * w * 0.5, y, 0.03), look.second, 0.024))
        return parts


@style("backpack", "hiking", sizes=((0.3, 0.38), (0.26, 0.32), (0.58, 0.72)))
def backpack_hiking(size, look):
    w, d, h = size
    top = h * 0.78
    parts = [
        rounded_box((w, d * 0.8, top), (0, 0.02, 0), look.main, 0.08),
        rounded_box((w * 0.96, d * 0.86, h * 0.16), (0, 0, top - 0.02), look.second, 0.05),
        tube([(-w / 2 - 0.01, 0, h - 0.06), (w / 2 + 0.01, 0, h - 0.06)], 0.062, look.main, sides=16),
        rounded_box((w * 0.7, d * 0.2, top * 0.4), (0, -d * 0.38, 0.04), look.second, 0.03),
    ]
    for x in (-w * 0.2, w * 0.2):
        parts.append(
            box((0.022, 0.01, top * 0.5), (x, -d * 0.39 - (0.026 if abs(x) < w * 0.3 else 0), top * 0.45), DARK)
        )
        parts.append(rounded_box((0.035, 0.02, 0.03), (x, -d * 0.41, top * 0.72), DARK, 0.005, steps=2))
    for s in (-1, 1):
        a = np.linspace(0, 1, 9)
        bow = np.stack(
            [
                s * (w * 0.22 + 0.03 * np.sin(a * np.pi)),
                d / 2 - 0.06 + 0.05 * np.sin(a * np.pi),
                0.06 + a * (top - 0.12),
            ],
            -1,
        )
        parts.append(tube(bow, 0.016, DARK, sides=8))
    return parts


@style("backpack", "flap", sizes=((0.28, 0.34), (0.18, 0.24), (0.38, 0.46)))
def backpack_flap(size, look):
    w, d, h = size
    y = -d * 0.36
    parts = [rounded_box((w, d * 0.8, h - 0.03), (0, 0.01, 0), look.main, 0.04)]
    t = np.linspace(0, 1, 9)
    curve = [
        (0.3, 0.985),
        (0.0, 1.0),
        (-0.3, 0.985),
        (-0.42, 0.93),
        (-0.47, 0.8),
        (-0.475, 0.7),
        (-0.475, 0.6),
        (-0.47, 0.52),
        (-0.465, 0.45),
    ]
    grid = np.array(
        [
            [(s * w * 0.47 * (1 - 0.25 * max(0, k - 5) / 3), a * d, b * (h - 0.015)) for s in np.linspace(-1, 1, 5)]
            for k, (a, b) in enumerate(curve)
        ]
    )
    parts.append(sheet(grid, look.second))
    for x in (-w * 0.22, w * 0.22):
        parts.append(box((0.025, 0.012, h * 0.36), (x, -d * 0.485, h * 0.22), DARK))
        parts.append(box((0.034, 0.014, 0.03), (x, -d * 0.488, h * 0.34), CHROME))
    for s in (-1, 1):
        bow = np.stack([np.full(9, s * w * 0.22), d / 2 - 0.04 + 0.035 * np.sin(t * np.pi), 0.05 + t * (h - 0.13)], -1)
        parts.append(tube(bow, 0.013, look.second, sides=8))
    parts.append(rounded_box((w * 0.6, 0.03, h * 0.2), (0, y - 0.05, 0.03), look.main, 0.014))
    return parts


def curve_outline(points, n=48):
    """A smooth closed outline through (x, z) points given for the right half, bottom to top, mirrored."""
    from scipy.interpolate import CubicSpline

    p = np.array([*points, *[(-x, z) for x, z in points[::-1] if x > 0]], float)
    p = np.concatenate([p, p[:1]])
    at = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(p, axis=0), axis=1))])
    return CubicSpline(at, p, bc_type="periodic")(np.linspace(0, at[-1], n + 1)[:-1])


def neck(w, low, h, y, look, *, wide=0.05, strings=6):
    """A neck with frets, a head with pegs, and strings down to `low`.

    Args:
        w: width of the body in metres.
        low: where the neck begins in z.
        h: height of the instrument in metres.
        y: depth at which the neck is.
        look: materials.
        wide: of the neck in metres.
        strings: how many.
    """
    start, nut = low, h - 0.15
    parts = [
        box((wide, 0.025, nut - start), (0, y, start), look.second),
        slab(
            [
                (-wide * 0.5, nut),
                (wide * 0.5, nut),
                (wide * 0.85, nut + 0.04),
                (wide * 0.7, h),
                (-wide * 0.7, h),
                (-wide * 0.85, nut + 0.04),
            ],
            0.02,
            (0, y, 0),
            look.second,
        ),
    ]
    for k in range(7):
        parts.append(box((wide, 0.004, 0.004), (0, y - 0.014, nut - (nut - start) * (0.08 + 0.12 * k)), CHROME))
    for s in (-1, 1):
        for k in range(strings // 2):
            parts.append(
                tube(
                    [(s * wide * 0.7, y, nut + 0.03 + 0.04 * k), (s * wide * 1.15, y, nut + 0.03 + 0.04 * k)],
                    0.006,
                    CHROME,
                    sides=6,
                )
            )
    return parts


def strings(x, low, high, y, count):
    """Thin upright strings.

    Args:
        x: half of the strings' spread in metres.
        low, high: their ends in z.
        y: their depth.
        count: how many.
    """
    at = np.linspace(-x, x, count)
    return [box((0.0016, 0.0016, high - low), (a, y, low), IVORY) for a in at]


@kind("guitar")
class Guitar(Kind):
    styles = ("acoustic",)
    sizes = ((0.36, 0.42), (0.1, 0.13), (0.95, 1.08))

    def build(self, size, style, look):
        w, d, h = size
        tall = h * 0.48
        k = w / 2
        outline = curve_outline(
            [
                (0.0, 0),
                (k * 0.7, 0.02 * tall),
                (k, tall * 0.26),
                (k * 0.66, tall * 0.58),
                (k * 0.76, tall * 0.84),
                (k * 0.3, tall),
            ]
        )
        y = -d / 2
        return [
            slab(outline, d * 0.86, (0, 0.005, 0), look.main),
            lying(0.05, 0.004, (0, y + d * 0.07, tall * 0.64), DARK, segments=28),
            box((0.16, 0.012, 0.03), (0, y + d * 0.06, tall * 0.24), look.second),
            *neck(w, tall * 0.72, h, y + d * 0.06, look),
            *strings(0.02, tall * 0.25, h - 0.15, y + d * 0.01, 6),
        ]


@style("guitar", "electric", sizes=((0.32, 0.38), (0.05, 0.07), (0.95, 1.05)), word="electric guitar")
def guitar_electric(size, look):
    w, d, h = size
    tall, k = h * 0.42, w / 2
    right = [
        (0, 0.0),
        (k * 0.6, 0.01),
        (k * 0.95, tall * 0.28),
        (k * 0.7, tall * 0.55),
        (k * 0.85, tall * 0.86),
        (k * 0.62, tall * 0.95),
        (k * 0.2, tall * 0.74),
    ]
    outline = curve_outline(right)
    y = -d / 2
    parts = [slab(outline, 0.042, (0, 0, 0), look.main), *neck(w, tall * 0.7, h, y + 0.012, look, wide=0.045)]
    parts += [box((0.075, 0.012, 0.028), (0, y + 0.008, tall * z), DARK) for z in (0.36, 0.55)]
    parts += [box((0.08, 0.014, 0.025), (0, y + 0.008, tall * 0.2), CHROME)]
    parts += [lying(0.014, 0.02, (k * 0.6, y + 0.008, tall * z), CHROME, segments=10) for z in (0.15, 0.26)]
    return [*parts, *strings(0.018, tall * 0.22, h - 0.15, y, 6)]


@style("guitar", "small", sizes=((0.19, 0.24), (0.07, 0.08), (0.54, 0.64)))
def guitar_small(size, look):
    w, d, h = size
    tall, k = h * 0.46, w / 2
    outline = curve_outline(
        [
            (0.0, 0),
            (k * 0.7, 0.02 * tall),
            (k, tall * 0.26),
            (k * 0.7, tall * 0.58),
            (k * 0.78, tall * 0.84),
            (k * 0.3, tall),
        ]
    )
    y = -d / 2
    return [
        slab(outline, d * 0.86, (0, 0.005, 0), look.main),
        lying(0.03, 0.004, (0, y + d * 0.07, tall * 0.62), DARK, segments=24),
        box((0.08, 0.01, 0.02), (0, y + d * 0.06, tall * 0.24), look.second),
        *neck(w, tall * 0.75, h, y + d * 0.07, look, wide=0.036, strings=4),
        *strings(0.012, tall * 0.25, h - 0.15, y + d * 0.01, 4),
    ]


@style("guitar", "on a stand", sizes=((0.38, 0.44), (0.3, 0.36), (1.0, 1.1)))
def guitar_stand(size, look):
    w, d, h = size
    body = [p.moved((0, -0.02, 0.06), roll=-0.1) for p in Guitar().build((w, 0.11, h - 0.08), "acoustic", look)]
    feet = [tube([(s * w * 0.4, -d / 2 + 0.02, 0.01), (0, 0.06, 0.28)], 0.011, DARK) for s in (-1, 1)]
    return [*body, *feet, tube([(0, d / 2 - 0.02, 0.01), (0, 0.06, 0.5)], 0.011, DARK)]


def frame_of(look, joints, tubes, thick):
    """Bars between named joints."""
    return [tube([joints[a], joints[b]], thick, look.main, sides=10) for a, b in tubes]


def ride(size, look, *, top: bool, basket: bool = False, straight: bool = True, small: bool = False):
    """A bicycle along x (it rides towards -x, so its side is seen from the front).

    Args:
        size: width, depth and height in metres.
        look: materials.
        top: whether it has a top tube.
        basket: whether it has one.
        straight: a straight bar instead of a bent one.
        small: a child's, with thicker tyres.
    """
    w, d, h = size
    r = min(w * 0.19, h * 0.36)
    rear, front = (w / 2 - r, 0, r), (-w / 2 + r, 0, r)
    tread = 0.028 if not small else 0.035
    parts = [*wheel(r, tread, rear, DARK, STEEL), *wheel(r, tread, front, DARK, STEEL)]
    j = {
        "rear": rear, "front": front, "crank": (w * 0.07, 0, r * 0.95), "saddle": (w * 0.15, 0, h * 0.83),
        "seat": (w * 0.135, 0, h * 0.7), "head": (-w * 0.2, 0, h * 0.74), "low head": (-w * 0.215, 0, h * 0.62),
        "bar": (-w * 0.185, 0, h * 0.93),
    }  # fmt: skip
    tubes = [("crank", "seat"), ("seat", "rear"), ("rear", "crank"), ("low head", "crank"), ("low head", "head")]
    tubes.append(("head", "seat") if top else ("head", "crank"))
    parts += frame_of(look, j, tubes, 0.019)
    parts += [
        tube([j["low head"], j["front"]], 0.016, look.main),
        tube([j["head"], j["bar"]], 0.013, STEEL),
        tube([j["seat"], j["saddle"]], 0.013, STEEL),
    ]
    x, _, z = j["bar"]
    half = d / 2 - 0.02
    grips = (
        [(x + 0.03, -half, z), (x, -half * 0.4, z), (x, half * 0.4, z), (x + 0.03, half, z)]
        if straight
        else [
            (x - 0.02, -half, z - 0.12),
            (x - 0.1, -half, z - 0.06),
            (x - 0.06, -half * 0.8, z),
            (x, 0, z),
            (x - 0.06, half * 0.8, z),
            (x - 0.1, half, z - 0.06),
            (x - 0.02, half, z - 0.12),
        ]
    )
    parts.append(tube(grips, 0.013, look.second))
    sx, _, sz = j["saddle"]
    parts.append(
        skin(
            [
                ring(0.26, 0.15, sz, at=(sx + 0.03, 0), power=2.4),
                ring(0.28, 0.17, sz + 0.04, at=(sx + 0.02, 0), power=2.4),
                ring(0.24, 0.13, sz + 0.055, at=(sx + 0.02, 0)),
            ],
            look.second,
        )
    )
    cx, _, cz = j["crank"]
    parts += [
        lying(r * 0.3, 0.008, (cx, -0.03, cz), STEEL),
        tube([(cx - 0.1, -0.06, cz - 0.1), (cx + 0.1, 0.06, cz + 0.1)], 0.01, STEEL),
    ]
    parts += [box((0.09, 0.08, 0.02), (cx + s * 0.1, s * 0.08, cz + s * 0.1 - 0.01), DARK) for s in (-1, 1)]
    if basket:
        b = (-w * 0.33, 0, h * 0.68)
        parts.append(
            skin(
                [
                    ring(0.18, 0.24, 0, power=6),
                    ring(0.24, 0.32, 0.2, power=6),
                    ring(0.22, 0.3, 0.2, power=6),
                    ring(0.17, 0.22, 0.02, power=6),
                ],
                look.second,
            ).moved(b)
        )
    if small:
        for s in (-1, 1):
            parts += wheel(r * 0.42, 0.02, (rear[0] - 0.02, s * 0.16, r * 0.42), DARK, look.second, spokes=4)
    return parts


@kind("bicycle")
class Bicycle(Kind):
    styles = ("diamond",)
    sizes = ((1.5, 1.75), (0.5, 0.6), (0.95, 1.08))

    def build(self, size, style, look):
        return ride(size, look, top=True)


@style("bicycle", "low frame")
def bicycle_low(size, look):
    return ride(size, look, top=False, basket=True)


@style("bicycle", "small", sizes=((0.95, 1.15), (0.42, 0.5), (0.65, 0.78)))
def bicycle_small(size, look):
    return ride(size, look, top=False, small=True)


@style("bicycle", "racing", sizes=((1.5, 1.7), (0.4, 0.46), (0.92, 1.0)))
def bicycle_racing(size, look):
    return ride(size, look, top=True, straight=False)
