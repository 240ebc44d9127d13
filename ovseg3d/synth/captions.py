"""A small grammar of captions, and the words that it never uses.

A caption states only what is true of its image: kind, colour, texture, shape compared with others of its kind, what
is next to the object, what it stands on. SYNONYMS are held out, to test how an encoder handles them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ovseg3d.synth.holdout import Choice
from ovseg3d.synth.kinds import KINDS
from ovseg3d.synth.looks import TEXTURES

SYNONYMS = (
    ("couch", "sofa"), ("settee", "sofa"), ("television set", "television"), ("TV", "television"),
    ("rubbish bin", "bin"), ("trash can", "bin"), ("fridge", "refrigerator"), ("bookcase", "bookshelf"),
    ("bedside table", "night stand"), ("chest of drawers", "dresser"), ("cupboard", "cabinet"),
    ("drapes", "curtain"), ("carpet", "rug"), ("lavatory", "toilet"), ("bath", "bathtub"), ("washbasin", "sink"),
    ("worktop", "counter"), ("painting", "picture"), ("rucksack", "backpack"), ("bike", "bicycle"),
    ("computer screen", "monitor"), ("notebook computer", "laptop"), ("houseplant", "plant"),
    ("pillow", "cushion"), ("teddy", "bear"), ("sneaker", "shoe"), ("dish", "plate"), ("carton", "box"),
    ("timepiece", "clock"), ("paperback", "book"),
)  # fmt: skip
"""(word that no caption contains, the kind it means)."""


@dataclass(frozen=True)
class Said:
    """What may be said of one thing; None where nothing true can be seen."""

    kind: str
    colour: str | None = None
    texture: str | None = None
    shape: str | None = None  # "tall", "low", "wide", "narrow", beside others of its kind
    style: str | None = None

    def phrase(self, *, colour: bool = True, texture: bool = True, shape: bool = True, style: bool = True) -> str:
        """The noun with its adjectives, without an article."""
        noun = KINDS[self.kind].words.get(self.style or "", self.kind) if style and self.kind in KINDS else self.kind
        word = TEXTURES[self.texture].word if texture and self.texture else None
        words = [self.shape if shape else None, self.colour if colour else None, word, noun]
        return " ".join(w for w in words if w)


def saying(choice: Choice, size) -> Said:
    """What may be said of an individual of this size when all of it is seen."""
    proportion = shape(choice.kind, choice.style, np.asarray(size, float))
    if not choice.shows:
        return Said(choice.kind, None, None, proportion, choice.style)
    return Said(choice.kind, choice.colour, choice.texture, proportion, choice.style)


def shape(kind: str, style: str, size: np.ndarray) -> str | None:
    """A word for proportions that differ clearly from the middle of the style."""
    w, d, h = (sum(span) / 2 for span in KINDS[kind].sizes_of(style))
    if h < 0.3:
        return None
    usual, own = h / max(w, d), size[2] / max(size[0], size[1])
    if own > 1.22 * usual:
        return "tall" if h > 0.6 * max(w, d) else "narrow"
    if own < 0.8 * usual:
        return "wide" if w > h else "low"
    return None


def article(phrase: str) -> str:
    """The phrase with "a" or "an"."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def some(rng: np.random.Generator, said: Said) -> str:
    """The thing with its article and some of its adjectives, chosen at random."""
    keep = rng.random(4) < (0.75, 0.6, 0.6, 0.5)
    return article(said.phrase(colour=bool(keep[0]), texture=bool(keep[1]), shape=bool(keep[2]), style=bool(keep[3])))


def thing_captions(
    rng: np.random.Generator, main: Said, others: Sequence[tuple[str, Said]], floor: Said | None, wall: Said | None
) -> tuple[str, ...]:
    """Captions of a picture of one thing, the plainest first.

    Args:
        rng: chooses among wordings.
        main: the thing in the middle.
        others: what is seen beside it, each with its relation ("next to", "to the left of", ...).
        floor, wall: what is behind it, where that shows.
    """
    plain = article(main.kind)
    full = article(main.phrase())
    made = [plain, article(main.phrase(texture=False, shape=False, style=False)), full]
    for relation, other in others:
        made.append(f"{some(rng, main)} {relation} {some(rng, other)}")
    if floor is not None:
        made.append(f"{some(rng, main)} on {some(rng, floor)}")
    if wall is not None:
        made.append(f"{some(rng, main)} in front of {some(rng, wall)}")
    if len(others) > 1:
        made.append(f"{some(rng, main)}, {some(rng, others[0][1])} and {some(rng, others[1][1])}")
    opening = str(rng.choice(["a photo of", "a view of", "a close view of", "this is", "here is"]))
    made.append(f"{opening} {some(rng, main)}")
    return tuple(dict.fromkeys(made))


def listing(phrases: Sequence[str]) -> str:
    """ "a, b and c"."""
    return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def room_captions(
    rng: np.random.Generator,
    room: str | None,
    shown: Sequence[Said],
    relations: Sequence[tuple[int, str, int]],
    surfaces: Sequence[Said],
    of: Said | None = None,
) -> tuple[str, ...]:
    """Captions of a part of a room: of the thing that it is of, if there is one, then from the whole view to one thing.

    Args:
        rng: chooses among wordings.
        room: the kind of room ("bedroom"), where enough of it shows to say so.
        shown: the things that are seen, most of the picture first.
        relations: (index, relation, index) of pairs in `shown`.
        surfaces: floor, wall, ceiling, as far as they are seen, most of the picture first.
        of: the thing that the picture is of; the plainest captions, of it alone, come first.
    """
    made = [] if of is None else [article(of.kind), article(of.phrase(texture=False, shape=False, style=False))]
    names = [some(rng, s) for s in shown]
    if shown:
        # One small thing is not what a picture is of: the first caption is a bare name only of what is.
        first = listing(names[:4]) if of is not None or len(shown) > 1 else f"a view of {names[0]}"
        made.append(f"{article(room)} with {first}" if room else first)
        if len(names) > 4:
            made.append(listing(names[4:]))
        for one, relation, other in relations[:3]:
            made.append(f"{some(rng, shown[one])} {relation} {some(rng, shown[other])}")
        if len(shown) > 1:
            made.append(listing(list(dict.fromkeys(article(s.kind) for s in shown))[:3]))
        made.append(article(shown[0].kind))
        made.append(some(rng, shown[0]))
        if surfaces:
            made.append(listing([some(rng, shown[0]), *(some(rng, surface) for surface in surfaces)]))
    elif surfaces:
        made += [article(surfaces[0].kind), article(surfaces[0].phrase())]
        if len(surfaces) > 1:
            made.append(listing([some(rng, s) for s in surfaces[:3]]))
    elif room:
        made.append(article(room))
    return tuple(dict.fromkeys(made))
