"""Materials of surfaces: two colours, a pattern with its scale in metres, gloss and emission.

Colours are given as sRGB hex and stored linear. Patterns are evaluated where a ray hits (render.py): solid ones in
the grain coordinates of the part, flat ones along the surface; `image` looks up pixels by uv.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

# Numbers as people write them: 2 is as good as 2.0 where a length is meant.
Real = float | int
Pair = tuple[Real, Real]
Triple = tuple[Real, Real, Real]

PATTERNS = (
    "plain", "wood", "planks", "checker", "stripes", "plaster", "weave", "marble", "dots", "image", "tiles",
    "damask", "bands",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Material:
    """A surface: linear colours in 0..1; `scale` is the pattern's size in metres; `glow` is emitted light."""

    colour: Triple
    second: Triple = (0.0, 0.0, 0.0)
    pattern: str = "plain"
    scale: Real = 0.1
    gloss: Real = 0.0
    glow: Real = 0.0
    image: np.ndarray | None = None  # (h, w, 3) uint8 sRGB, row 0 on top

    def but(self, **changes) -> Material:
        """A copy with some fields replaced."""
        return replace(self, **changes)


def triple(values: Iterable[Any]) -> Triple:
    """Three numbers of an array."""
    first, second, third = (float(value) for value in values)
    return first, second, third


def linear(hex_colour: str) -> Triple:
    """`#rrggbb` (sRGB) to linear light (IEC 61966-2-1)."""
    value = np.array([int(hex_colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255.0
    return triple(to_linear(value))


def to_linear(srgb: np.ndarray) -> np.ndarray:
    """sRGB 0..1 to linear light 0..1 (IEC 61966-2-1)."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def to_srgb(value: np.ndarray) -> np.ndarray:
    """Linear light 0..1 to sRGB 0..1 (IEC 61966-2-1)."""
    value = np.clip(value, 0.0, 1.0)
    return np.where(value <= 0.0031308, value * 12.92, 1.055 * value ** (1 / 2.4) - 0.055)


def paint(hex_colour: str, *, gloss: Real = 0.0) -> Material:
    """One flat colour."""
    return Material(linear(hex_colour), gloss=gloss)


def mix(first: str, second: str, pattern: str, scale: Real, *, gloss: Real = 0.0) -> Material:
    """Two colours in a pattern of `scale` metres.

    Args:
        first, second: sRGB `#rrggbb`.
        pattern: one of PATTERNS.
        scale: size of the pattern in metres.
        gloss: share of light that is mirrored, 0 to 1.
    """
    return Material(linear(first), linear(second), pattern, scale, gloss)


def wood(light: str = "#c79a63", dark: str = "#9c6d3c", *, scale: Real = 0.05, gloss: Real = 0.0) -> Material:
    """Grain along the part's longest side."""
    return mix(light, dark, "wood", scale, gloss=gloss)


def glow(hex_colour: str, strength: Real) -> Material:
    """A surface that shines by itself, as seen by the camera."""
    return Material(linear(hex_colour), glow=strength)


def picture(image: np.ndarray, *, gloss: Real = 0.0, glow: Real = 0.0) -> Material:
    """An image (h, w, 3) uint8 mapped by uv."""
    return Material((1.0, 1.0, 1.0), pattern="image", image=np.ascontiguousarray(image), gloss=gloss, glow=glow)
