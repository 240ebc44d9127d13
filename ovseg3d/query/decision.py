"""Decides whether a phrase is present, with which probability, and which points and instances it means.

All of it follows from one number, the relevancy of each candidate of the scene (see `presence`): the best one is the
score of presence, a point has that of its candidate, and one threshold decides about all. Log odds are calibrated
first, so that the score is the probability: by what the run keeps (`ovseg3d calibrate`), else by the encoder's card. A
calibration is fitted to scores against the default negatives; with others it keeps the order, but a score is no
probability then.
"""

from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from ovseg3d.instances.records import InstancePoints
from ovseg3d.query.answer import Answer, CalibratedBy, Criteria, Verdict
from ovseg3d.query.calibration import Calibration, calibration_of
from ovseg3d.query.kept_calibration import KeptCalibration, load_calibration
from ovseg3d.query.scene_decision import SceneDecision
from ovseg3d.query.similarity import SimilarityModel
from ovseg3d.query.vocabulary import Vocabulary


class Decision:
    """Decides about phrases from the candidates of a scene."""

    def __init__(self, similarity: SimilarityModel, vocabulary: Vocabulary) -> None:
        self._similarity = similarity
        self.scene = SceneDecision(similarity, vocabulary)

    @cached_property
    def kept_calibration(self) -> KeptCalibration | None:
        """The calibration that the run keeps for its encoder. Raises RunError: the file is damaged."""
        semantics = self._similarity.semantics
        folder, rooms = self._similarity.context.run.folder, self._similarity.prior.on
        return load_calibration(folder, semantics.encoder.weight_hash, rooms)

    @property
    def calibration(self) -> Calibration:
        """The calibration of log odds: the run's, else that of the encoder's card, else none."""
        return self._calibration[0]

    @cached_property
    def card(self) -> Calibration | None:
        """The calibration of the encoder's card, if the scores are such as it was fitted to: in a room, with instance
        crops."""
        alike = self._similarity.prior.on and self._similarity.semantics.instance_crops is not None
        return calibration_of(self._similarity.texts.clip) if alike else None

    @property
    def _calibration(self) -> tuple[Calibration, CalibratedBy | None]:
        if self.kept_calibration is not None:
            return self.kept_calibration.calibration, "labels"
        return (Calibration(), None) if self.card is None else (self.card, "encoder")

    def decide(self, phrase: str, criteria: Criteria) -> Verdict:
        """Decide whether the scene shows a phrase. Raises as `answer`."""
        self._similarity.others(criteria.canonical, criteria.negatives)  # there is something to compare with
        return self.scene.decide(phrase, criteria, self.calibration)

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
        seen = self.decide(phrase, criteria)
        present = seen.score >= threshold
        joined = self.scene.candidates.joined_at_points(seen.relevancy, threshold)
        found = self.scene.candidates.at_points(seen.relevancy)
        chosen = np.flatnonzero(found >= threshold)
        chosen = chosen[np.argsort(-found[chosen], kind="stable")]
        usual = criteria.usual and self._similarity.texts.templates == ("{}",)
        source = self._calibration[1] if usual else None
        meant = self._instances(joined).meant(phrase, found, threshold, eye) if present else ()
        return Answer(
            phrase=phrase,
            present=present,
            score=seen.score,
            probability=None if source is None else seen.score,
            calibrated=source is not None,
            calibrated_by=source,
            threshold=threshold,
            alternative=None if present else seen.alternative,
            points=surface.xyz[chosen],
            point_scores=found[chosen],
            point_index=chosen,
            relevancy=found,
            instances=self._similarity.context.posed(meant),
        )

    def _instances(self, joined: Int[np.ndarray, " points"]) -> InstancePoints:
        """The run's instances; where joined objects are meant, these instead of what they hold."""
        context = self._similarity.context
        if not joined.any():
            return context.instances
        return InstancePoints(context.semantics.surface, np.where(joined > 0, joined, context.semantics.instance))
