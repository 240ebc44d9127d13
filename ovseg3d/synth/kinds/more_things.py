"""More styles of things.py's kinds. Added after the first ones, which scenes name. See base.py."""

import numpy as np

from ovseg3d.synth.geometry import ball, box, cylinder, lathe, panel, rounded_box, sheet, tube
from ovseg3d.synth.kinds.base import Style, add_style, style
from ovseg3d.synth.kinds.shapes import CHROME, DARK, IVORY, lying, ring, skin
from ovseg3d.synth.kinds.things import Laptop, screen_image
from ovseg3d.synth.materials import paint, picture

add_style("book", "stack", Style(sizes=((0.14, 0.22), (0.2, 0.28), (0.07, 0.13))))


@style("television", "feet", sizes=((0.9, 1.3), (0.2, 0.26), (0.56, 0.78)))
def television_feet(size, look):
    w, d, h = size
    image = (screen_image(look.rng) * 0.5).astype(np.uint8)
    parts = [
        box((w, 0.035, h - 0.07), (0, 0.01, 0.07), look.main),
        panel(w - 0.016, h - 0.09, (0, -0.0085, 0.08), picture(image, gloss=0.1)),
    ]
    for s in (-1, 1):
        parts += [
            tube([(s * w * 0.36, 0.01, 0.09), (s * w * 0.38, t * d / 2, 0.008)], 0.01, look.second) for t in (-1, 1)
        ]
    return parts


@style("television", "old", sizes=((0.55, 0.75), (0.42, 0.55), (0.48, 0.62)))
def television_old(size, look):
    w, d, h = size
    image = (screen_image(look.rng) * 0.5).astype(np.uint8)
    top = h * 0.78
    y = -d / 2
    parts = [
        rounded_box((w, d * 0.55, top), (0, y + d * 0.275, 0), look.main, 0.03),
        skin([ring(w * 0.9, top * 0.9, 0, power=6), ring(w * 0.6, top * 0.6, d * 0.45, power=4)], DARK).moved(
            (0, y + d * 0.5, top * 0.5), roll=-np.pi / 2
        ),
        rounded_box((w * 0.72, 0.02, top * 0.82), (-w * 0.1, y + 0.002, top * 0.09), DARK, 0.03),
        panel(w * 0.66, top * 0.72, (-w * 0.1, y - 0.009, top * 0.14), picture(image, gloss=0.2)),
    ]
    parts += [lying(0.028, 0.02, (w * 0.38, y, top * z), look.second) for z in (0.75, 0.55)]
    parts += [box((w * 0.14, 0.006, 0.006), (w * 0.38, y - 0.001, top * (0.12 + 0.06 * k)), DARK) for k in range(5)]
    for s in (-1, 1):
        parts.append(tube([(0, 0, top), (s * w * 0.34, 0, h)], 0.005, CHROME, sides=6))
    return parts


@style("laptop", "half open", sizes=((0.31, 0.37), (0.24, 0.27), (0.14, 0.18)))
def laptop_half(size, look):
    w, d, h = size
    base = d * 0.97
    parts = [p for p in Laptop().build((w, base / 0.78, 0.23), "open", look)[:3]]
    shift = -(base / 0.78 - base) / -2
    parts = [p.moved((0, shift, 0)) for p in parts]
    lean = np.arcsin(min(0.95, (h - 0.016) / (base * 0.97)))
    lid = [
        box((w, 0.008, base * 0.97), (0, 0.004, 0), look.main),
        panel(w - 0.016, base * 0.97 - 0.02, (0, -0.001, 0.012), picture(screen_image(look.rng, "text"), gloss=0.06)),
    ]
    return parts + [p.moved((0, d / 2 - 0.006, 0.013), roll=np.pi / 2 - lean) for p in lid]


@style("laptop", "thick", sizes=((0.33, 0.38), (0.3, 0.35), (0.24, 0.27)))
def laptop_thick(size, look):
    w, d, h = size
    base = d * 0.86
    y = -d / 2 + base / 2
    parts = [
        rounded_box((w, base, 0.034), (0, y, 0), look.main, 0.008, steps=2),
        box((w * 0.3, base * 0.22, 0.001), (0, y - base * 0.33, 0.034), DARK),
    ]
    for j in range(4):
        parts += [
            box(
                (w * 0.068, base * 0.085, 0.004),
                ((i - 5) * w * 0.08, y + base * (-0.08 + 0.105 * j), 0.034),
                look.second,
            )
            for i in range(11)
        ]
    lean = np.arctan2(d - base, h)
    long = np.hypot(h - 0.03, d - base)
    lid = [
        rounded_box((w, 0.016, long), (0, 0.008, 0), look.main, 0.006, steps=2),
        panel(w - 0.05, long - 0.05, (0, -0.001, 0.03), picture(screen_image(look.rng, "scene"), gloss=0.06)),
    ]
    return parts + [p.moved((0, -d / 2 + base - 0.01, 0.028), roll=-lean) for p in lid]


def keys(across, along, columns, rows, z, material, *, gap=0.003, round_keys=False):
    """A field of keys.

    Args:
        across, along: where the field begins and ends in x and y, in metres.
        columns, rows: of keys.
        z: their lower face.
        material: of all of them.
        gap: between them in metres.
        round_keys: caps of a typewriter.
    """
    (x0, x1), (y0, y1) = across, along
    step_x, step_y = (x1 - x0) / columns, (y1 - y0) / rows
    parts = []
    for i in range(columns):
        for j in range(rows):
            at = (x0 + step_x * (i + 0.5), y0 + step_y * (j + 0.5), z)
            if round_keys:
                parts.append(cylinder(min(step_x, step_y) * 0.44, 0.008, at, material, segments=10))
            else:
                parts.append(box((step_x - gap, step_y - gap, 0.006), at, material))
    return parts


@style("keyboard", "compact", sizes=((0.26, 0.31), (0.1, 0.12), (0.022, 0.028)))
def keyboard_compact(size, look):
    w, d, h = size
    return [
        rounded_box((w, d, h - 0.006), (0, 0, 0), look.main, 0.01, steps=3),
        *keys(
            (-w / 2 + 0.01, w / 2 - 0.01),
            (-d / 2 + 0.01, d / 2 - 0.01),
            10,
            4,
            h - 0.008,
            look.second,
            round_keys=True,
        ),
    ]


@style("keyboard", "split", sizes=((0.42, 0.48), (0.18, 0.22), (0.025, 0.032)))
def keyboard_split(size, look):
    w, d, h = size
    parts = []
    for s in (-1, 1):
        half = [rounded_box((w * 0.44, d * 0.66, h - 0.006), (0, 0, 0), look.main, 0.008, steps=2)]
        half += keys((-w * 0.21, w * 0.21), (-d * 0.31, d * 0.31), 6, 4, h - 0.007, look.second)
        parts += [p.moved((s * w * 0.25, 0, 0), yaw=-s * 0.22) for p in half]
    return parts


@style("keyboard", "number block", sizes=((0.42, 0.47), (0.14, 0.16), (0.026, 0.032)))
def keyboard_block(size, look):
    w, d, h = size
    parts = [box((w, d, h - 0.008), (0, 0, 0), look.main)]
    z = h - 0.009
    parts += keys((-w / 2 + 0.01, w * 0.14), (-d / 2 + 0.01, d * 0.24), 11, 4, z, look.second)
    parts += keys((-w / 2 + 0.01, w * 0.14), (d * 0.3, d / 2 - 0.008), 12, 1, z, IVORY)
    parts += keys((w * 0.17, w * 0.27), (-d / 2 + 0.01, d * 0.24), 3, 4, z, look.second)
    return [*parts, *keys((w * 0.31, w / 2 - 0.01), (-d / 2 + 0.01, d * 0.24), 4, 4, z, look.second)]


@style("mouse", "corded", sizes=((0.06, 0.068), (0.2, 0.24), (0.034, 0.04)))
def mouse_corded(size, look):
    w, d, h = size
    y = -d / 2 + 0.055
    t = np.linspace(0, 1, 12)
    cable = np.stack([0.012 * np.sin(t * 6), y + 0.05 + t * (d - 0.108), np.full(12, 0.005)], -1)
    return [
        rounded_box((w, 0.108, h), (0, y, 0), look.main, h * 0.46, steps=5),
        tube(cable, 0.004, DARK, sides=6),
        lying(0.007, 0.012, (0, y - 0.03, h - 0.006), look.second, segments=12).moved(),
        box((0.002, 0.045, 0.003), (0, y - 0.03, h - 0.002), DARK),
    ]


@style("mouse", "two tone")
def mouse_two(size, look):
    w, d, h = size
    outer = [
        ring(w, d, 0.0, power=2.6),
        ring(w, d, h * 0.3, power=2.6),
        ring(w * 0.86, d * 0.86, h * 0.75, at=(0, 0.004)),
        ring(w * 0.5, d * 0.55, h, at=(0, 0.008)),
    ]
    inlay = skin(
        [ring(0.016, d * 0.3, h * 0.6, at=(0, -d * 0.2)), ring(0.014, d * 0.28, h * 0.97, at=(0, -d * 0.18))], DARK
    )
    wheel = lying(0.009, 0.006, (0, 0, 0), look.second, segments=14).moved((0, -d * 0.26, h * 0.88), yaw=np.pi / 2)
    band = skin(
        [ring(w * 1.02, d * 1.01, h * 0.05, power=2.6), ring(w * 1.02, d * 1.01, h * 0.22, power=2.6)], look.second
    )
    return [skin(outer, look.main, smooth=70), inlay, wheel, band]


def handle(r, w, h, material, *, thick=0.006, low=0.2, high=0.8):
    """A mug's ear on its +x side, from a wall at radius r to x = r + w.

    Args:
        r: radius of the mug in metres.
        w: how far the ear stands out, in metres.
        h: height of the mug in metres.
        material: of all of it.
        thick: of the ear in metres.
        low, high: where it begins and ends, as shares of `h`.
    """
    t = np.linspace(-0.5, 0.5, 9) * np.pi
    path = np.stack([r * 0.95 + np.cos(t) * w, 0 * t, h * (low + high) / 2 + np.sin(t) * h * (high - low) / 2], -1)
    return tube(path, thick, material)


@style("mug", "round", sizes=((0.12, 0.14), (0.09, 0.1), (0.085, 0.1)))
def mug_round(size, look):
    w, d, h = size
    r = d / 2
    t = np.linspace(-0.75, 0.62, 9)
    wall = [(r * np.cos(a), h * (a + 0.75) / 1.37) for a in t]
    inside = [(x - 0.005, z + (0.004 if k == len(t) - 1 else 0.0)) for k, (x, z) in enumerate(wall[::-1])]
    body = lathe([(0, 0), *wall, *inside[:-1], (0, 0.01)], (0, 0, 0), look.main, smooth_degrees=50)
    shift = (-(w - d) / 2, 0, 0)
    return [
        p.moved(shift)
        for p in (
            body,
            handle(r, w - d, h, look.main, thick=0.007),
            cylinder(r * 0.9, 0.002, (0, 0, h * 0.72), paint("#3b2416")),
        )
    ]


@style("mug", "banded", sizes=((0.11, 0.13), (0.08, 0.09), (0.1, 0.125)))
def mug_banded(size, look):
    w, d, h = size
    r = d / 2
    cup = lathe([(0, 0), (r, 0), (r, h), (r - 0.005, h), (r - 0.005, 0.01), (0, 0.01)], (0, 0, 0), look.main)
    band = lathe([(r + 0.0008, h * 0.35), (r + 0.0008, h * 0.65)], (0, 0, 0), look.second)
    reach = w - d
    ear = tube(
        [
            (r * 0.95, 0, h * 0.82),
            (r + reach - 0.01, 0, h * 0.82),
            (r + reach - 0.008, 0, h * 0.24),
            (r * 0.95, 0, h * 0.24),
        ],
        0.007,
        look.main,
        sides=8,
    )
    return [p.moved((-reach / 2, 0, 0)) for p in (cup, band, ear)]


@style("bowl", "footed", sizes=((0.18, 0.26), (0.18, 0.26), (0.1, 0.14)))
def bowl_footed(size, look):
    w, d, h = size
    r = min(w, d) / 2
    profile = [
        (0, 0),
        (r * 0.5, 0),
        (r * 0.3, 0.02),
        (r * 0.28, h * 0.3),
        (r * 0.75, h * 0.55),
        (r, h),
        (r - 0.006, h),
        (r * 0.72, h * 0.6),
        (0, h * 0.42),
    ]
    return [lathe(profile, (0, 0, 0), look.main, smooth_degrees=50)]


@style("bowl", "straight", sizes=((0.16, 0.24), (0.16, 0.24), (0.08, 0.12)))
def bowl_straight(size, look):
    w, d, h = size
    r = min(w, d) / 2
    profile = [(0, 0), (r * 0.7, 0), (r * 0.92, h * 0.22), (r, h), (r - 0.008, h), (r * 0.86, h * 0.25), (0, h * 0.12)]
    band = lathe([(r * 0.985, h * 0.75), (r * 1.003, h * 0.9)], (0, 0, 0), look.second)
    return [lathe(profile, (0, 0, 0), look.main), band]


@style("bowl", "of fruit", sizes=((0.24, 0.3), (0.24, 0.3), (0.12, 0.15)))
def bowl_fruit(size, look):
    w, d, h = size
    r, high = min(w, d) / 2, h * 0.68
    profile = [
        (0, 0),
        (r * 0.4, 0),
        (r * 0.8, high * 0.45),
        (r, high),
        (r - 0.006, high),
        (r * 0.76, high * 0.5),
        (0, 0.015),
    ]
    parts = [lathe(profile, (0, 0, 0), look.main, smooth_degrees=50)]
    for k, colour in enumerate(("#c8402f", "#e08a2c", "#8fae3f", "#d9b53a", "#b5452f")):
        a = k * 2 * np.pi / 4
        x, y = (np.cos(a) * r * 0.45, np.sin(a) * r * 0.45) if k < 4 else (0, 0)
        parts.append(ball(r * 0.3, (x, y, high * 0.35 if k < 4 else h - r * 0.6), paint(colour), segments=16))
    return parts


@style("bottle", "sport", sizes=((0.065, 0.08), (0.065, 0.08), (0.2, 0.26)))
def bottle_sport(size, look):
    w, d, h = size
    r = min(w, d) / 2
    body = [
        (0, 0),
        (r, 0),
        (r, h * 0.3),
        (r * 0.84, h * 0.42),
        (r * 0.84, h * 0.5),
        (r, h * 0.6),
        (r, h * 0.76),
        (r * 0.6, h * 0.82),
        (0, h * 0.82),
    ]
    cap = [(0, h * 0.8), (r * 0.8, h * 0.8), (r * 0.75, h * 0.87), (r * 0.3, h * 0.9), (r * 0.26, h), (0, h)]
    return [lathe(body, (0, 0, 0), look.main), lathe(cap, (0, 0, 0), look.second)]


@style("bottle", "milk", sizes=((0.08, 0.1), (0.08, 0.1), (0.2, 0.26)))
def bottle_milk(size, look):
    w, d, h = size
    r = min(w, d) / 2
    body = [
        (0, 0),
        (r * 0.94, 0),
        (r, 0.01),
        (r, h * 0.5),
        (r * 0.9, h * 0.6),
        (r * 0.5, h * 0.8),
        (r * 0.48, h * 0.9),
        (r * 0.58, h * 0.92),
        (r * 0.58, h * 0.97),
        (0, h * 0.97),
    ]
    return [
        lathe(body, (0, 0, 0), look.main, smooth_degrees=45),
        cylinder(r * 0.62, 0.016, (0, 0, h - 0.018), look.second),
    ]


@style("bottle", "jug", sizes=((0.13, 0.16), (0.1, 0.12), (0.24, 0.3)))
def bottle_jug(size, look):
    _, d, h = size
    r = d / 2
    body = [
        (0, 0),
        (r * 0.9, 0),
        (r, 0.02),
        (r, h * 0.55),
        (r * 0.8, h * 0.72),
        (0.02, h * 0.86),
        (0.019, h - 0.02),
        (0, h - 0.02),
    ]
    ear = tube(
        [(r * 0.2, 0, h * 0.88), (r + 0.02, 0, h * 0.84), (r + 0.03, 0, h * 0.7), (r * 0.95, 0, h * 0.6)],
        0.008,
        look.main,
    )
    return [
        p.moved((-0.012, 0, 0))
        for p in (
            lathe(body, (0, 0, 0), look.main, smooth_degrees=45),
            ear,
            cylinder(0.024, 0.03, (0, 0, h - 0.03), look.second),
        )
    ]


@style("bottle", "pump", sizes=((0.065, 0.08), (0.065, 0.08), (0.17, 0.22)))
def bottle_pump(size, look):
    w, d, h = size
    r, top = min(w, d) / 2, h * 0.68
    return [
        lathe([(0, 0), (r * 0.95, 0), (r, 0.006), (r, top * 0.9), (r * 0.6, top), (0, top)], (0, 0, 0), look.main),
        cylinder(r * 0.45, 0.02, (0, 0, top), look.second),
        cylinder(0.004, h - top - 0.03, (0, 0, top + 0.015), CHROME),
        rounded_box((0.02, 0.06, 0.014), (0, -0.016, h - 0.016), look.second, 0.005, steps=2),
    ]


@style("book", "open", sizes=((0.3, 0.42), (0.2, 0.28), (0.025, 0.04)), word="open book")
def book_open(size, look):
    w, d, h = size
    t = np.linspace(0, 1, 11)
    parts = []
    for s in (-1, 1):
        x = s * t * (w / 2 - 0.006)
        z = 0.006 + (h - 0.008) * np.clip(np.sin(np.pi * np.clip(t * 0.85 + 0.12, 0, 1)), 0, 1) ** 0.7
        outline = [np.stack([x, np.full(11, y), z], -1) for y in (-d / 2 + 0.006, d / 2 - 0.006)]
        parts.append(sheet(np.stack(outline, 1), IVORY))
        edge = np.stack([np.stack([x, np.full(11, -d / 2 + 0.006), k], -1) for k in (np.full(11, 0.004), z)], 1)
        far = edge + [0, d - 0.012, 0]
        parts += [sheet(edge, IVORY), sheet(far, IVORY), box((w / 2, d, 0.004), (s * w / 4, 0, 0), look.main)]
        count = 7
        for k in range(count):
            parts.append(
                box(
                    (w * 0.32, 0.003, 0.001),
                    (s * w * 0.25, ((k + 0.5) / count - 0.5) * d * 0.8, h * 0.93),
                    paint("#6d6a64"),
                )
            )
    return parts


@style("book", "upright", sizes=((0.03, 0.05), (0.15, 0.2), (0.22, 0.28)))
def book_upright(size, look):
    w, d, h = size
    t = 0.004
    return [
        *(box((t, d, h), (s * (w - t) / 2, 0, 0), look.main) for s in (-1, 1)),
        box((w, t, h), (0, -d / 2 + t / 2, 0), look.main),
        box((w - 2 * t, d - 0.012, h - 0.012), (0, 0.002, 0.006), IVORY),
        *(box((w + 0.001, 0.002, h * 0.05), (0, -d / 2 - 0.0008, h * z), look.second) for z in (0.15, 0.75)),
    ]
