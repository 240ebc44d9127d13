"""The room itself: large planes behind (or under) which nothing is seen, such as floor, walls and ceiling.

Found by area, without phrases, in normals that were steadied along the surface (`smooth`): a field makes plain walls
bumpy. Directions are `up`, against it, and four at right angles, since most rooms are boxes: those in which most
surface lies in few layers; then others in which much surface faces, for walls that stand askew and ceilings under a
roof. Along a direction, planes are peaks of area over offset. A peak is structure when it is large and when hardly any
surface lies behind it where it is: under a table top there is floor, under the floor there is none.

Photos of a room hardly show its ceiling, and a strip of it is bumps and fog, no plane. But walls end where it begins
(`upper_edge`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

NONE, FLOOR, CEILING, WALL = range(4)
"""What a plane is of the room."""
TURNS = (-2.5, 2.5, -5.0, 5.0, -7.5, 7.5, -10.0, 10.0)
"""Degrees by which the direction of a wall may be off, the likeliest first."""
STEP = 2.5
"""Degrees between the boxes that are tried."""
ASKEW = 15.0
"""Degrees from the nearest side of the box from which a direction is another one."""
BINS = 72
"""Of horizontal directions, all around."""
LEANS = 0.4
"""How much a ceiling faces down, at least: one under a roof slopes by up to 65 degrees..."""
SLOPES = np.radians([30, 40, 50, 60])
"""...and slopes that are no level ceiling are looked for here."""
CLEAR = 1.5
"""So many times the area says that a wall stands askew."""
SCATTER = (2.0, 5.0)
"""How far a plane's points scatter at least and at most, in distances of neighbours."""
STRAY = 0.25
"""Share of the points that a patch of a plane has, below which others behind it are no surface."""


@dataclass(frozen=True)
class Plane:
    """x . normal = offset; the normal points to the side that is seen."""

    normal: Float[np.ndarray, "3"]
    offset: float
    tolerance: float
    """How far its points scatter."""

    def kind(self, up: Float[np.ndarray, "3"]) -> int:
        """FLOOR, CEILING or WALL."""
        tilt = float(self.normal @ up)
        return FLOOR if tilt > 0.7 else CEILING if tilt < -LEANS else WALL

    def same(self, other: "Plane") -> bool:
        """Whether it is the other one, found from another direction."""
        near = abs(self.offset - other.offset) < self.tolerance + other.tolerance
        return bool(near and self.normal @ other.normal > np.cos(np.radians(ASKEW)))

    def holds(
        self, xyz: Float[np.ndarray, "points 3"], normal: Float[np.ndarray, "points 3"]
    ) -> Bool[np.ndarray, " points"]:
        """Which points lie on it and face as it does."""
        return (np.abs(xyz @ self.normal - self.offset) < self.tolerance) & (normal @ self.normal > 0.8)


@dataclass(frozen=True)
class StructureConfig:
    """What counts as the room."""

    share: float = 0.02
    """Least area of a plane, as a share of all surface..."""
    box: float = 0.06
    """Least area in one layer of each of four sides together that makes a box."""
    little: float = 0.01
    """...but for the first wall on each side of a box: of one that hides in fog, little is where it should be."""
    fog: float = 0.06
    """Least area of one that scatters as far as a plane may, on the sides of a box excepted: less is fog itself, which
    hangs below a ceiling that photos hardly show."""
    behind: float = 0.1
    """Most of a plane's patches that may have surface behind them..."""
    wide: float = 2.5
    """...and that many times more of a large plane's: strays gather behind walls, but no table is as large as one."""
    square: float = 1.5
    """...and that many times more on the sides of a box, where a wall is to be expected."""
    directions: int = 8
    """Most directions that are looked at for walls askew."""
    planes: int = 6
    """Most planes of one direction that are tried."""
    around: int = 3
    """Walls that make a room, least; above them is its ceiling..."""
    over: float = 0.1
    """...if hardly more surface lies there than a strip."""

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
                fits = plane is not None and (plane.tolerance < SCATTER[1] * gap or share >= fog)
                fits = fits and _behind(plane, xyz, normal, gap) <= config.may_hide(share) * leeway
                if fits:
                    least = config.share
                    if not any(plane.same(known) for known in found):
                        found.append(plane)
                # Beside a plane are its own stray points; close behind what is none there may be one.
                wide = 4 if fits else 2
                filled[max(0, peak - wide) : peak + wide + 1] = 0
    return found


def _sharpest(
    direction: np.ndarray, xyz: np.ndarray, normal: np.ndarray, area: np.ndarray, up: np.ndarray, step: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """`_layers` in a direction, or in one close to it where a wall clearly stands askew."""
    plain = _layers(direction, xyz, normal, area, step)
    if abs(direction @ up) > 0.1:
        return plain
    turned = (_layers(_turn(direction, up, angle), xyz, normal, area, step) for angle in TURNS)
    sharpest = max(turned, key=lambda found: found[-1].max())
    return sharpest if sharpest[-1].max() > CLEAR * plain[-1].max() else plain


def _turn(direction: np.ndarray, up: np.ndarray, degrees: float) -> np.ndarray:
    """A horizontal direction, turned about `up`."""
    return np.cos(np.radians(degrees)) * direction + np.sin(np.radians(degrees)) * np.cross(up, direction)


def _layers(
    direction: np.ndarray, xyz: np.ndarray, normal: np.ndarray, area: np.ndarray, step: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What faces in a direction, in layers: the direction, which points do, each one's layer, area of each layer."""
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


def upper_edge(
    height: Float[np.ndarray, " points"],
    area: Float[np.ndarray, " points"],
    wall: Bool[np.ndarray, " points"],
    gap: float,
    config: StructureConfig | None = None,
) -> float:
    """Where a room's walls thin out, and a strip of its ceiling begins: the middle of the highest layer in which walls
    have half of their usual area. Infinity where there is nothing to say: no wall, or more above than a strip.

    Args:
        height: of surface points.
        area: of the surface around each.
        wall: which lie on walls.
        gap: typical distance of neighbours; layers are three times as high.
        config: see there.
    """
    config, step = config or StructureConfig(), 3 * gap
    if not wall.any():
        return np.inf
    at = ((height - height.min()) / step).astype(np.int64)
    filled = np.bincount(at[wall], area[wall])
    order = np.argsort(filled)
    usual = filled[order][np.searchsorted(np.cumsum(filled[order]), filled.sum() / 2)]
    edge = float(height.min() + (np.flatnonzero(filled >= usual / 2).max() + 0.5) * step)
    return edge if area[height > edge].sum() <= config.over * area.sum() else np.inf


def _walls(
    xyz: np.ndarray, normal: np.ndarray, area: np.ndarray, up: np.ndarray, step: float, config: StructureConfig
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Horizontal directions of walls: the four of a box, none where nothing is like one, and those askew to them in
    which much surface faces, most first."""
    aside = np.eye(3)[np.abs(up).argmin()]
    x = np.cross(up, aside) / np.linalg.norm(np.cross(up, aside))
    # A field that is bumpy makes each wall face anywhere, and crisp furniture may stand askew: the points of four long
    # walls in few layers still stand out.
    aslant = np.abs(normal @ up) <= 0.6  # what else faces in none of these directions
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
    """Directions between level and upright, downwards, in which much surface faces: of ceilings under a roof."""
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
    """Where around a circle three bins hold the most, counted in bins from the start of the first, and how much."""
    smooth = sum(np.roll(filled, k) for k in (-1, 0, 1))
    peak = int(smooth.argmax())
    around = np.arange(peak - 1, peak + 2)
    weight = filled[around % len(filled)]
    return float(((around + 0.5) * weight).sum() / max(weight.sum(), 1e-12)), float(smooth[peak])


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
        tolerance = float(np.clip(3 * 1.4826 * np.median(off), *np.multiply(SCATTER, gap)))
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
