"""What stands in bathrooms: toilets, bathtubs, sinks, shower curtains. See base.py for a kind's contract."""

import numpy as np

from ovseg3d.synth.geometry import ball, box, cylinder, lathe, rounded_box, sheet, tube
from ovseg3d.synth.kinds.base import Kind, kind, style
from ovseg3d.synth.kinds.shapes import CHROME, DARK, STEEL, bar_handle, basin, lying, ring, skin


def pan(w, d, h, main, seat, *, power=2.3, foot=0.55, lid=True):
    """A toilet's pan with a seat; its back touches y = d / 2, its rim is at h.

    Args:
        w, d, h: width, depth and height in metres.
        main, seat: materials.
        power: how square the rim is; 2 is an ellipse.
        foot: width below as a share of `w`.
        lid: whether it has one.
    """
    middle = (0.0, 0.0)
    outside = [
        ring(w * foot, d * 0.62, 0, at=(0, d * 0.12), power=3),
        ring(w * foot * 0.9, d * 0.58, h * 0.35, at=(0, d * 0.12), power=3),
        ring(w * 0.9, d * 0.92, h * 0.8, at=(0, 0.02), power=power),
        ring(w, d, h, at=middle, power=power),
    ]
    inside = [
        ring(w * 0.7, d * 0.68, h, at=(0, -d * 0.04), power=power),
        ring(w * 0.5, d * 0.45, h * 0.6, at=(0, -d * 0.04)),
        ring(w * 0.2, d * 0.2, h * 0.45, at=(0, 0)),
    ]
    parts = [basin(outside, inside, main)]
    parts.append(
        basin(
            [
                ring(w * 1.03, d * 0.98, h, power=power, at=(0, -0.008)),
                ring(w * 1.03, d * 0.98, h + 0.02, power=power, at=(0, -0.008)),
            ],
            [
                ring(w * 0.62, d * 0.6, h + 0.02, power=power, at=(0, -d * 0.05)),
                ring(w * 0.62, d * 0.6, h, power=power, at=(0, -d * 0.05)),
            ],
            seat,
        )
    )
    if lid:
        upright = skin([ring(w, d * 0.86, 0, power=power), ring(w, d * 0.86, 0.018, power=power)], seat)
        parts.append(upright.moved((0, d / 2 - 0.05, h + d * 0.43), roll=np.pi / 2 - 0.12))
    water = cylinder(min(w, d) * 0.16, 0.002, (0, -d * 0.03, h * 0.52), STEEL, segments=18)
    return [*parts, water]


@kind("toilet")
class Toilet(Kind):
    styles = ("cistern",)
    sizes = ((0.38, 0.44), (0.64, 0.72), (0.84, 0.92))
    stands = "wall"

    def build(self, size, style, look):
        w, d, h = size
        tank = 0.18
        rim = 0.41
        bowl = [p.moved((0, -tank / 2 + 0.01, 0)) for p in pan(w * 0.92, d - tank, rim, look.main, look.main)]
        y = d / 2 - tank / 2
        return [
            *bowl,
            box((w * 0.5, tank, rim - 0.02), (0, y, 0), look.main),
            rounded_box((w, tank, h - rim - 0.03), (0, y, rim - 0.01), look.main, 0.03),
            rounded_box((w + 0.02, tank + 0.015, 0.035), (0, y, h - 0.035), look.main, 0.012, steps=2),
            lying(0.02, 0.03, (-w * 0.32, d / 2 - tank - 0.01, h - 0.09), CHROME),
            box((0.07, 0.015, 0.015), (-w * 0.26, d / 2 - tank - 0.02, h - 0.1), CHROME),
        ]


@style("toilet", "closed lid", sizes=((0.38, 0.43), (0.66, 0.72), (0.74, 0.8)))
def toilet_closed(size, look):
    w, d, h = size
    tank, rim = 0.19, 0.4
    y = d / 2 - tank / 2
    bowl = [p.moved((0, -tank / 2 + 0.01, 0)) for p in pan(w, d - tank, rim, look.main, look.second, lid=False)]
    cover = skin(
        [
            ring(w, d - tank, rim + 0.02, at=(0, -tank / 2)),
            ring(w * 0.98, (d - tank) * 0.97, rim + 0.045, at=(0, -tank / 2)),
        ],
        look.second,
    )
    return [
        *bowl,
        cover,
        rounded_box((w * 1.02, tank, h - rim + 0.1), (0, y, rim - 0.1), look.main, 0.06),
        cylinder(0.028, 0.012, (0, y, h - 0.004), CHROME, segments=16),
    ]


@style("toilet", "boxy", sizes=((0.36, 0.4), (0.6, 0.68), (0.8, 0.9)))
def toilet_boxy(size, look):
    w, d, h = size
    tank, rim = 0.15, 0.42
    front = d - tank
    bowl = [p.moved((0, -tank / 2, 0)) for p in pan(w, front, rim, look.main, look.main, power=5, foot=0.95)]
    return [
        *bowl,
        box((w + 0.04, tank, h), (0, d / 2 - tank / 2, 0), look.second),
        box((w * 0.5, 0.012, 0.1), (0, d / 2 - tank - 0.006, h - 0.16), CHROME),
    ]


@style("toilet", "high tank", sizes=((0.4, 0.46), (0.6, 0.66), (1.7, 1.9)))
def toilet_high(size, look):
    w, d, h = size
    rim = 0.42
    y = d / 2 - 0.1
    chain = tube([(w * 0.38, y - 0.08, h - 0.2), (w * 0.38, y - 0.08, h - 0.75)], 0.005, DARK, sides=6)
    return [
        *pan(w * 0.9, d, rim, look.main, look.second),
        cylinder(0.025, h - rim - 0.25, (0, y, rim), CHROME, segments=14),
        rounded_box((w, 0.19, 0.3), (0, y, h - 0.3), look.main, 0.02),
        chain,
        ball(0.018, (w * 0.38, y - 0.08, h - 0.79), look.second, segments=12),
    ]


def tap(at, *, high=0.14, reach=0.11, material=CHROME):
    """A mixer tap standing on `at`, its spout towards the front, with two handles."""
    x, y, z = at
    path = [(x, y, z), (x, y, z + high), (x, y - reach * 0.5, z + high * 1.2), (x, y - reach, z + high * 0.9)]
    parts = [tube(path, 0.013, material), cylinder(0.024, 0.015, at, material, segments=14)]
    for s in (-1, 1):
        parts.append(cylinder(0.012, 0.05, (x + s * 0.075, y, z), material, segments=10))
        parts.append(box((0.05, 0.014, 0.012), (x + s * 0.075, y, z + 0.05), material))
    return parts


@kind("bathtub")
class Bathtub(Kind):
    styles = ("built in",)
    sizes = ((1.5, 1.75), (0.7, 0.8), (0.68, 0.77))
    stands = "wall"

    def build(self, size, style, look):
        w, d, h = size
        h = h - 0.185  # the tap stands on the rim
        outside = [ring(w, d, z, power=14, n=40) for z in (0, h)]
        inside = [
            ring(w * 0.88, d * 0.8, h, power=5, n=40),
            ring(w * 0.84, d * 0.74, h * 0.6, power=4, n=40),
            ring(w * 0.74, d * 0.62, h * 0.2, power=4, n=40),
        ]
        taps = tap((0, d / 2 - 0.04, h))
        return [basin(outside, inside, look.main), *taps, lying(0.03, 0.01, (0, d * 0.36, h * 0.72), CHROME)]


@style("bathtub", "claw foot", sizes=((1.5, 1.75), (0.72, 0.8), (0.58, 0.68)))
def bathtub_claw(size, look):
    w, d, h = size
    foot = 0.16
    outside = [
        ring(w * 0.6, d * 0.5, foot, n=40),
        ring(w * 0.82, d * 0.8, foot + 0.1, power=2.6, n=40),
        ring(w * 0.95, d * 0.95, h - 0.05, power=2.8, n=40),
        ring(w, d, h - 0.02, power=2.8, n=40),
        ring(w, d, h, power=2.8, n=40),
    ]
    inside = [
        ring(w * 0.9, d * 0.84, h, power=2.8, n=40),
        ring(w * 0.84, d * 0.76, h * 0.6, power=2.6, n=40),
        ring(w * 0.6, d * 0.5, foot + 0.05, n=40),
    ]
    parts = [basin(outside, inside, look.main)]
    for sx in (-1, 1):
        for sy in (-1, 1):
            path = [
                (sx * w * 0.3, sy * d * 0.28, foot + 0.1),
                (sx * w * 0.36, sy * d * 0.38, foot * 0.5),
                (sx * w * 0.35, sy * d * 0.36, 0.02),
            ]
            parts += [
                tube(path, (0.03, 0.022, 0.03), look.second),
                ball(0.034, (*path[2][:2], 0), look.second, segments=12),
            ]
    pipe = tube(
        [
            (w * 0.44, d * 0.2, h - 0.02),
            (w * 0.44, d * 0.2, h + 0.14),
            (w * 0.36, d * 0.16, h + 0.16),
            (w * 0.33, d * 0.15, h + 0.1),
        ],
        0.014,
        CHROME,
    )
    return [p.moved((0, 0, 0)) for p in [*parts, pipe]]


@style("bathtub", "oval", sizes=((1.55, 1.8), (0.75, 0.85), (0.55, 0.64)))
def bathtub_oval(size, look):
    w, d, h = size
    outside = [
        ring(w * 0.74, d * 0.72, 0, n=44),
        ring(w * 0.85, d * 0.86, h * 0.5, n=44),
        ring(w, d, h, power=2.2, n=44),
    ]
    inside = [
        ring(w * 0.95, d * 0.9, h, power=2.2, n=44),
        ring(w * 0.8, d * 0.76, h * 0.5, n=44),
        ring(w * 0.62, d * 0.55, 0.1, n=44),
    ]
    return [basin(outside, inside, look.main), lying(0.03, 0.01, (0, d * 0.36, h * 0.66), CHROME)]


@style("bathtub", "panelled", sizes=((1.5, 1.7), (0.7, 0.8), (0.52, 0.6)))
def bathtub_panelled(size, look):
    w, d, h = size
    rim = [ring(w, d, h - 0.05, power=14, n=40), ring(w, d, h, power=14, n=40)]
    inside = [ring(w * 0.86, d * 0.76, h, power=4, n=40), ring(w * 0.7, d * 0.6, h * 0.25, power=4, n=40)]
    parts = [basin(rim, inside, look.main), box((w - 0.04, d - 0.04, h * 0.2), (0, 0, 0), look.second)]
    count = 9
    for k in range(count):
        x = (k + 0.5) / count * (w - 0.04) - (w - 0.04) / 2
        for y in (-d / 2 + 0.02, d / 2 - 0.02):
            parts.append(box(((w - 0.04) / count - 0.008, 0.02, h - 0.05), (x, y, 0), look.second))
    for s in (-1, 1):
        parts.append(box((0.02, d - 0.05, h - 0.05), (s * (w / 2 - 0.03), 0, 0), look.second))
    return [*parts, *tap((w * 0.3, d / 2 - 0.045, h))]


def bowl_of(w, d, h, material, *, power=2.4, thick=0.12, at=(0.0, 0.0)):
    """A washing basin: its rim at z = 0, its bowl `h` deep below.

    Args:
        w, d, h: width, depth, and height of the bowl, in metres.
        material: of all of it.
        power: how square the rim is; 2 is an ellipse.
        thick: of the rim, as a share.
        at: the bowl's middle in x and y.
    """
    outside = [
        ring(w * 0.3, d * 0.3, -h, at=at),
        ring(w * 0.75, d * 0.75, -h * 0.6, at=at),
        ring(w, d, -h * 0.1, at=at, power=power),
        ring(w, d, 0, at=at, power=power),
    ]
    k = 1 - thick
    inside = [
        ring(w * k, d * k, 0, at=at, power=power),
        ring(w * 0.65, d * 0.62, -h * 0.5, at=at),
        ring(w * 0.2, d * 0.2, -h * 0.8, at=at),
    ]
    return basin(outside, inside, material)


@kind("sink")
class Sink(Kind):
    styles = ("pedestal",)
    sizes = ((0.5, 0.64), (0.42, 0.5), (0.95, 1.02))
    stands = "wall"

    def build(self, size, style, look):
        w, d, h = size
        rim = h - 0.17
        parts = [bowl_of(w, d, 0.2, look.main, power=3).moved((0, 0, rim))]
        foot = [(0, 0), (0.13, 0), (0.12, 0.04), (0.07, 0.3), (0.075, rim - 0.2), (0.11, rim - 0.12), (0, rim - 0.12)]
        parts.append(lathe(foot, (0, d * 0.12, 0), look.main))
        return [*parts, *tap((0, d / 2 - 0.045, rim), high=0.12)]


@style("sink", "vanity", sizes=((0.6, 0.9), (0.46, 0.54), (0.98, 1.05)))
def sink_vanity(size, look):
    w, d, h = size
    rim = h - 0.18
    parts = [
        box((w - 0.04, d - 0.04, rim - 0.14), (0, 0.01, 0.1), look.second),
        box((w - 0.1, d - 0.12, 0.1), (0, 0.03, 0), DARK),
    ]
    outside = [ring(w, d, rim - 0.05, power=16, n=40), ring(w, d, rim, power=16, n=40)]
    inside = [
        ring(w * 0.74, d * 0.6, rim, power=4, n=40, at=(0, -0.03)),
        ring(w * 0.5, d * 0.36, rim - 0.04, n=40, at=(0, -0.03)),
    ]
    parts.append(basin(outside, inside, look.main))
    for s in (-1, 1):
        parts.append(box((w / 2 - 0.05, 0.02, rim - 0.2), (s * (w / 4 - 0.005), -d / 2 + 0.02, 0.12), look.second))
        parts.append(bar_handle(0.12, (s * 0.05, -d / 2 + 0.01, rim - 0.2), upright=True))
    return [*parts, *tap((0, d / 2 - 0.06, rim))]


@style("sink", "bowl on a shelf", sizes=((0.6, 0.8), (0.44, 0.5), (0.98, 1.06)))
def sink_bowl(size, look):
    w, d, h = size
    shelf = h - 0.3
    parts = [box((w, d, 0.05), (0, 0, shelf - 0.05), look.second)]
    parts += [box((0.05, d * 0.9, shelf - 0.05), (s * (w / 2 - 0.04), 0, 0), look.second) for s in (-1, 1)]
    r = min(w, d) * 0.42
    profile = [(0, 0), (r * 0.5, 0), (r * 0.9, 0.06), (r, 0.13), (r - 0.012, 0.13), (r * 0.8, 0.06), (0, 0.03)]
    parts.append(lathe(profile, (0, -0.02, shelf), look.main))
    return [*parts, *tap((0, d / 2 - 0.04, shelf), high=0.22, reach=0.13)]


@style("sink", "hung", sizes=((0.44, 0.58), (0.38, 0.46), (0.92, 1.0)))
def sink_hung(size, look):
    w, d, h = size
    rim = h - 0.16
    pipe = tube(
        [(0, 0.02, rim - 0.2), (0, 0.02, rim - 0.33), (0, d / 2 - 0.03, rim - 0.36), (0, d / 2 - 0.03, 0.0)],
        0.018,
        CHROME,
    )
    block = basin(
        [ring(w * 0.7, d * 0.7, rim - 0.2, power=8), ring(w, d, rim - 0.12, power=8), ring(w, d, rim, power=8)],
        [
            ring(w * 0.86, d * 0.7, rim, power=8, at=(0, -0.03)),
            ring(w * 0.6, d * 0.45, rim - 0.1, power=5, at=(0, -0.03)),
        ],
        look.main,
    )
    return [block, pipe, *tap((0, d / 2 - 0.045, rim), high=0.11)]


def hanging(w, h, folds, deep, material, *, waist=0.0, top=1.0):
    """A sheet of w x h with upright folds of depth `deep`.

    Args:
        w, h: width and height in metres.
        folds: how many.
        deep: from fold to fold in metres.
        material: of all of it.
        waist: how far it is drawn in, as a share.
        top: factor on heights.
    """
    x, z = np.linspace(-w / 2, w / 2, 12 * folds + 1), np.linspace(0, h, 9)
    fold = np.cos(np.linspace(0, 2 * np.pi * folds, len(x))) * deep / 2
    pinch = 1 - waist * np.exp(-(((z / h - 0.42) / 0.16) ** 2))
    grid = np.stack(np.broadcast_arrays(x[:, None] * pinch, fold[:, None] * (1 - 0.3 * z / h), z[None, :]), -1)
    uv = np.stack(np.broadcast_arrays(x[:, None] * 1.5, z[None, :]), -1)
    return sheet(grid * [1, 1, top], material, uv=uv)


def rail(w, y, z, count, material, below):
    """A rod along x with rings that hang `below`.

    Args:
        w: length in metres.
        y, z: where the rod is.
        count: of rings.
        material: of all of it.
        below: how far rings hang, in metres.
    """
    parts = [tube([(-w / 2, y, z), (w / 2, y, z)], 0.013, material)]
    for k in range(count):
        x = ((k + 0.5) / count - 0.5) * w * 0.96
        parts.append(
            tube(
                [(x, y, z + 0.024), (x, y - 0.02, z), (x, y, z - below), (x, y + 0.02, z), (x, y, z + 0.024)],
                0.0035,
                material,
                sides=6,
            )
        )
    return parts


@kind("shower curtain")
class ShowerCurtain(Kind):
    styles = ("rail",)
    sizes = ((1.2, 1.6), (0.16, 0.2), (1.9, 2.05))
    stands = "wall"
    finishes = ("cloth",)

    def build(self, size, style, look):
        w, d, h = size
        cloth = hanging(w * 0.92, h - 0.32, 7, d * 0.6, look.main).moved((0, 0, 0.25))
        ends = [lying(0.035, 0.02, (s * (w / 2 - 0.01), 0, h - 0.03), CHROME).moved(yaw=0) for s in (-1, 1)]
        return [cloth, *rail(w, 0, h - 0.03, 12, CHROME, 0.045), *ends]


@style("shower curtain", "over a tub", sizes=((1.4, 1.65), (0.66, 0.76), (1.95, 2.1)))
def shower_tub(size, look):
    w, d, h = size
    outside = [ring(w, d, 0, power=14, n=40), ring(w, d, 0.5, power=14, n=40)]
    inside = [ring(w * 0.9, d * 0.8, 0.5, power=5, n=40), ring(w * 0.75, d * 0.6, 0.15, power=4, n=40)]
    y = -d / 2 + 0.06
    cloth = hanging(w * 0.78, h - 0.4, 7, 0.1, look.main).moved((-w * 0.1, y, 0.33))
    return [basin(outside, inside, look.second), cloth, *rail(w, y, h - 0.03, 12, CHROME, 0.045)]


@style("shower curtain", "corner", sizes=((0.9, 1.05), (0.85, 1.0), (1.95, 2.1)))
def shower_corner(size, look):
    w, d, h = size
    t = np.linspace(0, 1, 61)
    # Along the front, then around the corner along one side.
    bend = np.clip((t - 0.5) * 2, 0, 1)
    x, y = -w / 2 + 0.05 + np.minimum(t * 2, 1) * (w - 0.1), -d / 2 + 0.08 + bend * (d - 0.12)
    sway = 0.035 * np.cos(t * 2 * np.pi * 9)
    z = np.linspace(0.18, h - 0.07, 7)
    px, py = x + np.where(t > 0.5, sway, 0), y + np.where(t > 0.5, 0, sway)
    grid = np.stack(np.broadcast_arrays(px[:, None], py[:, None], z[None, :]), -1)
    uv = np.stack(np.broadcast_arrays((t * (w + d))[:, None], z[None, :]), -1)
    rod = tube(
        [(-w / 2, y[0], h - 0.03), (w / 2 - 0.05, y[0], h - 0.03), (w / 2 - 0.05, d / 2, h - 0.03)], 0.013, CHROME
    )
    return [sheet(grid, look.main, uv=uv), rod, box((w, d, 0.1), (0, 0, 0), look.second)]


@style("shower curtain", "half open", sizes=((1.3, 1.6), (0.16, 0.2), (1.9, 2.05)))
def shower_half(size, look):
    w, d, h = size
    one = hanging(w * 0.42, h - 0.32, 5, d * 0.85, look.main).moved((-w * 0.27, 0, 0.25))
    two = hanging(w * 0.2, h - 0.32, 3, d * 0.85, look.main).moved((w * 0.38, 0, 0.25))
    head = lathe([(0, 0), (0.09, 0), (0.09, 0.012), (0.02, 0.05), (0, 0.05)], (w * 0.1, 0, h - 0.22), CHROME)
    arm = tube([(w * 0.1, 0, h - 0.17), (w * 0.1, 0, h - 0.1), (w * 0.1, d * 0.45, h - 0.06)], 0.01, CHROME)
    return [one, two, *rail(w, 0, h - 0.03, 12, CHROME, 0.045), head, arm]
