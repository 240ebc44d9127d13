"""Layout prior: phrases for floor, walls and ceiling follow the planes of the layout.

The layout and the instances are found from shape, before anything is named (see `instances`). So an instance is no
floor, wall or ceiling; and where features see one of these on a plane of the layout, it is the plane's own class.
Everything else is left to the features: a rug that was not separated from its floor may still be called a rug. Only
phrases about the three classes are affected: "a picture on the wall" and "a wall clock" are not.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from ovseg3d.instances.layout import CEILING, FLOOR, NONE, WALL
from ovseg3d.query.words import PLACES, about, share_a_word, words_of

PLANE_WORDS = {"floor": FLOOR, "floors": FLOOR, "wall": WALL, "walls": WALL, "ceiling": CEILING, "ceilings": CEILING}
NEVER = -1.0
"""Cosine where a phrase is excluded."""


def plane_of(phrase: str) -> int:
    """The layout class that a phrase is about: FLOOR, CEILING or WALL ("a white wall"), else NONE."""
    words = about(phrase)
    return PLANE_WORDS.get(words[-1], NONE) if words and not PLACES.intersection(words) else NONE


def bare_plane_of(phrase: str) -> int:
    """The layout class of a phrase that names it without more: "the wall", not "a white wall"; else NONE."""
    words = words_of(phrase)
    return PLANE_WORDS.get(words[-1], NONE) if len(words) - (words[:1] in (["a"], ["the"])) == 1 else NONE


def may_oppose(name: str, phrase: str) -> bool:
    """Whether a name can be an alternative of a phrase by its words: they share none, or only that of a layout class
    that the phrase is not about. "floor" opposes "floor lamp", "chair" does not oppose "a red chair"."""
    return not share_a_word(name, phrase) or bool(plane_of(name) and not plane_of(phrase))


def with_layout(
    cosines: Float[np.ndarray, "points phrases"],
    phrases: Sequence[str],
    plane: Int[np.ndarray, " points"],
    instance: Int[np.ndarray, " points"],
) -> Float[np.ndarray, "points phrases"]:
    """Cosines of points with phrases, with the layout prior.

    Args:
        cosines: of all points; not changed.
        phrases: one for each column.
        plane: FLOOR, CEILING, WALL or NONE.
        instance: instance of each point; 0 for none.
    """
    kinds = np.array([plane_of(phrase) for phrase in phrases], np.int64)
    named = np.flatnonzero(kinds)
    if not len(named):
        return cosines
    found, best = cosines.copy(), cosines[:, named].max(1)
    on = (plane != NONE) & (instance == 0)
    for column in named:
        own = on & (plane == kinds[column])
        # The features choose between phrases for one plane ("a white wall", "a red wall").
        alike = named[kinds[named] == kinds[column]]
        lead = best - cosines[:, alike].max(1)
        found[own, column] += lead[own]
        found[on & ~own, column] = NEVER
        found[instance > 0, column] = NEVER
    return found
