"""Colours, textures and lights by name: the appearance of an object, independent of its kind.

A material is one colour name and one texture name, drawn independently. Captions use these names, so each must be
true of what is rendered: a colour stays within a narrow range around its hex value.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ovseg3d.synth.materials import Material, Pair, Real, Triple, linear, triple

COLOURS = {
    "red": "#b03a2e", "orange": "#d2772f", "yellow": "#dbb13b", "green": "#4f8a53", "teal": "#3f8583",
    "blue": "#3d6591", "purple": "#75568f", "pink": "#cf8a9c", "brown": "#7b5536", "beige": "#d3bf9b",
    "white": "#e7e3da", "grey": "#8c9094", "black": "#2a2b2d", "navy": "#1f2a52", "lime": "#a5c93f",
}  # fmt: skip


@dataclass(frozen=True)
class Texture:
    """A pattern of materials.py at `scale` metres on a thing of a metre; the second colour's brightness range."""

    pattern: str
    scale: Real = 0.1
    shade: Pair = (0.5, 0.7)
    word: str | None = None  # the adjective of captions
    gloss: Real = 0.0
    with_white: bool = False  # the second colour may be near white instead


TEXTURES = {
    "plain": Texture("plain"),
    "glossy": Texture("plain", gloss=0.3, word="shiny"),
    "wood": Texture("wood", 0.05, (0.5, 0.68), "wooden"),
    "planks": Texture("planks", 0.13, (0.6, 0.8)),
    "weave": Texture("weave", 0.04, (0.6, 0.8)),
    "stripes": Texture("stripes", 0.11, (0.35, 0.6), "striped", with_white=True),
    "fine stripes": Texture("stripes", 0.04, (0.35, 0.6), "striped", with_white=True),
    "checker": Texture("checker", 0.13, (0.35, 0.6), "checked", with_white=True),
    "plaster": Texture("plaster", 0.1, (0.65, 0.8)),
    "speckle": Texture("plaster", 0.03, (0.4, 0.6), "speckled"),
    "marble": Texture("marble", 0.25, (0.45, 0.65), "marble"),
    "tiles": Texture("tiles", 0.15, (0.6, 0.75), "tiled"),
    "dots": Texture("dots", 0.12, (0.35, 0.6), "dotted", with_white=True),
    "bands": Texture("bands", 0.2, (0.4, 0.6), "banded", with_white=True),
    "damask": Texture("damask", 0.2, (0.55, 0.7), "patterned"),
}

FLOORS = ("planks", "wood", "tiles", "weave", "checker", "plain", "plaster", "marble", "speckle", "bands", "dots")
WALLS = ("plain", "plain", "plaster", "stripes", "fine stripes", "tiles", "damask", "bands", "dots")


def tinted(rng: np.random.Generator, colour: str) -> Triple:
    """Linear rgb of a colour name, a little lighter or darker than its hex value."""
    base = np.array(linear(COLOURS[colour])) * rng.uniform(0.8, 1.15)
    return triple(base.clip(0.01, 0.9))


def painted(rng: np.random.Generator, colour: str, texture: str, size: Real = 1.0) -> Material:
    """A material of a colour and a texture, its pattern scaled for a thing of `size` metres."""
    base, how = tinted(rng, colour), TEXTURES[texture]
    second = triple(np.array(base) * rng.uniform(*how.shade))
    if how.with_white and colour not in ("white", "beige") and rng.random() < 0.4:
        second = (0.75, 0.73, 0.68)
    scale = how.scale * float(np.clip(size, 0.05, 2.0)) ** 0.75 * float(rng.uniform(0.8, 1.25))
    return Material(base, second, how.pattern, max(scale, 0.004), how.gloss)


@dataclass(frozen=True)
class Light:
    """Light for one thing: where the key light stands, seen from the camera (degrees; azimuth 0 is behind it)."""

    azimuth: Pair
    elevation: Pair
    tint: Triple
    key: Real  # the key light's share; the rest comes from all around
    both_sides: bool = True


LIGHTS = {
    "noon": Light((20, 160), (55, 80), (1.0, 0.98, 0.93), 0.7),
    "left window": Light((60, 110), (20, 45), (1.0, 1.02, 1.06), 0.6, both_sides=False),
    "right window": Light((-110, -60), (20, 45), (1.0, 1.02, 1.06), 0.6, both_sides=False),
    "overcast": Light((0, 180), (60, 85), (0.98, 1.0, 1.04), 0.15),
    "lamp": Light((0, 90), (50, 85), (1.08, 1.0, 0.86), 0.6),
    "morning": Light((30, 100), (15, 35), (1.05, 1.0, 0.92), 0.65),
    "hard": Light((20, 120), (30, 60), (1.0, 1.0, 1.0), 0.88),
    "soft": Light((0, 100), (35, 70), (1.0, 1.0, 1.0), 0.35),
    "evening": Light((40, 120), (8, 22), (1.15, 0.98, 0.78), 0.75),
    "backlight": Light((130, 175), (25, 50), (1.0, 1.0, 1.0), 0.6),
}
