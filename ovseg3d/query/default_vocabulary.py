"""The default vocabulary: words for household objects, as alternatives of a phrase.

Against canonical phrases alone ("object", "stuff") almost any phrase is present: what resembles an elephant most is
nearer to "elephant" than to "stuff". It is nearer still to its own name. So presence is decided against all of these
words (see `presence`). Near synonyms of the phrase are left out, by cosines of texts from their mean over these words,
since some encoders put all texts close together.
"""

import numpy as np
from jaxtyping import Bool, Float

from ovseg3d.features.maps import normalise
from ovseg3d.query.sizes import SIZES

DEFAULT_VOCABULARY = ("floor", "wall", "ceiling", *SIZES)
SYNONYM_COSINE = 0.5
"""Least cosine of near synonyms."""


def means_the_same(
    phrase: Float[np.ndarray, " dim"], words: Float[np.ndarray, "words dim"], center: Float[np.ndarray, " dim"]
) -> Bool[np.ndarray, " words"]:
    """Whether each word is a near synonym of a phrase: unit vectors of texts, and the mean vector of the vocabulary."""
    return _alike(phrase, words, center) >= SYNONYM_COSINE


def same_word(
    phrase: Float[np.ndarray, " dim"], words: Float[np.ndarray, "words dim"], center: Float[np.ndarray, " dim"]
) -> int | None:
    """The nearest of the near synonyms of a phrase; None without any. Arguments as above."""
    alike = _alike(phrase, words, center)
    return int(alike.argmax()) if alike.max() >= SYNONYM_COSINE else None


def _alike(phrase: np.ndarray, words: np.ndarray, center: np.ndarray) -> np.ndarray:
    return normalise(words - center) @ normalise(phrase - center)
