"""Which way is up in a cloud, and what its unit is, where the cloud itself makes that evident."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

SAMPLE = 20_000
"""Points that are looked at."""
SCENE = (1.0, 60.0)
"""Extent of a scene in metres, shortest and longest."""
ROOM = 25.0
"""Where the unit is no metre, it is the largest one in which the scene is no larger than this, metres."""
UNITS = {1.0: "metres", 0.01: "centimetres", 0.001: "millimetres"}
INCH = 0.0254
FLAT = 0.02
"""A cloud whose thickness is at most this share of its extent is one plane, in any direction."""
THIN = ("", "plane", "line", "place")
"""What a cloud is without extent in so many directions."""
SLAB = 0.04
"""Thickness of floor and ceiling, as a share of the height."""


@dataclass(frozen=True)
class Frame:
    """How to read a cloud's coordinates."""

    up: tuple[float, float, float] = (0.0, 0.0, 1.0)
    metres_per_unit: float = 1.0
    warnings: tuple[str, ...] = ()
    is_flat: bool = False
    """Whether the cloud is one plane, line or place, so that no object can stand out from it."""


def bounds_of(xyz: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, "2 3"]:
    """Low and high ends of a cloud along each axis, without stray points."""
    return np.percentile(_sampled(xyz), [1, 99], axis=0)


def _sampled(xyz: np.ndarray) -> np.ndarray:
    return xyz[:: max(1, len(xyz) // SAMPLE)].astype(np.float64)


def guess_frame(xyz: Float[np.ndarray, "points 3"]) -> Frame:
    """z-up metres, unless the cloud is evidently of another kind; every deviation is a warning."""
    sample, (low, high) = _sampled(xyz), bounds_of(xyz)
    extent = high - low
    metres, warnings = _unit(float(extent.max()))
    thin = _thin(sample)
    if thin == 3:
        warnings = ()
    if thin:
        said = f"The cloud is one {THIN[thin]}: no object stands out from it."
        return Frame((0.0, 0.0, 1.0), metres, (*warnings, said), is_flat=True)
    if extent.min() <= FLAT * extent.max():  # few points stand out from a plane
        return Frame((0.0, 0.0, 1.0), metres, warnings)
    axis = 2
    inside = (sample - low) / extent
    if _lies_on_y(inside, extent):
        axis = 1
        warnings += ("The floor lies across the y axis, so y is taken as up; --up z if that is wrong.",)
    sign = 1.0
    bottom, top = _dense(inside[:, axis], 0.0), _dense(inside[:, axis], 1.0)
    if top > 0.1 and bottom < 0.2 * top:
        sign, letter = -1.0, "xyz"[axis]
        said = f"The floor seems to be on top, so -{letter} is taken as up; --up {letter} if that is wrong."
        warnings += (said,)
    return Frame((0.0, sign, 0.0) if axis == 1 else (0.0, 0.0, sign), metres, warnings)


def _thin(sample: np.ndarray) -> int:
    """The number of directions, at right angles to each other, along which the cloud has no extent."""
    around = sample - sample[0]  # exactly 0 where all points are one
    axes = np.linalg.eigh(np.cov(around.T, bias=True))[1]
    # A small object on a wide floor may have less than a percent of the points.
    extent = np.ptp(np.percentile(around @ axes, [0.1, 99.9], axis=0), axis=0)
    return int((extent <= FLAT * extent.max()).sum())


def _unit(longest: float) -> tuple[float, tuple[str, ...]]:
    metres = next((unit for unit in UNITS if longest * unit <= ROOM), 1.0)
    if longest > SCENE[1] and metres != 1.0:
        said = f"The cloud extends over {longest:.0f} units: taken as {UNITS[metres]}; --scale 1 if they are metres"
        inches = f", --scale {INCH} for inches" if longest * INCH <= SCENE[1] else ""
        return metres, (f"{said}{inches}.",)
    if not SCENE[0] <= longest <= SCENE[1]:
        return 1.0, (f"The cloud extends over {longest:.3g} m; if that is wrong, state metres per unit with --scale.",)
    return 1.0, ()


def _lies_on_y(inside: np.ndarray, extent: np.ndarray) -> bool:
    """y is the shortest extent, and one of its ends is a larger plane than any end of z: a floor, not a wall."""
    ends = [max(_dense(inside[:, axis], 0.0), _dense(inside[:, axis], 1.0)) for axis in (1, 2)]
    return bool(extent[1] < 0.9 * min(extent[0], extent[2]) and ends[0] > 1.5 * ends[1])


def _dense(inside: np.ndarray, end: float) -> float:
    """Share of the points in the slab at one end (0 or 1) of an axis."""
    return float((np.abs(inside - end) < SLAB).mean())
