"""Answers a parsed question from the instances of a catalogue."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from ovseg3d.errors import ConfigError
from ovseg3d.query.relations import measures, wording
from ovseg3d.query.relations.grammar import Clause, Noun, Question, Rank, parse
from ovseg3d.query.relations.items import Item, Space
from ovseg3d.query.relations.measures import Measure
from ovseg3d.query.relations.solution import Match, Solution

HOLDS = 0.5
"""Least score of a relation that holds."""
NEARLY = 0.25
"""Least score of the best instance, where "the mug next to the lamp" says that there is one and none is above 0.5."""


@runtime_checkable
class Catalogue(Protocol):
    """The instances of a scene by their names."""

    @property
    def space(self) -> Space:
        """All instances, and how lengths are measured."""
        ...

    def front(self, item: Item) -> Float[np.ndarray, "2"] | None:
        """Which way an item of it faces, level frame; None: not known, or it has no front."""
        ...

    def find(self, noun: str) -> Sequence[Item]:
        """The instances that a noun names, best first; all of them without a noun."""
        ...


def solve(text: str, catalogue: Catalogue) -> Solution:
    """Answer a question. What follows a reference is said of it, or else of the head.

    Raises:
        ConfigError: no noun says what to look for; "left of" needs a viewer, because the reference has no known front.
    """
    low, high = parse(text), parse(text, high=True)
    solver = _Solver(catalogue)
    solution = solver.solution(low)
    if low.noun == high.noun or solution.is_plain or (solution.matches and not solver.vacuous):
        return solution
    other = _Solver(catalogue).solution(high)
    return other if other.matches else solution


@dataclass
class _Solver:
    catalogue: Catalogue
    notes: list[str] = field(default_factory=list)
    vacuous: bool = False
    """Whether a superlative had only one instance to choose from."""
    plain: bool = False

    @property
    def space(self) -> Space:
        return self.catalogue.space

    def solution(self, question: Question) -> Solution:
        noun = question.noun
        if question.rest and noun.is_plain and not noun.text:
            raise ConfigError(
                f'"{question.rest}" does not say what to look for', fix='name it first: "the chair not at the desk"'
            )
        if question.rest:
            self.notes.append(f'"{question.rest}" is not understood; this is the answer to the rest')
        nothing = noun.is_plain and (question.ask == "find" or noun.is_layout)
        if nothing or any(clause.of[0].is_layout for clause in noun.clauses) or noun.is_layout:
            self.notes += [wording.unchecked(clause) for clause in noun.clauses]
            return Solution(question, is_plain=True, notes=tuple(self.notes))
        matches = self.matches(noun, asked=question.ask != "find" or question.phrase.startswith("what"))
        if self.plain:
            return Solution(question, is_plain=True, notes=tuple(self.notes))
        return Solution(question, tuple(matches), notes=tuple(self.notes))

    def matches(self, noun: Noun, asked: bool = False, depth: int = 0) -> list[Match]:
        """The instances of a noun with its relations."""
        found = [Match(item, item.score) for item in self.catalogue.find(noun.text)]
        if not found:
            self.notes.append(f"no {noun.text or 'instance'} was found")
        for clause in noun.clauses:
            if found:
                found = self.checked(found, noun, clause, depth)
            elif depth == 0:
                self.plain |= any(not one.definite and not self.catalogue.find(one.text) for one in clause.of)
        if noun.rank is not None and found:
            self.vacuous |= len(found) == 1 and depth > 0
            found = self.ranked(found, noun.rank, depth)
        return found

    def references(self, noun: Noun, text: str, depth: int) -> list[Item] | None:
        """The instances that a reference means, with their fronts; None: the relation is not checked."""
        if noun.is_layout:
            self.notes.append(f'"{text}" is not checked: it names a part of the room')
            return None
        found = [match.item for match in self.matches(noun, depth=depth + 1)]
        if not found and not noun.definite:
            # "A man in a suit" names something; "the mug on the desk" says that there is a desk.
            self.plain |= depth == 0
            return None
        return [item.faces(self.catalogue.front(item)) for item in found]

    def checked(self, found: list[Match], noun: Noun, clause: Clause, depth: int) -> list[Match]:
        """The matches for which a relation holds."""
        of = [self.references(one, clause.text, depth) for one in clause.of]
        if any(one is None for one in of):
            return found
        if not all(of):
            return []
        groups = [one for one in of if one]
        if clause.kind == "facing":
            found = [Match(m.item.faces(self.catalogue.front(m.item)), m.score, m.reasons) for m in found]
            if all(match.item.front is None for match in found):
                self.notes.append(f"it is not known which way a {noun.text or 'thing'} faces")
                return []
        measured = [self.measured(match, clause, groups) for match in found]
        kept = [match for match, score in measured if score >= HOLDS]
        if not kept and noun.definite and noun.words == noun.text and noun.text and not clause.negated:
            match, score = max(measured, key=lambda one: one[1])
            kept = [replace(match, score=max(match.score, HOLDS))] if score >= NEARLY else []
        if not kept:
            asked = {match.item.id for match in found}
            seen = self.seen(clause, [b for b in groups[0] if asked - {b.id}])
            self.notes.append(wording.unmet(noun.text or "instance", clause, seen))
        return sorted(kept, key=lambda match: -match.score)

    def measured(self, match: Match, clause: Clause, groups: list[list[Item]]) -> tuple[Match, float]:
        """A match with a relation's reason, and the relation's score."""
        a = match.item
        if clause.kind == "between":
            first, second = groups if len(groups) == 2 else (groups[0], groups[0])
            pairs = [(b, c) for b in first for c in second if len({a.id, b.id, c.id}) == 3]
            options = [(measures.between(a, b, c), (b, c), "") for b, c in pairs]
        else:
            options = [(*self.measure(clause.kind, a, b), b) for b in groups[0] if b.id != a.id]
            options = [(measure, (b,), seen) for measure, seen, b in options]
        if not options:
            return match, 0.0
        best, of, seen = max(options, key=lambda option: option[0].score)
        score = 1 - best.score if clause.negated else best.score
        reason = wording.reason(clause, best, of, seen, self.space)
        unit = None if best.value is None else "degrees" if best.degrees else self.space.unit
        value = None if clause.negated else best.value
        return Match(a, min(match.score, score), (*match.reasons, reason), value, unit, of), score

    def measure(self, kind: str, a: Item, b: Item) -> tuple[Measure, str]:
        """A relation of two instances, and from where it is seen."""
        if kind in measures.RELATIONS:
            return measures.RELATIONS[kind](a, b, self.space), ""
        direction, seen = self.direction(kind, b)
        return measures.towards(a, b, direction, self.space), seen

    def seen(self, clause: Clause, of: list[Item]) -> str:
        """From where left or right of the references is seen; empty for others, or where they differ in it."""
        sides = {self.direction(clause.kind, b)[1] for b in of} if clause.kind in ("left of", "right of") else {""}
        return sides.pop() if len(sides) == 1 else ""

    def direction(self, kind: str, b: Item) -> tuple[Float[np.ndarray, "2"], str]:
        """The horizontal direction of "left of" and the like, and from where it is seen.

        Left and right are those of the viewer if there is one. Front and back are the object's own, if it has any.
        """
        eye = None if self.space.eye is None else self.space.eye[:2] - b.xy
        sideways = kind in ("left of", "right of")
        if eye is not None and np.linalg.norm(eye) > 1e-9 and (sideways or b.front is None):
            # For who looks at `b`, the left is on the same side as for who stands before its front.
            front, own, seen = eye / np.linalg.norm(eye), False, "seen from the view"
        elif b.front is not None:
            front, own = b.front, b.is_seat
            seen = ("on its own side" if own else "seen from before it") if sideways else ""
        else:
            name = b.label or "object"
            raise ConfigError(
                f'"{kind}" needs a view: which way the {name} faces is not known',
                fix='name a photo to look from, such as --camera 000012.jpg, or ask "next to"',
            )
        left = np.array([front[1], -front[0]]) if not own else np.array([-front[1], front[0]])
        return {"in front of": front, "behind": -front, "left of": left, "right of": -left}[kind], seen

    def ranked(self, found: list[Match], rank: Rank, depth: int) -> list[Match]:
        """The match that a superlative means."""
        if rank.kind in ("nearest", "farthest"):
            values, of = self.distances(found, rank, depth)
        else:
            values, of = [wording.extent(match.item, rank.kind) for match in found], [()] * len(found)
        if values is None:
            return found if of else []
        sign = 1 if rank.kind in ("nearest", "smallest") else -1
        order = sorted(range(len(found)), key=lambda i: sign * values[i])
        best, second = order[0], order[min(1, len(order) - 1)]
        share = max(values[best], values[second]) / max(values[best] + values[second], 1e-12)
        match, unit = found[best], self.space.unit + ("^2" if rank.kind in ("largest", "smallest") else "")
        reason = wording.superlative(rank, values[best], of[best], self.space)
        score = 1.0 if len(found) == 1 else max(HOLDS, share)
        return [Match(match.item, min(match.score, score), (*match.reasons, reason), values[best], unit, of[best])]

    def distances(
        self, found: list[Match], rank: Rank, depth: int
    ) -> tuple[list[float] | None, list[tuple[Item, ...]]]:
        """The distance of each match from the nearest reference; None without: keep all, or none if the list is
        empty."""
        if rank.of is None:
            eye = self.space.eye
            if eye is None:
                raise ConfigError(
                    f'"{rank.text}" needs to know from where',
                    fix='say "nearest to the door", or name a photo: --camera',
                )
            return [float(np.linalg.norm(match.item.box[:3] - eye)) for match in found], [()] * len(found)
        of = self.references(rank.of, rank.text, depth)
        if of is None:
            return None, [()]
        if not of:
            return None, []
        pairs = []
        for match in found:
            options = [(measures.distance(match.item, b), b) for b in of if b.id != match.item.id]
            pairs.append(min(options, key=lambda option: option[0]) if options else (np.inf, of[0]))
        return [float(length) for length, _ in pairs], [(b,) for _, b in pairs]
