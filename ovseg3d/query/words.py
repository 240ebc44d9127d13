"""The head of a phrase: "a picture on the wall" is about a picture, "two pairs of shoes" about shoes.

Case and punctuation are ignored.
"""

from functools import lru_cache

PLACES = {
    "above", "across", "against", "along", "at", "behind", "below", "beneath", "beside", "between", "by", "from", "in",
    "into", "near", "of", "off", "on", "onto", "over", "to", "touching", "towards", "under", "with",
}  # fmt: skip
"""Words after which a phrase states a place."""
BEFORE = PLACES | {"next", "that", "which"}
"""Words that end the head of a phrase..."""
JOINED = {"built", "clip", "plug", "roll", "walk"}
"""...unless they follow one of these, as in "walk in closet"."""
AMOUNT = {"pair", "set", "stack", "pile", "row", "roll", "bunch", "piece", "sheet"}
"""Words for amounts, before "of"."""
LITTLE = frozenset("a an the of on in at with and or to by from".split())
"""Words without content."""


STRUCTURAL = ("wall", "floor", "ceiling")
"""Classes of the layout; figures are given with and without them."""


def words_of(phrase: str) -> list[str]:
    """The words of a phrase in lower case, without punctuation around them."""
    words = (word.strip(".,:;!?\"'()") for word in phrase.casefold().split())
    return [word for word in words if word]


def about(phrase: str) -> list[str]:
    """The words of a phrase's head, in their order."""
    words = words_of(phrase)
    pairs = zip(words, words[1:])
    amount = next((k for k, (word, of) in enumerate(pairs) if word.removesuffix("s") in AMOUNT and of == "of"), None)
    words = words if amount is None else words[amount + 2 :]
    ends = (k for k, word in enumerate(words) if k and word in BEFORE and words[k - 1] not in JOINED)
    return " ".join(words[: next(ends, len(words))]).replace("-", " ").split()


def meant_by(phrase: str) -> str:
    """What a phrase is about: its head, or the phrase itself where it has none."""
    return " ".join(about(phrase)) or phrase


def tells_a_place(phrase: str) -> bool:
    """Whether a phrase states a place: "a mug on the table" does, "a bottle of water" does not."""
    words = words_of(phrase)
    return any(word in PLACES - {"of"} and before not in JOINED for before, word in zip(words, words[1:]))


def share_a_word(first: str, second: str) -> bool:
    """Whether two heads share a word: "a red mug" and "mugs" do, "a mug" and "a cup" do not."""
    return bool(_named(first) & _named(second))


@lru_cache(2**14)  # the names of the vocabulary are compared with every phrase
def _named(phrase: str) -> frozenset[str]:
    return frozenset(word.removesuffix("s") for word in about(phrase)) - LITTLE - {""}


def is_structural(name: str, structural: tuple[str, ...] = STRUCTURAL) -> bool:
    """Whether a class is one of `structural`; case does not matter, "wood wall" is not "wall"."""
    return name.strip().casefold() in {known.casefold() for known in structural}
