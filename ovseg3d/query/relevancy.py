"""From cosines with phrases to answers: which of a list, or how much of one phrase.

Cosines of a CLIP lie close together and mean little by themselves; only comparisons count. Of a closed list a point
takes the phrase that it is nearest to, or none where a canonical phrase ("object", "stuff") is nearer still. A single
phrase is compared with the canonical ones alone, as LERF does (Kerr et al. 2023, section 3.3). With cosines s to the
phrase and n_i to canonical ones, relevancy is min_i exp(k s) / (exp(k s) + exp(k n_i)) = sigmoid(k (s - max_i n_i)).
0.5 is as near as the nearest canonical phrase. k = 10 is what LERF's code uses; its paper prints none.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from ovseg3d.errors import ConfigError
from ovseg3d.features.maps import normalise

CANONICAL = ("object", "things", "stuff", "texture")
"""LERF's canonical phrases."""
SHARPNESS = 10.0
NONE = 0
"""The label of what belongs to no phrase."""


def relevancy(
    phrase: Float[np.ndarray, "points phrases"],
    canonical: Float[np.ndarray, "points canonical"],
    sharpness: float = SHARPNESS,
) -> Float[np.ndarray, "points phrases"]:
    """Relevancy of each phrase, 0 to 1; arguments are cosines.

    Raises:
        ConfigError: there is no canonical phrase to compare with.
    """
    if not canonical.shape[1]:
        raise ConfigError(
            "A single phrase has nothing to be compared with",
            where="canonical phrases",
            fix=f"name at least one, or leave the usual ones: {', '.join(CANONICAL)}",
        )
    best = canonical.max(1, keepdims=True)
    return 1 / (1 + np.exp(-sharpness * (phrase - best)))


def label(
    phrase: Float[np.ndarray, "points phrases"], canonical: Float[np.ndarray, "points canonical"] | None = None
) -> Int[np.ndarray, " points"]:
    """The nearest phrase's number, counted from 1; `NONE` where a canonical one is nearer than all.

    Args:
        phrase: cosines with the list.
        canonical: cosines with the canonical phrases; None: every point belongs to some phrase.
    """
    if phrase.shape[1] == 0:
        return np.full(len(phrase), NONE)
    best = phrase.argmax(1)
    found = best + 1
    if canonical is not None and canonical.shape[1]:
        found = np.where(canonical.max(1) > phrase[np.arange(len(phrase)), best], NONE, found)
    return found


def ensemble(vectors: Sequence[Float[np.ndarray, "phrases dim"]]) -> Float[np.ndarray, "phrases dim"]:
    """One unit vector for each phrase from those of several templates (at least one); zero stays zero."""
    return normalise(np.sum([normalise(v) for v in vectors], axis=0))
