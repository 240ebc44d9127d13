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
from ovseg3d.geometry.overlap import rotated_iou
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

    def row(self) -> Float[np.ndarray, "7"]:
        """Centre, size and yaw, as in arrays of boxes."""
        return np.array([*self.center, *self.size, self.yaw_rad], dtype=np.float64)


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
    """Volume of the overlap over that of the union, exact; 0 if a box has no volume. Many at once: `rotated_iou`."""
    return float(rotated_iou(first.row()[None], second.row()[None])[0, 0])
