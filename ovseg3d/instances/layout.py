"""The layout of a room: large planes with nothing visible behind (or under) them, such as floor, walls and ceiling.

Planes are found by area, without phrases, in normals that were smoothed along the surface (`points.smooth`), since a
field makes plain walls bumpy. Directions are up, down, and four horizontal ones at right angles, since most rooms are
boxes: those in which most surface lies in few layers. Further directions are those that much surface faces, for oblique
walls and sloped ceilings. Along a direction, planes are peaks of area over offset. A peak is layout if it is large and
hardly any surface lies behind it: there is floor under a table top, but nothing under the floor.

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
TURNS = (-2.5, 2.5, -5.0, 5.0, -7.5, 7.5, -10.0, 10.0)
"""Degrees by which the direction of a wall may be off, the likeliest first."""
STEP = 2.5
"""Degrees between the boxes that are tried."""
ASKEW = 15.0
"""Degrees between two directions from which they are different."""
BINS = 72
"""Number of horizontal directions, over the full circle."""
LEANS = 0.4
"""Least downward component of a ceiling's normal: a sloped ceiling is at up to 65 degrees..."""
SLOPES = np.radians([30, 40, 50, 60])
"""...and these slopes are tried."""
CLEAR = 1.5
"""A wall is oblique if a rotated direction holds so many times the area."""
SCATTER = (2.0, 5.0)
"""Least and greatest scatter of a plane's points, in distances of neighbours."""
CORNER = 45.0
"""Least degrees between the directions of two walls of a room."""
STRAY = 0.25
"""Points behind a cell of a plane are stray if they are fewer than this share of the cell's usual points."""


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
        return FLOOR if tilt > 0.7 else CEILING if tilt < -LEANS else WALL

    def same(self, other: "Plane") -> bool:
        """Whether both are one plane, found from two directions."""
        near = abs(self.offset - other.offset) < self.tolerance + other.tolerance
        return bool(near and self.normal @ other.normal > np.cos(np.radians(ASKEW)))

    def holds(
        self, xyz: Float[np.ndarray, "points 3"], normal: Float[np.ndarray, "points 3"]
    ) -> Bool[np.ndarray, " points"]:
        """Points that lie on the plane and face as it does."""
        return (np.abs(xyz @ self.normal - self.offset) < self.tolerance) & (normal @ self.normal > 0.8)


@dataclass(frozen=True)
class StructureConfig:
    """Which planes are layout."""

    layout: Layout = "auto"
    """auto: those of a room, if they make one; indoor: all that are found; none: no plane."""
    share: float = 0.02
    """Least area of a plane, as a share of all surface..."""
    box: float = 0.06
    """Least area of a box: one layer on each of its four sides, together."""
    little: float = 0.01
    """Least area of the first wall on each side of a box: much of a wall in fog lies off its plane."""
    fog: float = 0.06
    """Least area of a plane with the greatest scatter, except on the sides of a box: smaller ones are fog, which lies
    below ceilings that photos hardly show."""
    behind: float = 0.1
    """Most of a plane's cells that may have surface behind them..."""
    wide: float = 2.5
    """...times this for large planes: stray points gather behind walls, and no table is as large as a wall..."""
    square: float = 1.5
    """...and times this on the sides of a box, where walls are expected."""
    directions: int = 8
    """Most directions that are tried for oblique walls."""
    planes: int = 6
    """Most planes that are tried in one direction."""

    def may_hide(self, share: float) -> float:
        """Most of the cells that may have surface behind them, for a plane with this share of all surface."""
        return self.behind * float(np.clip(share / (1.5 * self.share), 1.0, self.wide))


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
    return level and any(one @ other < np.cos(np.radians(CORNER)) for one, other in combinations(walls, 2))


def room_planes(
    xyz: Float[np.ndarray, "points 3"],
    normal: Float[np.ndarray, "points 3"],
    area: Float[np.ndarray, " points"],
    up: Float[np.ndarray, "3"],
    gap: float,
    config: StructureConfig | None = None,
) -> list[Plane]:
    """The planes of the layout, grouped by direction.

    Args:
        xyz: surface points.
        normal: unit length.
        area: of the surface around each point.
        up: unit vector.
        gap: typical distance of neighbours; offsets are resolved to three times that.
        config: which planes are layout.
    """
    config = config or StructureConfig()
    found: list[Plane] = []
    step = 3 * gap
    box, askew = _walls(xyz, normal, area, up, step, config)
    for sides, little, fog, leeway in (
        ([up, -up], config.share, config.fog, 1.0),
        (box, config.little, config.little, config.square),
        (askew, config.share, config.fog, 1.0),
        (_slopes(normal, area, up, config), config.fog, config.fog, 1.0),
    ):
        for direction in sides:
            if area[normal @ direction > 0.8].sum() < little * area.sum():
                continue
            direction, facing, at, filled = _sharpest(direction, xyz, normal, area, up, step)
            least = little
            for _ in range(config.planes):
                peak = int(filled.argmax())
                share = filled[peak] / area.sum()
                if share < least:
                    break
                plane = _fit(xyz, facing & (np.abs(at - peak) <= 1), area, direction, gap)
                fits = (
                    plane is not None
                    and (plane.tolerance < SCATTER[1] * gap or share >= fog)
                    and _behind(plane, xyz, normal, gap) <= config.may_hide(share) * leeway
                )
                if plane is not None and fits:
                    least = config.share
                    if not any(plane.same(known) for known in found):
                        found.append(plane)
                # A plane's own stray points lie beside it; close behind a rejected peak there may be a plane.
                wide = 4 if fits else 2
                filled[max(0, peak - wide) : peak + wide + 1] = 0
    return found


def _sharpest(
    direction: np.ndarray, xyz: np.ndarray, normal: np.ndarray, area: np.ndarray, up: np.ndarray, step: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """`_layers` in a direction, or in one close to it where a wall is clearly oblique."""
    plain = _layers(direction, xyz, normal, area, step)
    if abs(direction @ up) > 0.1:
        return plain
    turned = (_layers(_turn(direction, up, angle), xyz, normal, area, step) for angle in TURNS)
    sharpest = max(turned, key=lambda found: found[-1].max())
    return sharpest if sharpest[-1].max() > CLEAR * plain[-1].max() else plain


def _turn(direction: np.ndarray, up: np.ndarray, degrees: float) -> np.ndarray:
    """A horizontal direction, rotated about `up`."""
    return np.cos(np.radians(degrees)) * direction + np.sin(np.radians(degrees)) * np.cross(up, direction)


def _layers(
    direction: np.ndarray, xyz: np.ndarray, normal: np.ndarray, area: np.ndarray, step: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Layers along a direction: the direction, which points face it, each point's layer, the area of each layer."""
    facing, offset = normal @ direction > 0.8, xyz @ direction
    at = ((offset - offset.min()) / step).astype(np.int64)
    filled = np.bincount(at[facing], area[facing], minlength=at.max() + 1)
    # A plane that falls between two layers, or scatters, still has its area within three.
    return direction, facing, at, np.convolve(filled, np.ones(3), mode="same")


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


def _walls(
    xyz: np.ndarray, normal: np.ndarray, area: np.ndarray, up: np.ndarray, step: float, config: StructureConfig
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Horizontal directions of walls: the four of a box (none if there is no box), and the oblique ones that much
    surface faces, by falling area."""
    aside = np.eye(3)[np.abs(up).argmin()]
    x = np.cross(up, aside) / np.linalg.norm(np.cross(up, aside))
    # Bumpy walls face many directions, and furniture may be oblique. Four long walls still fill few layers.
    aslant = np.abs(normal @ up) <= 0.6  # other points face none of these directions
    part = xyz[aslant], normal[aslant], area[aslant]
    boxes = [[_turn(x, up, angle + quarter) for quarter in (0, 90, 180, 270)] for angle in np.arange(0, 90, STEP)]
    filled = [sum(_layers(side, *part, step)[-1].max() for side in box) for box in boxes] if aslant.any() else [0.0]
    box = boxes[int(np.argmax(filled))] if max(filled) >= config.box * area.sum() else []
    upright = np.abs(normal @ up) < 0.3
    angle = np.arctan2(normal[upright] @ np.cross(up, x), normal[upright] @ x) % (2 * np.pi)
    at = (angle / (2 * np.pi) * BINS).astype(np.int64) % BINS
    left, askew = np.bincount(at, area[upright], minlength=BINS).astype(float), []
    for _ in range(config.directions):
        around, most = _peak(left)
        if most < config.share * area.sum():
            break
        found = _turn(x, up, 360 * around / BINS)
        if all(found @ side < np.cos(np.radians(ASKEW)) for side in box):
            askew.append(found)
        left[np.arange(np.floor(around) - 5, np.floor(around) + 6).astype(int) % BINS] = 0
    return box, askew


def _slopes(normal: np.ndarray, area: np.ndarray, up: np.ndarray, config: StructureConfig) -> list[np.ndarray]:
    """Oblique downward directions that much surface faces: sloped ceilings."""
    aside = np.eye(3)[np.abs(up).argmin()]
    x = np.cross(up, aside) / np.linalg.norm(np.cross(up, aside))
    round_about = [_turn(x, up, angle) for angle in np.arange(0.0, 360.0, 15.0).tolist()]
    tried = np.array([np.sin(slope) * side - np.cos(slope) * up for slope in SLOPES for side in round_about])
    facing = normal @ tried.T > 0.97
    left, found = area.copy(), []
    for _ in range(config.directions):
        filled = left @ facing
        best = int(filled.argmax())
        if filled[best] < config.fog * area.sum():
            break
        found.append(tried[best])
        left[normal @ tried[best] > 0.9] = 0
    return found


def _peak(filled: Float[np.ndarray, " bins"]) -> tuple[float, float]:
    """The position on a circle where three bins hold the most, in bins from the start of the first, and how much."""
    smooth = np.roll(filled, -1) + filled + np.roll(filled, 1)
    peak = int(smooth.argmax())
    around = np.arange(peak - 1, peak + 2)
    weight = filled[around % len(filled)]
    return float(((around + 0.5) * weight).sum() / max(weight.sum(), 1e-12)), float(smooth[peak])


def _fit(xyz: np.ndarray, chosen: np.ndarray, area: np.ndarray, direction: np.ndarray, gap: float) -> Plane | None:
    """The plane through most of the chosen points: least squares, refitted without outliers."""
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
        tolerance = float(np.clip(3 * 1.4826 * np.median(off), *np.multiply(SCATTER, gap)))
        plane = Plane(normal, float(middle @ normal), tolerance)
    return plane


def _behind(plane: Plane, xyz: np.ndarray, normal: np.ndarray, gap: float) -> float:
    """Share of the plane's cells with surface behind them."""
    aside = np.eye(3)[np.abs(plane.normal).argmin()]
    x = np.cross(plane.normal, aside) / np.linalg.norm(np.cross(plane.normal, aside))
    y = np.cross(plane.normal, x)
    cell = np.floor(np.stack([xyz @ x, xyz @ y], -1) / (4 * gap)).astype(np.int64)
    key = (cell[:, 0] << 24) + cell[:, 1]
    cells, on = np.unique(key[plane.holds(xyz, normal)], return_counts=True)
    hidden, behind = np.unique(key[xyz @ plane.normal < plane.offset - 2 * plane.tolerance], return_counts=True)
    # A few stray points are not surface.
    hidden = hidden[behind > STRAY * np.median(on)] if len(on) else hidden
    return float(np.isin(cells, hidden).mean()) if len(cells) else 1.0
