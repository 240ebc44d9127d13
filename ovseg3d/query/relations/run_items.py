"""The instances of a run as items of questions about places.

A noun is looked up by the presence decision. If that finds points, but no instance, rejected fragments are taken. If it
finds nothing, and one of the run's own phrases says the noun, the instance is taken of which the closed list of these
phrases says it most: what was listed for a run is expected to be there.

Grouping cuts objects into pieces more often than objects of one kind touch (in two rooms of development 10 pairs of
instances with one name were pieces of an object, 1 was not; in 24 rooms 2 of 90 pairs of one kind touch). So instances
with one name whose boxes touch are one item.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import chain

import numpy as np
from jaxtyping import Float
from scipy.special import log_softmax

from ovseg3d.heads.pose import MIN_FRONT_PROBABILITY, likely_front
from ovseg3d.instances.records import Instance, InstancePoints
from ovseg3d.query.answer import Answer, Criteria
from ovseg3d.query.decision import Decision
from ovseg3d.query.default_vocabulary import DEFAULT_VOCABULARY
from ovseg3d.query.detections import DetectionModel
from ovseg3d.query.labels import LabelModel
from ovseg3d.query.relations.items import Item, Space, space_of
from ovseg3d.query.relations.measures import TOUCH, distance
from ovseg3d.query.relations.named import names
from ovseg3d.query.similarity import SimilarityModel
from ovseg3d.query.words import is_structural

EXTENT = (0.01, 0.99)
"""Quantiles of the points between which the extent of a scene is measured."""
MIN_CONCENTRATION, MIN_UPRIGHT = 0.7, 0.6
"""Least concentration and mean length of the horizontal parts of normals, for a thing that is seen from one side."""


class RunItems:
    """All instances of a run, and what is known of them without a question.

    Args:
        similarity: of the run.
        labels: names instances by a closed list.
        detections: says which way instances face.
    """

    def __init__(self, similarity: SimilarityModel, labels: LabelModel, detections: DetectionModel) -> None:
        self._similarity, self._labels, self._detections = similarity, labels, detections
        self._surface, self._ids = similarity.semantics.surface, similarity.semantics.instance
        self._pieces = similarity.semantics.piece.astype(np.int64)

    @cached_property
    def space(self) -> Space:
        """The space of the run, with all instances, without a viewer."""
        low, high = np.quantile(self._surface.xyz, EXTENT, axis=0)
        space = space_of(
            self._surface.up,
            metric=self._similarity.context.stated_metres == 1.0,
            metres_per_unit=self._similarity.context.metres,
            extent=float(np.linalg.norm(high - low)),
        )
        everything = self._similarity.context.instances.records()
        return replace(space, items=tuple(space.item(instance.record()) for instance in everything))

    @cached_property
    def everything(self) -> tuple[Item, ...]:
        """All instances with the best name of each, of the run's phrases or of the default vocabulary."""
        phrases = tuple(n for n in self._similarity.context.phrases or DEFAULT_VOCABULARY if not is_structural(n))
        if not phrases:
            return self.space.items
        labels, found = self._labels.labels(phrases, none=False), {}
        for item in self.space.items:
            label = int(np.bincount(labels[self._ids == item.id]).argmax())
            if label:
                found.setdefault(phrases[label - 1], []).append(item.id)
        return tuple(item for name, ids in found.items() for item in self.joined(name, ids))

    def meant(self, noun: str, answer: Answer) -> tuple[Instance, ...]:
        """The instances that an answer means, also those in joined objects; else the rejected fragments, whose ids
        follow those of the instances."""
        if not answer.present:
            return ()
        asked = noun, answer.relevancy, answer.threshold
        return self._similarity.context.instances.meant(*asked) or self._fragments.meant(*asked)

    @cached_property
    def _fragments(self) -> InstancePoints:
        return InstancePoints(self._surface, self._pieces)

    def likeliest(self, noun: str) -> list[int]:
        """The instances that are likeliest to be what a noun says: one for each of the run's phrases that names it."""
        return list(dict.fromkeys(i for phrase, i in self._likeliest.items() if names(noun, phrase)))

    @cached_property
    def _likeliest(self) -> dict[str, int]:
        """By phrase, the instance of which a closed list of all phrases says it with the greatest probability."""
        phrases = [phrase for phrase in self._similarity.context.phrases if not is_structural(phrase)]
        if not phrases or not self.space.items:
            return {}
        cosines, _ = self._labels.closed(phrases)
        means = np.stack([cosines[self._ids == item.id].mean(0) for item in self.space.items])
        if len(phrases) > 1:  # one alone competes with nothing
            means = log_softmax(self._similarity.semantics.encoder.logit_scale * means, axis=1)
        best = means.argmax(0)
        return {phrase: self.space.items[i].id for phrase, i in zip(phrases, best.tolist())}

    def joined(self, name: str, ids: Iterable[int], scores: dict[int, float] | None = None) -> list[Item]:
        """Instances with one name as items, best first, then the largest; those that touch are one item: pieces of one
        object are far more often called alike than objects that touch.

        Args:
            name: of all of them.
            ids: of the instances, or of rejected fragments.
            scores: of the name; by default 1.
        """
        counts, touch = np.bincount(self._pieces), TOUCH * self.space.metre
        known = {i: self._item([i], name, 1.0) for i in ids}
        groups: list[list[int]] = []
        for i in sorted(known, key=lambda i: -counts[i]):
            near = [group for group in groups if any(distance(known[i], known[j]) <= touch for j in group)]
            groups = [group for group in groups if group not in near[1:]]
            if near:
                near[0] += [*chain.from_iterable(near[1:]), i]  # a small piece may lie between two large ones
            else:
                groups.append([i])
        items = []
        for group in groups:
            score = max((scores or {}).get(i, 1.0) for i in group)
            one = len(group) == 1
            items.append(replace(known[group[0]], score=score) if one else self._item(group, name, score))
        return sorted(items, key=lambda item: -item.score)

    def _item(self, ids: Sequence[int], name: str, score: float) -> Item:
        (one,) = InstancePoints(self._surface, np.where(np.isin(self._pieces, ids), ids[0], 0)).records()
        return replace(self.space.item(one.record(), score), label=name, members=tuple(ids))

    def front(self, item: Item) -> Float[np.ndarray, "2"] | None:
        """See `Catalogue.front`: that of the pose which the run keeps, or of the detection, or else the side from which
        the item is seen, if it is flat and upright as a window; of a seat one also sees the back."""
        ids = item.members or (item.id,)
        front = next((found for i in ids if (found := self._known_front(i)) is not None), None)
        if front is not None:
            flat = self.space.level.apply(front)[:2]
            return flat / max(float(np.linalg.norm(flat)), 1e-12)
        if item.is_seat:
            return None
        return seen_side(self.space.level.apply(self._surface.normal[np.isin(self._pieces, ids)]))

    def _known_front(self, instance: int) -> Sequence[float] | None:
        """The front of an instance, input frame, if it is likelier right than wrong; a kept pose has the last word."""
        poses, detected = self._similarity.context.poses, self._detections.of_instances.get(instance)
        if instance in poses:
            return poses[instance]["front"] if poses[instance]["score"] > MIN_FRONT_PROBABILITY else None
        return None if detected is None else likely_front(detected)


def seen_side(normals: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, "2"] | None:
    """The horizontal direction that most normals of an upright surface share; None: there is none.

    Args:
        normals: outward unit normals of a thing's surface in a level frame (+z up), where photos saw it.
    """
    flat = normals[:, :2].astype(np.float64)
    lengths, mean = np.linalg.norm(flat, axis=1), flat.mean(0)
    concentration = float(np.linalg.norm(mean)) / max(float(lengths.mean()), 1e-12)
    if lengths.mean() < MIN_UPRIGHT or concentration < MIN_CONCENTRATION:
        return None
    return mean / np.linalg.norm(mean)


class AskedItems:
    """A catalogue of one question (see `Catalogue`).

    Args:
        run: all instances.
        decision: finds nouns.
        criteria: negatives, alternatives and threshold.
        space: with the viewer.
        doubted: a noun that is not guessed, since the question is whether or how many there are.
    """

    def __init__(
        self, run: RunItems, decision: Decision, criteria: Criteria, space: Space, doubted: str | None = None
    ) -> None:
        self._run, self._decision, self._criteria, self.space = run, decision, criteria, space
        self._doubted = doubted
        self.answers: dict[str, Answer] = {}
        """By noun."""
        self.notes: list[str] = []
        """What was guessed."""

    def front(self, item: Item) -> Float[np.ndarray, "2"] | None:
        """See `Catalogue.front`."""
        return self._run.front(item)

    def find(self, noun: str) -> list[Item]:
        """See `Catalogue.find`."""
        if not noun:
            return list(self._run.everything)
        if noun not in self.answers:
            self.answers[noun] = self._decision.answer(noun, self._criteria)
        # An instance of which half is meant counts, though its mean may be lower.
        least, answer = self._criteria.threshold, self.answers[noun]
        scores = {one.id: max(one.score, least) for one in self._run.meant(noun, answer)}
        if not scores and self._criteria.alternatives is None and noun != self._doubted:
            scores = dict.fromkeys(self._run.likeliest(noun), least)
            if scores:
                self.notes.append(
                    f"which instance is the {noun} is a guess: the run lists it, but nothing looks like it"
                )
        return self._run.joined(noun, scores, scores)
