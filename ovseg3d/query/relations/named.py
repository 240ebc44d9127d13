"""Boxes with names as a catalogue: the exact objects of a synthetic room, or detections.

solve("the mug on the desk", NamedItems(space, items))
"""

from collections.abc import Iterable, Mapping
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

    @property
    def fronts(self) -> Mapping[int, Float[np.ndarray, "2"]]:
        """See `Catalogue.fronts`."""
        return {item.id: item.front for item in self.space.items if item.front is not None}

    def find(self, noun: str) -> list[Item]:
        """See `Catalogue.find`."""
        meant = _words(noun)
        return [item for item in self.space.items if not meant or _names(meant, item)]


def _words(text: str) -> list[str]:
    return [singular(word) for word in about(text) or text.split()]


def _names(meant: list[str], item: Item) -> bool:
    names = [name.casefold() for name in (item.label, item.kind) if name]
    heads = {word for name in names for word in _words(name)[-1:]}
    return meant[-1] in heads and set(meant) <= {singular(w) for name in names for w in name.replace("-", " ").split()}
