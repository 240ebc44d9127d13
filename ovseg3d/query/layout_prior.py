"""Layout prior: log odds of phrases for floor, walls and ceiling, by the planes of the layout.

The layout and the instances are found from shape, before anything is named (see `instances`). So a point of a plane is
likelier to be what the plane is, and less likely to be another plane's; an instance is less likely to be any of them.
Features may still say otherwise. Only phrases about the three classes are affected: "a picture on the wall" and "a wall
clock" are not.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from ovseg3d.instances.layout import CEILING, FLOOR, NONE, WALL
from ovseg3d.query.words import PLACES, about, share_a_word

PLANE_WORDS = {"floor": FLOOR, "floors": FLOOR, "wall": WALL, "walls": WALL, "ceiling": CEILING, "ceilings": CEILING}
LOG_ODDS = 4.0
"""For a phrase on its own plane; the opposite on other planes, and on instances."""


def plane_of(phrase: str) -> int:
    """The layout class that a phrase is about: FLOOR, CEILING or WALL ("a white wall"), else NONE."""
    words = about(phrase)
    return PLANE_WORDS.get(words[-1], NONE) if words and not PLACES.intersection(words) else NONE


def may_oppose(name: str, phrase: str) -> bool:
    """Whether a name can be an alternative of a phrase by its words: they share none, or only that of a layout class
    that the phrase is not about. "floor" opposes "floor lamp", "chair" does not oppose "a red chair"."""
    return not share_a_word(name, phrase) or bool(plane_of(name) and not plane_of(phrase))


def layout_log_odds(
    phrases: Sequence[str], plane: Int[np.ndarray, " points"], instance: Int[np.ndarray, " points"]
) -> Float[np.ndarray, "points phrases"]:
    """Log odds of phrases at points, by the planes of the layout.

    Args:
        phrases: one for each column.
        plane: FLOOR, CEILING, WALL or NONE.
        instance: instance of each point; 0 for none.
    """
    kinds = np.array([plane_of(phrase) for phrase in phrases], np.int64)
    on = (plane != NONE) & (instance == 0)
    same = on[:, None] & (plane[:, None] == kinds)
    other = (on | (instance > 0))[:, None] & (kinds != NONE) & ~same
    return (same.astype(np.float32) - other) * np.float32(LOG_ODDS)
