"""Depth maps by slices: the contour-aware projection of OpenDlign (Mao et al. 2024), and that of PointCLIP V2.

Points fall into a coarse stack of depth slices; each slice is dilated and smoothed by itself, so that surfaces at
different depths do not blend, and the nearest slice is shown. Both assume y up: rotate the points first (`views.Y_UP`).
Everything is in float64 and in a fixed order, so that results are the same bits on one machine.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from ovseg3d.heads.naming.views import contour_views, pointclip_views

SLICES = 8
DEPTH_BIAS = 0.2
"""Distance of the farthest point from the background, as a share of the shape's size."""
POOL = 7
"""Pixels of the square maximum filter that closes gaps between points."""
BILATERAL_DIAMETER, BILATERAL_SIGMA = 5, 2.823
GAUSSIAN_SIGMA = 3.0
"""Of PointCLIP V2's 3x3 filter."""

VIEW_AXES = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
"""From x right, y down, z forward to the frame that is projected: x down, y right, z towards the viewer."""


@dataclass(frozen=True)
class SliceProjection:
    """A projection by slices.

    Attributes:
        size: pixels of a side.
        ratio: share of the picture that the longest side of the shape fills.
        border: pixels at the edge that stay empty.
        views: rotations of the shape before its projection along z.
        smooth: smooths one slice.
    """

    size: int
    ratio: float
    border: int
    views: Callable[[], Float[np.ndarray, "views 3 3"]]
    smooth: Callable[[Float[np.ndarray, "h w"]], Float[np.ndarray, "h w"]]

    def __call__(self, points: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, "views h w"]:
        """Depth maps of a shape with y up: 1 where nothing is, 0 at the nearest point."""
        points = np.asarray(points, float)
        return np.stack([self._view(points @ turn.T) for turn in self.views()])

    def seen_from(self, turns: Float[np.ndarray, "views 3 3"]) -> "SliceProjection":
        """The same in other views: rotations to frames with x right, y down and z forward, of points in any frame."""
        return replace(self, views=lambda: VIEW_AXES @ turns)

    def _view(self, points: np.ndarray) -> np.ndarray:
        low, high = points.min(0), points.max(0)
        # A shape that is one point has no size; any will do.
        unit = 2 * (points - (high + low) / 2) / (float((high - low).max()) or 1.0)
        pixels = np.ceil((unit[:, :2] * self.ratio + 1) / 2 * self.size).astype(int)
        u, v = np.clip(pixels, self.border, self.size - 1 - self.border).T
        depth = ((unit[:, 2] + 1) / 2 + DEPTH_BIAS) / (1 + DEPTH_BIAS) * (SLICES - 2)
        stack = np.zeros((SLICES, self.size, self.size))
        # The picture's rows run along x, since the papers' views turn the up axis to -x.
        np.maximum.at(stack, (np.ceil(depth).astype(int), u, v), depth)
        used = [ndimage.maximum_filter(part, POOL, mode="constant", cval=0.0) for part in stack if part.any()]
        front = np.max([self.smooth(part) for part in used], axis=0)
        return 1.0 - front / front.max()


def bilateral(image: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """OpenCV's bilateral filter (Tomasi and Manduchi 1998): a round neighbourhood, edges reflected without repeating.

    The weight of a neighbour falls with its distance in pixels and with its difference in value.
    """
    radius, sigma = BILATERAL_DIAMETER // 2, BILATERAL_SIGMA
    padded = np.pad(image, radius, mode="reflect")
    # Where a neighbourhood is empty, so is the result.
    (top, bottom), (left, right) = (_extent(np.asarray(image.any(1 - axis)), radius) for axis in (0, 1))
    inner = image[top:bottom, left:right]
    total, weights = np.zeros_like(inner), np.zeros_like(inner)
    for dy in range(2 * radius + 1):
        for dx in range(2 * radius + 1):
            away = (dy - radius) ** 2 + (dx - radius) ** 2
            if away > radius * radius:
                continue
            other = padded[top + dy : bottom + dy, left + dx : right + dx]
            weight = np.exp(-(away + (other - inner) ** 2) / (2 * sigma * sigma))
            total += weight * other
            weights += weight
    smooth = np.zeros_like(image)
    smooth[top:bottom, left:right] = total / weights
    return smooth


def _extent(used: np.ndarray, margin: int) -> tuple[int, int]:
    """The range of the true values and a margin around it."""
    places = np.flatnonzero(used)
    if not len(places):
        return 0, 0
    return max(int(places[0]) - margin, 0), min(int(places[-1]) + 1 + margin, len(used))


def gaussian(image: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """PointCLIP V2's Gaussian filter of 3x3 pixels; outside is background."""
    return ndimage.gaussian_filter(image, GAUSSIAN_SIGMA, mode="constant", cval=0.0, radius=1)


contour_aware = SliceProjection(224, 0.9, 1, contour_views, bilateral)
"""OpenDlign's projection."""
pointclip_v2 = SliceProjection(112, 0.8, 2, pointclip_views, gaussian)
"""PointCLIP V2's projection."""
