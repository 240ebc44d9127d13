"""The default vocabulary: words for household objects, as alternatives of a phrase.

Against canonical phrases alone ("object", "stuff") almost any phrase is present: what resembles an elephant most is
nearer to "elephant" than to "stuff". It is nearer still to its own name. So presence is decided against all of these
words (see `presence`), and points are compared with them if a run has no phrases of its own. Near synonyms of the
phrase are left out, by cosines of texts from their mean over these words, since some encoders put all texts close
together. Comparing a million points with two hundred words takes seconds, so the nearest words of each point are
cached.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int16

from ovseg3d.features.maps import normalise
from ovseg3d.query.sizes import SIZES

DEFAULT_VOCABULARY = ("floor", "wall", "ceiling", *SIZES)
SYNONYM_COSINE = 0.5
"""Least cosine of near synonyms."""
LEAD = 0.1
"""Least lead in cosine of a word over the phrase at a point: among many words some are nearer by chance."""
KEPT_WORDS = 12
"""Nearest words that are cached for each point."""


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


@dataclass(frozen=True)
class Nearest:
    """The nearest words of each point, the nearest first."""

    word: Int16[np.ndarray, "points few"]
    cosine: Float[np.ndarray, "points few"]

    @classmethod
    def of(cls, parts: Iterable[Float[np.ndarray, "points _"]]) -> "Nearest":
        """From cosines of all points with consecutive parts of the vocabulary."""
        word, cosine, first = None, None, 0
        for part in parts:
            numbers = np.broadcast_to(np.arange(first, first + part.shape[1], dtype=np.int16), part.shape)
            first += part.shape[1]
            both = part if cosine is None else np.concatenate([cosine, part], 1)
            names = numbers if word is None else np.concatenate([word, numbers], 1)
            best = np.argsort(-both, axis=1, kind="stable")[:, :KEPT_WORDS]
            word, cosine = np.take_along_axis(names, best, 1), np.take_along_axis(both, best, 1)
        assert word is not None and cosine is not None
        return cls(word, cosine)

    def best(self, allowed: Bool[np.ndarray, " words"]) -> Float[np.ndarray, " points"]:
        """Cosine with the nearest allowed word; if none of the cached words is allowed, with the last of them."""
        free = allowed[self.word]
        place = np.where(free.any(1), free.argmax(1), self.word.shape[1] - 1)
        return np.take_along_axis(self.cosine, place[:, None], 1)[:, 0]
