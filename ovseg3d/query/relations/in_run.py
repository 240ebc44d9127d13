"""Questions about places in a run: instances named by its encoder, fronts by the detection head."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from ovseg3d.instances.records import Instance, instances_of
from ovseg3d.query.answer import Answer, Criteria
from ovseg3d.query.decision import Decision
from ovseg3d.query.default_vocabulary import DEFAULT_VOCABULARY
from ovseg3d.query.detections import DetectionModel
from ovseg3d.query.labels import LabelModel
from ovseg3d.query.relations.grammar import parse
from ovseg3d.query.relations.items import Item, Space, space_of
from ovseg3d.query.relations.solution import Match, Solution
from ovseg3d.query.relations.solver import solve
from ovseg3d.query.similarity import SimilarityModel
from ovseg3d.query.words import is_structural

EXTENT = (0.01, 0.99)
"""Quantiles of the points between which the extent of a scene is measured."""


class RelationModel:
    """Answers questions about places; keeps instances and fronts of a run.

    Args:
        similarity: of the run.
        decision: names instances.
        labels: names of everything ("what is on the desk?").
        detections: give instances their fronts.
    """

    def __init__(
        self, similarity: SimilarityModel, decision: Decision, labels: LabelModel, detections: DetectionModel
    ) -> None:
        self._similarity, self._decision, self._labels, self._detections = similarity, decision, labels, detections

    def answer(self, phrase: str, criteria: Criteria, eye: Float[np.ndarray, "3"] | None = None) -> Answer:
        """The answer to a question or a plain phrase, without masks.

        Args:
            phrase: free text.
            criteria: negatives, alternatives and threshold.
            eye: position of the viewer in the input frame.

        Raises:
            ConfigError: as `Decision.answer`; or "left of" needs a viewer.
            EncoderError, RunError: as `Decision.answer`.
        """
        if parse(phrase).is_phrase:
            return self._decision.answer(phrase, criteria, eye)
        named = _Named(self, self._decision, criteria, self.space(eye))
        solution = solve(phrase, named)
        question = solution.question
        if solution.is_plain:
            asked = question.noun.words if question.rest or question.noun.is_plain else question.phrase
            found = self._decision.answer(asked or phrase, criteria, eye)
            return replace(found, phrase=phrase, relation=solution.record)
        return self._chosen(phrase, criteria, named, solution, eye)

    def _chosen(
        self, phrase: str, criteria: Criteria, named: "_Named", solution: Solution, eye: np.ndarray | None
    ) -> Answer:
        """The answer with the instances of a solution; all points of an instance belong to it."""
        kept = tuple(match for match in solution.matches if match.score >= criteria.threshold)
        solution = replace(solution, matches=kept)
        semantics, head = self._similarity.semantics, named.answers.get(solution.question.noun.text)
        relevancy = np.zeros(len(semantics.surface))
        for match in kept:
            relevancy[semantics.instance == match.item.id] = match.score
        chosen = np.flatnonzero(relevancy)
        chosen = chosen[np.argsort(-relevancy[chosen], kind="stable")]
        best = max((match.score for match in kept), default=0.0)
        absent = 0.0 if head is None else head.score if not head.present else 0.0
        return Answer(
            phrase=phrase,
            present=bool(kept),
            score=best if kept else absent,
            probability=None,
            calibrated=False,
            threshold=criteria.threshold,
            alternative=head.alternative if head is not None and not kept else None,
            points=semantics.surface.xyz[chosen],
            point_scores=relevancy[chosen],
            point_index=chosen,
            relevancy=relevancy,
            instances=self._instances(kept, relevancy, eye),
            relation=solution.record,
        )

    def _instances(
        self, matches: tuple[Match, ...], relevancy: Float[np.ndarray, " points"], eye: np.ndarray | None
    ) -> tuple[Instance, ...]:
        """The records of matches, in their order."""
        semantics = self._similarity.semantics
        ids = np.where(relevancy > 0, semantics.instance, 0)
        found = {one.id: one for one in instances_of(semantics.surface, ids, scores=relevancy, eye=eye)}
        return tuple(replace(found[match.item.id], label=match.item.label) for match in matches)

    def space(self, eye: Float[np.ndarray, "3"] | None) -> Space:
        """The space of the run, with all instances."""
        return replace(self._space, eye=None if eye is None else self._space.level.apply(eye))

    @cached_property
    def _space(self) -> Space:
        semantics, surface = self._similarity.semantics, self._similarity.semantics.surface
        low, high = np.quantile(surface.xyz, EXTENT, axis=0)
        space = space_of(
            surface.up,
            metric=self._similarity.context.stated_metres == 1.0,
            metres_per_unit=self._similarity.sizes.metres,
            extent=float(np.linalg.norm(high - low)),
        )
        everything = instances_of(surface, semantics.instance)
        return replace(space, items=tuple(space.item(instance.record()) for instance in everything))

    @cached_property
    def named_items(self) -> tuple[Item, ...]:
        """All instances with the best name of each, of the run's phrases or of the default vocabulary."""
        semantics = self._similarity.semantics
        names = tuple(n for n in self._similarity.context.phrases or DEFAULT_VOCABULARY if not is_structural(n))
        if not names:
            return self._space.items
        labels = self._labels.labels(names, none=False)
        described = instances_of(semantics.surface, semantics.instance, labels=labels, phrases=names)
        return tuple(self._space.item(instance.record()) for instance in described)

    @cached_property
    def fronts(self) -> dict[int, Float[np.ndarray, "2"]]:
        """See `Catalogue.fronts`."""
        return {i: _level_front(front, self._space.level) for i, front in self._detections.fronts.items()}


def _level_front(front: tuple[float, float, float], level: Rotation) -> Float[np.ndarray, "2"]:
    flat = level.apply(front)[:2]
    return flat / max(float(np.linalg.norm(flat)), 1e-12)


class _Named:
    """A catalogue of one question (see `Catalogue`)."""

    def __init__(self, model: RelationModel, decision: Decision, criteria: Criteria, space: Space) -> None:
        self._model, self._decision, self._criteria, self.space = model, decision, criteria, space
        self.answers: dict[str, Answer] = {}
        """By noun."""

    @property
    def fronts(self) -> Mapping[int, Float[np.ndarray, "2"]]:
        return self._model.fronts

    def find(self, noun: str) -> list[Item]:
        if not noun:
            return list(self._model.named_items)
        if noun not in self.answers:
            self.answers[noun] = self._decision.answer(noun, self._criteria)
        found = self.answers[noun].instances
        return [self.space.item(instance.record(), instance.score) for instance in found]
