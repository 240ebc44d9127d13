"""What encoder training never sees: styles, textures, lights, colour names, and pairs of colour and kind.

The lists are frozen: figures of different dates are comparable only while they do not change. An object is `seen` if
its style, colour, texture and colour+kind pair are all outside these lists.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ovseg3d.synth.kinds import KINDS
from ovseg3d.synth.looks import COLOURS, LIGHTS, TEXTURES

Split = Literal["seen", "unseen", "pairs"]

HELD_STYLES = {
    "apple": "long", "backpack": "flap", "ball": "beach", "banana": "bunch", "bathtub": "claw foot",
    "bear": "standing", "bed": "slatted", "bicycle": "low frame", "bin": "swing lid", "book": "upright",
    "bookshelf": "cubes", "bottle": "milk", "bowl": "straight", "box": "crate", "cabinet": "drawers",
    "ceiling light": "square", "chair": "spindles", "clock": "mantel", "counter": "bar", "cup": "goblet",
    "curtain": "tied", "cushion": "piped", "desk": "hutch", "door": "glazed", "dresser": "legs",
    "guitar": "electric", "keyboard": "number block", "lamp": "tripod", "laptop": "thick",
    "microwave": "dials", "monitor": "chin", "mouse": "two tone", "mug": "round", "night stand": "two drawers",
    "oven": "splashback", "pen holder": "square", "picture": "flowers", "plant": "drooping", "plate": "square",
    "refrigerator": "retro", "rug": "oval", "shoe": "boot", "shower curtain": "half open", "sink": "hung",
    "sofa": "rolled arms", "stool": "three legs", "table": "crossed legs", "teapot": "bow above",
    "television": "feet", "tissue box": "cube", "toilet": "boxy", "vase": "globe",
    "washing machine": "square door", "window": "six panes",
}  # fmt: skip
HELD_TEXTURES = ("dots", "bands", "damask")
HELD_LIGHTS = ("evening", "backlight")
HELD_COLOURS = ("teal", "navy", "lime")
HELD_PAIRS = frozenset((
    ("orange", "apple"), ("brown", "backpack"), ("grey", "ball"), ("red", "banana"), ("pink", "bathtub"),
    ("black", "bear"), ("blue", "bed"), ("purple", "bicycle"), ("yellow", "bin"), ("beige", "book"),
    ("white", "bookshelf"), ("green", "bottle"), ("yellow", "bowl"), ("red", "box"), ("orange", "cabinet"),
    ("pink", "chair"), ("grey", "clock"), ("black", "counter"), ("purple", "cup"), ("white", "curtain"),
    ("green", "cushion"), ("beige", "desk"), ("blue", "door"), ("brown", "dresser"), ("black", "guitar"),
    ("blue", "keyboard"), ("white", "lamp"), ("orange", "laptop"), ("brown", "microwave"), ("red", "mouse"),
    ("purple", "mug"), ("pink", "night stand"), ("beige", "oven"), ("yellow", "pen holder"), ("grey", "plant"),
    ("green", "plate"), ("yellow", "refrigerator"), ("orange", "rug"), ("grey", "shoe"),
    ("white", "shower curtain"), ("beige", "sink"), ("green", "sofa"), ("purple", "stool"), ("pink", "table"),
    ("brown", "teapot"), ("black", "tissue box"), ("red", "toilet"), ("blue", "vase"),
    ("grey", "washing machine"),
))  # fmt: skip


@dataclass(frozen=True)
class Pool:
    """What may be drawn from: names of colours, textures, lights; `styles` by kind."""

    colours: tuple[str, ...]
    textures: tuple[str, ...]
    lights: tuple[str, ...]
    styles: dict[str, tuple[str, ...]]


SEEN = Pool(
    tuple(c for c in COLOURS if c not in HELD_COLOURS),
    tuple(t for t in TEXTURES if t not in HELD_TEXTURES),
    tuple(n for n in LIGHTS if n not in HELD_LIGHTS),
    {n: tuple(s for s in k.styles if s != HELD_STYLES[n]) for n, k in KINDS.items()},
)
ALL = Pool(tuple(COLOURS), tuple(TEXTURES), tuple(LIGHTS), {n: tuple(k.styles) for n, k in KINDS.items()})
UNSEEN = Pool(tuple(COLOURS), tuple(TEXTURES), tuple(LIGHTS), {n: (s,) for n, s in HELD_STYLES.items()})


def is_seen(kind: str, style: str, colour: str | None, texture: str | None) -> bool:
    """Whether a thing holds nothing of the holdout."""
    return (
        style != HELD_STYLES[kind]
        and colour not in HELD_COLOURS
        and texture not in HELD_TEXTURES
        and (colour, kind) not in HELD_PAIRS
    )


@dataclass(frozen=True)
class Choice:
    """How one individual of a kind will look, in names; `colour` is of its main material."""

    kind: str
    style: str
    colour: str
    texture: str

    @property
    def shows(self) -> bool:
        """Whether the main material is what one would call the thing's colour."""
        return KINDS[self.kind].colour_shows

    @property
    def seen(self) -> bool:
        """Whether it holds nothing of the holdout."""
        return is_seen(self.kind, self.style, self.colour, self.texture)


def pick(rng: np.random.Generator, values):
    """One of a few values."""
    return values[int(rng.integers(len(values)))]


def choose(rng: np.random.Generator, kind: str, pool: Pool, style: str | None = None, colour: str | None = None):
    """A random look for an individual of a kind, from a pool; a style or a colour may be given.

    Args:
        rng: the source of chance.
        kind: the name of a kind.
        pool: colours, textures and styles to draw from.
        style: a given one; None draws.
        colour: a given one; None draws.
    """
    known = KINDS[kind]
    style = style or pick(rng, pool.styles[kind])
    texture = "plain" if rng.random() < 0.4 else pick(rng, pool.textures)
    given = colour
    while colour is None or (given is None and pool is SEEN and (colour, kind) in HELD_PAIRS):
        natural = bool(known.natural) and rng.random() < 0.6
        colour = pick(rng, known.natural if natural else pool.colours)
        texture = "plain" if natural else texture
    return Choice(kind, style, colour, texture)
