"""Depth fused over photos: what one photo completes is compared with what others complete at the same places.

Completion guesses where a photo has no points, and cannot know how well: a bare front without points gets the depth of
what is around it. Photos have points at different places, so their guesses agree where they are right, and hardly ever
where they are wrong (geometric consistency, as in multi-view stereo: Schönberger et al. 2016).

A cell of one photo has the completed depth z. Photo i sees that point at the depth z_i, and has completed d_i there.
Relative to the cell's own logarithm of depth, x_0 = 0, it says x_i = log(d_i / z_i). Fused is the robust mean

    m = sum_i q_i x_i / sum_i q_i,    q_i = p_i / (1 + ((x_i - m) / (2 SPREAD))^2),    p_i = share_i / (s_i^2 + FLOOR^2)

by reweighted least squares, with s the relative deviations of the completed depths. Its variance

    1 / sum_i q_i + sum_i p_i (x_i - m)^2 / sum_i p_i

grows with the disagreement. The share is 1 for the cell's own photo, and less for others: near photos have the same
points. Photos that something nearer hides the point from disagree too, and count as outliers.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from ovseg3d.scene.cameras import Camera

OTHERS = 12
"""Photos that each is compared with: those with the most similar pose."""
SHARE = 0.25
"""Weight of another photo."""
FLOOR = 0.005
"""Least relative deviation of a completed depth."""
SPREAD = 0.02
"""Difference of logarithms above which a photo soon counts as an outlier."""
ROUNDS = 2
"""The second round starts from fused depth, which has come farther from the points."""
REWEIGHTINGS = 5


def fuse(
    disparity: Float[np.ndarray, "views rows columns"],
    sigma: Float[np.ndarray, "views rows columns"],
    cell: Int[np.ndarray, " views"],
    cameras: Sequence[Camera],
) -> tuple[Float[np.ndarray, "views rows columns"], Float[np.ndarray, "views rows columns"]]:
    """Fused disparity of each photo, and its relative standard deviation.

    Args:
        disparity: completed, above 0, 1 / input units.
        sigma: its relative standard deviation; infinite where nothing is known, which stays so. Images of smaller
            photos are padded.
        cell: side of the cells of each photo, pixels.
        cameras: of the photos.
    """
    others = similar_poses(cameras, [float(np.median(1 / image)) for image in disparity])
    for _ in range(ROUNDS):
        fused = [_fuse_photo(number, some, disparity, sigma, cell, cameras) for number, some in enumerate(others)]
        disparity, sigma = (np.stack(images) for images in zip(*fused))
    return disparity, sigma


def similar_poses(cameras: Sequence[Camera], depth: Sequence[float]) -> list[Int[np.ndarray, " others"]]:
    """For each photo, those with the most similar pose: the distance in its own typical depths, plus the angle."""
    position = np.stack([camera.position for camera in cameras])
    forward = np.stack([camera.forward for camera in cameras])
    found = []
    for number, typical in enumerate(depth):
        angle = np.arccos(np.clip(forward @ forward[number], -1, 1))
        apart = np.linalg.norm(position - position[number], axis=1) / typical + angle
        order = np.argsort(apart, kind="stable")
        found.append(order[order != number][:OTHERS])
    return found


def _fuse_photo(
    number: int,
    others: Int[np.ndarray, " others"],
    disparity: Float[np.ndarray, "views rows columns"],
    sigma: Float[np.ndarray, "views rows columns"],
    cell: Int[np.ndarray, " views"],
    cameras: Sequence[Camera],
) -> tuple[Float[np.ndarray, "rows columns"], Float[np.ndarray, "rows columns"]]:
    """Fused disparity of one photo, and its deviation."""
    camera, side = cameras[number], int(cell[number])
    own = np.s_[: camera.height // side, : camera.width // side]
    known = np.isfinite(sigma[number][own])
    centres = (np.argwhere(known)[:, ::-1] + 0.5) * side
    z = 1.0 / disparity[number][own][known]
    origins, rays = camera.rays(centres)
    points = origins + rays * (z / (rays @ camera.forward))[:, None]
    said = [np.zeros(len(z))]
    precision = [1.0 / (sigma[number][own][known] ** 2 + FLOOR**2)]
    for other in others:
        xy, depth_z = cameras[other].project(points)
        inside = (depth_z > 0) & (xy >= 0).all(1) & (xy < (cameras[other].width, cameras[other].height)).all(1)
        side = int(cell[other])
        last = cameras[other].width // side - 1, cameras[other].height // side - 1
        column, row = np.minimum(np.where(inside[:, None], xy, 0.0) / side, last).astype(np.int64).T
        said.append(-np.log(np.where(inside, depth_z * disparity[other, row, column], 1.0)))
        precision.append(inside * SHARE / (sigma[other, row, column] ** 2 + FLOOR**2))
    mean, deviation = _robust_mean(np.stack(said), np.stack(precision))
    fused, spread = disparity[number][own].copy(), sigma[number].copy()
    fused[known] = np.exp(-mean) / z
    spread[own][known] = deviation
    padding = np.subtract(disparity[number].shape, fused.shape)
    return np.pad(fused, ((0, padding[0]), (0, padding[1])), mode="edge"), spread


def _robust_mean(
    said: Float[np.ndarray, "photos cells"], precision: Float[np.ndarray, "photos cells"]
) -> tuple[Float[np.ndarray, " cells"], Float[np.ndarray, " cells"]]:
    """The robust mean of what photos say, and its standard deviation, see the top of the file."""
    mean = (precision * said).sum(0) / precision.sum(0)
    weight = precision
    for _ in range(REWEIGHTINGS):
        weight = precision / (1.0 + ((said - mean) / (2 * SPREAD)) ** 2)
        mean = (weight * said).sum(0) / weight.sum(0)
    scatter = (precision * (said - mean) ** 2).sum(0) / precision.sum(0)
    return mean, np.sqrt(1.0 / weight.sum(0) + scatter)
