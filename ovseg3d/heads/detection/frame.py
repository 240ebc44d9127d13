"""Which way is up in a cloud, and what its unit is, where the cloud itself makes that evident."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ovseg3d.heads.detection.normals import estimate_normals

SAMPLE = 20_000
"""Points that are looked at."""
ROOM = (1.0, 60.0)
"""Extent of a scene in metres, shortest and longest: larger ones are tried as centimetres, then as millimetres."""
UNITS = {1.0: "metres", 0.01: "centimetres", 0.001: "millimetres"}
FLAT = 0.02
"""A cloud whose thickness is below this share of its extent is one plane."""
SLAB = 0.04
"""Thickness of floor and ceiling, as a share of the height."""


@dataclass(frozen=True)
class Frame:
    """How to read a cloud's coordinates."""

    up: tuple[float, float, float] = (0.0, 0.0, 1.0)
    metres_per_unit: float = 1.0
    warnings: tuple[str, ...] = ()


def guess_frame(xyz: Float[np.ndarray, "points 3"]) -> Frame:
    """z-up metres, unless the cloud is evidently of another kind; every deviation is a warning."""
    sample = xyz[:: max(1, len(xyz) // SAMPLE)].astype(np.float64)
    low, high = np.percentile(sample, [1, 99], axis=0)
    extent = high - low
    metres, warnings = _unit(float(extent.max()))
    if extent.min() < FLAT * extent.max():
        return Frame((0.0, 0.0, 1.0), metres, (*warnings, "The cloud is one plane: no object stands out from it."))
    axis = 2
    if _lies_on_y(sample, extent):
        axis = 1
        warnings += ("The floor lies across the y axis, so y is taken as up; --up z if that is wrong.",)
    inside = (sample[:, axis] - low[axis]) / extent[axis]
    sign = 1.0
    if _dense(inside, 1.0) > 0.1 and _dense(inside, 0.0) < 0.2 * _dense(inside, 1.0):
        sign, letter = -1.0, "xyz"[axis]
        said = f"The floor seems to be on top, so -{letter} is taken as up; --up {letter} if that is wrong."
        warnings += (said,)
    return Frame((0.0, sign, 0.0) if axis == 1 else (0.0, 0.0, sign), metres, warnings)


def _unit(longest: float) -> tuple[float, tuple[str, ...]]:
    metres = next((unit for unit in UNITS if longest * unit <= ROOM[1]), 1.0)
    if metres != 1.0:
        said = f"The cloud extends over {longest:.0f} units: taken as {UNITS[metres]}; --scale 1 if they are metres."
        return metres, (said,)
    if not ROOM[0] <= longest <= ROOM[1]:
        return 1.0, (f"The cloud extends over {longest:.3g} m; if that is wrong, state metres per unit with --scale.",)
    return 1.0, ()


def _lies_on_y(sample: np.ndarray, extent: np.ndarray) -> bool:
    """More surface faces y than z, and y is the shortest extent: floors are wider than rooms are high."""
    if extent[1] > 0.9 * min(extent[0], extent[2]):
        return False
    # Scaled to a room of 5 m, since normals are estimated in metres.
    faces = np.abs(estimate_normals(sample * (5.0 / extent.max()))) > 0.9
    return float(faces[:, 1].mean()) > 1.3 * float(faces[:, 2].mean())


def _dense(inside: np.ndarray, end: float) -> float:
    """Share of the points in the slab at one end of the height."""
    return float((np.abs(inside - end) < SLAB).mean())
