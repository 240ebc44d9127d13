"""The decision: whether a phrase is there, how likely, and which points and instances are meant.

Whether it is there is decided for the whole scene, with a score (`scene_decision`); which points are meant is told by
relevancy (`point_margins`). Both have one threshold, and agree: no point is more relevant than the scene is likely to
hold the phrase, and where that is likeliest, points are as relevant.
"""

from functools import cached_property

import numpy as np
from jaxtyping import Float
from scipy.special import expit, logit

from ovseg3d.instances.records import instances_meant
from ovseg3d.query.answer import Answer, Criteria, Verdict
from ovseg3d.query.point_margins import PointMargins
from ovseg3d.query.presence import Calibration, calibration_of
from ovseg3d.query.relevancy import SHARPNESS
from ovseg3d.query.scene_decision import SceneDecision
from ovseg3d.query.similarity import SimilarityModel
from ovseg3d.query.vocabulary import Vocabulary

RELEVANT_SHARE = 0.75
"""Share of the best witness's points that are as relevant as it is likely."""


class Decision:
    """Decides about phrases, by what a similarity says."""

    def __init__(self, similarity: SimilarityModel, vocabulary: Vocabulary) -> None:
        self._similarity = similarity
        self.scene, self.points = SceneDecision(similarity, vocabulary), PointMargins(similarity, vocabulary)

    def answer(self, phrase: str, criteria: Criteria, eye: Float[np.ndarray, "3"] | None = None) -> Answer:
        """What the run says to a phrase, without masks.

        Args:
            phrase: free text.
            criteria: by what to decide.
            eye: position in the input frame, from which distances of instances are measured.

        Raises:
            ConfigError: an empty phrase, or nothing to compare with.
            EncoderError: a phrase is too long for the encoder, or the encoder is not to be had.
            RunError: the encoder has other weights than when the run was trained.
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
            instances=instances_meant(surface, ids, phrase, found, threshold, eye) if present else (),
        )

    def _probability(self, seen: Verdict, criteria: Criteria) -> float | None:
        """None: the card is not of scores that were made so."""
        usual = criteria.usual and self._similarity.texts.templates == ("{}",)
        calibrated = usual and not seen.known and self._similarity.sizes.measured
        return self._card.probability(seen.score) if self._card is not None and calibrated else None

    @cached_property
    def _card(self) -> Calibration | None:
        """A card is of scores that portraits had a part in."""
        return (
            None if self._similarity.semantics.instance_crops is None else calibration_of(self._similarity.texts.clip)
        )

    def _agreeing(self, margin: Float[np.ndarray, " points"], seen: Verdict) -> Float[np.ndarray, " points"]:
        """Margins of points that say what the best witness does: most of its points are as relevant as it is likely."""
        points, margin = self.scene.candidates.points(seen.candidate), margin.astype(np.float64)
        target = logit(np.clip(seen.score, 1e-9, 1 - 1e-9)) / SHARPNESS + 1e-6
        margin[points] += max(0.0, target - np.quantile(margin[points], 1 - RELEVANT_SHARE, method="lower"))
        return margin
