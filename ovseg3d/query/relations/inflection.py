"""Singular and plural of English nouns: "2 stacks of books", "1 shelf"."""

from collections.abc import Callable, Sequence

IRREGULAR = {
    "people": "person", "children": "child", "men": "man", "women": "woman", "feet": "foot", "mice": "mouse",
    "knives": "knife", "shelves": "shelf", "bookshelves": "bookshelf", "leaves": "leaf", "teeth": "tooth",
}  # fmt: skip
UNCHANGED = {
    "scissors", "glasses", "trousers", "pants", "jeans", "shorts", "headphones", "blinds", "stairs", "clothes", "keys",
    "series", "tongs", "pliers", "earphones", "sunglasses", "drawers",
}  # fmt: skip
"""Nouns whose plural means one thing, too."""


def singular(word: str) -> str:
    """The singular of an English noun; words that only look like plurals stay."""
    if word in IRREGULAR:
        return IRREGULAR[word]
    if word in UNCHANGED or len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "xes", "sses")):
        return word[:-2]
    return word[:-1]


def plural(word: str) -> str:
    """The plural of an English noun; plurals stay."""
    if word in UNCHANGED or singular(word) != word:
        return word
    for many, one in IRREGULAR.items():
        if one == word:
            return many
    if word.endswith("y") and word[-2:-1] not in "aeiou":
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(("s", "x", "z", "ch", "sh")) else "s")


def inflected(words: Sequence[str], form: Callable[[str], str]) -> str:
    """A noun with its head in another form: of "stacks of books" it is the first word."""
    head = (words.index("of") if "of" in words[1:] else len(words)) - 1
    return " ".join([*words[:head], form(words[head]), *words[head + 1 :]]) if words else ""


def counted(count: int, noun: str) -> str:
    """A number with a noun in the form for it.

    Args:
        count: how many.
        noun: in any form; empty: instances.
    """
    return f"{count} {inflected((noun or 'instance').split(), singular if count == 1 else plural)}"
