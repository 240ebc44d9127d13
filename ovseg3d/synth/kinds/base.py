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
    own: Mapping[str, Style] = {}  # noqa: RUF012  styles with a builder or sizes of their own

    def build(self, size: Triple, style: str, look: Look) -> list[Part]:
        """Parts of full size `size` (width, depth, height) in the canonical frame."""
        raise NotImplementedError

    def sizes_of(self, style: str) -> tuple[Pair, Pair, Pair]:
        """The ranges of sizes of a style."""
        own = self.own.get(style)
        return own.sizes if own and own.sizes else self.sizes

    def stands_of(self, style: str) -> str:
        """Where things of a style stand."""
        own = self.own.get(style)
        return own.stands if own and own.stands else self.stands

    def surface_of(self, style: str) -> Real | None:
        """The height fraction of a style's top for small things, None where it has none."""
        own = self.own.get(style)
        return (own.surface if own and own.surface is not None else self.surface) or None

    def make(self, size: Triple, style: str, look: Look) -> list[Part]:
        """What `build` gives, shifted to rest on z = 0 exactly (slanted legs end a little below it)."""
        own = self.own.get(style)
        parts = within(own.build(size, look), size) if own and own.build else self.build(size, style, look)
        lowest = min(part.soup.points[..., 2].min() for part in parts)
        return [part.moved((0.0, 0.0, -lowest)) for part in parts]


@dataclass(frozen=True)
class Style:
    """What one style has of its own; None: as its kind."""

    build: Callable[[Triple, Look], list[Part]] | None = None
    sizes: tuple[Pair, Pair, Pair] | None = None
    stands: str | None = None
    surface: Real | None = None  # 0: no top for small things


def within(parts: list[Part], size: Triple) -> list[Part]:
    """The parts over the origin, scaled down along each axis in which they are larger than `size`."""
    low, high = (np.array([getattr(p.soup.points, f)((0, 1)) for p in parts]) for f in ("min", "max"))
    low, high = low.min(0), high.max(0)
    shrink = np.minimum(1.0, np.array(size) / (high - low))
    middle = (low + high) / 2 * [1, 1, 0]
    return [p.transformed(np.diag(shrink), -shrink * middle) for p in parts]


KINDS: dict[str, Kind] = {}


def style(
    of: str,
    name: str,
    *,
    sizes: tuple[Pair, Pair, Pair] | None = None,
    stands: str | None = None,
    word: str | None = None,
    surface: Real | None = None,
) -> Callable[[Callable[[Triple, Look], list[Part]]], Callable[[Triple, Look], list[Part]]]:
    """Adds a style to the kind `of`: the decorated function builds it from a size and a look.

    Styles are only ever added at the end, so that scenes that name theirs stay what they are. `word` is the
    noun of captions for it ("round table"), where the style has one.

    Args:
        of: name of the kind.
        name: of the style.
        sizes: ranges of width, depth and height in metres; None: the kind's.
        stands: where it stands; None: as the kind does.
        word: noun for captions.
        surface: height of its top as a share of the object's; None: the kind's.
    """

    def register(build: Callable[[Triple, Look], list[Part]]) -> Callable[[Triple, Look], list[Part]]:
        add_style(of, name, Style(build, sizes, stands, surface), word)
        return build

    return register


def add_style(of: str, name: str, made: Style, word: str | None = None) -> None:
    """Adds a style to a kind, or says more about one that it has."""
    known = find_kind(of)
    if name not in known.styles:
        known.styles = (*known.styles, name)
    known.own = {**known.own, name: made}
    if word:
        known.words = {**known.words, name: word}


def kind(name: str) -> Callable[[type[Kind]], type[Kind]]:
    """Registers a Kind class under the plain English noun that names it."""

    def register(cls: type[Kind]) -> type[Kind]:
        cls.name = name
        KINDS[name] = cls()
        return cls

    return register


def find_kind(name: str) -> Kind:
    """The kind called `name`; ConfigError names the nearest otherwise.

    Raises:
        ConfigError: there is none; names the nearest.
    """
    if name not in KINDS:
        close = nearest(name, KINDS)
        raise ConfigError(f"no kind of object is called {name!r}", fix=f"did you mean {close!r}?" if close else None)
    return KINDS[name]
