"""More styles of fixtures.py's kinds. Added after the first ones, which scenes name. See base.py."""

import numpy as np

from ovseg3d.synth.geometry import ball, box, cylinder, lathe, panel, rounded_box, tube
from ovseg3d.synth.kinds.base import style
from ovseg3d.synth.kinds.bathroom import hanging
from ovseg3d.synth.kinds.fixtures import frame, outdoors
from ovseg3d.synth.kinds.shapes import CHROME, DARK, knob, lying
from ovseg3d.synth.materials import glow, paint, picture


@style("window", "single")
def window_single(size, look):
    w, d, h = size
    return [
        panel(w - 0.06, h - 0.06, (0, d / 2 - 0.004, 0.03), picture(outdoors(look.rng), glow=1.15)),
        *frame(w, h, 0.09, d, 0, 0, look.main),
        box((w + 0.06, d + 0.04, 0.03), (0, -0.02, 0), look.main),
    ]


@style("window", "six panes")
def window_six(size, look):
    w, d, h = size
    bar = look.main
    parts = [
        panel(w - 0.04, h - 0.04, (0, d / 2 - 0.004, 0.02), picture(outdoors(look.rng), glow=1.15)),
        *frame(w, h, 0.06, d, 0, 0, bar),
    ]
    parts += [box((0.03, 0.03, h - 0.12), (x * w, 0.01, 0.06), bar) for x in (-0.165, 0.165)]
    return [*parts, *(box((w - 0.12, 0.03, 0.03), (0, 0.01, h * z), bar) for z in (0.33, 0.66))]


@style("window", "blind")
def window_blind(size, look):
    w, d, h = size
    parts = [
        panel(w - 0.04, h - 0.04, (0, d / 2 - 0.004, 0.02), picture(outdoors(look.rng), glow=1.15)),
        *frame(w, h, 0.06, d, 0, 0, look.main),
    ]
    count = int(h * look.rng.uniform(0.4, 0.75) / 0.055)
    for k in range(count):
        parts.append(
            box((w - 0.13, 0.045, 0.006), (0, 0, 0), look.second).moved((0, 0.005, h - 0.09 - 0.055 * k), roll=0.5)
        )
    parts.append(box((0.035, 0.02, h - 0.12), (0, 0.025, 0.06), look.main))
    return [*parts, box((w - 0.12, 0.05, 0.03), (0, 0.005, h - 0.11 - 0.055 * count), look.second)]


@style("door", "glazed")
def door_glazed(size, look):
    w, d, h = size
    leaf_w, leaf_h, back = w - 0.14, h - 0.07, d / 2
    pane = paint("#b9ccd2", gloss=0.3)
    parts = [box((leaf_w, 0.04, leaf_h), (0, back - 0.02, 0), look.main)]
    for i in range(2):
        for j in range(4):
            parts.append(
                box((leaf_w * 0.32, 0.006, 0.3), ((i - 0.5) * leaf_w * 0.4, back - 0.043, 0.42 + 0.37 * j), pane)
            )
    parts += [box((0.07, 0.06, h), (s * (w - 0.07) / 2, back - 0.03, 0), look.second) for s in (-1, 1)]
    parts += [box((w, 0.06, 0.07), (0, back - 0.03, h - 0.07), look.second)]
    return [*parts, *lever(leaf_w / 2 - 0.06, back - 0.04)]


def lever(x, y, z=1.0):
    """A door handle."""
    return [
        box((0.035, 0.01, 0.16), (x, y - 0.005, z - 0.08), CHROME),
        box((0.12, 0.018, 0.02), (x - 0.045, y - 0.03, z), CHROME),
        lying(0.01, 0.03, (x, y - 0.018, z + 0.01), CHROME, segments=8),
    ]


@style("door", "flush")
def door_flush(size, look):
    w, d, h = size
    back = d / 2
    parts = [box((w - 0.14, 0.04, h - 0.07), (0, back - 0.02, 0), look.main), *lever(w / 2 - 0.13, back - 0.04)]
    parts += [box((0.07, 0.06, h), (s * (w - 0.07) / 2, back - 0.03, 0), look.second) for s in (-1, 1)]
    parts += [
        box((w, 0.06, 0.07), (0, back - 0.03, h - 0.07), look.second),
        lying(0.025, 0.012, (0, back - 0.042, 1.52), CHROME),
    ]
    return [*parts, *(box((0.015, 0.02, 0.09), (-w / 2 + 0.075, back - 0.05, z), CHROME) for z in (0.3, h - 0.5))]


@style("door", "planked")
def door_planked(size, look):
    w, d, h = size
    back, leaf = d / 2, w - 0.12
    parts = [
        box((leaf / 6 - 0.008, 0.03, h - 0.06), ((k - 2.5) * leaf / 6, back - 0.015, 0), look.main) for k in range(6)
    ]
    parts += [box((leaf - 0.04, 0.015, 0.13), (0, back - 0.036, z), look.main) for z in (0.25, 1.0, h - 0.4)]
    for low, high in ((0.38, 1.0), (1.13, h - 0.4)):
        a = np.arctan2(high - low, leaf - 0.15)
        brace = box((np.hypot(high - low, leaf - 0.15), 0.014, 0.1), (0, 0, -0.05), look.main)
        parts.append(brace.moved((0, back - 0.035, (low + high) / 2), pitch=-a))
    parts += [box((0.06, 0.07, h), (s * (w - 0.06) / 2, back - 0.035, 0), look.second) for s in (-1, 1)]
    return [
        *parts,
        box((w, 0.07, 0.06), (0, back - 0.035, h - 0.06), look.second),
        knob((leaf / 2 - 0.08, back - 0.045, 1.06), DARK, 0.026),
    ]


def portrait(rng: np.random.Generator) -> np.ndarray:
    """Head and shoulders (h, w, 3) uint8."""
    h, w = 120, 100
    y, x = np.mgrid[0:h, 0:w] / np.array([h, h])[:, None, None]
    back, coat, hair = rng.uniform(40, 170, 3), rng.uniform(20, 200, 3), rng.uniform(20, 150, 3)
    skin_ = np.array([224, 178, 148.0]) * rng.uniform(0.5, 1.05)
    image = back * (1.1 - 0.5 * y[..., None])
    cx = 0.42
    image = np.where((np.hypot((x - cx) / 1.25, (y - 1.05) / 1.3) < 0.3)[..., None], coat, image)
    image = np.where((np.hypot((x - cx), (y - 0.4) / 1.15) < 0.19)[..., None], hair, image)
    image = np.where((np.hypot((x - cx) / 0.85, (y - 0.45) / 1.2) < 0.165)[..., None], skin_, image)
    for s in (-1, 1):
        image = np.where((np.hypot(x - cx - s * 0.06, (y - 0.43) * 1.4) < 0.018)[..., None], 30.0, image)
    image = np.where(
        ((np.abs(x - cx) < 0.05) & (np.abs(y - 0.54) < 0.008))[..., None], np.array([150, 60, 60.0]), image
    )
    return image.clip(0, 255).astype(np.uint8)


@style("picture", "portrait", sizes=((0.4, 0.65), (0.03, 0.03), (0.5, 0.8)))
def picture_portrait(size, look):
    w, d, h = size
    return [
        panel(w - 0.1, h - 0.1, (0, d / 2 - 0.012, 0.05), picture(portrait(look.rng))),
        *frame(w, h, 0.06, d, 0, 0, look.main),
    ]


def flowers(rng: np.random.Generator) -> np.ndarray:
    """A bunch of flowers in a pot (h, w, 3) uint8."""
    h, w = 120, 120
    y, x = np.mgrid[0:h, 0:w] / np.array([h, w])[:, None, None]
    image = rng.uniform(150, 240, 3) * (1.05 - 0.25 * y[..., None])
    image = np.where((y > 0.82)[..., None], rng.uniform(60, 160, 3), image)
    image = np.where(
        ((np.abs(x - 0.5) < 0.09 + 0.05 * np.sin((y - 0.6) * 9)) & (y > 0.6) & (y < 0.88))[..., None],
        rng.uniform(40, 220, 3),
        image,
    )
    for _ in range(9):
        cx, cy = 0.5 + rng.uniform(-0.26, 0.26), rng.uniform(0.16, 0.5)
        stem = np.abs(x - cx - (0.5 - cx) * (y - cy) / (0.62 - cy + 1e-6)) < 0.008
        image = np.where((stem & (y > cy) & (y < 0.62))[..., None], np.array([60, 120, 60.0]), image)
        r, a = np.hypot(x - cx, y - cy), np.arctan2(y - cy, x - cx)
        image = np.where((r < 0.07 * (0.75 + 0.25 * np.cos(6 * a)))[..., None], rng.uniform(90, 255, 3), image)
        image = np.where((r < 0.022)[..., None], np.array([235, 200, 80.0]), image)
    return image.clip(0, 255).astype(np.uint8)


@style("picture", "flowers", sizes=((0.4, 0.7), (0.03, 0.03), (0.4, 0.7)))
def picture_flowers(size, look):
    w, d, h = size
    return [
        panel(w - 0.16, h - 0.16, (0, d / 2 - 0.014, 0.08), picture(flowers(look.rng))),
        box((w - 0.04, 0.006, h - 0.04), (0, d / 2 - 0.008, 0.02), paint("#efece4")),
        *frame(w, h, 0.025, d, 0, 0, look.main),
    ]


@style("curtain", "tied", sizes=((0.45, 0.65), (0.12, 0.14), (1.9, 2.3)))
def curtain_tied(size, look):
    w, d, h = size
    folds = max(4, round(w / 0.09))
    cloth = hanging(w, h, folds, d * 0.75, look.main, waist=0.55)
    band = rounded_box((w * 0.48, d, 0.05), (0, 0, h * 0.4), look.second, 0.02, steps=3)
    return [cloth, band]


@style("curtain", "pole", sizes=((0.6, 0.9), (0.1, 0.12), (1.9, 2.2)))
def curtain_pole(size, look):
    w, d, h = size
    parts = [hanging(w * 0.9, h - 0.05, max(5, round(w / 0.09)), d * 0.8, look.main)]
    parts += [tube([(-w / 2 + 0.03, 0, h - 0.03), (w / 2 - 0.03, 0, h - 0.03)], 0.015, look.second)]
    return [*parts, *(ball(0.03, (s * (w / 2 - 0.03), 0, h - 0.06), look.second, segments=14) for s in (-1, 1))]


@style("curtain", "pair", sizes=((1.6, 2.2), (0.1, 0.13), (1.9, 2.2)))
def curtain_pair(size, look):
    w, d, h = size
    one = 0.24 * w
    parts = [
        hanging(one, h - 0.08, max(4, round(one / 0.09)), d * 0.8, look.main).moved(
            (s * (w / 2 - one / 2 - 0.04), 0, 0)
        )
        for s in (-1, 1)
    ]
    pole = tube([(-w / 2 + 0.02, 0, h - 0.04), (w / 2 - 0.02, 0, h - 0.04)], 0.016, look.second)
    return [*parts, pole, *(ball(0.032, (s * (w / 2 - 0.03), 0, h - 0.07), look.second, segments=14) for s in (-1, 1))]


@style("ceiling light", "pendant", sizes=((0.34, 0.46), (0.34, 0.46), (0.45, 0.6)))
def light_pendant(size, look):
    w, d, h = size
    r = min(w, d) / 2
    dome = [(r - 0.006, 0), (r, 0), (r * 0.8, 0.1), (0.04, 0.2), (0, 0.2), (0, 0.19), (r * 0.75, 0.09), (r - 0.006, 0)]
    return [
        lathe(dome, (0, 0, 0), look.main, segments=32),
        tube([(0, 0, 0.2), (0, 0, h)], 0.008, DARK),
        ball(0.045, (0, 0, 0.03), glow("#fff3dc", 1.5), segments=14),
        cylinder(0.05, 0.02, (0, 0, h - 0.02), look.second),
    ]


@style("ceiling light", "globes", sizes=((0.5, 0.7), (0.5, 0.7), (0.3, 0.4)))
def light_globes(size, look):
    w, d, h = size
    r = min(w, d) / 2 - 0.08
    parts = [cylinder(0.06, 0.03, (0, 0, h - 0.03), look.main), tube([(0, 0, 0.1), (0, 0, h)], 0.012, look.main)]
    for k in range(5):
        a = 2 * np.pi * k / 5
        x, y = np.cos(a) * r, np.sin(a) * r
        parts += [
            tube([(0, 0, 0.12), (x, y, 0.14)], 0.009, look.main),
            ball(0.075, (x, y, 0.0), glow("#fff3dc", 1.3), segments=16),
        ]
    return parts


@style("ceiling light", "square", sizes=((0.45, 0.6), (0.45, 0.6), (0.08, 0.1)))
def light_square(size, look):
    w, d, h = size
    return [
        box((w, d, h - 0.015), (0, 0, 0.015), look.main),
        box((w - 0.07, d - 0.07, 0.02), (0, 0, 0), glow("#fff3dc", 1.4)),
    ]
