"""The true relations of a synthetic room, from the exact surfaces of its objects and the places where they were put.

Nothing of `ovseg3d.query.relations` is used: footprints are convex hulls of surface points, distances are those of the
points, and fronts are the yaws of the layout. Each relation is True, False, or None where people may disagree; a
question is asked only if no object that it could mean is None.
"""

from collections.abc import Container
from functools import cached_property

import numpy as np
import shapely
from scipy.spatial import cKDTree
from shapely import LineString, MultiPoint, Point
from shapely.geometry.base import BaseGeometry

from ovseg3d.synth.rooms import Placed, Room
from ovseg3d.synth.world import flatten
from scripts.training.detection_rooms import FACING

POINTS = 12_000
"""Of each object."""
SEATS = {"chair", "sofa", "bed", "toilet", "bear", "bicycle"}
"""Kinds whose left is the left of who sits there; of the others it is the left of who stands before them."""

Truth = bool | None


class TrueObject:
    """One object of a room, in metres, z up."""

    def __init__(self, number: int, placed: Placed, xyz: np.ndarray) -> None:
        self.id, self.kind, self.phrase, self.xyz = number, placed.category, placed.phrase, xyz
        self.front = np.array([np.sin(placed.yaw), -np.cos(placed.yaw)]) if placed.category in FACING else None
        self.low, self.high = float(xyz[:, 2].min()), float(xyz[:, 2].max())
        self.hull: BaseGeometry = MultiPoint(xyz[:, :2]).convex_hull
        self.edge = np.array(self.hull.exterior.coords)  # type: ignore[attr-defined]
        """The corners of the footprint."""
        self.size = np.sort(np.asarray(placed.size, float))

    @cached_property
    def tree(self) -> cKDTree:
        return cKDTree(self.xyz)

    @property
    def middle(self) -> np.ndarray:
        return np.array(self.hull.centroid.coords[0])


class TrueRoom:
    """The objects of a room and their relations."""

    def __init__(self, room: Room, seed: int = 0) -> None:
        flat, rng = flatten(room), np.random.default_rng([seed, 29])
        self.objects: dict[int, TrueObject] = {}
        self.records = list(flat.objects)
        """As in objects.json."""
        for number, placed in enumerate(room.objects, start=1):
            parts = [part for part, i in zip(flat.parts, flat.part_instance) if i == number]
            corners = np.concatenate([part.soup.points for part in parts])
            self.objects[number] = TrueObject(number, placed, _samples(corners, rng))
        self._known: dict[tuple, Truth] = {}
        self._lengths: dict[tuple, float] = {}

    def keep(self, numbers: Container[int]) -> None:
        """Leave out all other objects."""
        self.objects = {number: one for number, one in self.objects.items() if number in numbers}
        self.records = [record for record in self.records if record["id"] in numbers]

    def holds(self, kind: str, a: int, *of: int, eye: np.ndarray | None = None) -> Truth:
        """Whether a relation of objects holds. The eye counts for left and right."""
        key = (kind, a, *of, None if eye is None else tuple(eye))
        if key not in self._known:
            things = [self.objects[i] for i in (a, *of)]
            if kind == "between":
                self._known[key] = between(*things)
            elif kind in ("in front of", "behind", "left of", "right of"):
                self._known[key] = towards(*things, kind, eye)
            else:
                self._known[key] = getattr(self, f"_{kind}")(*things)
        return self._known[key]

    def distance(self, a: int, b: int) -> float:
        """The least distance of two surfaces."""
        key = ("distance", a, b)
        if key not in self._lengths:
            self._lengths[key] = float(self.objects[b].tree.query(self.objects[a].xyz)[0].min())
        return self._lengths[key]

    def _on(self, a: TrueObject, b: TrueObject) -> Truth:
        """The lowest points of `a` stand on points of `b`, at least half of them."""
        if a.hull.distance(b.hull) > 0.02 or a.low > b.high + 0.1 or a.low < b.low - 0.02:
            return False
        base = MultiPoint(a.xyz[a.xyz[:, 2] < a.low + 0.03][:, :2]).convex_hull.buffer(0.01)
        step = np.abs(b.xyz[:, 2] - a.low)
        strict, loose = (_share(base, b.xyz[step < least, :2], 0.04) for least in (0.02, 0.08))
        return True if strict > 0.6 else False if loose < 0.1 else None

    def _above(self, a: TrueObject, b: TrueObject) -> Truth:
        """`a` begins where `b` ends or higher, and is over it or nearly so, without standing on it."""
        resting = self.holds("on", a.id, b.id)
        if resting or a.low < b.high - 0.08 or a.hull.distance(b.hull) > 0.4:
            return False
        over = b.hull.buffer(0.1).contains(a.hull.centroid) or a.hull.buffer(0.1).contains(b.hull.centroid)
        wall = a.hull.distance(b.hull) < 0.2 and a.hull.intersection(b.hull.buffer(0.25)).area > 0.9 * a.hull.area
        return True if resting is False and a.low > b.high + 0.08 and (over or wall) else None

    def _under(self, a: TrueObject, b: TrueObject) -> Truth:
        """`b` is on or above `a`; or `a` stands below points of `b`."""
        one, other = self.holds("on", b.id, a.id), self.holds("above", b.id, a.id)
        if one or other:
            return True
        over = b.xyz[(b.xyz[:, 2] > a.high) & (np.hypot(*(b.xyz[:, :2] - a.middle).T) < 0.1)]
        shared = a.hull.intersection(b.hull).area / min(a.hull.area, b.hull.area)
        if len(over) > 10 and shared > 0.8 and a.low < b.low + 0.02 and a.high < b.high - 0.1:
            return True
        return False if one is False and other is False and (shared < 0.2 or a.high > b.high) else None

    def _beside(self, a: TrueObject, b: TrueObject) -> Truth:
        """Side by side, at most 0.2 m apart; not from 1 m."""
        length, step = a.hull.distance(b.hull), max(a.low - b.high, b.low - a.high)
        stacked = [
            self.holds(kind, *pair) for kind in ("on", "above", "under") for pair in ((a.id, b.id), (b.id, a.id))
        ]
        if any(stacked) or length > 1.0 or step > 0.9:
            return False
        apart = a.hull.intersection(b.hull).area < 0.05 * min(a.hull.area, b.hull.area)
        return True if length < 0.2 and step < 0.1 and apart and stacked.count(False) == 6 else None

    def _facing(self, a: TrueObject, b: TrueObject) -> Truth:
        """A line ahead from the middle of `a` meets `b`; not if all of `b` is more than 45 degrees aside."""
        if a.front is None:
            return False
        ahead = LineString([a.middle, a.middle + 12 * a.front])
        if not b.hull.buffer(0.05).contains(Point(a.middle)) and ahead.intersects(b.hull):
            return True
        ways = np.array(b.hull.exterior.segmentize(0.05).coords) - a.middle  # type: ignore[attr-defined]
        return False if np.degrees(np.abs(_angles(ways, a.front))).min() > 45 else None


def between(a: TrueObject, b: TrueObject, c: TrueObject) -> Truth:
    """Half of the lines from `b` to `c` cross `a`; not if none passes within 0.3 m of it."""
    rng = np.random.default_rng([a.id, b.id, c.id])
    if b.hull.buffer(0.02).intersects(a.hull) or c.hull.buffer(0.02).intersects(a.hull):
        return None
    ends = [other.xyz[rng.integers(len(other.xyz), size=150), :2] for other in (b, c)]
    lines = shapely.linestrings(np.stack(ends, 1))
    if shapely.intersects(lines, a.hull).mean() >= 0.5:
        return True
    return False if not shapely.intersects(lines, a.hull.buffer(0.3)).any() else None


def towards(a: TrueObject, b: TrueObject, kind: str, eye: np.ndarray | None) -> Truth:
    """`a` is wholly on that side of `b`, in the strip that `b` spans, within 1.5 m.

    Not if no point of `a` is beyond the middle of `b`, if all of it is more than 60 degrees aside, or from 4.5 m.
    """
    sideways = kind in ("left of", "right of")
    ahead = eye[:2] - b.middle if eye is not None and (sideways or b.front is None) else b.front
    if ahead is None:
        return None
    own = b.kind in SEATS and eye is None
    turn = {"in front of": 0, "behind": 180, "left of": 90 if own else -90, "right of": -90 if own else 90}[kind]
    # Counter-clockwise: a seat's own left is 90 degrees left of its front.
    direction = _turned(ahead / np.linalg.norm(ahead), turn)
    frame = np.stack([direction, _turned(direction, 90)], 1)
    one, other = (a.edge - b.middle) @ frame, (b.edge - b.middle) @ frame
    length, step = a.hull.distance(b.hull), max(a.low - b.high, b.low - a.high)
    center = (a.middle - b.middle) @ frame
    aside = max(0.0, abs(center[1]) - np.abs(other[:, 1]).max())
    if one[:, 0].max() < 0 or length > 4.5 or step > 1.2 or center[0] < 0.4 * other[:, 0].max():
        return False
    if np.degrees(np.arctan2(aside, max(center[0] - other[:, 0].max(), 1e-9))) > 60:
        return False
    strip = other[:, 1].min() <= center[1] <= other[:, 1].max()
    return True if one[:, 0].min() > other[:, 0].max() - 0.02 and strip and length < 1.5 and step < 0.8 else None


def _share(base: BaseGeometry, xy: np.ndarray, radius: float) -> float:
    """The share of a footprint that lies near points."""
    if not len(xy):
        return 0.0
    low, high = np.array(base.bounds).reshape(2, 2)
    grid = np.stack(np.meshgrid(*np.linspace(low, high, 15).T), -1).reshape(-1, 2)
    inside = grid[shapely.contains_xy(base, *grid.T)]
    return float((cKDTree(xy).query(inside)[0] < radius).mean()) if len(inside) else 0.0


def _turned(direction: np.ndarray, degrees: float) -> np.ndarray:
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[cos, -sin], [sin, cos]]) @ direction


def _angles(ways: np.ndarray, direction: np.ndarray) -> np.ndarray:
    return np.arctan2(ways @ _turned(direction, 90), ways @ direction)


def _samples(corners: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Points of triangles by area, and all corners."""
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    face = rng.choice(len(corners), POINTS, p=area / area.sum())
    weight = rng.dirichlet((1, 1, 1), POINTS)
    return np.concatenate([np.einsum("pk,pkj->pj", weight, corners[face]), corners.reshape(-1, 3)])
