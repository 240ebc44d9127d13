"""Boxes with names as a catalogue: the exact objects of a synthetic room, or detections.

solve("the mug on the desk", NamedItems(space, items))
"""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from ovseg3d.query.relations.inflection import singular
from ovseg3d.query.relations.items import Item, Space
from ovseg3d.query.words import about


class NamedItems:
    """Items that are found by the words of their names.

    A noun names an item if its last word is the last word of the head of one of the item's names, and if all its words
    are in its names: "mug" and "red mug" name "a red mug", "desk" does not name "desk lamp".
    """

    def __init__(self, space: Space, items: Iterable[Item]) -> None:
        self.space = replace(space, items=tuple(items))

    def front(self, item: Item) -> Float[np.ndarray, "2"] | None:
        """See `Catalogue.front`."""
        return item.front

    def find(self, noun: str) -> list[Item]:
        """See `Catalogue.find`."""
        return [one for one in self.space.items if not noun or names(noun, *filter(None, (one.label, one.kind)))]


def names(noun: str, *labels: str) -> bool:
    """Whether a noun names what is called by labels, by the rule of `NamedItems`."""
    meant = _words(noun)
    heads = {word for label in labels for word in _words(label.casefold())[-1:]}
    words = {singular(word) for label in labels for word in label.casefold().replace("-", " ").split()}
    return meant[-1] in heads and set(meant) <= words


def _words(text: str) -> list[str]:
    return [singular(word) for word in about(text) or text.split()]
