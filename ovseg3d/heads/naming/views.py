"""Directions from which a shape is seen: rotations from the object's frame to a view's frame.

A view's frame is x right, y down, z forward (OpenCV). The object's frame is z up, front -y. Azimuth 0 looks at the
front, and grows as the viewer walks counter-clockwise seen from above.
"""

import numpy as np
from jaxtyping import Float

ELEVATIONS = (15.0, 35.0)
"""Degrees above the horizon, in turn: what people and phones see of furniture and of things on tables."""
Y_UP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
"""From z up, front -y to y up, front z: the frame of the papers' projections."""


def look_at(azimuth_rad: float, elevation_rad: float) -> Float[np.ndarray, "3 3"]:
    """The rotation of a view from an azimuth and an elevation (radians) towards the origin."""
    sin_a, cos_a = np.sin(azimuth_rad), np.cos(azimuth_rad)
    sin_e, cos_e = np.sin(elevation_rad), np.cos(elevation_rad)
    right = np.array([cos_a, sin_a, 0.0])
    forward = np.array([-sin_a * cos_e, cos_a * cos_e, -sin_e])
    return np.stack([right, np.cross(forward, right), forward])


def orbit(count: int = 10) -> Float[np.ndarray, "views 3 3"]:
    """Views evenly around the up axis, at `ELEVATIONS` in turn."""
    angles = 2 * np.pi * np.arange(count) / count
    heights = np.radians([ELEVATIONS[k % len(ELEVATIONS)] for k in range(count)])
    return np.stack([look_at(a, e) for a, e in zip(angles, heights)])


def euler(x: float, y: float, z: float) -> Float[np.ndarray, "3 3"]:
    """X(x) Y(y) Z(z) of three angles in radians, the order of the papers' projections."""
    cx, sx, cy, sy, cz, sz = np.cos(x), np.sin(x), np.cos(y), np.sin(y), np.cos(z), np.sin(z)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_x @ about_y @ about_z


def _tilted(turns: list[np.ndarray]) -> np.ndarray:
    """The turns, tilted by 20 degrees; the last one by 12."""
    tilts = [euler(0.0, np.pi / 9, 0.0)] * (len(turns) - 1) + [euler(0.0, np.pi / 15, 0.0)]
    return np.stack([tilt @ turn for tilt, turn in zip(tilts, turns)])


def contour_views() -> Float[np.ndarray, "10 3 3"]:
    """The ten views of OpenDlign (Mao et al. 2024): 30, 60, ... 300 degrees around the data's y axis."""
    return _tilted([euler(np.radians(angle), 0.0, np.pi / 2) for angle in range(30, 330, 30)])


def pointclip_views() -> Float[np.ndarray, "10 3 3"]:
    """The ten views of PointCLIP V2 (Zhu et al. 2023): four diagonal ones, four along the axes, from above, below."""
    around = [np.pi / 4 * k for k in (1, 3, 5, 7, 0, 2, 4, 6)]
    poles = [euler(0.0, -np.pi / 2, np.pi / 2), euler(0.0, np.pi / 2, np.pi / 2)]
    return _tilted([*(euler(angle, 0.0, np.pi / 2) for angle in around), *poles])
