"""Labels in a picture: each beside what it names, within the picture, and off the labels before it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

Rect = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels."""
FONT_SIZE, STROKE = 14, 2
LINES = 3
"""Lines of labels above and below what they name, where the near ones are taken."""
GAP = 3.0
"""Pixels between a label and what it names, and to the border of the picture."""


def draw_labels(draw: "ImageDraw", labels: Sequence[tuple[str, Rect]], taken: Sequence[Rect] = ()) -> tuple[Rect, ...]:
    """Write labels, and return where they are.

    Args:
        draw: of the picture.
        labels: texts with the place of what they name; earlier ones have the better places.
        taken: what labels should not cover.
    """
    width, height = draw.im.size
    places: list[Rect] = []
    covered = np.array([*taken, *[(0.0,) * 4 for _ in labels]]).reshape(-1, 4)
    for number, (text, named) in enumerate(labels, len(taken)):
        x0, y0, x1, y1 = draw.textbbox((0, 0), text, font_size=FONT_SIZE, stroke_width=STROKE)
        size = float(x1 - x0), float(y1 - y0)
        free = [_within(corner, size, (width, height)) for corner in _corners(named, size)]
        place = free[int(_shared(np.array(free), covered[:number]).argmin())]
        covered[number] = place
        places.append(place)
        draw.text(
            (place[0] - x0, place[1] - y0), text, fill=(255, 255, 255), stroke_width=STROKE, stroke_fill=(0, 0, 0),
            font_size=FONT_SIZE,
        )  # fmt: skip
    return tuple(places)


def _corners(named: Rect, size: tuple[float, float]) -> list[tuple[float, float]]:
    """Upper left corners of a label around and in what it names, best first."""
    x0, y0, x1, y1 = named
    width, height = size
    line = height + GAP
    levels = [y0 - line, y0 + GAP, y1 + GAP, y1 - line, (y0 + y1 - height) / 2]
    levels += [y for k in range(2, LINES + 1) for y in (y0 - k * line, y1 + GAP + (k - 1) * line)]
    inside, beside = (x0, x1 - width, (x0 + x1 - width) / 2), (x1 + GAP, x0 - width - GAP)
    return [(x, y) for columns in (inside, beside) for y in levels for x in columns]


def _within(corner: tuple[float, float], size: tuple[float, float], picture: tuple[int, int]) -> Rect:
    """The label at a corner, moved into the picture."""
    x, y = (max(GAP, min(c, whole - own - GAP)) for c, own, whole in zip(corner, size, picture))
    return x, y, x + size[0], y + size[1]


def _shared(rects: Float[np.ndarray, "n 4"], others: Float[np.ndarray, "m 4"]) -> Float[np.ndarray, " n"]:
    """The area that each rectangle shares with all others."""
    rects = rects[:, None]
    sides = np.minimum(rects[..., 2:], others[:, 2:]) - np.maximum(rects[..., :2], others[:, :2])
    return sides.clip(0).prod(-1).sum(-1)
