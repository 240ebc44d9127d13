"""Size prior: log odds of names, given the sizes of instances (see `query.sizes`).

Sizes are compared in metres. If the capture does not state its scale, the metres per unit are estimated from the
appearance of the instances; if the estimate is not clear, the prior is zero.
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from jaxtyping import Float

from ovseg3d.query.context import RunContext
from ovseg3d.query.default_vocabulary import DEFAULT_VOCABULARY
from ovseg3d.query.hubness import group_means
from ovseg3d.query.layout_prior import plane_of
from ovseg3d.query.phrase_encoder import PhraseEncoder
from ovseg3d.query.sizes import extents, likeliest_scale, size_log_odds, size_of


class SizePrior:
    """Log odds of names by the sizes of a run's instances; cached by name."""

    def __init__(self, context: RunContext, texts: PhraseEncoder) -> None:
        self._context, self._semantics, self._texts = context, context.semantics, texts
        self._columns: dict[str, np.ndarray] = {}

    def log_odds(self, phrases: Sequence[str], free: Sequence[str] = ()) -> Float[np.ndarray, "instances phrases"]:
        """Log odds of names, given the sizes of instances (see `sizes`). Zero for floor, walls and ceiling, where the
        scale is unknown, and for LERF's method, whose features depend on size themselves.

        Args:
            phrases: the names.
            free: phrases that are no names (canonical ones); those of unknown size get zero.

        Returns:
            One row for each instance or rejected fragment, by its number; row 0 (none) is zero.
        """
        odds = np.zeros((len(self._extents), len(phrases)))
        if not phrases or len(odds) == 1 or self._semantics.sized is not None or self.metres is None:
            return odds
        new = [phrase for phrase in dict.fromkeys(phrases) if phrase not in self._columns and not plane_of(phrase)]
        if new:
            found = size_log_odds(self._extents * self.metres, [size_of(phrase) for phrase in new])
            self._columns |= dict(zip(new, found.T))
        for k, phrase in enumerate(phrases):
            if not plane_of(phrase) and (phrase not in free or size_of(phrase) is not None):
                odds[:, k] = self._columns[phrase]
        return odds

    @cached_property
    def _extents(self) -> Float[np.ndarray, "instances 3"]:
        return extents(self._semantics.surface, self._semantics.piece)

    @cached_property
    def metres(self) -> float | None:
        """Metres per input unit: stated by the capture, else estimated from its instances with the run's phrases, or
        with the default vocabulary; None: not clear."""
        if self._context.stated_metres is not None:
            return self._context.stated_metres
        phrases = self._context.phrases
        return (self.guess_metres(phrases) if phrases else None) or self.guess_metres()

    def guess_metres(self, phrases: Sequence[str] = ()) -> float | None:
        """The metres per input unit at which instances best have the sizes of what they resemble (see `sizes`); None:
        not clear.

        Args:
            phrases: candidate names; by default the default vocabulary.
        """
        # Instances that are nearest to a canonical phrase may be of any size.
        names = [*(name for name in phrases or DEFAULT_VOCABULARY if not plane_of(name)), *self._texts.canonical]
        ids = self._semantics.instance
        there, (means, _) = np.unique(ids[ids > 0]), group_means(self._semantics.vectors, ids)
        texts = self._semantics.basis.reduce(self._texts.encode(names))
        appearance = self._semantics.encoder.logit_scale * means @ texts.T
        sizes = [size_of(name) for name in names]
        return likeliest_scale(self._extents[there], appearance, sizes, np.bincount(ids)[there])

    @property
    def measured(self) -> bool:
        """Whether the sizes of the instances are known in metres; true without instances."""
        return len(self._extents) == 1 or (self._semantics.sized is None and self.metres is not None)
