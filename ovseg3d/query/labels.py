"""A closed list: each point or pixel takes the nearest phrase, or none where a canonical phrase is nearer.

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


class LabelModel:
    """Labels of points and pixels, counted from 1; 0: none of the list."""

    def __init__(self, similarity: SimilarityModel) -> None:
        self._similarity, self._context = similarity, similarity.context

    def labels(
        self, phrases: Sequence[str], canonical: Sequence[str] | None = None, none: bool = True
    ) -> Int[np.ndarray, " points"]:
        """See `QueryEngine.labels`."""
        return label(*self.closed(phrases, self._beside(canonical, none)))

    def closed(
        self, phrases: Sequence[str], canonical: Sequence[str] = (), of: SemanticScene | None = None
    ) -> tuple[Float[np.ndarray, "points phrases"], Float[np.ndarray, "points alternatives"]]:
        """See `QueryEngine.closed`."""
        return self._similarity.compare(_listed(phrases), canonical, known=self._context.phrases, of=of)

    def labels_at(
        self, places: Places, phrases: Sequence[str], canonical: Sequence[str] | None = None, none: bool = True
    ) -> Int[np.ndarray, "h w"]:
        """See `QueryEngine.labels_at`."""
        others, count, learnt = self._beside(canonical, none), len(_listed(phrases)), self._context.semantics
        vectors = self._similarity.texts.encode([*phrases, *others])
        # Cosines are blended before priors are added: those of an object would otherwise spread to neighbouring pixels.
        blended = places.image(np.concatenate(learnt.compare(vectors[:count], vectors[count:]), 1), nothing=-2.0)
        flat, there = blended.reshape(-1, blended.shape[-1]), (blended > -2).all(-1)
        plane = None if learnt.plane is None else places.nearest(learnt.plane).ravel()
        instance = places.nearest(learnt.instance).ravel()
        found = label(*self._similarity.with_priors(
            flat[:, :count], phrases, flat[:, count:], others, self._context.phrases, plane, instance
        ))  # fmt: skip
        return np.where(there, found.reshape(places.size), 0)

    def _beside(self, canonical: Sequence[str] | None, none: bool) -> Sequence[str]:
        return () if not none else self._similarity.texts.canonical if canonical is None else canonical


def _listed(phrases: Sequence[str]) -> Sequence[str]:
    if not phrases:
        raise ConfigError("There are no phrases to choose among", fix='--phrases "chair;table;floor"')
    return phrases
