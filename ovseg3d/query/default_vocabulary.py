"""The default vocabulary: words for everyday objects, as alternatives of a phrase.

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
    return normalise(words - center) @ normalise(phrase - center) >= SYNONYM_COSINE
