"""Decides whether a phrase is present, with which probability, and which points and instances it means.

Presence is decided for the whole scene, with a score (`scene_decision`); points are selected by relevancy
(`point_margins`). Both share one threshold and are made consistent: no point's relevancy exceeds the scene's score, and
most points of the best candidate reach it.
"""

from functools import cached_property

import numpy as np
from jaxtyping import Float
from scipy.special import expit, logit

from ovseg3d.instances.kept_poses import posed
from ovseg3d.instances.records import instances_meant
from ovseg3d.query.answer import Answer, Criteria, Verdict
from ovseg3d.query.calibration import Calibration, calibration_of
from ovseg3d.query.point_margins import PointMargins
from ovseg3d.query.relevancy import SHARPNESS
from ovseg3d.query.scene_decision import SceneDecision
from ovseg3d.query.similarity import SimilarityModel
from ovseg3d.query.vocabulary import Vocabulary

RELEVANT_SHARE = 0.75
"""Share of the best candidate's points whose relevancy is raised to its score."""


class Decision:
    """Decides about phrases from the similarities of points and candidates."""

    def __init__(self, similarity: SimilarityModel, vocabulary: Vocabulary) -> None:
        self._similarity = similarity
        self.scene, self.points = SceneDecision(similarity, vocabulary), PointMargins(similarity, vocabulary)

    def answer(self, phrase: str, criteria: Criteria, eye: Float[np.ndarray, "3"] | None = None) -> Answer:
        """The answer to a phrase, without masks.

        Args:
            phrase: free text.
            criteria: negatives, alternatives and threshold.
            eye: position in the input frame, from which distances of instances are measured.

        Raises:
            ConfigError: an empty phrase, or nothing to compare with.
            EncoderError: a phrase is too long for the encoder, or the encoder is not available.
            RunError: the encoder's weights differ from those that the run was trained with.
        """
        surface, threshold = self._similarity.semantics.surface, criteria.threshold
        others = self._similarity.others(criteria.canonical, criteria.negatives)
        seen = self.scene.decide(phrase, criteria)
        present = seen.score >= threshold
        margin = self._agreeing(self.points.margin(phrase, criteria.alternatives, others), seen)
        found = np.minimum(expit(SHARPNESS * margin), seen.score)
        chosen = np.flatnonzero(found >= threshold) if present else np.empty(0, np.int64)
        chosen = chosen[np.argsort(-margin[chosen], kind="stable")]
        chance = self._probability(seen, criteria)
        ids = self._similarity.semantics.instance
        meant = instances_meant(surface, ids, phrase, found, threshold, eye) if present else ()
        return Answer(
            phrase=phrase,
            present=present,
            score=seen.score,
            probability=chance,
            calibrated=chance is not None,
            threshold=threshold,
            alternative=None if present else seen.alternative,
            points=surface.xyz[chosen],
            point_scores=found[chosen],
            point_index=chosen,
            relevancy=found,
            instances=posed(meant, self._similarity.context.poses, surface.xyz, ids, surface.up),
        )

    def _probability(self, seen: Verdict, criteria: Criteria) -> float | None:
        """None: the calibration does not cover scores with these criteria."""
        usual = criteria.usual and self._similarity.texts.templates == ("{}",)
        calibrated = usual and self._similarity.sizes.measured
        return self._calibration.probability(seen.score) if self._calibration is not None and calibrated else None

    @cached_property
    def _calibration(self) -> Calibration | None:
        """Calibrations are fitted to scores that include instance crops."""
        return (
            None if self._similarity.semantics.instance_crops is None else calibration_of(self._similarity.texts.clip)
        )

    def _agreeing(self, margin: Float[np.ndarray, " points"], seen: Verdict) -> Float[np.ndarray, " points"]:
        """Margins, raised so that `RELEVANT_SHARE` of the best candidate's points reach its score."""
        points, margin = self.scene.candidates.points(seen.candidate), margin.astype(np.float64)
        target = logit(np.clip(seen.score, 1e-9, 1 - 1e-9)) / SHARPNESS + 1e-6
        margin[points] += max(0.0, target - np.quantile(margin[points], 1 - RELEVANT_SHARE, method="lower"))
        return margin
