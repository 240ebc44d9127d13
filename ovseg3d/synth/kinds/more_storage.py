"""More styles of shelves, cabinets, lamps, stools, boxes and rugs. See base.py and more_furniture.py."""

import numpy as np

from ovseg3d.synth.geometry import ball, box, cylinder, lathe, sheet, tube
from ovseg3d.synth.kinds.base import style
from ovseg3d.synth.kinds.furniture import legs
from ovseg3d.synth.kinds.shapes import CHROME, DARK, bar_handle, knob, lying, ring, skin
from ovseg3d.synth.materials import glow, paint


def spines(rng, span, y, z, deep, tall, parts):
    """Books side by side, standing on z.

    Args:
        rng: the source of chance.
        span: where they begin and end in x.
        y, z: their depth and lower edge.
        deep, tall: of the tallest, in metres.
        parts: gets the new parts.
    """
    x, end = span
    while x < end - 0.05:
        thick, high = rng.uniform(0.022, 0.05), tall * rng.uniform(0.6, 0.88)
        parts.append(box((thick - 0.002, deep, high), (x + thick / 2, y, z), paint(str(rng.choice(SPINES)))))
        x += thick


SPINES = ("#8c2f2b", "#2f5c7d", "#d9c7a0", "#3d6b4a", "#c98b2b", "#5b4a78", "#e8e3d8", "#333940", "#a85c7a")


@style("bookshelf", "ladder", sizes=((0.6, 0.9), (0.34, 0.44), (1.6, 1.9)))
def shelf_ladder(size, look):
    w, d, h = size
    rng, parts = look.rng, []
    for s in (-1, 1):
        x = s * (w / 2 - 0.02)
        parts += [
            tube([(x, -d / 2 + 0.02, 0), (x, d / 2 - 0.02, h)], 0.02, look.main, sides=4),
            box((0.035, 0.035, h), (x, d / 2 - 0.02, 0), look.main),
        ]
    for k in range(5):
        z = 0.1 + k * (h - 0.3) / 4.2
        front = -d / 2 + 0.02 + (d - 0.04) * z / h
        deep = d / 2 - front
        parts.append(box((w - 0.02, deep, 0.022), (0, (front + d / 2) / 2, z), look.main))
        if deep > 0.1:
            spines(
                rng,
                (-w / 2 + 0.05, w / 2 - rng.uniform(0.06, 0.5) * w),
                d / 2 - deep * 0.4,
                z + 0.022,
                deep * 0.7,
                0.28,
                parts,
            )
    return parts


@style("bookshelf", "cubes", sizes=((0.8, 1.2), (0.3, 0.38), (1.1, 1.5)))
def shelf_cubes(size, look):
    w, d, h = size
    t, rng = 0.03, look.rng
    columns, rows = max(2, round(w / 0.38)), max(3, round(h / 0.38))
    parts = [box((t, d, h), (-w / 2 + t / 2 + (w - t) * k / columns, 0, 0), look.main) for k in range(columns + 1)]
    parts += [box((w, d, t), (0, 0, (h - t) * k / rows), look.main) for k in range(rows + 1)]
    parts.append(box((w, 0.01, h), (0, d / 2 - 0.006, 0), look.second))
    cell_w, cell_h = (w - t) / columns, (h - t) / rows
    for i in range(columns):
        for j in range(rows):
            x, z = -w / 2 + t + cell_w * i, cell_h * j + t
            if rng.random() < 0.75:
                spines(
                    rng,
                    (x + 0.005, x + cell_w - t - rng.uniform(0, 0.5) * cell_w),
                    -0.01,
                    z,
                    d * 0.75,
                    cell_h - t,
                    parts,
                )
    return parts


@style("cabinet", "glass doors", sizes=((0.8, 1.2), (0.36, 0.44), (1.4, 1.8)), surface=0)
def cabinet_glass(size, look):
    w, d, h = size
    low = h * 0.35
    pane = paint("#9fb0b5", gloss=0.4)
    parts = [
        box((w, d - 0.03, h - 0.06), (0, 0.015, 0.06), look.main),
        box((w + 0.04, d + 0.02, 0.04), (0, 0, h - 0.04), look.second),
    ]
    parts += [box((w - 0.04, d - 0.06, 0.06), (0, 0, 0), look.second)]
    for s in (-1, 1):
        x = s * w / 4
        parts += [
            box((w / 2 - 0.02, 0.02, low - 0.1), (x, -d / 2 + 0.01, 0.08), look.main),
            knob((s * 0.05, -d / 2, low * 0.6)),
        ]
        parts += [box((w / 2 - 0.02, 0.02, h - low - 0.08), (x, -d / 2 + 0.01, low + 0.02), look.main)]
        for k in range(2):
            tall = (h - low - 0.2) / 2
            parts.append(box((w / 2 - 0.12, 0.006, tall - 0.02), (x, -d / 2 - 0.001, low + 0.08 + k * tall), pane))
        parts.append(knob((s * 0.035, -d / 2, low + (h - low) * 0.5)))
    return parts


@style("cabinet", "sliding", sizes=((1.2, 1.7), (0.38, 0.46), (0.6, 0.75)))
def cabinet_sliding(size, look):
    w, d, h = size
    foot = 0.16
    parts = [
        box((w, d - 0.03, h - foot), (0, 0.015, foot), look.main),
        *legs(w - 0.16, d - 0.1, foot, 0.045, look.second, round_leg=True),
    ]
    for s in (-1, 1):
        parts.append(
            box(
                (w / 2 - 0.02, 0.015, h - foot - 0.06),
                (s * (w / 4 - 0.02), -d / 2 + (0.012 if s > 0 else 0.02), foot + 0.03),
                look.second,
            )
        )
        parts.append(lying(0.03, 0.012, (s * (w / 2 - 0.12), -d / 2 + 0.005, foot + (h - foot) * 0.5), DARK))
    return parts


@style("cabinet", "tall", sizes=((0.8, 1.2), (0.5, 0.6), (1.8, 2.05)), surface=0)
def cabinet_tall(size, look):
    w, d, h = size
    parts = [box((w, d - 0.02, h - 0.06), (0, 0.01, 0.06), look.main), box((w - 0.04, d - 0.06, 0.06), (0, 0, 0), DARK)]
    for s in (-1, 1):
        parts.append(box((w / 2 - 0.01, 0.02, h - 0.1), (s * w / 4, -d / 2 + 0.005, 0.08), look.main))
        for z, tall in ((0.18, h * 0.36), (h * 0.36 + 0.28, h * 0.64 - 0.46)):
            parts.append(box((w / 2 - 0.16, 0.012, tall), (s * w / 4, -d / 2 - 0.006, z), look.second))
        parts.append(bar_handle(0.22, (s * 0.04, -d / 2, h * 0.5), upright=True))
    return parts


def shade_of(r, low, high, material, *, top=0.65):
    """A lamp shade, open above and below.

    Args:
        r: radius below in metres.
        low, high: its edges in z.
        material: of all of it.
        top: radius above as a share of `r`.
    """
    return lathe(
        [(r * 0.97, low), (r, low), (r * top, high), (r * top - 0.008, high), (r * 0.97, low)],
        (0, 0, 0),
        material,
        segments=32,
    )


@style("lamp", "arc", sizes=((0.9, 1.2), (0.32, 0.4), (1.6, 1.9)), word="standing lamp")
def lamp_arc(size, look):
    w, d, h = size
    r = d / 2
    t = np.linspace(0, 1, 15)
    x = w / 2 - 0.16 - t**2 * (w - 0.16 - r)
    z = 0.03 + (h - 0.04) * np.sin(t * np.pi * 0.62) / 1.0
    end = (x[-1], 0, z[-1])
    dome = [
        (0, 0.01),
        (0.05, 0.0),
        (r * 0.8, -r * 0.45),
        (r, -r * 0.9),
        (r - 0.008, -r * 0.9),
        (r * 0.75, -r * 0.45),
        (0, -0.03),
    ]
    return [
        cylinder(0.16, 0.035, (w / 2 - 0.16, 0, 0), look.second, segments=28),
        tube(np.stack([x, 0 * t, z], -1), 0.014, look.second),
        lathe(dome[::-1], end, look.main),
        ball(0.04, (end[0], 0, end[2] - r * 0.8), glow("#ffe9c0", 1.6), segments=12),
    ]


@style("lamp", "globe", sizes=((0.2, 0.3), (0.2, 0.3), (0.3, 0.42)), stands="top", word="table lamp")
def lamp_globe(size, look):
    w, d, h = size
    r = min(w, d) / 2
    return [
        cylinder(r * 0.6, 0.02, (0, 0, 0), look.second),
        cylinder(0.02, h - 2 * r + 0.03, (0, 0, 0.01), look.second),
        ball(r, (0, 0, h - 2 * r), look.main.but(gloss=0.2)),
    ]


@style("lamp", "tripod", sizes=((0.5, 0.62), (0.5, 0.62), (1.35, 1.6)), word="standing lamp")
def lamp_tripod(size, look):
    w, d, h = size
    r = min(w, d) / 2
    parts = [
        shade_of(r * 0.8, h - 0.32, h, look.main, top=0.75),
        ball(0.04, (0, 0, h - 0.22), glow("#ffe9c0", 1.6), segments=12),
    ]
    for k in range(3):
        a = np.pi / 2 + k * 2 * np.pi / 3
        parts.append(tube([(np.cos(a) * r, np.sin(a) * r, 0), (0, 0, h - 0.2)], (0.016, 0.012), look.second))
    return parts


@style("lamp", "ceramic", sizes=((0.28, 0.38), (0.28, 0.38), (0.45, 0.6)), stands="top", word="table lamp")
def lamp_ceramic(size, look):
    w, d, h = size
    r = min(w, d) / 2
    low = h * 0.55
    t = np.linspace(0.1, 0.95, 10) * np.pi
    body = [
        (0, 0),
        *[(0.03 + (r * 0.55) * np.sin(a), low * (1 - np.cos(a)) / 2) for a in t],
        (0.014, low),
        (0.012, low + 0.08),
        (0, low + 0.08),
    ]
    return [
        lathe(body, (0, 0, 0), look.second, smooth_degrees=60),
        shade_of(r, low, h, look.main),
        ball(0.03, (0, 0, low + 0.06), glow("#ffe9c0", 1.6), segments=12),
    ]


@style("lamp", "jointed", sizes=((0.4, 0.5), (0.16, 0.2), (0.4, 0.52)), stands="top", word="table lamp")
def lamp_jointed(size, look):
    w, d, h = size
    x = w / 2 - 0.09
    elbow, head = (w / 2 - 0.02, 0, h * 0.55), (-w * 0.2, 0, h - 0.05)
    cone = lathe(
        [(0.02, 0), (0.03, -0.02), (d / 2, -0.12), (d / 2 - 0.006, -0.12), (0.0, -0.02)][::-1], (0, 0, 0), look.main
    )
    return [
        cylinder(0.085, 0.02, (x, 0, 0), look.second),
        tube([(x, 0, 0.02), elbow], 0.009, look.second),
        tube([elbow, head], 0.009, look.second),
        ball(0.016, (elbow[0], 0, elbow[2] - 0.016), look.second, segments=10),
        cone.moved(head, pitch=0.5),
    ]


@style("stool", "square", sizes=((0.32, 0.42), (0.32, 0.42), (0.42, 0.5)))
def stool_square(size, look):
    w, d, h = size
    parts = [box((w, d, 0.035), (0, 0, h - 0.035), look.main), *legs(w, d, h - 0.03, 0.04, look.second, inset=0.01)]
    for s in (-1, 1):
        parts += [
            box((w - 0.06, 0.025, 0.03), (0, s * (d / 2 - 0.03), 0.14), look.second),
            box((0.025, d - 0.06, 0.03), (s * (w / 2 - 0.03), 0, 0.2), look.second),
        ]
    return parts


@style("stool", "bar", sizes=((0.36, 0.42), (0.36, 0.42), (0.66, 0.8)), word="bar stool")
def stool_bar(size, look):
    w, d, h = size
    r = min(w, d) / 2
    t = np.linspace(0, 2 * np.pi, 25)
    hoop = np.stack([np.cos(t) * r * 0.6, np.sin(t) * r * 0.6, np.full(25, h * 0.35)], -1)
    return [
        lathe(
            [(0, 0), (r, 0), (r * 0.95, 0.015), (0.03, 0.04), (0.026, h - 0.1), (0, h - 0.1)],
            (0, 0, 0),
            look.second,
            segments=32,
        ),
        tube(hoop, 0.01, CHROME),
        lathe(
            [(0, h - 0.1), (r - 0.02, h - 0.1), (r, h - 0.06), (r, h - 0.03), (r - 0.03, h), (0, h)],
            (0, 0, 0),
            look.main,
            segments=32,
        ),
    ]


@style("stool", "three legs", sizes=((0.3, 0.38), (0.3, 0.38), (0.38, 0.48)))
def stool_three(size, look):
    w, d, h = size
    r = min(w, d) / 2
    parts = [cylinder(r * 0.92, 0.05, (0, 0, h - 0.05), look.main, top=r, segments=32)]
    for k in range(3):
        a = np.pi / 2 + k * 2 * np.pi / 3
        parts.append(
            tube(
                [(np.cos(a) * r, np.sin(a) * r, 0), (np.cos(a) * r * 0.55, np.sin(a) * r * 0.55, h - 0.04)],
                (0.016, 0.024),
                look.second,
            )
        )
    return parts


@style("box", "cardboard", sizes=((0.35, 0.6), (0.3, 0.45), (0.3, 0.48)), word="cardboard box")
def box_cardboard(size, look):
    w, d, h = size
    low = h * 0.78
    t = 0.008
    parts = [box((w * 0.8, d * 0.8, t), (0, 0, 0), look.main)]
    parts += [box((w * 0.8, t, low), (0, s * d * 0.4, 0), look.main) for s in (-1, 1)]
    parts += [box((t, d * 0.8, low), (s * w * 0.4, 0, 0), look.main) for s in (-1, 1)]
    for s in (-1, 1):
        flap = np.array([[(x, s * d * 0.4, low), (x * 0.95, s * d * 0.5, h)] for x in (-w * 0.4, w * 0.4)])
        side = np.array(
            [[(s * w * 0.4, y, low), (s * w * 0.5, y * 0.9, low + (h - low) * 0.5)] for y in (-d * 0.4, d * 0.4)]
        )
        parts += [sheet(flap, look.main), sheet(side, look.main)]
    return parts


@style("box", "crate", sizes=((0.4, 0.6), (0.3, 0.42), (0.26, 0.38)))
def box_crate(size, look):
    w, d, h = size
    parts = [box((w - 0.02, d - 0.02, 0.012), (0, 0, 0.01), look.main), *legs(w - 0.02, d - 0.02, h, 0.03, look.second)]
    for k in range(3):
        z = 0.01 + k * h / 3
        parts += [box((w, 0.012, h / 3 - 0.025), (0, s * (d / 2 - 0.006), z), look.main) for s in (-1, 1)]
        parts += [box((0.012, d, h / 3 - 0.025), (s * (w / 2 - 0.006), 0, z), look.main) for s in (-1, 1)]
    return parts


@style("rug", "fringed")
def rug_fringed(size, look):
    w, d, h = size
    parts = [
        box((w - 0.12, d, h), (0, 0, 0), look.main),
        box((w - 0.4, d - 0.26, 0.0015), (0, 0, h), look.second),
        box((w - 0.5, d - 0.36, 0.003), (0, 0, h), look.main),
    ]
    count = round(d / 0.035)
    for s in (-1, 1):
        for k in range(count):
            parts.append(box((0.06, 0.014, 0.006), (s * (w / 2 - 0.03), ((k + 0.5) / count - 0.5) * d, 0), look.second))
    return parts


@style("rug", "oval")
def rug_oval(size, look):
    w, d, h = size
    parts = []
    for k in range(4):
        s = 1 - 0.24 * k
        z = h * 0.7 + 0.0012 * k
        parts.append(skin([ring(w * s, d * s, 0, n=44), ring(w * s, d * s, z, n=44)], (look.main, look.second)[k % 2]))
    return parts
