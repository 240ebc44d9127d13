"""Images with captions for training and testing encoders, rendered on demand.

    object_example(seed, index, size=112, split="seen") -> Example    one object before a backdrop
    room_example(seed, index, size=112, split="seen") -> Example      a crop of a view of a furnished room

Both are pure functions of their arguments. Splits: "seen" has nothing of the holdout (holdout.py); "unseen" shows a
held-out style, and held-out textures, lights and colours; "pairs" shows a held-out pair of colour and kind
in a seen style (rooms: anything). Captions are sorted from the plainest if the image shows one object, from the most
detailed in other views of a room. `Example.kind` is the object that the image shows (None in half of the views of
rooms); `color` is its colour name, None if it has no colour of its own (a window, a screen) or too little of it is
visible.

A room serves ROOM_EXAMPLES consecutive indices and is kept for them, so give each process of a pool blocks of that
many indices; building a room takes a few seconds. Shapes are cached too: the first thousand images of single objects
are slower than later ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from ovseg3d.synth.captions import SYNONYMS
from ovseg3d.synth.holdout import ALL, HELD_COLOURS, HELD_PAIRS, HELD_STYLES, SEEN, Split, pick
from ovseg3d.synth.kinds import KINDS as ALL_KINDS
from ovseg3d.synth.room_views import ROOM_EXAMPLES, room_of, room_picture
from ovseg3d.synth.still import Scene, some_thing

KINDS = tuple(ALL_KINDS)
SURFACES = ("floor", "wall", "ceiling")
"""What captions name of a room itself."""
SPLITS = ("seen", "unseen", "pairs")
__all__ = ["KINDS", "ROOM_EXAMPLES", "SURFACES", "SYNONYMS", "Example", "object_example", "room_example"]


@dataclass(frozen=True)
class Example:
    """A picture (h, w, 3), what is true of it, and whether it holds nothing of the holdout."""

    image: UInt8[np.ndarray, "h w 3"]
    captions: tuple[str, ...]
    kind: str | None
    color: str | None
    style: str | None
    seen: bool


def object_example(seed: int, index: int, size: int = 112, *, split: Split = "seen") -> Example:
    """An object-centred picture. See the module's docstring for splits and what is returned."""
    pool = SEEN if split != "unseen" else ALL
    attempt = 0
    while True:
        rng = np.random.default_rng([seed, index, SPLITS.index(split), 17, attempt])
        kind, style, colour = pick(rng, KINDS), None, None
        if split == "unseen":
            style = HELD_STYLES[kind]
            colour = pick(rng, HELD_COLOURS) if rng.random() < 0.3 and ALL_KINDS[kind].colour_shows else None
        elif split == "pairs":
            colour, kind = pick(rng, tuple(sorted(HELD_PAIRS)))
        thing = some_thing(rng, kind, pool, style, colour)
        scene = Scene(rng, thing, pool, split == "unseen", size)
        image, said, shown = scene.picture()
        # A pair is one of colour and kind, so its colour must be seen.
        attempt += 1
        if split != "pairs" or shown is not None or attempt == 8:
            break
    seen = split == "seen" and thing.choice.seen and not scene.held
    return Example(image, said, kind, shown, thing.choice.style, seen)


def room_example(seed: int, index: int, size: int = 112, *, split: Split = "seen") -> Example:
    """A part of a view of a random room. See the module's docstring for splits and what is returned."""
    number = SPLITS.index(split)
    room = room_of(seed, index // ROOM_EXAMPLES, split)
    image, said, main = room_picture(room, np.random.default_rng([seed, index, number, 29]), size)
    if main is None:
        return Example(image, said, None, None, None, split == "seen")
    return Example(image, said, main.kind, main.colour, main.style, split == "seen")
