"""More styles of furniture.py's kinds. Added after the first ones, which scenes name. See base.py."""

import numpy as np

from ovseg3d.synth.geometry import ball, box, cylinder, lathe, pillow, rounded_box, tube
from ovseg3d.synth.kinds.base import Style, add_style, style
from ovseg3d.synth.kinds.furniture import legs
from ovseg3d.synth.kinds.shapes import CHROME, DARK, drawers, knob, lying, ring, skin
from ovseg3d.synth.materials import paint

SHEET = paint("#e9e6df")
add_style("lamp", "desk", Style(sizes=((0.22, 0.3), (0.22, 0.3), (0.36, 0.5)), stands="top"), "table lamp")
add_style("lamp", "standing", Style(), "standing lamp")
add_style("table", "round", Style(sizes=((0.7, 1.2), (0.7, 1.2), (0.5, 0.76))), "round table")
add_style("stool", "round", Style(), "round stool")
add_style("rug", "round", Style(sizes=((1.2, 1.8), (1.2, 1.8), (0.012, 0.012))), "round rug")
add_style("box", "open", Style(), "open box")
add_style("cabinet", "doors", Style(sizes=((0.8, 1.5), (0.38, 0.48), (0.6, 1.0))))


def mattress(w, d, base, look, *, shift=0.0):
    """A mattress with a cover and pillows, from y = -d / 2 to d / 2, on a base of that height.

    Args:
        w, d: width and depth in metres.
        base: height of the base in metres.
        look: materials.
        shift: of everything along y.
    """
    parts = [rounded_box((w - 0.04, d - 0.06, 0.2), (0, shift, base), SHEET, 0.06)]
    parts.append(rounded_box((w + 0.02, d * 0.66, 0.225), (0, -d * 0.165 + shift, base - 0.005), look.main, 0.05))
    for x in (-w * 0.24, w * 0.24) if w > 1.2 else (0,):
        parts.append(pillow((min(0.65, w * 0.42), 0.4, 0.15), (x, d / 2 - 0.28 + shift, base + 0.18), SHEET))
    return parts


@style("bed", "four poster", sizes=((1.2, 1.8), (1.95, 2.1), (1.8, 2.1)))
def bed_posts(size, look):
    w, d, h = size
    parts = mattress(w - 0.12, d - 0.12, 0.32, look)
    parts += [box((w - 0.04, d - 0.04, 0.18), (0, 0, 0.16), look.second)]
    parts += [
        p
        for s in (-1, 1)
        for p in (
            box((0.06, d, 0.06), (s * (w / 2 - 0.03), 0, h - 0.06), look.second),
            box((w, 0.06, 0.06), (0, s * (d / 2 - 0.03), h - 0.06), look.second),
        )
    ]
    parts += legs(w, d, h, 0.07, look.second)
    return [*parts, box((w - 0.08, 0.03, 0.7), (0, d / 2 - 0.03, 0.3), look.second)]


@style("bed", "slatted", sizes=((0.9, 1.8), (1.95, 2.1), (0.9, 1.15)))
def bed_slats(size, look):
    w, d, h = size
    parts = [*mattress(w - 0.06, d - 0.1, 0.3, look), box((w - 0.02, d - 0.04, 0.14), (0, 0, 0.18), look.second)]
    for y, high in ((d / 2 - 0.03, h), (-d / 2 + 0.03, h * 0.62)):
        parts += [box((0.06, 0.05, high), (s * (w / 2 - 0.03), y, 0), look.second) for s in (-1, 1)]
        parts += [box((w - 0.1, 0.04, 0.06), (0, y, high - 0.07), look.second)]
        count = max(5, round(w / 0.16))
        for k in range(count):
            parts.append(box((0.03, 0.025, high - 0.2), (((k + 0.5) / count - 0.5) * (w - 0.12), y, 0.16), look.second))
    return parts


@style("bed", "bunk", sizes=((0.9, 1.05), (1.95, 2.1), (1.55, 1.75)), word="bunk bed")
def bed_bunk(size, look):
    w, d, h = size
    parts = legs(w, d, h, 0.07, look.second)
    for z in (0.25, h - 0.48):
        parts += [box((w - 0.02, d - 0.04, 0.1), (0, 0, z), look.second)]
        parts += [p.moved((0, 0, 0)) for p in mattress(w - 0.06, d - 0.1, z + 0.08, look)]
    for z in (h - 0.1, h - 0.25):
        parts += [box((0.03, d - 0.1, 0.07), (s * (w / 2 - 0.02), 0, z), look.second) for s in (-1, 1)]
    x = w / 2 - 0.01
    for y in (-d * 0.36, -d * 0.19):
        parts.append(box((0.03, 0.04, h), (x, y, 0), look.second))
    parts += [
        box((0.03, d * 0.17, 0.03), (x, -d * 0.275, 0.25 + 0.26 * k), look.second) for k in range(int((h - 0.3) / 0.26))
    ]
    return parts


@style("table", "crossed legs", sizes=((1.1, 1.8), (0.65, 0.9), (0.7, 0.78)))
def table_crossed(size, look):
    w, d, h = size
    parts = [box((w, d, 0.04), (0, 0, h - 0.04), look.main), box((w * 0.66, 0.05, 0.06), (0, 0, h * 0.42), look.second)]
    for x in (-w * 0.35, w * 0.35):
        for s in (-1, 1):
            parts.append(tube([(x, -s * d * 0.42, 0.02), (x, s * d * 0.36, h - 0.04)], 0.03, look.second, sides=4))
    return parts


@style("table", "low", sizes=((0.9, 1.3), (0.5, 0.7), (0.32, 0.42)), word="low table")
def table_low(size, look):
    w, d, h = size
    return [
        rounded_box((w, d, 0.06), (0, 0, h - 0.06), look.main, 0.02, steps=3),
        box((w - 0.14, d - 0.12, 0.02), (0, 0, h * 0.3), look.second),
        *legs(w, d, h - 0.05, 0.06, look.main, inset=0.03),
    ]


@style("table", "pedestal", sizes=((1.2, 1.8), (0.8, 1.0), (0.72, 0.78)))
def table_pedestal(size, look):
    w, d, h = size
    parts = [skin([ring(w, d, h - 0.04, n=48), ring(w, d, h, n=48)], look.main)]
    for x in (-w * 0.22, w * 0.22):
        parts.append(
            lathe(
                [(0, 0.05), (0.05, 0.05), (0.07, 0.25), (0.04, 0.4), (0.06, h - 0.05), (0, h - 0.05)],
                (x, 0, 0),
                look.second,
            )
        )
        parts += [tube([(x, s * d * 0.36, 0.03), (x, s * d * 0.1, 0.14)], 0.025, look.second) for s in (-1, 1)]
    return parts


@style("desk", "hutch", sizes=((1.0, 1.4), (0.55, 0.7), (1.2, 1.4)), surface=0)
def desk_hutch(size, look):
    w, d, h = size
    top = 0.75
    parts = [box((w, d, 0.03), (0, 0, top - 0.03), look.main)]
    parts += [box((0.03, d - 0.04, top - 0.03), (s * (w / 2 - 0.02), 0, 0), look.main) for s in (-1, 1)]
    parts += [box((w - 0.06, 0.02, 0.4), (0, d / 2 - 0.04, top - 0.43), look.main)]
    parts += [
        box((w - 0.06, d * 0.8, 0.1), (0, -0.03, top - 0.13), look.second),
        knob((0, -d * 0.4 - 0.04, top - 0.08)),
    ]
    y, deep = d / 2 - 0.12, 0.22
    for x in (-w / 2 + 0.015, 0.0, w / 2 - 0.015):
        parts.append(box((0.025, deep, h - top), (x, y, top), look.main))
    parts += [box((w, deep, 0.025), (0, y, z), look.main) for z in (h - 0.025, top + (h - top) * 0.5)]
    return [*parts, box((w, 0.01, h - top), (0, d / 2 - 0.008, top), look.second)]


@style("desk", "panels", sizes=((1.1, 1.6), (0.6, 0.75), (0.72, 0.77)))
def desk_panels(size, look):
    w, d, h = size
    body = 0.36
    parts = [box((w, d, 0.04), (0, 0, h - 0.04), look.main)]
    for s in (-1, 1):
        x = s * (w / 2 - body / 2 - 0.02)
        parts.append(box((body, d - 0.08, h - 0.1), (x, 0.02, 0.06), look.second))
        parts += [
            p.moved((x, 0, 0))
            for p in drawers(body, h - 0.14, 1, 2 if s > 0 else 3, -d / 2 + 0.055, 0.08, look.main, pulls="bar")
        ]
    return [*parts, box((w - 0.1, 0.02, h * 0.5), (0, d / 2 - 0.08, h * 0.42), look.second)]


@style("chair", "office", sizes=((0.56, 0.64), (0.56, 0.64), (0.95, 1.15)), word="office chair")
def chair_office(size, look):
    w, d, h = size
    parts = [cylinder(0.03, 0.3, (0, 0, 0.1), DARK), cylinder(0.022, 0.1, (0, 0, 0.36), CHROME)]
    for k in range(5):
        a = np.pi / 2 + k * 2 * np.pi / 5
        c, s = np.cos(a) * w * 0.47, np.sin(a) * d * 0.47
        parts += [
            tube([(0, 0, 0.12), (c, s, 0.075)], (0.03, 0.017), DARK),
            ball(0.032, (c * 0.97, s * 0.97, 0), DARK, segments=12),
        ]
    parts.append(rounded_box((w * 0.84, d * 0.8, 0.09), (0, -0.02, 0.44), look.main, 0.042))
    back = rounded_box((w * 0.76, 0.08, h - 0.62), (0, 0, 0), look.main, 0.038)
    parts.append(back.moved((0, d * 0.36, 0.62), roll=-0.1))
    parts.append(tube([(0, d * 0.2, 0.45), (0, d * 0.44, 0.5), (0, d * 0.44, 0.75)], 0.022, DARK))
    for s in (-1, 1):
        x = s * w * 0.45
        parts.append(tube([(x * 0.8, 0, 0.46), (x, 0, 0.5), (x, 0, 0.66)], 0.014, DARK))
        parts.append(rounded_box((0.06, d * 0.45, 0.03), (x, -0.02, 0.66), look.second, 0.014, steps=3))
    return parts


@style("chair", "spindles", sizes=((0.42, 0.5), (0.44, 0.52), (0.9, 1.05)))
def chair_spindles(size, look):
    w, d, h = size
    parts = [skin([ring(w * 0.9, d * 0.86, 0.42, power=3), ring(w, d * 0.94, 0.45, power=3)], look.main)]
    for sx in (-1, 1):
        for sy in (-1, 1):
            parts.append(
                tube(
                    [(sx * w * 0.47, sy * d * 0.45, 0), (sx * w * 0.34, sy * d * 0.3, 0.43)], (0.014, 0.02), look.second
                )
            )
        parts.append(tube([(sx * w * 0.42, d * 0.4, 0.2), (sx * w * 0.42, -d * 0.4, 0.2)], 0.01, look.second))
    t = np.linspace(0, np.pi, 15)
    arch = np.stack(
        [np.cos(t) * w * 0.46, np.full(15, d * 0.42) + 0.03 * np.sin(t), 0.44 + np.sin(t) ** 0.5 * (h - 0.46)], -1
    )
    parts.append(tube(arch, 0.015, look.main))
    for k in range(6):
        x = ((k + 0.5) / 6 - 0.5) * w * 0.78
        high = 0.44 + np.sqrt(np.sqrt(max(0, 1 - (x / (w * 0.46)) ** 2))) * (h - 0.47)
        parts.append(tube([(x * 0.85, d * 0.36, 0.44), (x, d * 0.45, high)], 0.008, look.main))
    return parts


@style("chair", "folding", sizes=((0.42, 0.48), (0.46, 0.54), (0.78, 0.9)), word="folding chair")
def chair_folding(size, look):
    w, d, h = size
    parts = [rounded_box((w * 0.86, d * 0.72, 0.03), (0, -0.02, 0.44), look.main, 0.012, steps=2)]
    for s in (-1, 1):
        x = s * w * 0.46
        parts.append(tube([(x, -d * 0.46, 0.015), (x, d * 0.3, h - 0.02)], 0.014, look.second))
        parts.append(tube([(x * 0.93, d * 0.47, 0.015), (x * 0.93, -d * 0.3, 0.46)], 0.014, look.second))
    y = d * 0.3
    parts.append(rounded_box((w * 0.9, 0.02, 0.17), (0, y - 0.04, h - 0.19), look.main, 0.009, steps=2))
    return [*parts, tube([(-w * 0.43, d * 0.38, 0.1), (w * 0.43, d * 0.38, 0.1)], 0.01, look.second)]


@style("sofa", "rolled arms", sizes=((1.5, 2.1), (0.85, 0.95), (0.76, 0.88)))
def sofa_rolled(size, look):
    w, d, h = size
    parts = [rounded_box((w - 0.2, d - 0.1, 0.3), (0, 0, 0.1), look.main, 0.04)]
    roll = 0.11
    for s in (-1, 1):
        x = s * (w / 2 - roll)
        parts += [
            box((0.14, d - 0.1, h - 0.36), (x, 0, 0.1), look.main),
            lying(roll, d - 0.04, (x, 0, h - 0.24), look.main, segments=24),
        ]
    parts += [box((w - 0.3, 0.16, h - 0.28), (0, d / 2 - 0.16, 0.2), look.main)]
    top = cylinder(roll, w - 0.1, (0, 0, -(w - 0.1) / 2), look.main, segments=24)
    parts.append(top.moved((0, d / 2 - roll, h - roll), pitch=np.pi / 2))
    for i in range(max(5, round(w / 0.22))):
        for j in range(2):
            n = max(5, round(w / 0.22))
            x = ((i + 0.5 + 0.25 * (2 * j - 1)) / n - 0.5) * (w - 0.4)
            parts.append(ball(0.016, (x, d / 2 - 0.245, 0.48 + 0.13 * j), look.second, segments=8))
    parts.append(rounded_box((w - 0.46, d - 0.3, 0.16), (0, -0.08, 0.3), look.main, 0.06))
    return [*parts, *legs(w - 0.1, d - 0.1, 0.1, 0.06, look.second, round_leg=True)]


@style("sofa", "corner", sizes=((2.0, 2.4), (1.5, 1.7), (0.74, 0.85)), word="corner sofa")
def sofa_corner(size, look):
    w, d, h = size
    deep, seat = 0.85, 0.42
    y = d / 2 - deep / 2
    wing = w / 2 - deep / 2
    parts = [
        box((w, deep, 0.2), (0, y, 0.08), look.main),
        box((deep, d, 0.2), (wing, 0, 0.08), look.main),
        rounded_box((w, 0.2, h - 0.08), (0, d / 2 - 0.1, 0.08), look.main, 0.06),
        rounded_box((0.2, d, h - 0.08), (w / 2 - 0.1, 0, 0.08), look.main, 0.06),
        rounded_box((0.18, deep - 0.04, 0.5), (-w / 2 + 0.09, y, 0.08), look.main, 0.05),
    ]
    inner = w - deep - 0.18
    for k in range(2):
        parts.append(
            rounded_box(
                (inner / 2 - 0.01, deep - 0.22, 0.17),
                (-w / 2 + 0.18 + inner * (k + 0.5) / 2, y - 0.1, seat - 0.15),
                look.main,
                0.05,
            )
        )
        parts.append(
            rounded_box(
                (inner / 2 - 0.02, 0.16, 0.32),
                (-w / 2 + 0.18 + inner * (k + 0.5) / 2, d / 2 - 0.26, seat),
                look.second,
                0.06,
            )
        )
    parts.append(rounded_box((deep - 0.22, d - 0.22, 0.17), (wing - 0.1, -0.1, seat - 0.15), look.main, 0.05))
    spots = (
        (-wing, y - 0.3),
        (-wing, y + 0.3),
        (wing, y + 0.3),
        (wing - 0.3, -d / 2 + 0.08),
        (wing + 0.3, -d / 2 + 0.08),
    )
    return [*parts, *(cylinder(0.03, 0.08, (*spot, 0), DARK, segments=10) for spot in spots)]


@style("sofa", "wooden frame", sizes=((1.3, 1.9), (0.75, 0.85), (0.74, 0.85)))
def sofa_frame(size, look):
    w, d, h = size
    parts = []
    for s in (-1, 1):
        x = s * (w / 2 - 0.03)
        parts += [
            box((0.05, 0.05, 0.6), (x, -d / 2 + 0.04, 0), look.second),
            box((0.05, 0.05, h), (x, d / 2 - 0.04, 0), look.second),
        ]
        parts += [
            box((0.07, d, 0.035), (x, 0, 0.58), look.second),
            box((0.03, d - 0.1, 0.05), (x, 0, 0.26), look.second),
        ]
    parts += [box((w - 0.08, 0.04, 0.06), (0, y, 0.25), look.second) for y in (-d / 2 + 0.05, d / 2 - 0.05)]
    parts += [box((w - 0.08, 0.03, 0.05), (0, d / 2 - 0.03, h - 0.08), look.second)]
    seats = 2 if w < 1.6 else 3
    inner = (w - 0.14) / seats
    for k in range(seats):
        x = -w / 2 + 0.07 + inner * (k + 0.5)
        parts.append(rounded_box((inner - 0.01, d - 0.12, 0.14), (x, -0.03, 0.3), look.main, 0.05))
        parts.append(
            rounded_box((inner - 0.02, 0.14, h - 0.46), (0, 0, 0), look.main, 0.05).moved(
                (x, d / 2 - 0.17, 0.42), roll=-0.15
            )
        )
    return parts
