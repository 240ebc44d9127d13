"""A grammar of questions about places: "which chairs face the window?" is about chairs, and one relation.

    question = [opener] [ "how many" | "which" | "what" | "is there" ] noun
    noun     = [determiner] [superlative] words { [copula] ["not"] relation | superlative ["to" noun] } [ "and" ... ]
    relation = marker noun [ "and" noun ]                      the last for "between"

The words of a noun end at the next marker, copula or superlative. What follows a reference belongs to it ("the mug on
the desk next to the window": the desk is next to the window), or, with `high`, to the head. Words that the grammar does
not cover end it; `Question.rest` holds them.
"""

import re
from dataclasses import dataclass, field
from typing import Literal

from ovseg3d.query.relations.inflection import inflected, singular
from ovseg3d.query.relations.lexicon import (
    ANYTHING,
    ASPECTS,
    COPULAS,
    DEFINITE,
    DETERMINERS,
    EVERYWHERE,
    FROM_HERE,
    LAYOUT,
    MARKERS,
    NOT_UNDERSTOOD,
    OPENERS,
    RANKS,
    STANDS,
    VERBS,
)
from ovseg3d.query.words import JOINED, words_of

Ask = Literal["find", "count", "exists"]
MAX_DEPTH = 4
"""Most references inside references."""


@dataclass(frozen=True)
class Clause:
    """A relation of a noun to others."""

    kind: str
    """A key of `MARKERS`."""
    of: tuple["Noun", ...]
    text: str
    """As it was typed, in lower case."""
    negated: bool = False


@dataclass(frozen=True)
class Rank:
    """A superlative of a noun."""

    kind: str
    """A key of `RANKS`."""
    of: "Noun | None"
    """What distances are measured to; None: from the viewer, or it compares sizes."""
    text: str


@dataclass(frozen=True)
class Noun:
    """A noun with what is said of its place."""

    text: str
    """Without determiner, in the singular; empty: anything."""
    words: str
    """The same as it was typed."""
    definite: bool
    clauses: tuple[Clause, ...] = ()
    rank: Rank | None = None

    @property
    def is_layout(self) -> bool:
        """Whether it names a part of the room instead of an instance."""
        return bool(self.text) and self.text.split()[-1] in LAYOUT

    @property
    def is_plain(self) -> bool:
        """Whether nothing is said of its place."""
        return not self.clauses and self.rank is None


@dataclass(frozen=True)
class Question:
    """A question in the terms of the grammar."""

    noun: Noun
    ask: Ask = "find"
    rest: str = ""
    """What was not understood."""
    is_phrase: bool = True
    """Whether it is the name of something with no more than a determiner, so that it can be looked up as it is."""
    phrase: str = ""
    """Without its opening."""


def parse(text: str, high: bool = False) -> Question:
    """Read a question.

    Args:
        text: what was typed.
        high: whether everything is said of the head noun, instead of the last one.
    """
    words = words_of(text)
    rest, ask, asked = _opened(words)
    reader = _Reader(rest, high, questioned=ask != "find" or asked)
    noun = reader.noun(0)
    return Question(
        noun, ask, " ".join(reader.words), noun.is_plain and rest == words and not reader.words, " ".join(rest)
    )


def _opened(words: list[str]) -> tuple[list[str], Ask, bool]:
    """What follows the opening of a question; what is asked; whether it is a question about all that fit."""
    text, ask, asked = " ".join(words), "find", False
    for pattern in OPENERS:
        if found := re.match(rf"(?:{pattern})(?: |$)", text):
            text = text[found.end() :]
            break
    text = re.sub(rf"^{ASPECTS} ", "", text)
    if found := re.match(r"(?:how many|count|number of|the number of) (?:of )?", text):
        text, ask = text[found.end() :], "count"
    elif found := re.match(r"(?:is|are) (?:there )?", text):
        text, ask = text[found.end() :], "exists"
    elif found := re.match(r"which (?:one of |of )?|what(?:'s|s)? (?=\w)(?!of)", text):
        text, asked = text[found.end() :], True
    places = "|".join(sorted({*EVERYWHERE, "photo", "photos", "image", "images"} - {"here", "there"}))
    seen = r"please|are|is|are there|is there|do you see|can you see|here"
    closers = rf"(?:^| )(?:{seen}|(?:in|of) (?:the|this|my) (?:{places}))$"
    while text != (shorter := re.sub(closers, "", text)):
        text = shorter
    return text.split(), ask, asked


_BY_WORDS = sorted(
    ((form.split(), kind) for kind, forms in MARKERS.items() for form in forms), key=lambda one: -len(one[0])
)
_RANK_WORDS = sorted(
    ((form.split(), kind) for kind, forms in RANKS.items() for form in forms), key=lambda one: -len(one[0])
)


@dataclass
class _Reader:
    """Reads nouns from the front of `words`."""

    words: list[str]
    high: bool
    questioned: bool = False
    read: list[str] = field(default_factory=list)
    """What was read so far."""

    def take(self, count: int) -> list[str]:
        """Read words."""
        taken, self.words = self.words[:count], self.words[count:]
        self.read += taken
        return taken

    def starts(self, forms: list[tuple[list[str], str]]) -> tuple[str, int] | None:
        """The kind of the marker or superlative that comes next, and its number of words."""
        for form, kind in forms:
            if self.words[: len(form)] == form:
                return kind, len(form)
        return None

    def noun(self, depth: int, until: tuple[str, ...] = ()) -> Noun:
        """Read a noun; it ends before a word of `until`, too."""
        definite = self.questioned and depth == 0
        while self.words and self.words[0] in DETERMINERS and len(self.words) > 1:
            definite |= self.take(1)[0] in DEFINITE
            if self.words[:1] == ["of"]:
                self.take(1)
        rank, start = None, len(self.read)
        if found := self.starts(_RANK_WORDS):
            rank = found[0]
            self.take(found[1])
            while self.words and self.words[0] in {"of", *DETERMINERS}:
                self.take(1)
        ends = until if rank not in FROM_HERE else (*until, *{form.split()[0] for form in FROM_HERE[rank]})
        own = self._own_words(ends)
        clauses, superlative = [], None
        if rank is not None:
            of = self._distance_to(rank, depth)
            superlative = Rank(rank, of, " ".join(self.read[start:]))
        while (more := self._more(depth, until, own, clauses, superlative)) is not None:
            if isinstance(more, Rank):
                superlative = more
            else:
                clauses.append(more)
        text = "" if " ".join(own) in ANYTHING or singular(own[-1]) in ANYTHING and len(own) == 1 else " ".join(own)
        name = inflected(own, singular) if text else ""
        return Noun(name, text, definite, tuple(clauses), superlative)

    def _own_words(self, until: tuple[str, ...]) -> list[str]:
        """The words of the noun itself."""
        own: list[str] = []
        while self.words:
            word = self.words[0]
            ended = word in until or word in NOT_UNDERSTOOD or self.starts(_RANK_WORDS) is not None
            ended |= self._at_verb(own) or word == "not" or word == "and" and self._goes_on()
            joined = bool(own) and own[-1] in JOINED
            if (ended or self.starts(_BY_WORDS) is not None) and not joined:
                break
            own += self.take(1)
        return own

    def _at_verb(self, own: list[str]) -> bool:
        """Whether the next word is a verb after the words of a noun, instead of one of these: "night stands", "a
        standing lamp"."""
        word = self.words[0]
        if word in VERBS:
            return bool(own) and singular(own[-1]) != own[-1]
        if word == "stands" and own:
            return own[-1] not in STANDS
        if word.endswith("ing") and not own and len(self.words) > 1:
            return word in COPULAS and _Reader(self.words[1:], self.high).starts(_BY_WORDS) is not None
        return word in COPULAS

    def _goes_on(self) -> bool:
        """Whether "and" is followed by a relation instead of a noun."""
        after = _Reader([word for word in self.words[1:4] if word not in {*COPULAS, "not", "the"}], self.high)
        return after.starts(_BY_WORDS) is not None or after.starts(_RANK_WORDS) is not None

    def _more(
        self, depth: int, until: tuple[str, ...], own: list[str], clauses: list[Clause], rank: Rank | None
    ) -> Clause | Rank | None:
        """The next relation or superlative of this noun, if there is one."""
        kept, begin = list(self.words), len(self.read)
        if clauses and self.words[:1] == ["and"] and "and" not in until:
            self.take(1)
        while self.words and self.words[0] in COPULAS | VERBS:
            self.take(1)
        negated = self.words[:1] == ["not"]
        if negated:
            self.take(1)
        while self.words and self.words[0] in COPULAS | VERBS:  # "not standing on"
            self.take(1)
        found = self.starts(_BY_WORDS)
        if found is not None and depth < MAX_DEPTH and (depth == 0 or not self.high):
            start = len(self.read)
            self.take(found[1])
            of = [self.noun(depth + 1, ("and",) if found[0] == "between" else ())]
            if found[0] == "between" and self.words[:1] == ["and"]:
                self.take(1)
                of.append(self.noun(depth + 1))
            if all(one.text for one in of):
                return Clause(found[0], tuple(of), " ".join(self.read[start:]), negated)
        start = begin + len(kept) - len(self.words)
        if self.words[:1] == ["the"] and len(self.words) > 1:
            self.take(1)
        found = self.starts(_RANK_WORDS)
        if found is not None and rank is None and not negated and (depth == 0 or not self.high):
            self.take(found[1])
            return Rank(found[0], self._distance_to(found[0], depth), " ".join(self.read[start:]))
        self.words, self.read = kept, self.read[:begin]
        return None

    def _distance_to(self, kind: str, depth: int) -> Noun | None:
        """The reference of a superlative of distances."""
        if kind not in FROM_HERE or depth >= MAX_DEPTH:
            return None
        for form in FROM_HERE[kind]:
            if self.words[: len(form.split())] == form.split():
                self.take(len(form.split()))
                break
        else:
            if not self.words or self.words[0] not in DETERMINERS:  # "nearest the window"
                return None
        noun = self.noun(depth + 1)
        return noun if noun.text else None
