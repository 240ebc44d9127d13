"""Alternatives of a phrase: the run's phrases, and the default vocabulary.

Names of what the phrase itself means are left out: those that share a word with it, and near synonyms.
"""

from collections.abc import Sequence

from ovseg3d.query.context import RunContext
from ovseg3d.query.default_vocabulary import DEFAULT_VOCABULARY, means_the_same
from ovseg3d.query.layout_prior import may_oppose
from ovseg3d.query.phrase_encoder import PhraseEncoder
from ovseg3d.query.words import meant_by, share_a_word


class Vocabulary:
    """Chooses the alternatives of a phrase."""

    def __init__(self, context: RunContext, texts: PhraseEncoder) -> None:
        self._context, self._texts = context, texts

    def alternatives_of(self, phrase: str, alternatives: Sequence[str] | None = None) -> tuple[str, ...]:
        """See `QueryEngine.alternatives_of`."""
        if alternatives is None:
            return self.names_beside(phrase, self._context.phrases)
        return tuple(alternative for alternative in alternatives if may_oppose(alternative, phrase))

    def names_beside(self, phrase: str, names: Sequence[str]) -> tuple[str, ...]:
        """See `QueryEngine.names_beside`."""
        free = self.alternatives_of(phrase, names)
        return free if len(free) < len(names) else self._unlike(phrase, free)

    def default_vocabulary(self, phrase: str) -> tuple[str, ...]:
        """See `QueryEngine.default_vocabulary`."""
        return self._unlike(phrase, tuple(word for word in DEFAULT_VOCABULARY if may_oppose(word, phrase)))

    def _unlike(self, phrase: str, names: tuple[str, ...]) -> tuple[str, ...]:
        """The names that are no near synonyms of what a phrase is about, or that share a word with it."""
        if not names:
            return names
        same = means_the_same(self._texts.encode([meant_by(phrase)])[0], self._texts.encode(names), self._texts.usual)
        return tuple(name for name, like in zip(names, same) if not like or share_a_word(name, phrase))
