"""The layout of a room: large planes with nothing visible behind (or under) them, such as floor, walls and ceiling.

Planes are fitted one after another (sequential RANSAC, after Schnabel et al. 2007, but that every larger superpoint
proposes a plane, instead of random ones): that on which most of the remaining surface lies is fitted to this surface,
which is then set aside. It is layout if it is large and hardly any surface lies behind it: there is floor under a table
top, but nothing under the floor.

A table top with nothing visible below it, a lawn, or a facade are such planes, too. So planes are a layout only if they
make a room (`is_room`), unless the user says that there is one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Bool, Float, Int

from ovseg3d.instances.graph import add_up
from ovseg3d.runs.config import Layout

NONE, FLOOR, CEILING, WALL = range(4)
"""Layout class of a plane."""
ALIKE = 0.7
"""Cosine of 45 degrees, within which directions are the same: of a plane and its surface, of a floor and up, of two
walls that make no corner."""
THICK = 3.0
"""How far the surface of a plane scatters to either side, in distances of neighbours."""
LEAST_SHARE = 0.03
"""Least area of a plane, as a share of all surface."""
MOST_HIDDEN = 0.3
"""Most of a plane that may have surface behind it: stray points gather behind walls, and rooms go around corners."""


@dataclass(frozen=True)
class Plane:
    """x . normal = offset; the normal points to the visible side."""

    normal: Float[np.ndarray, "3"]
    offset: float

    def kind(self, up: Float[np.ndarray, "3"]) -> int:
        """FLOOR, CEILING or WALL."""
        tilt = float(self.normal @ up)
        return FLOOR if tilt > ALIKE else CEILING if tilt < -ALIKE else WALL

    def off(self, xyz: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, " points"]:
        """Distance of points, positive on the visible side."""
        return xyz @ self.normal - self.offset


def is_room(planes: Sequence[Plane], up: Float[np.ndarray, "3"]) -> bool:
    """Whether planes make a room: a floor or a ceiling, and walls that face each other or meet in a corner."""
    walls = [plane.normal for plane in planes if plane.kind(up) == WALL]
    return len(walls) < len(planes) and any(one @ other < ALIKE for one, other in combinations(walls, 2))


def find_layout(
    xyz: Float[np.ndarray, "points 3"],
    normal: Float[np.ndarray, "points 3"],
    area: Float[np.ndarray, " points"],
    superpoint: Int[np.ndarray, " points"],
    up: Float[np.ndarray, "3"],
    gap: float,
    layout: Layout = "auto",
) -> tuple[Int[np.ndarray, " superpoints"], Int[np.ndarray, " superpoints"]]:
    """The plane of each superpoint, from 1 by falling area, 0 for none; and its class.

    Args:
        xyz: surface points.
        normal: unit length.
        area: of the surface around each point.
        superpoint: of each point, from 0.
        up: unit vector.
        gap: typical distance between points.
        layout: auto: the planes of a room, if they make one; indoor: all that are found; none: no plane.
    """
    extent = np.bincount(superpoint, area)
    means = add_up(np.concatenate([xyz, normal], 1) * area[:, None], superpoint, len(extent)) / extent[:, None]
    middle, facing = means[:, :3], means[:, 3:]
    facing = facing / np.maximum(np.linalg.norm(facing, axis=1, keepdims=True), 1e-12)

    def holds(plane: Plane) -> Bool[np.ndarray, " superpoints"]:
        return (np.abs(plane.off(middle)) < THICK * gap) & (facing @ plane.normal > ALIKE)

    larger = np.flatnonzero(extent >= extent.mean())
    proposed = np.stack([holds(Plane(facing[one], float(middle[one] @ facing[one]))) for one in larger])
    left, found = np.ones(len(extent), bool), list[Plane]()
    while layout != "none":
        on_each = proposed @ (extent * left)
        best = int(on_each.argmax())
        if on_each[best] < LEAST_SHARE * extent.sum():
            break
        on = proposed[best] & left
        plane = _fitted(middle[on], extent[on], facing[larger[best]])
        on = holds(plane) & left
        if on.any() and _hidden(plane, xyz, on[superpoint], THICK * gap) <= MOST_HIDDEN:
            found.append(plane)
        left &= ~(on | proposed[best])
    if layout == "auto" and not is_room(found, up):
        found = []
    far = np.full(len(extent), THICK * gap)
    off = np.stack([far, *(np.where(holds(plane), np.abs(plane.off(middle)), np.inf) for plane in found)])
    plane = off.argmin(0)
    return plane, np.array([NONE, *(plane.kind(up) for plane in found)])[plane]


def _fitted(xyz: np.ndarray, area: np.ndarray, towards: np.ndarray) -> Plane:
    """The plane through points, by least squares."""
    middle = np.average(xyz, axis=0, weights=area)
    normal = np.linalg.eigh((xyz - middle).T * area @ (xyz - middle))[1][:, 0]
    normal = normal if normal @ towards > 0 else -normal
    return Plane(normal, float(middle @ normal))


def _hidden(plane: Plane, xyz: np.ndarray, on: np.ndarray, tolerance: float) -> float:
    """Share of the plane with surface behind it, in cells as large as its tolerance."""
    across = np.linalg.svd(plane.normal[None])[2][1:]
    cell = np.floor(xyz @ across.T / tolerance).astype(np.int64)
    _, cell = np.unique(cell, axis=0, return_inverse=True)
    return float(np.isin(np.unique(cell[on]), cell[plane.off(xyz) < -2 * tolerance]).mean())
