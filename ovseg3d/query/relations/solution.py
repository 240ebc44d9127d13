"""What a question about places came to: the instances that fit, and the reasons in words."""

from dataclasses import dataclass

from ovseg3d.query.answer import Relation
from ovseg3d.query.relations import wording
from ovseg3d.query.relations.grammar import Question
from ovseg3d.query.relations.inflection import counted
from ovseg3d.query.relations.items import Item


@dataclass(frozen=True)
class Match:
    """An instance that fits."""

    item: Item
    score: float
    """0 to 1: of its name and its relations."""
    reasons: tuple[str, ...] = ()
    """Of each relation, such as "0.30 m left of the lamp"."""
    value: float | None = None
    """The measured value of the last relation."""
    unit: str | None = None
    of: tuple[Item, ...] = ()
    """The references of the last relation."""


@dataclass(frozen=True)
class Solution:
    """What a question came to."""

    question: Question
    matches: tuple[Match, ...] = ()
    """Best first."""
    is_plain: bool = False
    """Whether the question has no relation that can be checked, so that it is only a phrase."""
    notes: tuple[str, ...] = ()
    """What was not checked, and why there is no match."""

    @property
    def kind(self) -> str:
        """The relation of the head noun; "count" or "exists" where that is asked; "none" where nothing is checked."""
        noun = self.question.noun
        if self.is_plain:
            return "none"
        if self.question.ask == "count" or noun.is_plain:
            return self.question.ask
        return noun.rank.kind if noun.rank else noun.clauses[0].kind

    @property
    def record(self) -> Relation | None:
        """The answer in words and values; None of a plain phrase of which nothing was left out."""
        if self.is_plain and not self.notes:
            return None
        best = self.matches[0] if self.matches else None
        value, unit = (best.value, best.unit) if best else (None, None)
        if self.kind == "count":
            value, unit = float(len(self.matches)), None
        return Relation(
            self.kind,
            tuple(item.label or f"instance {item.id}" for item in best.of) if best else (),
            tuple(item.id for item in best.of) if best else (),
            value,
            unit,
            self.text,
            tuple(", ".join(match.reasons) for match in self.matches),
        )

    @property
    def text(self) -> str:
        """The answer in words."""
        notes, noun = "; ".join(dict.fromkeys(self.notes)), self.question.noun
        if not self.matches:
            return notes
        names = tuple(match.item.label or f"instance {match.item.id}" for match in self.matches)
        text = wording.joined(names, tuple(match.reasons for match in self.matches))
        if self.question.ask == "count":
            text = counted(len(self.matches), noun.words) + (f": {text}" if text else "")
        elif self.question.ask == "exists":
            text = f"yes: {text}" if text else "yes"
        return f"{text} ({notes})" if notes else text
