"""Reasons in words: "0.30 m left of the lamp"."""

import numpy as np

from ovseg3d.query.relations.grammar import Clause, Rank
from ovseg3d.query.relations.items import Item, Space
from ovseg3d.query.relations.measures import Measure


def named(items: tuple[Item, ...]) -> str:
    """The instances with their articles."""
    return " and ".join(f"the {item.label or f'instance {item.id}'}" for item in items)


def length(value: float, space: Space) -> str:
    """A length with its unit."""
    return f"{value:.2f} {space.unit}"


def reason(clause: Clause, measure: Measure, of: tuple[Item, ...], seen: str, space: Space) -> str:
    """Why a relation holds.

    Args:
        clause: the relation as it was asked.
        measure: how it was found.
        of: its references.
        seen: from where it is seen.
        space: for the unit.
    """
    kind, others, value = clause.kind, named(of), measure.value
    if clause.negated:
        return f"not {kind} {others}"
    if kind == "facing":
        return f"faces {others}" + (f", {value:.0f} degrees off" if value is not None and value >= 0.5 else "")
    if kind == "beside":
        return f"next to {others}, {length(value or 0.0, space)} away"
    if kind == "between" or value is None:
        return f"{kind} {others}"
    return f"{length(abs(value), space)} {kind} {others}" + (f", {seen}" if seen else "")


def superlative(rank: Rank, value: float, of: tuple[Item, ...], space: Space) -> str:
    """Why an instance is the one of a superlative."""
    if rank.kind in ("nearest", "farthest"):
        to = f" {'to' if rank.kind == 'nearest' else 'from'} {named(of)}" if of else ""
        return f"the {rank.kind}{to}, {length(value, space)} away"
    return f"the {rank.kind}: {value:.2f} {space.unit}" + ("" if rank.kind == "tallest" else "^2")


def extent(item: Item, kind: str) -> float:
    """What "tallest" compares is the height; "largest" and "smallest" compare the largest face of the box."""
    size = np.sort(item.box[3:6])
    return float(item.box[5]) if kind == "tallest" else float(size[1] * size[2])


def unchecked(clause: Clause) -> str:
    """Why a relation is left alone."""
    return f'"{clause.text}" is not checked: it names a part of the room'


def unmet(noun: str, clause: Clause, seen: str = "") -> str:
    """That a relation holds for nothing: "no chair faces the window", "no plant is behind the sofa"; or for everything,
    where "not" was asked: "every mug is on the desk". `seen` tells from where left and right are seen."""
    _, _, rest = clause.text.partition(" ")
    which = "every" if clause.negated else "no"
    if clause.kind == "facing" and rest:
        return f"{which} {noun} faces {rest.removeprefix('at ')}"
    return f"{which} {noun} is {clause.text}" + (f", {seen}" if seen else "")


def joined(names: tuple[str, ...], reasons: tuple[tuple[str, ...], ...]) -> str:
    """Instances with their reasons, the first three of them; empty without reasons."""
    if not any(reasons):
        return ""
    said = [f"{name} {', '.join(why)}".strip() for name, why in zip(names[:3], reasons[:3])]
    more = len(names) - len(said)
    return "; ".join(said) + (f"; and {more} more" if more > 0 else "")
