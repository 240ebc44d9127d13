"""Depth of sparse points in training photos."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

MIN_ERROR_PX = 0.5
"""Least reprojection error of a point, in pixels of the photos in which it was found."""


@dataclass(frozen=True)
class Observations:
    """Depth of points in the training photos."""

    view: Int[np.ndarray, " observations"]
    """Position in `Scene.train`."""
    xy: Float[np.ndarray, "observations 2"]
    """Pixels, at the size of the frame's camera."""
    depth_z: Float[np.ndarray, " observations"]
    """z-depth, input units."""
    sigma: Float[np.ndarray, " observations"]
    """Relative standard deviation of the depth."""
    points: Float[np.ndarray, "points 3"]
    """The points, input frame."""
    tracked: bool = True
    """Whether matches say which photos observe a point; else its visibility is a guess."""


def joined(parts: Sequence[Observations]) -> Observations:
    """All observations of several sources, at least one."""
    view, xy, depth_z, sigma, points = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("view", "xy", "depth_z", "sigma", "points")
    )
    return Observations(view, xy, depth_z, sigma, points, tracked=all(part.tracked for part in parts))


def relative_sigma(
    points: Float[np.ndarray, "points 3"],
    eyes: Float[np.ndarray, "observations 3"],
    point: Int[np.ndarray, " observations"],
    error: Float[np.ndarray, " points"],
) -> Float[np.ndarray, " points"]:
    """Relative standard deviation of the depth of triangulated points.

    The error of a ray over the angle between the rays is that of the depth; it falls with the length of the track.

    Args:
        points: positions.
        eyes: position of the camera of each observation.
        point: index of the observed point.
        error: reprojection error of each point over the focal length.
    """
    rays = points[point] - eyes
    rays = rays / np.linalg.norm(rays, axis=1, keepdims=True)
    mean, length = np.zeros_like(points), np.bincount(point, minlength=len(points))
    np.add.at(mean, point, rays)
    mean = mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-9)
    # The widest angle from the mean ray, doubled.
    off, angle = np.arccos(np.clip((rays * mean[point]).sum(1), -1.0, 1.0)), np.zeros(len(points))
    np.maximum.at(angle, point, 2.0 * off)
    return error / np.maximum(angle, 1e-4) / np.sqrt(np.maximum(length - 2, 1))
