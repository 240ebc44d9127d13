"""More styles of balls, cushions, plants, vases and bears. See base.py and more_things.py."""

import numpy as np

from ovseg3d.synth.geometry import ball, cylinder, lathe, pillow, sheet, tube
from ovseg3d.synth.kinds.base import style
from ovseg3d.synth.kinds.shapes import basin, ring, skin
from ovseg3d.synth.materials import paint


@style("ball", "beach", sizes=((0.24, 0.36), (0.24, 0.36), (0.24, 0.36)))
def ball_beach(size, look):
    r = min(size) / 2
    parts = []
    for k in range(6):
        turn = np.linspace(k, k + 1, 6) * np.pi / 3
        rise = np.linspace(-np.pi / 2, np.pi / 2, 15)
        grid = (
            np.stack(
                np.broadcast_arrays(
                    np.cos(turn)[:, None] * np.cos(rise), np.sin(turn)[:, None] * np.cos(rise), np.sin(rise)[None, :]
                ),
                -1,
            )
            * r
        )
        parts.append(skin(list(np.moveaxis(grid, 1, 0)), look.main if k % 2 else look.second, closed=False, smooth=80))
    return [p.moved((0, 0, r), roll=0.6, yaw=0.5) for p in parts]


@style("ball", "football", sizes=((0.2, 0.24), (0.2, 0.24), (0.2, 0.24)))
def ball_football(size, look):
    r = min(size) / 2
    g = (1 + np.sqrt(5)) / 2
    spots = np.array([(0, a, b * g) for a in (-1, 1) for b in (-1, 1)])
    spots = np.concatenate([np.roll(spots, k, 1) for k in range(3)]) / np.hypot(1, g)
    parts = [ball(r * 0.995, (0, 0, 0.005 * r), look.main)]
    for spot in spots:
        aside = np.cross(spot, [0.3, 0.5, 0.8])
        aside /= np.linalg.norm(aside)
        up = np.cross(spot, aside)
        a = np.linspace(0, 2 * np.pi, 6)
        rim = spot + 0.36 * (np.cos(a)[:, None] * aside + np.sin(a)[:, None] * up)
        levels = [spot + (rim - spot) * k for k in (1e-3, 0.35, 0.7, 1.0)]
        grid = np.stack([v / np.linalg.norm(v, axis=1, keepdims=True) * r * 1.002 for v in levels], 1)
        parts.append(sheet(grid, look.second).moved((0, 0, r)))
    return parts


@style("cushion", "round", sizes=((0.36, 0.48), (0.36, 0.48), (0.12, 0.18)))
def cushion_round(size, look):
    w, d, h = size
    t = np.linspace(-np.pi / 2, np.pi / 2, 13)
    profile = [(np.cos(a) ** 0.45 * min(w, d) / 2 if abs(a) < 1.57 else 0.0, h * (0.5 + 0.5 * np.sin(a))) for a in t]
    return [
        lathe(profile, (0, 0, 0), look.main, segments=32, smooth_degrees=70),
        ball(0.025, (0, 0, h - 0.02), look.second, squash=0.6, segments=12),
    ]


@style("cushion", "bolster", sizes=((0.45, 0.65), (0.18, 0.24), (0.18, 0.24)))
def cushion_bolster(size, look):
    w, d, h = size
    r = min(d, h) / 2
    half = [
        (0, 0),
        (r * 0.5, 0.004),
        (r * 0.93, 0.03),
        (r, 0.07),
        (r, w - 0.07),
        (r * 0.93, w - 0.03),
        (r * 0.5, w - 0.004),
        (0, w),
    ]
    roll = lathe(half, (0, 0, -w / 2), look.main, smooth_degrees=60).moved((0, 0, r), pitch=np.pi / 2)
    return [roll, *(ball(0.02, (0, 0, 0), look.second, segments=10).moved((s * w / 2, 0, r - 0.02)) for s in (-1, 1))]


@style("cushion", "piped", sizes=((0.45, 0.6), (0.3, 0.4), (0.13, 0.18)))
def cushion_piped(size, look):
    w, d, h = size
    t = np.linspace(0, 2 * np.pi, 41)
    seam = ring(w * 0.97, d * 0.97, h / 2, power=9, n=40)
    return [pillow((w, d, h), (0, 0, 0), look.main), tube(seam + 0 * t[:, None], 0.008, look.second, sides=8)]


def pot(r, h, material):
    """A flower pot with earth."""
    wall = [
        (0, 0),
        (r * 0.7, 0),
        (r * 0.92, h * 0.8),
        (r, h * 0.8),
        (r, h),
        (r * 0.88, h),
        (r * 0.86, h * 0.9),
        (0, h * 0.9),
    ]
    return [lathe(wall, (0, 0, 0), material), cylinder(r * 0.86, 0.004, (0, 0, h * 0.9), paint("#3a2c20"))]


@style("plant", "cactus", sizes=((0.3, 0.5), (0.3, 0.5), (0.5, 0.9)))
def plant_cactus(size, look):
    w, d, h = size
    r, low = min(w, d) / 2, h * 0.28
    thick = r * 0.36
    parts = pot(r * 0.62, low, look.second)

    def arm(path, radius):
        t = np.linspace(0, 1, 12)
        path = np.array([np.interp(t, np.linspace(0, 1, len(path)), [p[k] for p in path]) for k in range(3)]).T
        return tube(path, radius * np.minimum(1, np.sqrt(np.clip((1 - t) * 5, 0.02, 1))), look.main, sides=14)

    parts.append(arm([(0, 0, low * 0.8), (0, 0, h * 0.5), (0, 0, h)], thick))
    parts.append(
        arm([(0, 0, h * 0.5), (r * 0.62, 0, h * 0.54), (r * 0.7, 0, h * 0.62), (r * 0.7, 0, h * 0.82)], thick * 0.6)
    )
    parts.append(
        arm([(0, 0, h * 0.4), (-r * 0.62, 0, h * 0.44), (-r * 0.7, 0, h * 0.5), (-r * 0.7, 0, h * 0.68)], thick * 0.55)
    )
    return parts


@style("plant", "little tree", sizes=((0.45, 0.65), (0.45, 0.65), (0.9, 1.4)))
def plant_tree(size, look):
    w, d, h = size
    r, rng = min(w, d) / 2, look.rng
    low = h * 0.2
    parts = [
        *pot(r * 0.55, low, look.second),
        tube([(0, 0, low * 0.8), (0.015, 0, h * 0.4), (0, 0, h * 0.65)], 0.018, paint("#6b4a2f")),
    ]
    dark = look.main.but(colour=tuple(0.75 * c for c in look.main.colour))
    for k in range(9):
        way = rng.normal(size=3)
        way /= np.linalg.norm(way)
        at = way * (r * 0.45) * [1, 1, 0.8] if k else np.zeros(3)
        size_ = r * (0.6 if k == 0 else rng.uniform(0.38, 0.5))
        parts.append(ball(size_, (at[0], at[1], h - r * 1.05 + at[2] - size_), (look.main, dark)[k % 2], segments=14))
    return parts


@style("plant", "drooping", sizes=((0.45, 0.6), (0.45, 0.6), (0.4, 0.6)))
def plant_drooping(size, look):
    w, d, h = size
    r, rng = min(w, d) / 2, look.rng
    low = h * 0.42
    parts = pot(r * 0.55, low, look.second)
    dark = look.main.but(colour=tuple(0.75 * c for c in look.main.colour))
    s = np.linspace(0, 1, 9)[:, None]
    for k in range(26):
        turn, out, rise = k * 2.39996, r * rng.uniform(0.75, 1.0), rng.uniform(0.5, 1.0)
        way = np.array([np.cos(turn), np.sin(turn), 0])
        path = way * out * s + [0, 0, 1] * (low * 0.9 + (h - low) * rise * np.sin(s * np.pi * 0.78) - 0.25 * h * (s**3))
        side = np.array([-np.sin(turn), np.cos(turn), 0]) * 0.028 * np.sin(np.pi * np.clip(s, 0.05, 0.97)) * (1 + h)
        parts.append(sheet(np.stack([path - side, path + [0, 0, 0.006], path + side], 1), (look.main, dark)[k % 2]))
    return parts


@style("vase", "globe", sizes=((0.16, 0.24), (0.16, 0.24), (0.18, 0.28)))
def vase_globe(size, look):
    w, d, h = size
    r = min(w, d) / 2
    t = np.linspace(0.12, 0.86, 12) * np.pi
    wall = [(max(r * np.sin(a), r * 0.35), h * 0.4 * (1 - np.cos(a)) / 0.97) for a in t]
    neck = [(r * 0.3, h * 0.85), (r * 0.42, h), (r * 0.36, h), (r * 0.25, h * 0.84), (0, h * 0.7)]
    return [lathe([(0, wall[0][1]), *wall, *neck], (0, 0, -wall[0][1] * 0), look.main, smooth_degrees=50)]


@style("vase", "of flowers", sizes=((0.24, 0.34), (0.24, 0.34), (0.4, 0.55)))
def vase_flowers(size, look):
    w, d, h = size
    r, high, rng = min(w, d) / 2, h * 0.5, look.rng
    wall = [
        (0, 0),
        (r * 0.3, 0),
        (r * 0.46, high * 0.3),
        (r * 0.4, high * 0.7),
        (r * 0.26, high * 0.88),
        (r * 0.34, high),
        (r * 0.28, high),
        (0, high * 0.8),
    ]
    parts = [lathe(wall, (0, 0, 0), look.main, smooth_degrees=50)]
    bloom = paint(str(rng.choice(["#d85a7a", "#e8c13f", "#f0ece2", "#b064c0", "#dd6a3a"])))
    for k in range(8):
        a, out = k * 2.39996, r * (0.25 + 0.5 * (k / 8))
        tip = (np.cos(a) * out, np.sin(a) * out, h - 0.05 - 0.12 * h * (k / 8) ** 2)
        parts.append(
            tube(
                [(0, 0, high * 0.8), (tip[0] * 0.5, tip[1] * 0.5, (high + tip[2]) / 2), tip],
                0.004,
                paint("#4f7d3a"),
                sides=6,
            )
        )
        parts += [
            ball(0.034, (tip[0], tip[1], tip[2] - 0.015), bloom, squash=0.7, segments=10),
            ball(0.014, (tip[0], tip[1], tip[2] + 0.018), paint("#e6b93a"), segments=8),
        ]
    return parts


@style("vase", "square", sizes=((0.1, 0.16), (0.1, 0.16), (0.24, 0.38)))
def vase_square(size, look):
    w, d, h = size
    s = min(w, d)
    out = [ring(s * 0.7, s * 0.7, 0, power=9, n=36), ring(s, s, h, power=9, n=36)]
    return [
        basin(
            out, [ring(s * 0.84, s * 0.84, h, power=9, n=36), ring(s * 0.7, s * 0.7, h * 0.4, power=9, n=36)], look.main
        )
    ]


def face_of(parts, y, z, s, look):
    """A bear's head: ears, eyes, snout, before y, its middle at z, its radius s.

    Args:
        parts: gets the new parts.
        y, z: where the head's middle is.
        s: radius of the head in metres.
        look: materials.
    """
    pale, dark = look.second, paint("#1c1614")
    parts += [
        ball(s, (0, y, z - s), look.main, segments=20),
        ball(s * 0.45, (0, y - s * 0.8, z - s * 0.62), pale, squash=0.85, segments=14),
        ball(s * 0.15, (0, y - s * 1.2, z - s * 0.2), dark, segments=10),
    ]
    for k in (-1, 1):
        parts += [
            ball(s * 0.36, (k * s * 0.78, y, z + s * 0.35), look.main, segments=14),
            ball(s * 0.1, (k * s * 0.4, y - s * 0.88, z + s * 0.12), dark, segments=8),
        ]


def fitted(parts, size):
    """Parts scaled to fill a box of that size on the floor."""
    corners = np.concatenate([p.soup.points.reshape(-1, 3) for p in parts])
    low, high = corners.min(0), corners.max(0)
    grow = np.diag(np.array(size) / (high - low))
    middle = grow @ ((low + high) / 2)
    return [p.transformed(grow, np.array([-middle[0], -middle[1], -(grow @ low)[2]])) for p in parts]


@style("bear", "standing", sizes=((0.24, 0.32), (0.18, 0.25), (0.42, 0.55)))
def bear_standing(size, look):
    s, parts = 1.0, []
    parts.append(ball(0.22 * s, (0, 0, 0.2 * s), look.main, squash=1.15, segments=20))
    parts.append(ball(0.13, (0, -0.12, 0.32), look.second, squash=1.1, segments=16))
    face_of(parts, -0.02, 0.8, 0.18, look)
    for k in (-1, 1):
        parts += [
            ball(0.1, (k * 0.11, 0, 0), look.main, squash=1.7, segments=14),
            ball(0.1, (k * 0.11, -0.07, 0), look.main, squash=0.8, segments=14),
        ]
        parts += [ball(0.075, (k * 0.25, -0.02, 0.32), look.main, squash=1.9, segments=14)]
    return fitted(parts, size)


@style("bear", "lying", sizes=((0.26, 0.34), (0.42, 0.52), (0.24, 0.3)))
def bear_lying(size, look):
    parts = [ball(0.2, (0, 0.15, 0), look.main, squash=0.9, segments=20).transformed(np.diag([1, 1.5, 1]), np.zeros(3))]
    face_of(parts, -0.22, 0.27, 0.17, look)
    for k in (-1, 1):
        parts += [
            ball(0.08, (k * 0.2, -0.26, 0), look.main, segments=14),
            ball(0.09, (k * 0.22, 0.46, 0), look.main, segments=14),
        ]
        parts += [ball(0.06, (k * 0.22, 0.5, 0.05), look.second, segments=12)]
    return fitted(parts, size)
