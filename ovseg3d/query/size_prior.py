"""What sizes say about names: how much likelier an instance of this size is to be called so (see `query.sizes`).

Sizes are compared in metres. Where the capture states none, the metres of a unit are guessed from what the instances
look like, and where that is not clear, sizes say nothing.
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from jaxtyping import Float

from ovseg3d.query.context import RunContext
from ovseg3d.query.default_vocabulary import DEFAULT_VOCABULARY, same_word
from ovseg3d.query.hubs import group_means
from ovseg3d.query.phrase_encoder import PhraseEncoder
from ovseg3d.query.room import plane_of
from ovseg3d.query.sizes import Size, extents, likeliest_scale, size_of, told_by_sizes
from ovseg3d.query.words import share_a_word


class SizePrior:
    """Log odds of names by the sizes of a run's instances; what it has looked up it keeps."""

    def __init__(self, context: RunContext, texts: PhraseEncoder) -> None:
        self._context, self._semantics, self._texts = context, context.semantics, texts
        self._sizes: dict[str, Size | None] = {}
        self._columns: dict[str, np.ndarray] = {}

    def log_odds(self, phrases: Sequence[str], free: Sequence[str] = ()) -> Float[np.ndarray, "things phrases"]:
        """How much likelier things so large are to have these names, in logs (see `sizes`). Nothing is said of floor,
        walls and ceiling, nor where nobody knows how large things are, nor in LERF's method, which has its own sizes.

        Args:
            phrases: the names.
            free: phrases that are no names, but what names are compared with: of these, unknown sizes say nothing.

        Returns:
            One row for each number of a thing or scrap; row 0, none, is zero.
        """
        told = np.zeros((len(self._extents), len(phrases)))
        if not phrases or len(told) == 1 or self._semantics.sized is not None or self.metres is None:
            return told
        new = [phrase for phrase in dict.fromkeys(phrases) if phrase not in self._columns and not plane_of(phrase)]
        if new:
            found = told_by_sizes(self._extents * self.metres, [self.size(phrase) for phrase in new])
            self._columns |= dict(zip(new, found.T))
        for k, phrase in enumerate(phrases):
            if not plane_of(phrase) and (phrase not in free or self.size(phrase) is not None):
                told[:, k] = self._columns[phrase]
        return told

    def size(self, phrase: str) -> Size | None:
        """Of what a phrase names, or of the everyday word that means nearly the same; the encoder's canonical phrases
        have no other."""
        if phrase not in self._sizes:
            found = size_of(phrase)
            if found is None and phrase not in self._texts.canonical:
                described = " ".join(phrase.split()[:-1])  # a door handle may be near to "door", and is none
                words = [word for word in DEFAULT_VOCABULARY if not share_a_word(word, described)]
                word = same_word(self._texts.encode([phrase])[0], self._texts.encode(words), self._texts.usual[0])
                found = None if word is None else size_of(words[word])
            self._sizes[phrase] = found
        return self._sizes[phrase]

    @cached_property
    def _extents(self) -> Float[np.ndarray, "things 3"]:
        return extents(self._semantics.surface, self._semantics.piece)

    @cached_property
    def metres(self) -> float | None:
        """Of an input unit: what the capture says, else what suits the things in it, by their names here or by everyday
        words; None where that is not clear."""
        if self._context.stated_metres is not None:
            return self._context.stated_metres
        phrases = self._context.phrases
        return (self.guess_metres(phrases) if phrases else None) or self.guess_metres()

    def guess_metres(self, phrases: Sequence[str] = ()) -> float | None:
        """The metres of an input unit at which things are as large as what they look like (see `sizes`); None where
        that is not clear.

        Args:
            phrases: what they may be; by default everyday words.
        """
        # What is none of the names, and near to what everything is compared with, may be of any size.
        names = [*(name for name in phrases or DEFAULT_VOCABULARY if not plane_of(name)), *self._texts.canonical]
        ids = self._semantics.instance
        there, (means, _) = np.unique(ids[ids > 0]), group_means(self._semantics.vectors, ids)
        texts = self._semantics.basis.reduce(self._texts.encode(names))
        looks = self._semantics.encoder.logit_scale * means @ texts.T
        sizes = [self.size(name) for name in names]
        return likeliest_scale(self._extents[there], looks, sizes, np.bincount(ids)[there])

    @property
    def measured(self) -> bool:
        """Whether it is known how large things are, if there are any."""
        return len(self._extents) == 1 or (self._semantics.sized is None and self.metres is not None)
