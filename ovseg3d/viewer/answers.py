"""Questions to a scene, and their answers.

Phrases are separated by line breaks or semicolons. A question may also be an example: "more like this".
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int, UInt8

from ovseg3d.errors import ConfigError
from ovseg3d.instances.records import Instance, InstancePoints
from ovseg3d.points.semantic_scene import SemanticScene
from ovseg3d.query.answer import CalibratedBy
from ovseg3d.query.engine import THRESHOLD, Answer
from ovseg3d.render.palette import colours
from ovseg3d.viewer.pick import Spot, members_of
from ovseg3d.viewer.shared_scene import SharedScene

MAX_PHRASES = 32
"""Most phrases in one question."""
MAX_PHRASE_LENGTH = 300


@dataclass(frozen=True)
class Question:
    """A question."""

    phrases: tuple[str, ...]
    negatives: tuple[str, ...] = ()
    canonical: tuple[str, ...] = ()
    """Canonical phrases; empty: those of the encoder."""
    threshold: float = THRESHOLD
    example: Spot | None = None
    """A position on the surface: similar instances are searched, and the phrase is only their name."""

    @property
    def title(self) -> str:
        """The title in the history; equal only for questions that are equal except for the threshold."""
        parts = ["; ".join(self.phrases)]
        if self.negatives:
            parts.append(f"not {'; '.join(self.negatives)}")
        if self.canonical:
            parts.append(f"compared with {'; '.join(self.canonical)}")
        return " · ".join(parts)

    @property
    def calibrates(self) -> bool:
        """Whether calibrations hold for it: they are those of phrases with the usual negatives."""
        return self.example is None and not self.negatives and not self.canonical


@dataclass(frozen=True)
class PhraseAnswer:
    """The answer to one phrase."""

    phrase: str
    present: bool
    score: float
    """0 to 1; see `query.engine.Answer`."""
    threshold: float
    probability: float | None
    """None: not calibrated."""
    alternative: str | None
    """The phrase that describes the best candidate better; see `query.engine.Answer`."""
    points: Int[np.ndarray, " found"]
    """Surface points above the threshold."""
    scores: Float[np.ndarray, " found"]
    instances: tuple[Instance, ...]
    calibrated_by: CalibratedBy | None = None
    """See `query.engine.Answer`."""
    relation: str = ""
    """What was found about places, in words; empty for a plain phrase."""


@dataclass(frozen=True)
class Hit:
    """One result of an answer."""

    phrase: int
    """Index of the phrase in the question."""
    instance: Instance
    """`distance` is from the user's viewpoint."""


@dataclass(frozen=True)
class Reply:
    """The answer to a question."""

    question: Question
    semantics: SemanticScene
    """The semantics that the points are indices of."""
    answers: tuple[PhraseAnswer, ...]
    relevancies: Float[np.ndarray, "points phrases"]
    hits: tuple[Hit, ...]
    """By falling score."""
    own: tuple[str, ...] = ()
    """The scene's phrases, see `palette.colours`."""

    @property
    def tints(self) -> UInt8[np.ndarray, "phrases 3"]:
        """A constant colour for each phrase."""
        return colours(self.question.phrases, self.own)[1:]

    @property
    def present(self) -> tuple[int, ...]:
        """Indices of the phrases that are in the scene."""
        return tuple(i for i, answer in enumerate(self.answers) if answer.present)

    @property
    def present_relevancies(self) -> Float[np.ndarray, "points phrases"]:
        """Relevancies, 0 for the phrases that are not in the scene."""
        return np.where([answer.present for answer in self.answers], self.relevancies, 0.0)

    def name_of(self, hit: Hit) -> str:
        """What a hit is: the name of its instance ("lamps left of the laptop" are lamps), else the phrase."""
        return hit.instance.label or self.question.phrases[hit.phrase]

    def found(self) -> tuple[Int[np.ndarray, " found"], Int[np.ndarray, " found"]]:
        """Surface points of all answers, and the most relevant phrase of each."""
        there = self.present_relevancies
        points = np.flatnonzero(there.max(1, initial=0.0) >= self.question.threshold)
        return points, there[points].argmax(1)


def read_phrases(text: str, most: int = MAX_PHRASES) -> tuple[str, ...]:
    """The phrases of a text field, without duplicates.

    Raises:
        ConfigError: more than `most` phrases, a phrase that is too long, or an invalid character.
    """
    parts = (part.strip() for line in text.splitlines() for part in line.split(";"))
    phrases = tuple(dict.fromkeys(part for part in parts if part))
    if len(phrases) > most:
        raise ConfigError(f"{len(phrases)} phrases are too many here", fix=f"at most {most}")
    for phrase in phrases:
        if len(phrase) > MAX_PHRASE_LENGTH:
            raise ConfigError(f'A phrase has {len(phrase)} characters: "{phrase[:40]}..."', fix="say it in fewer words")
        if any(ord(letter) < 32 or 0xD800 <= ord(letter) < 0xE000 for letter in phrase):
            raise ConfigError("A phrase holds a character that cannot be read", fix="type it anew")
    return phrases


def ask(shared: SharedScene, question: Question, eye: Float[np.ndarray, "3"] | None = None) -> Reply:
    """Answer a question; `eye` is the user's position.

    Raises:
        ConfigError: no phrase, or an invalid threshold. RunError, EncoderError: the run cannot be queried.
    """
    if not question.phrases:
        raise ConfigError("There is nothing to look for", fix="type a phrase, such as: a red chair")
    if not 0 < question.threshold < 1:
        raise ConfigError(f"The threshold must lie between 0 and 1, not at {question.threshold}")
    if question.example is not None:
        semantics, point = question.example.semantics, question.example.point
        if semantics is None or point is None:
            raise ConfigError("There is no surface at the example", fix="click on something else")
        relevancies = similarity(semantics, point)[:, None]
        found = [_similar(semantics, question, relevancies[:, 0])]
    else:
        with shared.query_lock:
            engine = shared.need_engine()
            answers = engine.ask(
                question.phrases, negatives=question.negatives, canonical=question.canonical or None,
                threshold=question.threshold, camera=eye,
            )  # fmt: skip
        semantics = engine.semantics
        relevancies = np.stack([answer.relevancy for answer in answers], 1)
        found = [_plain(answer) for answer in answers]
    hits = [Hit(i, _seen_from(instance, eye)) for i, one in enumerate(found) for instance in one.instances]
    for i, one in enumerate(found):
        if one.present and not one.instances:
            hits.append(Hit(i, _seen_from(_as_hit(semantics, one), eye)))
    hits.sort(key=lambda hit: -hit.instance.score)
    return Reply(question, semantics, tuple(found), relevancies, tuple(hits), shared.scene.phrases)


def _plain(answer: Answer) -> PhraseAnswer:
    return PhraseAnswer(
        answer.phrase, answer.present, answer.score, answer.threshold, answer.probability, answer.alternative,
        answer.point_index, answer.point_scores, answer.instances, answer.calibrated_by,
        "" if answer.relation is None else answer.relation.text,
    )  # fmt: skip


def _similar(semantics: SemanticScene, question: Question, found: np.ndarray) -> PhraseAnswer:
    """Instances similar to an example; the example itself is always among them."""
    threshold, phrase = question.threshold, question.phrases[0]
    chosen = np.flatnonzero(found >= threshold)
    instances = InstancePoints(semantics.surface, semantics.instance).meant(phrase, found, threshold)
    score = float(found.max(initial=0.0))
    return PhraseAnswer(phrase, len(chosen) > 0, score, threshold, None, None, chosen, found[chosen], instances)


def _seen_from(instance: Instance, eye: np.ndarray | None) -> Instance:
    away = None if eye is None else float(np.linalg.norm(np.array(instance.center) - eye))
    return replace(instance, distance=away)


def similarity(semantics: SemanticScene, point: int) -> Float[np.ndarray, " points"]:
    """Similarity of every surface point to the instance around one of them, 0 to 1; 0.5 is half way from the mean.

    Vectors of one encoder have a large common part, so their mean is subtracted first.
    """
    vectors = semantics.vectors - semantics.vectors.mean(0)
    members = members_of(semantics, point)
    example = vectors[members].mean(0)
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(example)
    cosine = (vectors @ example) / np.maximum(lengths, 1e-9)
    own = max(float(np.median(cosine[members])), 1e-3)
    return np.clip(cosine / own, 0.0, 1.0).astype(np.float64)


def _as_hit(semantics: SemanticScene, found: PhraseAnswer) -> Instance:
    """Points without an instance (a wall, a floor) as one hit: their middle and extent."""
    points = semantics.surface.xyz[found.points].astype(np.float64)
    low, high = np.percentile(points, [2, 98], axis=0)
    # A position on the surface, not in empty space.
    middle = points[np.linalg.norm(points - np.median(points, 0), axis=1).argmin()]
    return Instance(
        0, found.phrase, float(found.scores.mean()), tuple(middle.tolist()), tuple((high - low).tolist()),
        (1.0, 0.0, 0.0, 0.0), None, "input", len(points), None,
    )  # fmt: skip


def with_threshold(question: Question, threshold: float) -> Question:
    """The same question with another threshold."""
    return replace(question, threshold=threshold)
