"""What belongs to the room itself: doors, windows, pictures, lights. See base.py for a kind's contract."""

import numpy as np

from ovseg3d.synth.geometry import box, cylinder, panel, sheet
from ovseg3d.synth.kinds.base import Kind, kind
from ovseg3d.synth.materials import glow, paint, picture


def frame(w, h, t, d, y, z, material):
    """Four bars around a w x h opening: thickness t, depth d, middle at y, bottom at z.

    Args:
        w, h: of the opening with its bars, in metres.
        t, d: thickness and depth of the bars.
        y, z: middle and lower edge.
        material: of all of it.
    """
    return [
        box((w, d, t), (0, y, z), material),
        box((w, d, t), (0, y, z + h - t), material),
        box((t, d, h - 2 * t), (-(w - t) / 2, y, z + t), material),
        box((t, d, h - 2 * t), ((w - t) / 2, y, z + t), material),
    ]


def outdoors(rng: np.random.Generator) -> np.ndarray:
    """A soft view out of a window (h, w, 3) uint8: sky, clouds, far trees."""
    h, w = 120, 150
    y, x = np.mgrid[0:h, 0:w] / np.array([h, w])[:, None, None]
    sky = np.array([150, 190, 232.0]) + np.array([85, 52, 20.0]) * y[..., None]
    cloud = sum(np.sin(x * f + p) * np.cos(y * g + q) for f, g, p, q in rng.uniform(3, 9, (5, 4)))
    image = sky + 22 * (1 / (1 + np.exp(-2 * cloud)))[..., None]
    line = 0.72 + 0.05 * np.sin(x * 9 + 1) + 0.03 * np.sin(x * 23 + 2)
    tree = 1 / (1 + np.exp(-(y - line) * 60))
    green = np.array([120, 150, 95.0]) + 18 * np.sin(x * 40 + y * 31)[..., None]
    image = image * (1 - tree[..., None]) + green * tree[..., None]
    return image.clip(0, 255).astype(np.uint8)


@kind("window")
class Window(Kind):
    styles = ("cross",)
    sizes = ((1.2, 1.7), (0.08, 0.08), (1.1, 1.4))
    colour_shows = False
    stands = "hung"
    hang = 0.9

    def build(self, size, style, look):
        w, d, h = size
        bar = look.main
        pane = picture(outdoors(look.rng), glow=1.15)
        return [
            panel(w - 0.04, h - 0.04, (0, d / 2 - 0.004, 0.02), pane),
            *frame(w, h, 0.06, d, 0, 0, bar),
            box((0.035, 0.03, h - 0.12), (0, 0.01, 0.06), bar),
            box((w - 0.12, 0.03, 0.035), (0, 0.01, h * 0.62), bar),
        ]


@kind("door")
class Door(Kind):
    styles = ("panels",)
    sizes = ((0.85, 0.95), (0.08, 0.08), (2.0, 2.1))
    stands = "hung"
    hang = 0.0

    def build(self, size, style, look):
        w, d, h = size
        leaf_w, leaf_h = w - 0.14, h - 0.07
        back = d / 2
        parts = [box((leaf_w, 0.04, leaf_h), (0, back - 0.02, 0), look.main)]
        for z, tall in ((0.15, 0.7), (1.0, leaf_h - 1.15)):
            for x in (-leaf_w * 0.23, leaf_w * 0.23):
                parts.append(box((leaf_w * 0.34, 0.012, tall), (x, back - 0.045, z), look.main))
        for x in (-(w - 0.07) / 2, (w - 0.07) / 2):
            parts.append(box((0.07, 0.06, h - 0.07), (x, back - 0.03, 0), look.second))
        parts.append(box((w, 0.06, 0.07), (0, back - 0.03, h - 0.07), look.second))
        knob = cylinder(0.022, 0.05, (0, 0, 0), paint("#b08d45", gloss=0.1), segments=16)
        parts.append(knob.moved((leaf_w / 2 - 0.07, back - 0.03, 1.0), roll=np.pi / 2))
        # Nothing stands out further than the stated depth.
        return parts


def painting(rng: np.random.Generator, style: str) -> np.ndarray:
    """A picture (h, w, 3) uint8 to hang: a landscape, or coloured shapes."""
    h, w = 120, 160
    y, x = np.mgrid[0:h, 0:w] / np.array([h, w])[:, None, None]
    if style == "landscape":
        image = np.array([235, 190, 130.0]) + np.array([-70, -30, 50.0]) * (1 - y[..., None])
        image = np.where((np.hypot((x - 0.68) * 1.33, y - 0.34) < 0.1)[..., None], [250, 232, 180.0], image)
        for k, colour in enumerate(([120, 120, 150], [85, 110, 105], [60, 85, 60], [120, 95, 50])):
            ridge = 0.45 + 0.13 * k + 0.07 * np.sin(x * rng.uniform(4, 12) + rng.uniform(0, 6))
            image = np.where((y > ridge)[..., None], np.array(colour, float), image)
    else:
        image = np.full((h, w, 3), 236.0) - 12 * y[..., None]
        palette = np.array([[196, 64, 48], [38, 84, 130], [232, 178, 60], [52, 60, 66], [120, 160, 140]], float)
        for k in range(9):
            cx, cy, r = rng.uniform(0.12, 0.88), rng.uniform(0.15, 0.85), rng.uniform(0.08, 0.24)
            inside = (
                np.hypot((x - cx) * 1.33, y - cy) < r
                if k % 2
                else (abs(x - cx) < r * 0.8) & (abs(y - cy) < r * rng.uniform(0.3, 1))
            )
            image = np.where(inside[..., None], palette[k % 5], image)
    return image.clip(0, 255).astype(np.uint8)


@kind("picture")
class Picture(Kind):
    styles = ("landscape", "shapes")
    sizes = ((0.5, 1.0), (0.03, 0.03), (0.4, 0.75))
    colour_shows = False
    stands = "hung"
    hang = 1.25

    def build(self, size, style, look):
        w, d, h = size
        return [
            panel(w - 0.05, h - 0.05, (0, d / 2 - 0.012, 0.025), picture(painting(look.rng, style))),
            *frame(w, h, 0.03, d, 0, 0, look.main),
        ]


@kind("curtain")
class Curtain(Kind):
    styles = ("gathered",)
    sizes = ((0.35, 0.55), (0.1, 0.1), (1.8, 2.2))
    stands = "hung"
    hang = 0.15

    def build(self, size, style, look):
        w, d, h = size
        x, z = np.linspace(-w / 2, w / 2, 41), np.linspace(0, h, 9)
        fold = np.cos(np.linspace(0, 2 * np.pi * max(3, round(w / 0.09)), 41)) * (d / 2 - 0.005)
        grid = np.stack(np.broadcast_arrays(x[:, None], fold[:, None] * (1.0 - 0.25 * z / h), z[None, :]), -1)
        uv = np.stack(np.broadcast_arrays(x[:, None] * 1.6, z[None, :]), -1)
        return [sheet(grid, look.main, uv=uv)]


@kind("ceiling light")
class CeilingLight(Kind):
    styles = ("disc",)
    sizes = ((0.5, 0.6), (0.5, 0.6), (0.09, 0.09))
    colour_shows = False
    stands = "ceiling"

    def build(self, size, style, look):
        w, d, h = size
        r = min(w, d) / 2
        return [
            cylinder(r, h - 0.02, (0, 0, 0.02), look.main, segments=40),
            cylinder(r - 0.03, 0.02, (0, 0, 0), glow("#fff3dc", 1.5), segments=40),
        ]
