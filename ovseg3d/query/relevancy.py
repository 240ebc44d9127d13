"""Labels of a closed list, and relevancy of a single phrase, from cosines.

CLIP cosines lie close together; only differences are informative. With a closed list, a point takes its nearest phrase,
or none where a canonical phrase ("object", "stuff") is nearer. A single phrase is compared with the canonical phrases,
as in LERF (Kerr et al. 2023, section 3.3). With cosines s to the phrase and n_i to the canonical phrases, relevancy is
min_i exp(k s) / (exp(k s) + exp(k n_i)) = sigmoid(k (s - max_i n_i)). 0.5 means as near as the nearest canonical
phrase. k = 10 is the value in LERF's code; the paper states none.
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
"""The label for no phrase."""


def relevancy(
    phrase: Float[np.ndarray, "points phrases"],
    canonical: Float[np.ndarray, "points canonical"],
    sharpness: float = SHARPNESS,
) -> Float[np.ndarray, "points phrases"]:
    """Relevancy of each phrase, 0 to 1; arguments are cosines.

    Raises:
        ConfigError: there is no canonical phrase.
    """
    if not canonical.shape[1]:
        raise ConfigError(
            "A single phrase needs canonical phrases to be compared with",
            where="canonical phrases",
            fix=f"name at least one, or keep the defaults: {', '.join(CANONICAL)}",
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
    """One unit vector for each phrase, averaged over templates (at least one); zero stays zero."""
    return normalise(np.sum([normalise(v) for v in vectors], axis=0))
