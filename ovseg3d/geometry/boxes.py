"""Upright boxes: centre, full size, and a rotation about +z; and their intersection over union.

Size is measured along the box's own axes; `yaw_rad` rotates them counter-clockwise about +z. Tilted boxes are not
supported: of a record with a full rotation only the rotation about z is used.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from ovseg3d.errors import SceneError
from ovseg3d.geometry.rotations import from_wxyz

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Box:
    """One box, in the frame and unit of its points."""

    center: Triple
    """Centre."""
    size: Triple
    """Full lengths, not halves."""
    yaw_rad: float = 0.0
    """Rotation about +z, radians, counter-clockwise."""

    @property
    def volume(self) -> float:
        """Volume, in cubic units."""
        return self.size[0] * self.size[1] * self.size[2]

    def footprint(self) -> Float[np.ndarray, "4 2"]:
        """The corners in the xy plane, counter-clockwise."""
        half = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * np.array(self.size[:2]) / 2
        cos, sin = math.cos(self.yaw_rad), math.sin(self.yaw_rad)
        return half @ np.array([[cos, sin], [-sin, cos]]) + self.center[:2]


def box_from_record(record: Mapping[str, Any]) -> Box:
    """The box of one entry of objects.json: `center`, `size`, and `yaw_rad` or else `rotation_wxyz`.

    Raises:
        SceneError: center or size is missing, or is not three finite numbers, or a size is negative.
    """
    try:
        center, size = (tuple(float(v) for v in record[key]) for key in ("center", "size"))
        yaw = record.get("yaw_rad")
        if yaw is None:
            turn = from_wxyz([float(v) for v in record.get("rotation_wxyz") or (1, 0, 0, 0)]).as_matrix()
            yaw = math.atan2(turn[1, 0], turn[0, 0])
        yaw = float(yaw)
        if len(center) != 3 or len(size) != 3 or not np.isfinite([*center, *size, yaw]).all() or min(size) < 0:
            raise ValueError("center and size need three finite numbers")
    except (KeyError, TypeError, ValueError) as error:
        name = f"object {record.get('id', '?')}"
        raise SceneError(
            f"The box of {name} is not usable: {error}", where="objects.json", fix="write center, size and yaw_rad"
        ) from error
    return Box(center, size, yaw)


def box_iou(first: Box, second: Box) -> float:
    """Volume of the overlap over that of the union, exact; 0 if a box has no volume.

    The footprints are intersected as convex polygons (Sutherland and Hodgman 1974), the heights as intervals.
    """
    if min(first.volume, second.volume) <= 0:
        return 0.0  # clipping by a footprint without area would keep the whole other one
    low = max(b.center[2] - b.size[2] / 2 for b in (first, second))
    high = min(b.center[2] + b.size[2] / 2 for b in (first, second))
    shared = max(0.0, high - low) * _area(_clip(first.footprint(), second.footprint()))
    return min(1.0, shared / (first.volume + second.volume - shared))


def _clip(polygon: np.ndarray, window: np.ndarray) -> np.ndarray:
    """The intersection of two convex polygons, both counter-clockwise."""
    for start, end in zip(window, np.roll(window, -1, axis=0)):
        if not len(polygon):
            break
        edge = end - start
        # Signed distance (times the edge's length) of each corner to the left of the edge; the left is inside.
        inside = edge[0] * (polygon[:, 1] - start[1]) - edge[1] * (polygon[:, 0] - start[0])
        kept = []
        for i in range(len(polygon)):
            j = (i + 1) % len(polygon)
            if inside[i] >= 0:
                kept.append(polygon[i])
            if inside[i] * inside[j] < 0:
                share = inside[i] / (inside[i] - inside[j])
                kept.append(polygon[i] + share * (polygon[j] - polygon[i]))
        polygon = np.array(kept).reshape(-1, 2)
    return polygon


def _area(polygon: np.ndarray) -> float:
    x, y = polygon[:, 0], polygon[:, 1]
    return abs(float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum())) / 2 if len(polygon) > 2 else 0.0
