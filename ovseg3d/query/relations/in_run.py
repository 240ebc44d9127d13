"""Answers of a run to questions about places."""

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from ovseg3d.instances.records import Instance, InstancePoints
from ovseg3d.query.answer import Answer, Criteria
from ovseg3d.query.decision import Decision
from ovseg3d.query.detections import DetectionModel
from ovseg3d.query.labels import LabelModel
from ovseg3d.query.relations.grammar import parse
from ovseg3d.query.relations.items import Space
from ovseg3d.query.relations.run_items import AskedItems, RunItems
from ovseg3d.query.relations.solution import Match, Solution
from ovseg3d.query.relations.solver import solve
from ovseg3d.query.similarity import SimilarityModel


class RelationModel:
    """Answers questions about places.

    Args:
        similarity: of the run.
        decision: finds what nouns name.
        labels: names of everything ("what is on the desk?").
        detections: which way instances face.
    """

    def __init__(
        self, similarity: SimilarityModel, decision: Decision, labels: LabelModel, detections: DetectionModel
    ) -> None:
        self._similarity, self._decision = similarity, decision
        self.items = RunItems(similarity, labels, detections)
        """All instances of the run."""

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
        read = parse(phrase)
        if read.is_phrase:
            return self._decision.answer(phrase, criteria, eye)
        doubted = None if read.ask == "find" else read.noun.text
        asked = AskedItems(self.items, self._decision, criteria, self.space(eye), doubted)
        solution = solve(phrase, asked)
        solution = replace(solution, notes=(*solution.notes, *asked.notes))
        question = solution.question
        if solution.is_plain:
            asked_for = question.noun.words if question.rest or question.noun.is_plain else question.phrase
            found = self._decision.answer(asked_for or phrase, criteria, eye)
            return replace(found, phrase=phrase, relation=solution.record)
        return self._chosen(phrase, criteria, asked, solution, eye)

    def _chosen(
        self, phrase: str, criteria: Criteria, asked: AskedItems, solution: Solution, eye: np.ndarray | None
    ) -> Answer:
        """The answer with the instances of a solution; all points of an instance belong to it."""
        kept = tuple(match for match in solution.matches if match.score >= criteria.threshold)
        solution = replace(solution, matches=kept)
        semantics, head = self._similarity.semantics, asked.answers.get(solution.question.noun.text)
        relevancy, ids = np.zeros(len(semantics.surface)), np.zeros(len(semantics.surface), np.int64)
        for match in kept:
            pieces = np.isin(semantics.piece, match.item.members or (match.item.id,))
            relevancy[pieces], ids[pieces] = match.score, match.item.id
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
            instances=self._instances(kept, ids, relevancy, eye),
            relation=solution.record,
        )

    def _instances(
        self, matches: tuple[Match, ...], ids: np.ndarray, relevancy: np.ndarray, eye: np.ndarray | None
    ) -> tuple[Instance, ...]:
        """The records of matches, in their order."""
        surface = self._similarity.semantics.surface
        boxed = InstancePoints(surface, ids).records(scores=relevancy, eye=eye)
        found = {one.id: one for one in self._similarity.context.posed(boxed, ids)}
        return tuple(replace(found[match.item.id], label=match.item.label) for match in matches)

    def space(self, eye: Float[np.ndarray, "3"] | None) -> Space:
        """The space of the run, with all instances."""
        space = self.items.space
        return replace(space, eye=None if eye is None else space.level.apply(eye))
