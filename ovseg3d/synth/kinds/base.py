"""What a kind of object is, and the list of all kinds.

A kind is one small class: it names its styles, its range of sizes (width x, depth y, height z in metres) and
where such things stand, and builds labelled parts in the canonical frame: z up, front -y, centred over the
origin, resting on z = 0. Decorate it with `@kind("name")` and it can be placed by every room.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ovseg3d.errors import ConfigError, nearest
from ovseg3d.synth.geometry import Part
from ovseg3d.synth.materials import Material, Pair, Real, Triple, paint


@dataclass(frozen=True)
class Look:
    """How one object is finished: a main and a second material, and random numbers for small details."""

    main: Material
    second: Material = field(default_factory=lambda: paint("#4a4038"))
    seed: int = 0

    @property
    def rng(self) -> np.random.Generator:
        return np.random.default_rng(self.seed)


class Kind:
    """Base of all kinds.

    `stands`: "floor" (anywhere), "wall" (on the floor, back to a wall), "top" (on furniture), "hung" (on a
    wall at height `hang`), "flat" (lies on the floor under other things), "ceiling".
    `surface` is the height fraction of a top on which small things can be put (None: no such top).
    """

    name: str = ""
    styles: Sequence[str] = ("plain",)
    sizes: tuple[Pair, Pair, Pair]
    stands: str = "floor"
    hang: Real = 1.4
    surface: Real | None = None
    finishes: Sequence[str] = ("paint", "wood", "cloth")
    words: Mapping[str, str] = {}  # noqa: RUF012  what captions call a style, where that has a name of its own
    natural: Sequence[str] = ()  # colours that most of its kind have in life
    colour_shows: bool = True  # whether the main material is what its colour would be told by
    rooms: Sequence[str] = ()  # the rooms where such things stand; none: anywhere

    def build(self, size: Triple, style: str, look: Look) -> list[Part]:
        """Parts of full size `size` (width, depth, height) in the canonical frame."""
        raise NotImplementedError

    def make(self, size: Triple, style: str, look: Look) -> list[Part]:
        """What `build` gives, shifted to rest on z = 0 exactly (slanted legs end a little below it)."""
        parts = self.build(size, style, look)
        lowest = min(part.soup.points[..., 2].min() for part in parts)
        return [part.moved((0.0, 0.0, -lowest)) for part in parts]


KINDS: dict[str, Kind] = {}


def kind(name: str) -> Callable[[type[Kind]], type[Kind]]:
    """Registers a Kind class under the plain English noun that names it."""

    def register(cls: type[Kind]) -> type[Kind]:
        cls.name = name
        KINDS[name] = cls()
        return cls

    return register


def find_kind(name: str) -> Kind:
    """The kind called `name`; ConfigError names the nearest otherwise."""
    if name not in KINDS:
        close = nearest(name, KINDS)
        raise ConfigError(f"no kind of object is called {name!r}", fix=f"did you mean {close!r}?" if close else None)
    return KINDS[name]
