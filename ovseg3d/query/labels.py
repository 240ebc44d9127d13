"""A closed list: each point takes the nearest phrase, or none where a canonical phrase is nearer; a pixel, its point's.

Hubness is corrected only for the run's own phrases, which are known to be in the scene; a list may name absent objects.
A list that contains all of the run's phrases leaves few points unlabelled.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from ovseg3d.errors import ConfigError
from ovseg3d.points.semantic_scene import Places, SemanticScene
from ovseg3d.query.relevancy import label
from ovseg3d.query.similarity import SimilarityModel
from ovseg3d.runs.phrases import in_list


class LabelModel:
    """Labels of points and pixels, counted from 1; 0: none of the list."""

    def __init__(self, similarity: SimilarityModel) -> None:
        self._similarity, self._context = similarity, similarity.context
        self._last: tuple[tuple[object, ...], Int[np.ndarray, " points"]] | None = None
        """The last list and its labels, since a list is shown in many views."""

    def labels(
        self, phrases: Sequence[str], canonical: Sequence[str] | None = None, none: bool = True
    ) -> Int[np.ndarray, " points"]:
        """See `QueryEngine.labels`."""
        phrases = in_list(phrases)
        beside = () if not none else self._similarity.texts.canonical if canonical is None else canonical
        asked, last = (tuple(phrases), tuple(beside), self._context.phrases), self._last
        if last is None or last[0] != asked:
            last = self._last = asked, label(*self.closed(phrases, beside))
        return last[1].copy()

    def closed(
        self, phrases: Sequence[str], canonical: Sequence[str] = (), of: SemanticScene | None = None
    ) -> tuple[Float[np.ndarray, "points phrases"], Float[np.ndarray, "points alternatives"]]:
        """See `QueryEngine.closed`."""
        return self._similarity.compare(_listed(in_list(phrases)), canonical, known=self._context.phrases, of=of)

    def labels_at(
        self, places: Places, phrases: Sequence[str], canonical: Sequence[str] | None = None, none: bool = True
    ) -> Int[np.ndarray, "h w"]:
        """See `QueryEngine.labels_at`."""
        return places.nearest(self.labels(phrases, canonical, none))


def _listed(phrases: Sequence[str]) -> Sequence[str]:
    if not phrases:
        raise ConfigError("There are no phrases to choose among", fix='--phrases "chair;table;floor"')
    return phrases
