"""Rotating clouds and boxes about the up axis, so that walls lie along the axes."""

import numpy as np
from jaxtyping import Float

from ovseg3d.scene.clouds import PointCloud

MIN_AGREEMENT = 0.15
"""Resultant length of the wall directions below which a cloud is not rotated: it has no main directions."""


def manhattan_yaw(normal: Float[np.ndarray, "points 3"]) -> float:
    """Yaw of the main horizontal directions, -pi/4 to pi/4: the circular mean of four times the normals' angle.

    0 where the directions do not agree.
    """
    level = normal[:, 0] + 1j * normal[:, 1]
    upright = np.abs(level)
    level = level[upright > 0.9]
    if not len(level):
        return 0.0
    mean = ((level / np.abs(level)) ** 4).mean()
    return float(np.angle(mean) / 4) if abs(mean) > MIN_AGREEMENT else 0.0


def rotated(
    cloud: PointCloud, boxes: Float[np.ndarray, "boxes 7"], yaw_rad: float
) -> tuple[PointCloud, Float[np.ndarray, "boxes 7"]]:
    """Cloud and boxes, rotated counter-clockwise about +z through the origin."""
    moved = boxes.copy()
    moved[:, :3] = _rotated(boxes[:, :3], yaw_rad)
    moved[:, 6] += yaw_rad
    normal = None if cloud.normal is None else _rotated(cloud.normal, yaw_rad).astype(np.float32)
    return PointCloud(_rotated(cloud.xyz, yaw_rad).astype(np.float32), normal, cloud.rgb), moved


def _rotated(rows: Float[np.ndarray, "n 3"], yaw_rad: float) -> Float[np.ndarray, "n 3"]:
    """In double precision. Not by a matrix product: NumPy's keeps threads busy that the network needs."""
    cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
    x, y, z = rows.T
    return np.stack([cos * x - sin * y, sin * x + cos * y, z], 1)
