"""What geometry knows better than features: which points are floor, wall and ceiling.

A room's planes and its things are found from shape before anything is named (`structure`, `instances`). So a thing is
no floor, wall or ceiling; and where features see one of these three on a plane of the room, it is the one that the
plane is by its place. Whether points are one of them at all, and everything else, is left to the features: a rug that
was not told from its floor may still be called a rug. Only phrases about one of the three are meant, and not those that
tell where something else is: "a picture on the wall" is no wall, and neither is a wall clock.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from ovseg3d.instances.layout import CEILING, FLOOR, NONE, WALL
from ovseg3d.query.words import PLACES, about, share_a_word, words_of

WORDS = {"floor": FLOOR, "floors": FLOOR, "wall": WALL, "walls": WALL, "ceiling": CEILING, "ceilings": CEILING}
NEVER = -1.0
"""Cosine of what cannot be."""


def plane_of(phrase: str) -> int:
    """Which plane of the room a phrase is about: FLOOR, CEILING or WALL ("a white wall"), else NONE."""
    words = about(phrase)
    return WORDS.get(words[-1], NONE) if words and not PLACES.intersection(words) else NONE


def bare_plane_of(phrase: str) -> int:
    """The plane that a phrase names and says nothing else of: "the wall" does, "a white wall" does not."""
    words = words_of(phrase)
    return WORDS.get(words[-1], NONE) if len(words) - (words[:1] in (["a"], ["the"])) == 1 else NONE


def may_oppose(name: str, phrase: str) -> bool:
    """Whether a name is of something else than a phrase is about, as far as words tell: it shares none with it, or what
    they share is a plane that the phrase is not about. A floor is no floor lamp, but "chair" may be a red one."""
    return not share_a_word(name, phrase) or bool(plane_of(name) and not plane_of(phrase))


def told_by_planes(
    cosines: Float[np.ndarray, "points phrases"],
    phrases: Sequence[str],
    plane: Int[np.ndarray, " points"],
    instance: Int[np.ndarray, " points"],
) -> Float[np.ndarray, "points phrases"]:
    """Cosines of points with phrases, put right where the room's planes say so.

    Args:
        cosines: of all points; not changed.
        phrases: one for each column.
        plane: FLOOR, CEILING, WALL or NONE.
        instance: number of the thing that a point belongs to; 0 for none.
    """
    kinds = np.array([plane_of(phrase) for phrase in phrases], np.int64)
    named = np.flatnonzero(kinds)
    if not len(named):
        return cosines
    told, best = cosines.copy(), cosines[:, named].max(1)
    on = (plane != NONE) & (instance == 0)
    for column in named:
        own = on & (plane == kinds[column])
        # Of several phrases for one plane ("a white wall", "a red wall") the features choose.
        alike = named[kinds[named] == kinds[column]]
        lead = best - cosines[:, alike].max(1)
        told[own, column] += lead[own]
        told[on & ~own, column] = NEVER
        told[instance > 0, column] = NEVER
    return told
