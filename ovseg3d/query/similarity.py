"""Similarity of a run's surface points and phrases: cosines, with priors of the whole scene.

Cosines of lifted features come from `SemanticScene.compare`. A hubness correction for names that are known to be in the
scene (`hubness`) and the log odds of rooms (`room_prior`) are added. Only differences between phrases at one point are
meaningful.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from ovseg3d.errors import ConfigError
from ovseg3d.points.semantic_scene import SemanticScene
from ovseg3d.query.context import RunContext
from ovseg3d.query.hubness import group_means, groups_of, peaks, shifts
from ovseg3d.query.phrase_encoder import PhraseEncoder
from ovseg3d.query.relevancy import SHARPNESS, relevancy
from ovseg3d.query.room_prior import RoomPrior


class SimilarityModel:
    """Compares phrases with the surface points of one run.

    Args:
        context: of the run.
        texts: of its encoder.
    """

    def __init__(self, context: RunContext, texts: PhraseEncoder) -> None:
        self.context, self.semantics, self.texts = context, context.semantics, texts
        self.prior = RoomPrior(context, texts)
        self._grouped: dict[frozenset[int], tuple[np.ndarray, np.ndarray]] = {}

    def relevancy(
        self, phrases: Sequence[str], *, negatives: Sequence[str] = (), canonical: Sequence[str] | None = None
    ) -> Float[np.ndarray, "points phrases"]:
        """LERF's relevancy of each surface point and phrase, 0 to 1, of the cosines of `compare`. Raises as
        `compare`."""
        return relevancy(*self.compare(phrases, self.others(canonical, negatives)), SHARPNESS)

    def others(self, canonical: Sequence[str] | None, negatives: Sequence[str]) -> tuple[str, ...]:
        """Canonical phrases, by default the encoder's, and negatives.

        Raises:
            ConfigError: there are neither.
        """
        canonical = self.texts.canonical if canonical is None else canonical
        if not canonical and not negatives:
            raise ConfigError("There is nothing to compare phrases with", fix="give at least one canonical phrase")
        return (*canonical, *negatives)

    def compare(
        self,
        phrases: Sequence[str],
        others: Sequence[str],
        *,
        known: Sequence[str] = (),
        of: SemanticScene | None = None,
    ) -> tuple[Float[np.ndarray, "points phrases"], Float[np.ndarray, "points alternatives"]]:
        """Cosines of points with phrases and with others, with the hubness correction and the log odds of rooms.

        Args:
            phrases: what to look for.
            others: what else a point may be.
            known: phrases that are known to be in the scene; the hubness of `phrases` is then corrected. If `phrases`
                contains all of them, that of `others` is corrected, too.
            of: other points of the same scene; by default the run's own.

        Raises:
            ConfigError: an empty phrase.
            EncoderError: a phrase is too long for the encoder, or the encoder is not available.
            RunError: the encoder's weights differ from those that the run was trained with.
        """
        of = of or self.semantics
        vectors = self.texts.encode([*phrases, *others])
        own, beside = of.compare(vectors[: len(phrases)], vectors[len(phrases) :])
        if known and of.sized is None:
            grouped = groups_of(of.instance, of.plane, self._planes_of(known))[:, None] > 0
            own = own + grouped * self._shifts(phrases, known).astype(own.dtype)
            if is_among(known, phrases).all():  # the list names everything that is known to be in the scene
                beside = beside + grouped * self._shifts(others, known).astype(beside.dtype)
        if not self.prior.on:
            return own, beside
        scale = np.float32(self.semantics.encoder.logit_scale)
        own = own + self.prior.log_odds(phrases, of.plane, of.instance) / scale
        if of.sized is not None:  # with LERF's features, `own` are margins from which others are subtracted already
            return own, beside
        return own, beside + self.prior.log_odds(others, of.plane, of.instance) / scale

    def _shifts(self, phrases: Sequence[str], known: Sequence[str]) -> Float[np.ndarray, " phrases"]:
        """See `hubness.shifts`."""
        instances = [phrase for phrase in known if not self.prior.plane_of(phrase)]
        means, weight = self._means(self._planes_of(known))
        if not instances or not len(means) or not phrases:
            return np.zeros(len(phrases))

        def height(names: Sequence[str]) -> np.ndarray:
            texts = self.semantics.basis.reduce(self.texts.encode(names))
            return peaks(means @ texts.T, weight, self.semantics.encoder.logit_scale)

        return shifts(height(phrases), is_among(phrases, instances), float(height(instances).mean()))

    def _means(self, named: frozenset[int]) -> tuple[Float[np.ndarray, "groups kept"], Float[np.ndarray, " groups"]]:
        if named not in self._grouped:
            groups = groups_of(self.semantics.instance, self.semantics.plane, named)
            self._grouped[named] = group_means(self.semantics.vectors, groups)
        return self._grouped[named]

    def _planes_of(self, known: Sequence[str]) -> frozenset[int]:
        return frozenset(self.prior.plane_of(phrase) for phrase in known)


def is_among(phrases: Sequence[str], known: Sequence[str]) -> Bool[np.ndarray, " phrases"]:
    """Whether each phrase is in a list; case does not matter."""
    there = {phrase.strip().casefold() for phrase in known}
    return np.array([phrase.strip().casefold() in there for phrase in phrases], bool)
