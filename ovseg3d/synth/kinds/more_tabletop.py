"""More styles of tabletop.py's kinds. Added after the first ones, which scenes name. See base.py."""

import numpy as np

from ovseg3d.synth.geometry import ball, box, cylinder, lathe, panel, rounded_box, sheet, tube
from ovseg3d.synth.kinds.base import style
from ovseg3d.synth.kinds.shapes import CHROME, DARK, basin, lying, ring
from ovseg3d.synth.kinds.tabletop import Apple, Banana
from ovseg3d.synth.kinds.things import screen_image
from ovseg3d.synth.materials import paint, picture


@style("apple", "with a leaf")
def apple_leaf(size, look):
    w, _, h = size
    parts = Apple().build(size, "round", look)
    t = np.linspace(0, 1, 7)[:, None]
    mid = np.array([0.004, 0, h * 0.93]) + t * [w * 0.42, -w * 0.1, 0] + [0, 0, 1] * np.sin(t * np.pi) * h * 0.05
    side = np.array([0.25, 1.0, 0]) * w * 0.13 * np.sin(np.pi * np.clip(t, 0.04, 0.97))
    return [*parts, sheet(np.stack([mid - side, mid, mid + side], 1), paint("#5c8f3a"))]


@style("apple", "long", sizes=((0.065, 0.075), (0.065, 0.075), (0.085, 0.1)))
def apple_long(size, look):
    w, d, h = size
    r, body = min(w, d) / 2, h * 0.9
    t = np.linspace(-np.pi / 2, np.pi / 2, 15)
    profile = [
        (
            r * np.cos(a) ** 0.7 * (0.86 + 0.14 * np.sin(a)),
            body * (0.5 + 0.5 * np.sin(a)) - 0.1 * body * max(0, np.sin(a)) ** 8,
        )
        for a in t
    ]
    profile[0], profile[-1] = (0, 0), (0, profile[-1][1])
    return [
        lathe(profile, (0, 0, 0), look.main, smooth_degrees=70),
        tube([(0, 0, body * 0.85), (0, 0, h)], 0.0025, paint("#4a3420"), sides=6),
    ]


@style("banana", "bunch", sizes=((0.17, 0.21), (0.13, 0.16), (0.05, 0.065)))
def banana_bunch(size, look):
    w, d, _ = size
    parts = []
    for k in range(3):
        one = Banana().build((w * 0.96, d * 0.5, 0.036), "curved", look)
        parts += [
            p.moved((0, (k - 1) * d * 0.24, (0.0, 0.012, 0.004)[k]), yaw=(k - 1) * 0.1, roll=(k - 1) * -0.3)
            for p in one
        ]
    return [*parts, box((0.02, d * 0.5, 0.025), (w * 0.47, d * 0.12, 0.012), look.second)]


@style("banana", "peeled", sizes=((0.1, 0.13), (0.1, 0.13), (0.17, 0.2)))
def banana_peeled(size, look):
    w, _, h = size
    r = 0.019
    t = np.linspace(0, 1, 12)
    curve = np.stack([0.016 * (t - 0.5) ** 2 * 4, 0 * t, t * h], -1)
    parts = [tube(curve[:7], r * np.minimum(1, 0.4 + t[:7] * 4), look.main, sides=12)]
    parts.append(
        tube(curve[5:], r * 0.86 * np.sqrt(np.clip(1.02 - (t[5:] - 0.42) / 0.6, 0.02, 1)), paint("#f1e7c4"), sides=12)
    )
    s = np.linspace(0, 1, 8)[:, None]
    for k in range(4):
        a = np.pi / 4 + k * np.pi / 2
        way, side = np.array([np.cos(a), np.sin(a), 0]), np.array([-np.sin(a), np.cos(a), 0])
        path = (
            way * (r * 0.9 + s * (w / 2 - r))
            + [0, 0, 1] * (h * 0.5 + 0.03 * np.sin(s * np.pi) - s**2 * h * 0.28)
            + curve[6] * [1, 1, 0]
        )
        half = side * r * 0.85 * (1 - 0.75 * s)
        parts.append(sheet(np.stack([path - half, path, path + half], 1), look.main))
    return parts


def dial(*, roman: bool = False, n: int = 128) -> np.ndarray:
    """A clock's face (n, n, 3) uint8 at five minutes past ten or so."""
    y, x = (np.mgrid[0:n, 0:n] + 0.5) / n * 2 - 1
    far, angle = np.hypot(x, y), np.degrees(np.arctan2(x, -y)) % 360
    face = np.full((n, n, 3), 240.0)
    wide = 6.0 if roman else 3.0
    marks = (far > (0.66 if roman else 0.8)) & (far < 0.94) & (np.abs((angle + 15) % 30 - 15) < wide)
    for hand, length, thick in ((305.0, 0.5, 0.07), (60.0, 0.76, 0.045)):
        c, s = np.sin(np.radians(hand)), -np.cos(np.radians(hand))
        along, across = x * c + y * s, np.abs(x * s - y * c)
        marks |= (across < thick) & (along > -0.12) & (along < length)
    face[marks | (far < 0.07)] = 30
    return face.astype(np.uint8)


def round_face(r, at, *, roman=False):
    """A disc with a clock's face that looks to the front."""
    from ovseg3d.synth.geometry import Part, grid_faces, soup_of

    t = np.linspace(0, 2 * np.pi, 41)
    rim = np.stack([np.cos(t), np.sin(t)], -1)
    flat = np.stack([0 * rim, rim], 0)
    points = np.stack([flat[..., 0] * r, np.zeros(flat.shape[:2]), flat[..., 1] * r], -1)
    uv = (flat + 1) / 2
    return Part(
        soup_of(grid_faces(points), uv=grid_faces(points, uv), two_sided=True), picture(dial(roman=roman))
    ).moved(at)


@style("clock", "wall", sizes=((0.26, 0.38), (0.05, 0.06), (0.26, 0.38)), stands="hung", word="wall clock")
def clock_wall(size, look):
    w, d, h = size
    r = min(w, h) / 2
    rim = lathe(
        [(r - 0.03, 0), (r, 0), (r, d * 0.7), (r - 0.015, d), (r - 0.03, d * 0.7), (r - 0.03, 0)],
        (0, 0, 0),
        look.main,
        segments=40,
    )
    return [
        rim.moved((0, d / 2, r), roll=np.pi / 2),
        lying(r - 0.02, d * 0.4, (0, d * 0.3, r), look.main, segments=40),
        round_face(r - 0.028, (0, 0.0, r)),
    ]


@style("clock", "alarm", sizes=((0.12, 0.16), (0.06, 0.08), (0.16, 0.2)), word="alarm clock")
def clock_alarm(size, look):
    w, d, h = size
    r = min(w / 2, h * 0.4)
    z = 0.018 + r
    parts = [lying(r, d, (0, 0, z), look.main, segments=36), round_face(r * 0.88, (0, -d / 2 - 0.001, z))]
    for s in (-1, 1):
        parts += [
            ball(r * 0.36, (s * r * 0.55, 0, z + r * 0.78), look.second, squash=0.8, segments=16),
            tube([(s * r * 0.5, 0, z - r * 0.8), (s * r * 0.7, 0, 0.004)], 0.006, look.second),
        ]
    t = np.linspace(0, np.pi, 9)
    bow = np.stack([np.cos(t) * r * 0.3, 0 * t, z + r * 1.25 + np.sin(t) * (h - z - r * 1.28)], -1)
    return [*parts, tube(bow, 0.004, CHROME, sides=6)]


@style("clock", "mantel", sizes=((0.22, 0.3), (0.09, 0.11), (0.2, 0.26)))
def clock_mantel(size, look):
    w, d, h = size
    from ovseg3d.synth.geometry import prism

    t = np.linspace(0, np.pi, 17)
    outline = [
        (w * 0.42, 0.02),
        *[(np.cos(a) * w * 0.42, h * 0.45 + np.sin(a) * h * 0.54) for a in t],
        (-w * 0.42, 0.02),
    ]
    r = min(w * 0.33, h * 0.38)
    return [
        prism(outline, d * 0.9, (0, 0, 0), look.main),
        box((w, d, 0.025), (0, 0, 0), look.main),
        lying(r * 1.1, 0.01, (0, -d * 0.45, h * 0.5), look.second, segments=36),
        round_face(r, (0, -d * 0.45 - 0.007, h * 0.5), roman=True),
    ]


PENS = ("#c43c2e", "#2c5aa0", "#e0b040", "#2f2f33", "#3f8a55")


def pens(r, low, h, rng):
    parts = []
    for k, colour in enumerate(PENS):
        a = k * 1.2566 + rng.uniform(-0.3, 0.3)
        c, s = np.cos(a), np.sin(a)
        top = (c * r * 0.85, s * r * 0.85, h * rng.uniform(0.84, 0.98))
        parts.append(tube([(-c * r * 0.3, -s * r * 0.3, low), top], 0.0045, paint(colour), sides=8))
    return parts


@style("pen holder", "square")
def pens_square(size, look):
    w, d, h = size
    s, cup = min(w, d), h * 0.52
    out = [ring(s, s, 0, power=14, n=32), ring(s, s, cup, power=14, n=32)]
    return [
        basin(
            out, [ring(s * 0.9, s * 0.9, cup, power=14, n=32), ring(s * 0.9, s * 0.9, 0.01, power=14, n=32)], look.main
        ),
        *pens(s * 0.4, 0.02, h, look.rng),
    ]


@style("pen holder", "ringed")
def pens_ringed(size, look):
    w, d, h = size
    r, cup = min(w, d) / 2, h * 0.5
    wall = [
        (0, 0),
        (r, 0),
        (r * 0.86, cup * 0.5),
        (r, cup),
        (r - 0.005, cup),
        (r * 0.8, cup * 0.5),
        (r * 0.9, 0.008),
        (0, 0.008),
    ]
    bands = [
        lathe(
            [(r * 0.98, cup * z), (r * 1.015, cup * (z + 0.04)), (r * 0.98, cup * (z + 0.08))], (0, 0, 0), look.second
        )
        for z in (0.0, 0.92)
    ]
    return [lathe(wall, (0, 0, 0), look.main), *bands, *pens(r * 0.75, 0.02, h, look.rng)]


@style("teapot", "tall", sizes=((0.2, 0.24), (0.11, 0.13), (0.22, 0.27)))
def teapot_tall(size, look):
    w, d, h = size
    r, top = d / 2, h * 0.84
    body = [(0, 0), (r, 0), (r * 1.0, 0.02), (r * 0.66, top), (0, top)]
    lid = [(0, top), (r * 0.7, top), (r * 0.3, h - 0.03), (0.008, h - 0.025), (0.014, h - 0.01), (0, h)]
    reach = w / 2 - 0.006
    spout = np.array([(r * 0.7, 0, h * 0.3), (r + 0.02, 0, h * 0.4), (reach * 0.95, 0, h * 0.66), (reach, 0, h * 0.76)])
    ear = tube(
        [(-r * 0.7, 0, h * 0.72), (-reach, 0, h * 0.72), (-reach * 0.96, 0, h * 0.3), (-r * 0.9, 0, h * 0.22)],
        0.008,
        look.main,
    )
    return [
        lathe(body, (0, 0, 0), look.main),
        lathe(lid, (0, 0, 0), look.second),
        tube(spout, (0.016, 0.014, 0.009, 0.008), look.main),
        ear,
    ]


@style("teapot", "bow above", sizes=((0.2, 0.24), (0.15, 0.17), (0.2, 0.25)))
def teapot_bow(size, look):
    w, d, h = size
    r, top = d / 2, h * 0.5
    t = np.linspace(0.15, 0.85, 12) * np.pi
    belly = [(r * np.sin(a) ** 0.7, top * (1 - np.cos(a)) / 2) for a in t]
    low = belly[0][1]
    parts = [lathe([(0, low), *belly, (0, belly[-1][1])], (0, 0, -low), look.main, smooth_degrees=50)]
    z = belly[-1][1] - low
    parts += [
        lathe([(0, z), (r * 0.5, z), (0.01, z + 0.02), (0.014, z + 0.035), (0, z + 0.04)], (0, 0, 0), look.second)
    ]
    reach = w / 2 - 0.004
    parts += [
        tube([(r * 0.8, 0, z * 0.4), (r * 1.05, 0, z * 0.55), (reach, 0, z * 1.05)], (0.018, 0.014, 0.008), look.main)
    ]
    a = np.linspace(0.05, 0.95, 13) * np.pi
    bow = np.stack([np.cos(a) * r * 0.85, 0 * a, z * 0.7 + np.sin(a) * (h - z * 0.7 - 0.007)], -1)
    return [*parts, tube(bow, 0.006, look.second)]


@style("teapot", "boxy", sizes=((0.24, 0.28), (0.13, 0.15), (0.15, 0.18)))
def teapot_boxy(size, look):
    w, d, h = size
    top = h * 0.78
    parts = [
        rounded_box((d, d, top), (0, 0, 0), look.main, 0.03),
        rounded_box((d * 0.6, d * 0.6, 0.015), (0, 0, top), look.second, 0.006, steps=2),
    ]
    parts += [ball(0.014, (0, 0, top + 0.012), look.second, segments=12)]
    reach = w / 2 - 0.006
    parts += [
        tube(
            [(d * 0.42, 0, h * 0.25), (d * 0.62, 0, h * 0.34), (reach, 0, h * 0.7)],
            (0.02, 0.015, 0.009),
            look.main,
            sides=6,
        )
    ]
    return [
        *parts,
        tube(
            [(-d * 0.45, 0, top * 0.85), (-reach, 0, top * 0.85), (-reach, 0, top * 0.25), (-d * 0.45, 0, top * 0.25)],
            0.008,
            look.main,
            sides=6,
        ),
    ]


def tissue(w, low, h):
    t, z = np.linspace(-1, 1, 11), np.linspace(0, 1, 7)
    wave = np.sin(t * 5)[:, None] * 0.012 * z + 0.008 * np.cos(t * 3)[:, None] * z**2
    rise = low + (h - low) * z[None, :] * (0.85 + 0.15 * np.cos(t * 2.2))[:, None]
    grid = np.stack([np.broadcast_to(t[:, None] * w * (1 - 0.3 * z), wave.shape), wave, rise], -1)
    return sheet(grid, paint("#f2f0ea"))


@style("tissue box", "cube", sizes=((0.11, 0.13), (0.11, 0.13), (0.18, 0.21)))
def tissue_cube(size, look):
    w, d, h = size
    low = h * 0.66
    return [
        rounded_box((w, d, low), (0, 0, 0), look.main, 0.004, steps=2),
        cylinder(w * 0.3, 0.0008, (0, 0, low), look.second),
        tissue(w * 0.26, low, h),
    ]


@style("tissue box", "round", sizes=((0.12, 0.14), (0.12, 0.14), (0.17, 0.2)))
def tissue_round(size, look):
    w, d, h = size
    low, r = h * 0.66, min(w, d) / 2
    return [
        cylinder(r, low - 0.012, (0, 0, 0), look.main, segments=30),
        cylinder(r + 0.002, 0.014, (0, 0, low - 0.014), look.second, segments=30),
        tissue(w * 0.25, low, h),
    ]


@style("monitor", "wide", sizes=((0.72, 0.86), (0.2, 0.25), (0.44, 0.52)))
def monitor_wide(size, look):
    w, d, h = size
    tall = w * 0.44
    image = screen_image(look.rng, "text")
    feet = [tube([(0, 0.04, 0.02), (s * w * 0.2, -d / 2 + 0.02, 0.008)], 0.01, look.second) for s in (-1, 1)]
    return [
        *feet,
        cylinder(0.025, h - tall * 0.6, (0, 0.05, 0), look.second),
        box((w, 0.03, tall), (0, 0.01, h - tall), look.main),
        panel(w - 0.02, tall - 0.03, (0, -0.0055, h - tall + 0.02), picture(image, gloss=0.05)),
    ]


@style("monitor", "chin", sizes=((0.5, 0.6), (0.17, 0.22), (0.46, 0.54)))
def monitor_chin(size, look):
    w, d, h = size
    tall = w * 0.68
    image = screen_image(look.rng, "text")
    foot = box((w * 0.32, 0.012, h - tall + 0.1), (0, 0, 0), CHROME).moved((0, d * 0.3, 0.0), roll=0.16)
    return [
        box((w * 0.34, d, 0.008), (0, 0, 0), CHROME),
        foot,
        rounded_box((w, 0.03, tall), (0, 0.0, h - tall), look.main, 0.008, steps=2),
        panel(w - 0.03, tall - 0.1, (0, -0.0158, h - tall + 0.085), picture(image, gloss=0.05)),
        lying(0.012, 0.004, (0, -0.015, h - tall + 0.042), DARK),
    ]


@style("monitor", "upright", sizes=((0.32, 0.38), (0.18, 0.22), (0.58, 0.68)))
def monitor_upright(size, look):
    w, _, h = size
    tall = h - 0.1
    image = np.ascontiguousarray(np.swapaxes(screen_image(look.rng, "text"), 0, 1)[::-1])
    return [
        cylinder(w * 0.4, 0.012, (0, 0, 0), look.second, segments=28),
        box((0.05, 0.03, h * 0.5), (0, 0.04, 0), look.second),
        rounded_box((w, 0.03, tall), (0, 0.005, h - tall), look.main, 0.006, steps=2),
        panel(w - 0.02, tall - 0.02, (0, -0.0105, h - tall + 0.01), picture(image)),
    ]
