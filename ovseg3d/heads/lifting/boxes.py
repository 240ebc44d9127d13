"""3D boxes of the objects in one photo, from their masks: labels of a kind that needs no 3D annotation.

The photo's depth gives an object's visible points. Its box is fitted in steps:

1. The largest cluster of its points, joined over gaps that grow with the range, and what is near it for a thing of its
   size: something may hide what connects them. What lies farther apart is another surface behind.
2. The yaw with the smallest footprint; that of the walls, if its footprint is hardly larger.
3. The extent of the points along these axes, hardly trimmed.
4. Sides where the mask ends at the photo's border or at something nearer are *open*: the object may go on there. An
   open side is moved outwards to where the object most likely ends, by its usual size (see `sizes`). So are sides that
   face away from the camera, if the object is so small for its kind that a part of it is likelier than the whole.

A box has a quality, 0 to 1: how usual its size is, and how many of its sides are open. ImOV3D (Yang et al. 2024) makes
such labels with principal axes, without completion, and drops sizes off by a factor of ten.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree  # pyright: ignore[reportAttributeAccessIssue] - not in SciPy's list of names
from scipy.stats import norm
from sklearn.cluster import DBSCAN

from ovseg3d.heads.lifting.sizes import DEVIATION, usual_log_size

MIN_POINTS = 30
"""Fewer show no extent."""
SAMPLE = 800
"""About so many points of an object are turned to find its yaw."""
CELL, GAP = 0.02, 0.05
"""Points are clustered in cells of this side, joined over gaps of at most that: shares of their median distance from
the camera. Chosen by hand: a photo of 160 pixels has a point every 1 %, on oblique surfaces every 3 %."""
REACH = 0.5
"""Clusters that are farther from the largest one are another thing: a share of the object's diagonal."""
STRAY = 0.002
"""Share of a mask's points outside the box on each side. Far parts of a thing have few points: by 1 % a side it loses
a tenth of its length."""
CUT = 0.25
"""A side is open if so many ends say so, times the root of the points: a cut is a line."""
ANGLES = 30
"""Yaws that are tried, over a quarter of a turn: every 3 degrees."""
WALL = 1.15
"""The walls' yaw is taken if its footprint is larger by at most this factor."""
NEARER = 0.05
"""What covers an object is nearer by this share of the depth."""
MIN_SIDE = 0.02
"""Metres."""
OPEN = 0.8
"""Factor of the quality for each open side; chosen by hand."""


@dataclass(frozen=True)
class FittedBox:
    """The box of an object that one photo shows."""

    box: Float[np.ndarray, "7"]
    """Centre, full size, yaw (radians). Its x is across the front of things of its kind, or along the longer level side
    where the usual size is unknown or not used; nothing says which side is the front."""
    open_sides: Bool[np.ndarray, "6"]
    """Where nothing says that the object ends: x low, x high, y low, y high, z low, z high, along its own axes."""
    quality: float
    points: Int[np.ndarray, " members"]
    """Rows of the points that it was fitted to."""


def open_ends(instance: Int[np.ndarray, "h w"], depth_z: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w 2"]:
    """Directions in which an object may go on, in pixels (right, down): over the photo's border, or behind something
    nearer that covers it. 0 where it does not.

    Args:
        instance: object of each pixel, 0 for none.
        depth_z: of each pixel, 0 where unknown.
    """
    number, near = np.pad(instance, 1, constant_values=-1), np.pad(depth_z, 1, constant_values=1e-6)
    found = np.zeros((*instance.shape, 2))
    height, width = instance.shape
    for right, down in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        beside = np.s_[1 + down : 1 + down + height, 1 + right : 1 + right + width]
        ends = (number[beside] != instance) & (near[beside] > 0) & (near[beside] < (1 - NEARER) * depth_z)
        found[ends & (instance > 0)] += right, down
    return found


def fit_box(
    xyz: Float[np.ndarray, "points 3"],
    ends: Float[np.ndarray, "points 3"],
    eye: Float[np.ndarray, "3"],
    name: str = "",
    wall_yaw: float | None = None,
    *,
    usual: bool = True,
    spacing: float = 0.0,
    stray: float = STRAY,
) -> FittedBox | None:
    """The box of an object's points; None if they are too few.

    Args:
        xyz: metres, z up.
        ends: directions in which the object may go on, see `open_ends`; 0 where it does not.
        eye: position of the camera.
        name: its kind, for the usual size.
        wall_yaw: of the walls, radians.
        usual: complete to the usual size.
        spacing: of the points, metres, if they are not as dense as a photo's. Gaps of twice that are none.
        stray: share of the points that may lie outside the box on each side, and of the ends that may be wrong.
    """
    prior = usual_log_size(name) if usual else None
    rows = _near_clusters(xyz, eye, 2 * spacing, prior)
    if len(rows) < MIN_POINTS:
        return None
    yaw = _yaw(xyz[rows, :2], wall_yaw, stray)
    axes = np.array([[np.cos(yaw), np.sin(yaw), 0], [-np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    local = xyz[rows] @ axes.T
    span = np.quantile(local, [stray, 1 - stray], axis=0).T
    span += np.maximum(MIN_SIDE - np.ptp(span, axis=1), 0)[:, None] / 2 * (-1, 1)
    is_open = _open_sides(ends[rows] @ axes.T, local, span, stray)
    if prior is not None:
        span, is_open = _completed(span, is_open, axes @ eye, prior)
    size, center, sides = np.ptp(span, axis=1), axes.T @ span.mean(1), is_open.ravel()
    if size[0] < size[1] if prior is None else _is_turned(prior, size, np.zeros(3, bool)):
        yaw, size, sides = yaw + np.pi / 2, size[[1, 0, 2]], sides[[2, 3, 1, 0, 4, 5]]
    quality = OPEN ** sides.sum()
    if prior is not None:
        quality *= np.exp(-(((np.log(size) - prior) / (2 * DEVIATION)) ** 2).mean() / 2)
    return FittedBox(np.array([*center, *size, yaw]), sides, float(quality), rows)


def _open_sides(ends: np.ndarray, local: np.ndarray, span: np.ndarray, stray: float) -> Bool[np.ndarray, "3 2"]:
    """Which sides are open: those that enough ends point to, from their half of the box.

    Args:
        ends: directions along the box's axes.
        local: the points along these.
        span: low and high side of the box on each axis.
        stray: share of the points that may be wrong.
    """
    main = (np.abs(ends).argmax(1)[:, None] == np.arange(3))[..., None]
    beyond = local > span.mean(1)
    toward = np.stack([(ends < 0) & ~beyond, (ends > 0) & beyond], -1)
    return (main & toward).sum(0) > max(CUT * len(ends) ** 0.5, stray * len(ends))


def _completed(
    span: np.ndarray, is_open: np.ndarray, eye: np.ndarray, prior: np.ndarray
) -> tuple[Float[np.ndarray, "3 2"], Bool[np.ndarray, "3 2"]]:
    """Low and high sides of the box with the usual size, as far as it may go on; and which of them are open then.

    Args:
        span, is_open: before.
        eye: position of the camera along the box's axes.
        prior: logarithms of the usual size.
    """
    size, some = np.ptp(span, axis=1), is_open[:, 0] | is_open[:, 1]
    median = prior[[1, 0, 2]] if _is_turned(prior, size, some) else prior
    far = np.greater((eye[:, None] - span) * (1, -1), 0)
    wants = size * np.expm1(_log_growth((np.log(size) - median) / DEVIATION, some))
    ways = np.where(some[:, None], is_open, far) & (wants > 0)[:, None]
    share = ways / np.maximum(ways.sum(1, keepdims=True), 1)
    return span + wants[:, None] * share * (-1, 1), is_open | ways


def _log_growth(size: np.ndarray, is_cut: np.ndarray) -> Float[np.ndarray, " axes"]:
    """Logarithm of how much longer an object is than what is seen of it: the posterior's median.

    What is seen is all of the object or, as likely before, a part of any length. An axis that is cut shows a part.

    Args:
        size: that is seen: its logarithm less that of the usual size, in deviations.
        is_cut: of each axis.
    """
    whole = np.where(is_cut, 0, norm.pdf(size) / DEVIATION)
    # A part as long as this, of an object with a usual size: exp(-growth) is the density of its share, and makes a
    # normal distribution one with another mean.
    beyond = norm.sf(size + DEVIATION)
    part = np.exp(DEVIATION * size + DEVIATION**2 / 2) * beyond
    tail = np.minimum((whole + part) / (2 * part), 1)  # probability of a larger one, if it is a part
    return np.where(tail < 1, (norm.isf(tail * beyond) - DEVIATION - size) * DEVIATION, 0)


def _is_turned(prior: np.ndarray, size: np.ndarray, ends: np.ndarray) -> bool:
    """Whether a box fits the usual size better after a quarter of a turn; axes that are open may be too short.

    Args:
        prior: logarithms of the usual size.
        size: of the box.
        ends: which axes have an open side.
    """

    def unlikely(order: np.ndarray) -> float:
        off = np.log(size) - order
        return float((np.where(ends, np.maximum(off, 0), off) ** 2).sum())

    return unlikely(prior[[1, 0, 2]]) < unlikely(prior)


def _near_clusters(xyz: np.ndarray, eye: np.ndarray, gap: float, prior: np.ndarray | None) -> Int[np.ndarray, " kept"]:
    """Rows of the points of the largest cluster, and of those near it for an object of its size.

    Args:
        xyz: metres.
        eye: position of the camera.
        gap: clusters are joined over gaps of this, too.
        prior: logarithms of the usual size; None: the largest cluster has the object's size.
    """
    if len(xyz) < MIN_POINTS:
        return np.arange(0)
    unit = float(np.median(np.linalg.norm(xyz - eye, axis=1)))
    cell = np.floor((xyz - xyz.min(0)) / (CELL * unit)).astype(np.int64)
    _, first, of, count = np.unique(cell, axis=0, return_index=True, return_inverse=True, return_counts=True)
    places = xyz[first]
    label = DBSCAN(eps=max(GAP * unit, gap), min_samples=1).fit_predict(places)
    main = places[label == np.bincount(label, count).argmax()]
    size = np.ptp(main, axis=0) if prior is None else np.exp(prior)
    apart = np.full(label.max() + 1, np.inf)
    np.minimum.at(apart, label, cKDTree(main).query(places)[0])
    return np.flatnonzero((apart <= REACH * np.linalg.norm(size))[label][of.ravel()])


def _yaw(xy: np.ndarray, wall_yaw: float | None, stray: float) -> float:
    """The yaw of the smallest rectangle around the points, or that of the walls."""
    tried = np.append(np.arange(ANGLES) * (np.pi / 2 / ANGLES), [] if wall_yaw is None else [wall_yaw])
    axes = np.stack([np.cos(tried), np.sin(tried), -np.sin(tried), np.cos(tried)], 1).reshape(-1, 2, 2)
    low, high = np.quantile(axes @ xy[:: 1 + len(xy) // SAMPLE].T, [stray, 1 - stray], axis=2)
    areas = np.maximum(high - low, MIN_SIDE).prod(1)
    best = int(areas[:ANGLES].argmin())
    return float(tried[-1] if wall_yaw is not None and areas[-1] < WALL * areas[best] else tried[best])
