"""Parse captions: the objects in them, their names, and which captions are consistent with an image."""

import re
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from ovseg3d.synth.captions import article

_BETWEEN = re.compile(
    r"( next to | in front of | to the left of | to the right of | on top of | hanging on | with | behind | beside "
    r"| on | under | above | near | and | in |, | of )"
)
_BEFORE = {" in front of ", " on top of ", " hanging on ", " on "}
_EMPTY = {"a", "an", "the", "this", "is", "here", "some", "there", "photo", "view", "close"}


@lru_cache(maxsize=200_000)
def parse(caption: str) -> frozenset[frozenset[str]]:
    """The objects in a caption, each as the set of its words."""
    parts = [frozenset(part.split()) - _EMPTY for part in _BETWEEN.split(caption)[::2]]
    return frozenset(part for part in parts if part)


def objects_of(captions: Sequence[str]) -> list[str]:
    """The objects in the captions without duplicates, as phrases with an article: "a red chair"."""
    return list(dict.fromkeys(instance for caption in captions for _, instance in _told(caption)))


def _told(caption: str) -> list[tuple[str, str]]:
    """Each object in a caption as (relation before it, phrase); the first relation is empty."""
    parts = ["", *_BETWEEN.split(caption)]
    plain = [" ".join(word for word in part.split() if word not in _EMPTY) for part in parts[1::2]]
    return [(lead, article(instance)) for lead, instance in zip(parts[::2], plain) if instance]


def named(captions: Sequence[Sequence[str]], names: Sequence[str]) -> tuple[Tensor, Tensor]:
    """The names that occur in the captions of each image. An object's name is the end of its phrase: "a red office
    chair" is a chair.

    Returns:
        shown, and undecided, both (views, names). Undecided are objects that only state the location of another: the
        image of "a mug on a floor" shows a floor, but its subject is the mug.
    """
    both = torch.stack([_named(tuple(own), tuple(names)) for own in captions])
    return both[:, 0], both[:, 1]


@lru_cache(maxsize=100_000)
def _named(captions: tuple[str, ...], names: tuple[str, ...]) -> Tensor:
    shown, places = set(), set()
    for lead, instance in (told for caption in captions for told in _told(caption)):
        # The longest name counts: a "shower curtain" is a name itself, and no "curtain".
        longest = max((name for name in names if f" {instance}".endswith(f" {name}")), key=len, default="")
        (places if lead in _BEFORE else shown).add(longest)
    return torch.tensor([[name in shown for name in names], [name in places - shown for name in names]])


@lru_cache(maxsize=100_000)
def subject(
    captions: tuple[str, ...], names: tuple[str, ...], pairs: tuple[tuple[str, str], ...]
) -> tuple[int, int] | None:
    """The subject of an image: the index of its name, which is the first caption, and of its (colour, name) pair, which
    is the second caption (-1 if there is none).

    None if the first caption is not a single name.
    """
    called = captions[0].split(maxsplit=1)[-1] if captions else ""
    if called not in names:
        return None
    told = [row for row, both in enumerate(pairs) if captions[1:2] == (article(" ".join(both)),)]
    return names.index(called), told[0] if told else -1


def some(items: Sequence[str], count: int, random: torch.Generator) -> list[str]:
    """At most `count` of the items, in random order."""
    return [items[i] for i in torch.randperm(len(items), generator=random)[:count].tolist()]


def pair_up(
    captions: Sequence[Sequence[str]], known_of: Sequence[Sequence[str]] | None = None
) -> tuple[list[str], Tensor, Tensor]:
    """The distinct captions of a batch, and masks of the images that each belongs to and is consistent with.

    Args:
        captions: captions of each image.
        known_of: all known captions of each image, if `captions` is a selection of them.

    Returns:
        texts, own (views, texts), and undecided (views, texts): true where the caption is not the image's own, but
        every object in it, with all its words, occurs in a known caption of the image.
    """
    texts = list(dict.fromkeys(caption for own in captions for caption in own))
    place = {text: column for column, text in enumerate(texts)}
    own = torch.zeros(len(captions), len(texts), dtype=torch.bool)
    implied = torch.zeros_like(own)
    said = [parse(text) for text in texts]
    instances = frozenset().union(*said)
    for row, mine in enumerate(captions):
        own[row, [place[text] for text in mine]] = True
        known = frozenset().union(*(parse(text) for text in (known_of[row] if known_of else mine)))
        words = frozenset().union(*known)
        true = {instance for instance in instances if instance <= words and any(instance <= other for other in known)}
        implied[row] = torch.tensor([parts <= true for parts in said])
    return texts, own, implied & ~own
