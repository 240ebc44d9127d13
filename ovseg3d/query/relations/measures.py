"""Relations between upright boxes: a score from 0 to 1 and a measured value.

A relation holds from a score of 0.5. Lengths inside are metres times `Space.metre`. For a subject a and a reference b,
with `overlap` the area that the footprints share over the smaller footprint, and `gap` the distance between them:

on          overlap >= 0.5, and the bottom of a is within 0.05 m of the top of b. Also on a seat: the bottom of a lies
            between the middle and the top of b, and nothing else carries a.
above       the bottom of a is no lower than the top of b (0.05 m), a is not on b, and half of the smaller footprint
            overlaps after that of b has grown by 0.3 m
under       b is on a, or above a; or a is inside the footprint of b, and lower at top and bottom
in          the share of the volume of a inside the box of b; a is not on b
beside      1 - gap / (2 reach), reach = 0.2 m + a quarter of the lengths of both, at most 0.8 m; not if one is on, in,
            under or above the other, or if their heights differ by more than reach
in front of, behind, left of, right of
            (1 - angle / 90 degrees) f; the angle lies between the direction and the way from the nearest point of b to
            a; f is 1 up to a gap of 1.5 m and falls to 0 at 4.5 m; not if their heights differ by more than 1 m
facing      1 - angle / 60 degrees; the angle lies between the front of a and the nearest direction to b
between     (angle - 60 degrees) / 120 degrees; the angle at a between the nearest points of the two references

The constants are definitions of words, not tuned. Front, back, left and right of an object are its own: who sits on a
chair and looks ahead has the chair's left on the left hand. Of a viewer, left and right are those of the picture, and
the front is the side towards the viewer.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ovseg3d.geometry.overlap import footprint_intersection
from ovseg3d.query.relations.items import Item, Space

TOUCH = 0.05
"""Metres: largest gap between things that touch."""
GROWN = 0.3
"""Metres: how far a thing may hang beside the footprint of what it is above, such as a picture behind a sofa."""
REACH, REACH_SHARE, MAX_REACH = 0.2, 0.25, 0.8
"""Metres, share of the lengths, metres: see "beside"."""

FAR, NO_LONGER, MAX_STEP = 1.5, 4.5, 1.0
"""Metres: gaps from which "left of" and the like are less meant and not meant, and the largest difference in height."""


@dataclass(frozen=True)
class Measure:
    """How well a relation holds."""

    score: float
    """0 to 1; it holds from 0.5."""
    value: float | None = None
    """A length in units, or degrees; None: there is nothing to measure."""
    degrees: bool = False


NO = Measure(0.0)
Relation = Callable[[Item, Item, Space], Measure]


def overlap(a: Item, b: Item, grow: float = 0.0) -> float:
    """The area that the footprints share over the smaller one; the footprint of `b` grows to all sides first."""
    grown = b.box + np.array([0, 0, 0, 2 * grow, 2 * grow, 0, 0])
    area = min(a.box[3] * a.box[4], grown[3] * grown[4])
    return float(footprint_intersection(a.box[None], grown[None])[0, 0] / max(area, 1e-12))


def nearest_point(item: Item, xy: Float[np.ndarray, "2"]) -> Float[np.ndarray, "2"]:
    """The point of an item's footprint that is nearest to a position."""
    cos, sin = math.cos(item.box[6]), math.sin(item.box[6])
    turn = np.array([[cos, -sin], [sin, cos]])
    return item.xy + turn @ ((xy - item.xy) @ turn).clip(-item.box[3:5] / 2, item.box[3:5] / 2)


def corners(item: Item) -> Float[np.ndarray, "4 2"]:
    """The corners of an item's footprint."""
    cos, sin = math.cos(item.box[6]), math.sin(item.box[6])
    half = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * item.box[3:5] / 2
    return half @ np.array([[cos, sin], [-sin, cos]]) + item.xy


def gap(a: Item, b: Item) -> float:
    """Horizontal distance between the footprints, 0 where they overlap."""
    if footprint_intersection(a.box[None], b.box[None])[0, 0] > 0:
        return 0.0
    pairs = [(corner, nearest_point(b, corner)) for corner in corners(a)]
    pairs += [(corner, nearest_point(a, corner)) for corner in corners(b)]
    return min(float(np.linalg.norm(one - other)) for one, other in pairs)


def distance(a: Item, b: Item) -> float:
    """Distance between the boxes in space."""
    return math.hypot(gap(a, b), max(0.0, a.bottom - b.top, b.bottom - a.top))


def carries(b: Item, a: Item, space: Space) -> bool:
    """Whether `a` stands on the top of the box of `b`."""
    touching = abs(a.bottom - b.top) <= TOUCH * space.metre and overlap(a, b) >= 0.5
    return bool(a.id != b.id and touching and a.box[2] > b.box[2])


def on(a: Item, b: Item, space: Space) -> Measure:
    """`a` is on `b`."""
    if carries(b, a, space):
        return Measure(1.0)
    seat = b.box[2] - TOUCH * space.metre <= a.bottom <= b.top and overlap(a, b) >= 0.5 and a.top > b.box[2]
    carried = seat and any(carries(other, a, space) for other in space.items if other.id not in (a.id, b.id))
    return Measure(0.8) if seat and a.volume < b.volume and not carried else NO


def above(a: Item, b: Item, space: Space) -> Measure:
    """`a` is above `b` without touching it. The value is the gap between them."""
    height = a.bottom - b.top
    if height < -TOUCH * space.metre or on(a, b, space).score >= 0.5:
        return NO
    return Measure(min(1.0, overlap(a, b, GROWN * space.metre)), max(0.0, height))


def under(a: Item, b: Item, space: Space) -> Measure:
    """`a` is under `b`, whether they touch or not."""
    touching = on(b, a, space)
    if touching.score >= 0.5:
        return Measure(touching.score)
    higher = above(b, a, space)
    if higher.score >= 0.5:
        return higher
    touch = TOUCH * space.metre
    lower = a.top < b.top - touch and a.bottom <= b.bottom + touch and a.volume < b.volume
    return Measure(overlap(a, b)) if lower else higher


def inside(a: Item, b: Item, space: Space) -> Measure:
    """`a` is in `b`."""
    if carries(b, a, space) or a.volume >= b.volume:
        return NO
    height = min(a.top, b.top) - max(a.bottom, b.bottom)
    level = float(footprint_intersection(a.box[None], b.box[None])[0, 0]) / max(float(a.box[3] * a.box[4]), 1e-12)
    return Measure(level * max(0.0, height) / max(a.top - a.bottom, 1e-9))


def beside(a: Item, b: Item, space: Space) -> Measure:
    """`a` is next to `b`. The value is the gap between the footprints."""
    reach = min(REACH * space.metre + REACH_SHARE * (a.length + b.length), MAX_REACH * space.metre)
    apart = max(a.bottom - b.top, b.bottom - a.top)
    stacked = (on, under, above, inside)
    if apart > reach or any(f(*pair, space).score >= 0.5 for f in stacked for pair in ((a, b), (b, a))):
        return NO
    length = gap(a, b)
    return Measure(max(0.0, 1 - length / (2 * reach)), length)


def towards(a: Item, b: Item, direction: Float[np.ndarray, "2"], space: Space) -> Measure:
    """`a` lies in a horizontal direction from `b`. The value is the distance of the centres along the direction."""
    way = a.xy - nearest_point(b, a.xy)
    apart = max(a.bottom - b.top, b.bottom - a.top) / space.metre
    if np.linalg.norm(way) < 1e-9 or apart > MAX_STEP:
        return NO
    near = (NO_LONGER - gap(a, b) / space.metre) / (NO_LONGER - FAR)
    score = max(0.0, 1 - angle_between(way, direction) / 90) * min(1.0, max(0.0, near))
    return Measure(score, float((a.xy - b.xy) @ direction))


def facing(a: Item, b: Item, space: Space) -> Measure:
    """The front of `a` points to `b`. The value is the angle by which it misses `b`, degrees."""
    if a.front is None or a.id == b.id:
        return NO
    across = np.array([-a.front[1], a.front[0]])
    ways = corners(b) - a.xy
    sides, ahead = ways @ across, ways @ a.front
    hit = (ahead > 0).any() and sides.min() <= 0 <= sides.max() and float((nearest_point(b, a.xy) - a.xy) @ a.front) > 0
    missed = 0.0 if hit else min(angle_between(way, a.front) for way in ways)
    return Measure(max(0.0, 1 - missed / 60), missed, degrees=True)


def between(a: Item, b: Item, c: Item) -> Measure:
    """`a` is between `b` and `c`. The value is the angle at `a` between the two, degrees."""
    ways = [nearest_point(other, a.xy) - a.xy for other in (b, c)]
    if min(np.linalg.norm(way) for way in ways) < 1e-9:
        return NO
    seen = angle_between(*ways)
    return Measure(max(0.0, (seen - 60) / 120), seen, degrees=True)


def angle_between(first: Float[np.ndarray, "2"], second: Float[np.ndarray, "2"]) -> float:
    """The angle between two directions, degrees, 0 to 180."""
    cosine = first @ second / max(float(np.linalg.norm(first) * np.linalg.norm(second)), 1e-12)
    return math.degrees(math.acos(min(1.0, max(-1.0, float(cosine)))))


RELATIONS: dict[str, Relation] = {
    "on": on, "above": above, "under": under, "in": inside, "beside": beside, "facing": facing,
}  # fmt: skip
"""The relations of two items that need no direction."""
