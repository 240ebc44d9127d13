"""Margins of points: how much nearer each point is to a phrase than to its alternatives."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from jaxtyping import Float

from ovseg3d.query.default_vocabulary import DEFAULT_VOCABULARY, LEAD, Nearest
from ovseg3d.query.layout_prior import plane_of
from ovseg3d.query.similarity import SimilarityModel, is_among
from ovseg3d.query.vocabulary import Vocabulary

MAX_LISTS = 16
"""Lists of phrases whose best cosines are cached."""
BATCH_SIZE = 32
"""Phrases to compare at once: a million points with two hundred phrases take a gigabyte."""


def batches(phrases: Sequence[str]) -> list[list[str]]:
    """Batches of phrases: all phrases that name planes, since these compete among themselves; then the others,
    `BATCH_SIZE` at a time."""
    planes = [phrase for phrase in phrases if plane_of(phrase)]
    instances = [phrase for phrase in phrases if not plane_of(phrase)]
    parts = (instances[first : first + BATCH_SIZE] for first in range(0, len(instances), BATCH_SIZE))
    return [part for part in (planes, *parts) if part]


class PointMargins:
    """Compares points with a phrase and its alternatives; best cosines with lists of alternatives are cached."""

    def __init__(self, similarity: SimilarityModel, vocabulary: Vocabulary) -> None:
        self._similarity, self._vocabulary = similarity, vocabulary
        self._best: dict[tuple[tuple[str, ...], ...], np.ndarray] = {}

    def margin(
        self, phrase: str, alternatives: Sequence[str] | None, others: tuple[str, ...]
    ) -> Float[np.ndarray, " points"]:
        """Each point's cosine with a phrase, less that with the nearest of others and alternatives.

        Args:
            phrase: what to look for.
            alternatives: see `QueryEngine.ask`.
            others: canonical phrases and negatives; at least one.
        """
        names = self._similarity.context.phrases
        known = names if alternatives is None and is_among([phrase], names).all() else ()
        free = self._vocabulary.alternatives_of(phrase, alternatives)
        everyday = self._vocabulary.default_vocabulary(phrase) if alternatives is None and not names else ()
        compare = self._similarity.compare
        if self._similarity.semantics.sized is None:
            # Phrases that name planes compete among themselves.
            own = compare([phrase, *filter(plane_of, (*free, *everyday))], (), known=known)[0][:, 0]
            best = self._nearest(others, free, known)
            return own - (
                np.maximum(best, self._everyday.best(np.isin(DEFAULT_VOCABULARY, everyday)) - LEAD)
                if everyday
                else best
            )
        own, beside = compare([phrase], (*others, *free, *everyday))
        return own[:, 0] - beside.max(1)

    def _nearest(self, *asked: tuple[str, ...]) -> Float[np.ndarray, " points"]:
        """Each point's cosine with the nearest of others and alternatives; cached, since most queries share them.

        Args:
            asked: others, alternatives, and phrases that are known to be in the scene.
        """
        if asked not in self._best:
            if len(self._best) >= MAX_LISTS:
                self._best.clear()
            others, alternatives, known = asked
            best = self._similarity.compare((), others, known=known)[1].max(1)
            for part in batches(alternatives):
                best = np.maximum(best, self._similarity.compare(part, (), known=known)[0].max(1))
            self._best[asked] = best
        return self._best[asked]

    @cached_property
    def _everyday(self) -> Nearest:
        """The words of the default vocabulary nearest to each point; the list begins with planes, so batches keep its
        order."""
        return Nearest.of(self._similarity.compare(part, ())[0] for part in batches(DEFAULT_VOCABULARY))
