"""What encoder training never sees: styles, textures, lights, colour names, and pairs of colour and kind.

Frozen by value: figures of different days compare only while these lists stay as they are. A thing is `seen`
when its style, colour, texture and colour+kind pair are all outside these lists.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ovseg3d.synth.kinds import KINDS
from ovseg3d.synth.looks import COLOURS, LIGHTS, TEXTURES

Split = Literal["seen", "unseen", "pairs"]

HELD_STYLES: dict[str, tuple[str, ...]] = {
    name: (kind.styles[-1],) for name, kind in KINDS.items() if len(kind.styles) > 1
}
HELD_TEXTURES = ("dots", "bands", "damask")
HELD_LIGHTS = ("evening", "backlight")
HELD_COLOURS = ("teal", "navy", "lime")
COLOURLESS = ("window", "picture", "television", "monitor", "ceiling light")
HELD_PAIRS: frozenset[tuple[str, str]] = frozenset(
    ([c for c in COLOURS if c not in HELD_COLOURS][(5 * k) % 12], name)
    for k, name in enumerate(KINDS)
    if name not in COLOURLESS
)


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
    {n: tuple(s for s in k.styles if s not in HELD_STYLES.get(n, ())) for n, k in KINDS.items()},
)
ALL = Pool(tuple(COLOURS), tuple(TEXTURES), tuple(LIGHTS), {n: tuple(k.styles) for n, k in KINDS.items()})


def is_seen(kind: str, style: str, colour: str | None, texture: str | None) -> bool:
    """Whether a thing holds nothing of the holdout."""
    return (
        style not in HELD_STYLES.get(kind, ())
        and colour not in HELD_COLOURS
        and texture not in HELD_TEXTURES
        and (colour, kind) not in HELD_PAIRS
    )
