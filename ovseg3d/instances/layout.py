"""The layout of a room: large planes with nothing visible behind (or under) them, such as floor, walls and ceiling.

Planes are found by area, without phrases, in normals that were smoothed along the surface (`points.smooth`), since a
field makes plain walls bumpy. Directions are up, down, and four horizontal ones at right angles, since most rooms are
boxes: those in which most surface lies in few layers. Along a direction, planes are peaks of area over offset. A peak
is layout if it is large and hardly any surface lies behind it: there is floor under a table top, but nothing under the
floor. An oblique wall may be found, a steep ceiling is not.

A table top with nothing visible below it, a lawn, or a facade are such planes, too. So planes are a layout only if they
make a room (`is_room`), unless the user says that there is one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Bool, Float, Int

from ovseg3d.runs.config import Layout

NONE, FLOOR, CEILING, WALL = range(4)
"""Layout class of a plane."""
STEP = 2.5
"""Degrees between the boxes that are tried."""
DIAGONAL = np.sqrt(2) / 2
"""Cosine of 45 degrees, between floors or ceilings and walls, and between two walls of a room."""
FACING = 0.8
"""Least cosine of a normal and the direction that it faces."""
LAYER = 3
"""Layers of offsets, and the cells behind a plane, are so many gaps wide."""
BESIDE = 4
"""Layers on each side of a plane in which there is no other: its stray points, and what stands at a wall, lie there."""
SCATTER = 4
"""Medians of the points' distances within which they lie on a plane."""


@dataclass(frozen=True)
class Plane:
    """x . normal = offset; the normal points to the visible side."""

    normal: Float[np.ndarray, "3"]
    offset: float
    tolerance: float
    """How far its points scatter."""

    def kind(self, up: Float[np.ndarray, "3"]) -> int:
        """FLOOR, CEILING or WALL."""
        tilt = float(self.normal @ up)
        return FLOOR if tilt > DIAGONAL else CEILING if tilt < -DIAGONAL else WALL

    def holds(
        self, xyz: Float[np.ndarray, "points 3"], normal: Float[np.ndarray, "points 3"]
    ) -> Bool[np.ndarray, " points"]:
        """Points that lie on the plane and face as it does."""
        return (np.abs(xyz @ self.normal - self.offset) < self.tolerance) & (normal @ self.normal > FACING)


@dataclass(frozen=True)
class StructureConfig:
    """Which planes are layout."""

    layout: Layout = "auto"
    """auto: those of a room, if they make one; indoor: all that are found; none: no plane."""
    share: float = 0.03
    """Least area of a plane, as a share of all surface."""
    behind: float = 0.2
    """Most of a plane's cells that may have surface behind them, since stray points gather behind walls. So many points
    behind a cell, relative to those on a usual one, are stray, too."""


def find_layout(
    xyz: Float[np.ndarray, "points 3"],
    normal: Float[np.ndarray, "points 3"],
    area: Float[np.ndarray, " points"],
    up: Float[np.ndarray, "3"],
    gap: float,
    config: StructureConfig | None = None,
) -> list[Plane]:
    """The planes of the layout as `config.layout` says; none if they make no room.

    Args:
        xyz, normal, area, up, gap, config: as for `room_planes`.
    """
    config = config or StructureConfig()
    planes = [] if config.layout == "none" else room_planes(xyz, normal, area, up, gap, config)
    return planes if config.layout == "indoor" or is_room(planes, up) else []


def is_room(planes: Sequence[Plane], up: Float[np.ndarray, "3"]) -> bool:
    """Whether planes make a room: a floor or a ceiling, and walls that face each other or meet in a corner."""
    walls = [plane.normal for plane in planes if plane.kind(up) == WALL]
    level = len(walls) < len(planes)
    return level and any(one @ other < DIAGONAL for one, other in combinations(walls, 2))


def room_planes(
    xyz: Float[np.ndarray, "points 3"],
    normal: Float[np.ndarray, "points 3"],
    area: Float[np.ndarray, " points"],
    up: Float[np.ndarray, "3"],
    gap: float,
    config: StructureConfig | None = None,
) -> list[Plane]:
    """The planes of the layout, by direction.

    Args:
        xyz: surface points.
        normal: unit length.
        area: of the surface around each point.
        up: unit vector.
        gap: typical distance of neighbours.
        config: which planes are layout.
    """
    config = config or StructureConfig()
    found: list[Plane] = []
    step, least = LAYER * gap, config.share * area.sum()
    for direction in [up, -up, *_box(xyz, normal, area, up, step)]:
        facing, at, filled = _layers(direction, xyz, normal, area, step)
        while filled.max() >= least > 0:
            peak = int(filled.argmax())
            plane = _fit(xyz, facing & (np.abs(at - peak) <= 1), area, direction, gap)
            wide = 2  # the layers that share points with the peak; close behind one that is no plane there may be one
            if plane is not None and _behind(plane, xyz, normal, step, config.behind) <= config.behind:
                wide = BESIDE
                found.append(plane)
                # A tilted plane lies in more layers than are cleared below.
                filled -= _three(at[facing], area[facing] * plane.holds(xyz[facing], normal[facing]), len(filled))
            filled[max(0, peak - wide) : peak + wide + 1] = 0
    return found


def _box(
    xyz: np.ndarray, normal: np.ndarray, area: np.ndarray, up: np.ndarray, step: float
) -> list[Float[np.ndarray, "3"]]:
    """The four horizontal directions at right angles in which most surface lies in one layer each."""
    # Bumpy walls face many directions, and furniture may be oblique. Four long walls still fill few layers.
    aslant = np.abs(normal @ up) <= DIAGONAL  # other points face none of these directions
    if not aslant.any():
        return []
    (x, y), part = across(up), (xyz[aslant], normal[aslant], area[aslant])
    turns = np.arange(0, np.pi / 2, np.radians(STEP))
    ahead, left = np.outer(np.cos(turns), x) + np.outer(np.sin(turns), y), np.outer(np.cos(turns), y)
    left -= np.outer(np.sin(turns), x)
    boxes = [list(box) for box in np.stack([ahead, left, -ahead, -left], 1)]
    filled = [sum(_layers(side, *part, step)[-1].max() for side in box) for box in boxes]
    return boxes[int(np.argmax(filled))]


def across(normal: Float[np.ndarray, "3"]) -> Float[np.ndarray, "2 3"]:
    """Two unit vectors at right angles to a unit vector, and to each other."""
    x = np.cross(normal, np.eye(3)[np.abs(normal).argmin()])
    x = x / np.linalg.norm(x)
    return np.stack([x, np.cross(normal, x)])


def _layers(
    direction: np.ndarray, xyz: np.ndarray, normal: np.ndarray, area: np.ndarray, step: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Layers along a direction: which points face it, each point's layer, the area of each layer."""
    facing, offset = normal @ direction > FACING, xyz @ direction
    at = ((offset - offset.min()) / step).astype(np.int64)
    return facing, at, _three(at[facing], area[facing], int(at.max()) + 1)


def _three(at: np.ndarray, area: np.ndarray, count: int) -> np.ndarray:
    """Area in each layer and its two neighbours: a plane that falls between layers, or scatters, lies within three."""
    return np.convolve(np.bincount(at, area, minlength=count), np.ones(3), mode="same")


def lies_on(
    planes: Sequence[Plane],
    xyz: Float[np.ndarray, "points 3"],
    normal: Float[np.ndarray, "points 3"],
    cell: Float[np.ndarray, " points"],
) -> Int[np.ndarray, " points"]:
    """The plane of each point, from 1; 0 for none.

    Scattered points are included: those within 1.5 of their own cells, and three times as far behind a plane, where
    nothing else can be. Of several planes, the one is taken whose scatter explains a point best.

    Args:
        planes: of the layout.
        xyz: surface points.
        normal: smoothed, unit length.
        cell: sizes of their cells.
    """
    best, found = np.ones(len(xyz)), np.zeros(len(xyz), np.int64)
    for number, plane in enumerate(planes, start=1):
        off = xyz @ plane.normal - plane.offset
        off = np.where(off > 0, off, -off / 3) / np.maximum(plane.tolerance, 1.5 * cell)
        nearer = (off < best) & (normal @ plane.normal > 0.5)
        found[nearer], best[nearer] = number, off[nearer]
    return found


def _fit(xyz: np.ndarray, chosen: np.ndarray, area: np.ndarray, direction: np.ndarray, gap: float) -> Plane | None:
    """The plane through most of the chosen points: least squares, refitted without outliers."""
    points, weight = xyz[chosen], area[chosen]
    plane, tolerance = None, np.inf
    for _ in range(2):
        if plane is not None:
            kept = np.abs(points @ plane.normal - plane.offset) < tolerance
            points, weight = points[kept], weight[kept]
        middle = (points * weight[:, None]).sum(0) / weight.sum()
        apart = points - middle
        normal = np.linalg.eigh((apart * weight[:, None]).T @ apart)[1][:, 0]
        normal = normal if normal @ direction > 0 else -normal
        if normal @ direction < FACING:
            return None
        off = np.abs(apart @ normal)
        tolerance = max(SCATTER * float(np.median(off)), 2 * gap)
        plane = Plane(normal, float(middle @ normal), tolerance)
    return plane


def _behind(plane: Plane, xyz: np.ndarray, normal: np.ndarray, step: float, stray: float) -> float:
    """Share of the plane's cells, `step` wide, with surface behind them: more than `stray` of a usual cell's points."""
    cell = np.floor(xyz @ across(plane.normal).T / step).astype(np.int64)
    cell -= cell.min(0)
    key = cell @ [1, cell[:, 0].max() + 1]
    cells, on = np.unique(key[plane.holds(xyz, normal)], return_counts=True)
    hidden, behind = np.unique(key[xyz @ plane.normal < plane.offset - 2 * plane.tolerance], return_counts=True)
    hidden = hidden[behind > stray * np.median(on)] if len(on) else hidden
    return float(np.isin(cells, hidden).mean()) if len(cells) else 1.0
