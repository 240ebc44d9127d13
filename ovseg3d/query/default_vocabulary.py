"""What rooms hold, in everyday words: what a question competes with.

Against canonical phrases alone ("object", "stuff") almost anything is somewhere: what looks most like an elephant in a
room is nearer to "elephant" than to "stuff". It is nearer still to what it is. Whether something is there is decided
against all of them (see `presence`); points are compared with them where a run has no phrases of its own. Words that
mean nearly what was asked are left out by the encoder's own word for it: cosines of texts, from their mean over these
words, since some encoders put all texts close together. Which words these are changes with the question, and to compare
a million points with two hundred words takes seconds, so the nearest words of each point are kept.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int16

from ovseg3d.features.maps import normalise
from ovseg3d.query.sizes import SIZES

DEFAULT_VOCABULARY = ("floor", "wall", "ceiling", *SIZES)
LIKE = 0.5
"""Cosine from which a word means nearly the same."""
AHEAD = 0.1
"""How much nearer to a point than the question a word must be to count: many say by luck nearly the same."""
FEW = 12
"""Words that are kept of each point; hardly ever are so many left out at once."""


def means_the_same(
    phrase: Float[np.ndarray, " dim"], words: Float[np.ndarray, "words dim"], middle: Float[np.ndarray, " dim"]
) -> Bool[np.ndarray, " words"]:
    """Which words mean nearly what a phrase does; vectors of texts, unit length, and the mean everyday word."""
    return _alike(phrase, words, middle) >= LIKE


def same_word(
    phrase: Float[np.ndarray, " dim"], words: Float[np.ndarray, "words dim"], middle: Float[np.ndarray, " dim"]
) -> int | None:
    """The word that means most nearly what a phrase does; None where none does. Arguments as above."""
    alike = _alike(phrase, words, middle)
    return int(alike.argmax()) if alike.max() >= LIKE else None


def _alike(phrase: np.ndarray, words: np.ndarray, middle: np.ndarray) -> np.ndarray:
    return normalise(words - middle) @ normalise(phrase - middle)


@dataclass(frozen=True)
class Nearest:
    """The words that each point is nearest to, the nearest first."""

    word: Int16[np.ndarray, "points few"]
    cosine: Float[np.ndarray, "points few"]

    @classmethod
    def of(cls, parts: Iterable[Float[np.ndarray, "points _"]]) -> "Nearest":
        """From cosines of all points with some words after the other."""
        word, cosine, first = None, None, 0
        for part in parts:
            numbers = np.broadcast_to(np.arange(first, first + part.shape[1], dtype=np.int16), part.shape)
            first += part.shape[1]
            both = part if cosine is None else np.concatenate([cosine, part], 1)
            names = numbers if word is None else np.concatenate([word, numbers], 1)
            best = np.argsort(-both, axis=1, kind="stable")[:, :FEW]
            word, cosine = np.take_along_axis(names, best, 1), np.take_along_axis(both, best, 1)
        assert word is not None and cosine is not None
        return cls(word, cosine)

    def best(self, allowed: Bool[np.ndarray, " words"]) -> Float[np.ndarray, " points"]:
        """Cosine with the nearest allowed word; where none of the few is, that with the furthest of them."""
        free = allowed[self.word]
        place = np.where(free.any(1), free.argmax(1), self.word.shape[1] - 1)
        return np.take_along_axis(self.cosine, place[:, None], 1)[:, 0]
