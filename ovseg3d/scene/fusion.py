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
points. What photo i has completed in front of the point may hide it: if the own photo shows that surface, too, at
another pixel, photo i says nothing of the point.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

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
"""In the second round photos compare depth that was fused in the first."""
REWEIGHTINGS = 5


@dataclass(frozen=True)
class Fused:
    """Depth that photos agree on."""

    disparity: Float[np.ndarray, "views rows columns"]
    sigma: Float[np.ndarray, "views rows columns"]
    """Its relative standard deviation."""
    others_sigma: Float[np.ndarray, "views rows columns"]
    """The same if the cell's own photo counted for nothing: infinite where no other photo says anything."""


def fuse(
    disparity: Float[np.ndarray, "views rows columns"],
    sigma: Float[np.ndarray, "views rows columns"],
    cell: Int[np.ndarray, " views"],
    cameras: Sequence[Camera],
    report: Callable[[float], None] = lambda _share: None,
) -> Fused:
    """Fuse the completed depth of all photos.

    Args:
        disparity: completed, above 0, 1 / input units.
        sigma: its relative standard deviation; infinite where nothing is known, which stays so. Images of smaller
            photos are padded.
        cell: side of the cells of each photo, pixels.
        cameras: of the photos.
        report: receives the fused share, before each photo.
    """
    others = similar_poses(cameras, disparity, np.isfinite(sigma.min((1, 2))))
    alone = np.full_like(sigma, np.inf)
    for turn in range(ROUNDS):
        fused = []
        for number, some in enumerate(others):
            report((turn + number / len(others)) / ROUNDS)
            fused.append(_fuse_photo(number, some, disparity, sigma, cell, cameras))
        disparity, sigma, alone = (np.stack(images) for images in zip(*fused))
    return Fused(disparity, sigma, alone)


def similar_poses(
    cameras: Sequence[Camera], disparity: Float[np.ndarray, "views rows columns"], known: Bool[np.ndarray, " views"]
) -> list[Int[np.ndarray, " others"]]:
    """For each photo, those with the most similar pose: the distance in its own typical depths, plus the angle.

    Args:
        cameras: of the photos.
        disparity: of the photos.
        known: photos that may be chosen.
    """
    position = np.stack([camera.position for camera in cameras])
    forward = np.stack([camera.forward for camera in cameras])
    found = []
    for number, image in enumerate(disparity):
        angle = np.arccos(np.clip(forward @ forward[number], -1, 1))
        apart = np.linalg.norm(position - position[number], axis=1) * float(np.median(image)) + angle
        order = np.argsort(apart, kind="stable")
        found.append(order[known[order] & (order != number)][:OTHERS])
    return found


def _fuse_photo(
    number: int,
    others: Int[np.ndarray, " others"],
    disparity: Float[np.ndarray, "views rows columns"],
    sigma: Float[np.ndarray, "views rows columns"],
    cell: Int[np.ndarray, " views"],
    cameras: Sequence[Camera],
) -> tuple[Float[np.ndarray, "rows columns"], Float[np.ndarray, "rows columns"], Float[np.ndarray, "rows columns"]]:
    """Fused disparity of one photo, its deviation, and that by other photos alone."""
    views = [_View(cameras[view], int(cell[view]), disparity[view], sigma[view]) for view in (number, *others)]
    own, known = views[0], np.isfinite(views[0].sigma)
    points, z = own.points(np.argwhere(known))
    said, precision = [np.zeros(len(z))], [1.0 / (own.sigma[known] ** 2 + FLOOR**2)]
    for view in views[1:]:
        place, away, inside = view.sees(points)
        x = np.where(inside, away, 0.0)
        p = inside * SHARE / (view.sigma[tuple(place.T)] ** 2 + FLOOR**2)
        hidden = np.flatnonzero(x < -2 * SPREAD)
        shown, nearer, inside = own.sees(view.points(place[hidden])[0])
        p[hidden[inside & (np.abs(nearer) < 2 * SPREAD) & known[tuple(shown.T)]]] = 0.0
        said.append(x)
        precision.append(p)
    mean, deviation, others_deviation = _robust_mean(np.stack(said), np.stack(precision))
    fused, spreads = own.disparity.copy(), [sigma[number].copy(), np.full_like(sigma[number], np.inf)]
    fused[known] = np.exp(-mean) / z
    for spread, values in zip(spreads, (deviation, others_deviation)):
        spread[: known.shape[0], : known.shape[1]][known] = values
    padding = np.subtract(disparity[number].shape, fused.shape)
    return np.pad(fused, ((0, padding[0]), (0, padding[1])), mode="edge"), *spreads


class _View:
    """Completed depth of one photo, without padding."""

    def __init__(self, camera: Camera, side: int, disparity: np.ndarray, sigma: np.ndarray) -> None:
        own = np.s_[: camera.height // side, : camera.width // side]
        self.camera, self.side, self.disparity, self.sigma = camera, side, disparity[own], sigma[own]

    def points(
        self, place: Int[np.ndarray, "cells 2"]
    ) -> tuple[Float[np.ndarray, "cells 3"], Float[np.ndarray, " cells"]]:
        """Surface points of cells (row, column), and their z-depth."""
        origins, rays = self.camera.rays((place[:, ::-1] + 0.5) * self.side)
        z = 1.0 / self.disparity[tuple(place.T)].astype(np.float64)
        return origins + rays * (z / (rays @ self.camera.forward))[:, None], z

    def sees(
        self, points: Float[np.ndarray, "points 3"]
    ) -> tuple[Int[np.ndarray, "points 2"], Float[np.ndarray, " points"], Bool[np.ndarray, " points"]]:
        """The cell (row, column) of each point, the logarithm of the depth there over the point's, and whether the
        point is in the image."""
        xy, z, inside = self.camera.sees(points)
        place = (np.where(inside[:, None], xy, 0.0) / self.side).astype(np.int64)[:, ::-1]
        place = np.minimum(place, np.array(self.disparity.shape) - 1)
        return place, -np.log(np.where(inside, z, 1.0) * self.disparity[tuple(place.T)]), inside


def _robust_mean(
    said: Float[np.ndarray, "photos cells"], precision: Float[np.ndarray, "photos cells"]
) -> tuple[Float[np.ndarray, " cells"], Float[np.ndarray, " cells"], Float[np.ndarray, " cells"]]:
    """The robust mean of what photos say, its standard deviation, and that without the first photo, see the top of the
    file."""
    mean = (precision * said).sum(0) / precision.sum(0)
    weight = precision
    for _ in range(REWEIGHTINGS):
        weight = precision / (1.0 + ((said - mean) / (2 * SPREAD)) ** 2)
        mean = (weight * said).sum(0) / weight.sum(0)
    scatter = (precision * (said - mean) ** 2).sum(0) / precision.sum(0)
    with np.errstate(divide="ignore"):
        return mean, np.sqrt(1.0 / weight.sum(0) + scatter), np.sqrt(1.0 / weight[1:].sum(0) + scatter)
