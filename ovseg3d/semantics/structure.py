"""The room itself: large planes behind (or under) which nothing is seen, such as floor, walls and ceiling.

Found by area, without phrases, in normals that were steadied along the surface (`smooth`): a field makes plain walls
bumpy. Directions are taken from the normals: along `up`, against it, and the directions at right angles to it in
which most surface faces (and, to be tried, those at right angles to the first of them). Along a direction, planes are
peaks of area over offset. A peak is structure when it is large and when hardly any surface lies behind it where it is:
under a table top there is floor, under the floor there is none.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

NONE, FLOOR, CEILING, WALL = range(4)
"""What a plane is of the room."""
STRAY = 0.25
"""Share of the points that a patch of a plane has, below which others behind it are no surface."""


def facing_like(tilt: Float[np.ndarray, "*any"]) -> Int[np.ndarray, "*any"]:
    """FLOOR, CEILING or WALL for what faces up by this cosine."""
    return np.where(tilt > 0.7, FLOOR, np.where(tilt < -0.7, CEILING, WALL))


@dataclass(frozen=True)
class Plane:
    """x . normal = offset; the normal points to the side that is seen."""

    normal: Float[np.ndarray, "3"]
    offset: float
    tolerance: float
    """How far its points scatter."""

    def kind(self, up: Float[np.ndarray, "3"]) -> int:
        """FLOOR, CEILING or WALL."""
        return int(facing_like(np.asarray(self.normal @ up)))

    def holds(
        self, xyz: Float[np.ndarray, "points 3"], normal: Float[np.ndarray, "points 3"]
    ) -> Bool[np.ndarray, " points"]:
        """Which points lie on it and face as it does."""
        return (np.abs(xyz @ self.normal - self.offset) < self.tolerance) & (normal @ self.normal > 0.8)


@dataclass(frozen=True)
class StructureConfig:
    """What counts as the room."""

    share: float = 0.02
    """Least area of a plane, as a share of all surface."""
    behind: float = 0.1
    """Most of a plane's patches that may have surface behind them..."""
    wide: float = 2.5
    """...and that many times more of a large plane's: strays gather behind walls, but no table is as large as one."""
    directions: int = 8
    """Most directions of walls that are tried."""
    planes: int = 4
    """Most planes of one direction that are tried."""

    def may_hide(self, share: float) -> float:
        """Most of the patches of a plane with this share of all surface that may have surface behind them."""
        return self.behind * float(np.clip(share / (1.5 * self.share), 1.0, self.wide))


def room_planes(
    xyz: Float[np.ndarray, "points 3"],
    normal: Float[np.ndarray, "points 3"],
    area: Float[np.ndarray, " points"],
    up: Float[np.ndarray, "3"],
    gap: float,
    config: StructureConfig | None = None,
) -> list[Plane]:
    """The planes of the room, those of each direction together.

    Args:
        xyz: surface points.
        normal: unit length.
        area: of the surface around each point.
        up: unit vector.
        gap: typical distance of neighbours; offsets are told apart to three times that.
        config: see there.
    """
    config = config or StructureConfig()
    found: list[Plane] = []
    for direction in [up, -up, *_walls(normal, area, up, config)]:
        facing = normal @ direction > 0.8
        if area[facing].sum() < config.share * area.sum():
            continue
        offset = xyz @ direction
        step = 3 * gap
        first = offset.min()
        at = ((offset - first) / step).astype(np.int64)
        filled = np.bincount(at[facing], area[facing], minlength=at.max() + 1)
        # A plane that falls between two steps, or scatters, still has its area within three.
        filled = np.convolve(filled, np.ones(3), mode="same")
        for _ in range(config.planes):
            peak = int(filled.argmax())
            share = filled[peak] / area.sum()
            if share < config.share:
                break
            filled[max(0, peak - 4) : peak + 5] = 0
            plane = _fit(xyz, facing & (np.abs(at - peak) <= 1), area, direction, gap)
            if plane is not None and _behind(plane, xyz, normal, gap) <= config.may_hide(share):
                found.append(plane)
    return found


def lies_on(
    planes: Sequence[Plane],
    xyz: Float[np.ndarray, "points 3"],
    normal: Float[np.ndarray, "points 3"],
    cell: Float[np.ndarray, " points"],
) -> Int[np.ndarray, " points"]:
    """The plane that each point lies on, from 1; 0 for none.

    Points that scatter are taken too: those within 1.5 of their own cells, and three times as far behind a plane, where
    nothing else can be. Of several planes the one counts whose scatter explains a point best.

    Args:
        planes: of the room.
        xyz: surface points.
        normal: steadied, unit length.
        cell: sizes of their cells.
    """
    best, found = np.ones(len(xyz)), np.zeros(len(xyz), np.int64)
    for number, plane in enumerate(planes, start=1):
        off = xyz @ plane.normal - plane.offset
        off = np.where(off > 0, off, -off / 3) / np.maximum(plane.tolerance, 1.5 * cell)
        nearer = (off < best) & (normal @ plane.normal > 0.5)
        found[nearer], best[nearer] = number, off[nearer]
    return found


def _walls(normal: np.ndarray, area: np.ndarray, up: np.ndarray, config: StructureConfig) -> list[np.ndarray]:
    """Horizontal directions in which most surface faces, most first, at least 30 degrees apart."""
    aside = np.eye(3)[np.abs(up).argmin()]
    x = np.cross(up, aside) / np.linalg.norm(np.cross(up, aside))
    y = np.cross(up, x)
    upright = np.abs(normal @ up) < 0.3
    bins = 72
    angle = np.arctan2(normal[upright] @ y, normal[upright] @ x)
    at = np.floor((angle / (2 * np.pi)) % 1.0 * bins).astype(np.int64) % bins
    filled = np.bincount(at, area[upright], minlength=bins)
    smooth = sum(np.roll(filled, k) for k in (-1, 0, 1))
    found = []
    for _ in range(config.directions):
        peak = int(smooth.argmax())
        if smooth[peak] <= config.share * area.sum():
            break
        around = np.arange(peak - 1, peak + 2)
        turn = 2 * np.pi * ((around + 0.5) * filled[around % bins]).sum() / filled[around % bins].sum() / bins
        found.append(np.cos(turn) * x + np.sin(turn) * y)
        smooth[np.arange(peak - 5, peak + 6) % bins] = 0
    # Most rooms are boxes: a wall of which little is seen, behind a window, say, stands at right angles to the others.
    for along in found[:1]:
        for other in (-along, np.cross(up, along), -np.cross(up, along)):
            if all(other @ known < np.cos(np.pi / 6) for known in found):
                found.append(other)
    return found


def _fit(xyz: np.ndarray, chosen: np.ndarray, area: np.ndarray, direction: np.ndarray, gap: float) -> Plane | None:
    """The plane through most of the chosen points: least squares, twice, the second time without the far ones."""
    points, weight = xyz[chosen], area[chosen]
    plane, tolerance = None, np.inf
    for _ in range(3):
        if plane is not None:
            kept = np.abs(points @ plane.normal - plane.offset) < tolerance
            points, weight = points[kept], weight[kept]
        if len(points) < 10:
            return None
        middle = (points * weight[:, None]).sum(0) / weight.sum()
        apart = points - middle
        normal = np.linalg.eigh((apart * weight[:, None]).T @ apart)[1][:, 0]
        normal = normal if normal @ direction > 0 else -normal
        if normal @ direction < 0.9:
            return None
        off = np.abs(apart @ normal)
        tolerance = float(np.clip(3 * 1.4826 * np.median(off), 2 * gap, 5 * gap))
        plane = Plane(normal, float(middle @ normal), tolerance)
    return plane


def _behind(plane: Plane, xyz: np.ndarray, normal: np.ndarray, gap: float) -> float:
    """Share of the plane's patches with surface behind them."""
    aside = np.eye(3)[np.abs(plane.normal).argmin()]
    x = np.cross(plane.normal, aside) / np.linalg.norm(np.cross(plane.normal, aside))
    y = np.cross(plane.normal, x)
    place = np.floor(np.stack([xyz @ x, xyz @ y], -1) / (4 * gap)).astype(np.int64)
    key = (place[:, 0] << 24) + place[:, 1]
    patches, on = np.unique(key[plane.holds(xyz, normal)], return_counts=True)
    hidden, behind = np.unique(key[xyz @ plane.normal < plane.offset - 2 * plane.tolerance], return_counts=True)
    # A few stray points are no surface.
    hidden = hidden[behind > STRAY * np.median(on)] if len(on) else hidden
    return float(np.isin(patches, hidden).mean()) if len(patches) else 1.0
