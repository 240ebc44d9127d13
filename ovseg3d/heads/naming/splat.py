"""Relief pictures of a point cloud: discs that close its surface, what is behind them removed, shaded by its normals.

Surface splatting in two passes (Zwicker et al. 2001): the first finds the nearest disc at every pixel, the second
averages all discs that lie on that surface. Radii follow the cloud's density, so that 1,000 points make as closed a
surface as 50,000. A lone bright light beside the viewer makes a grey relief, which resembles photographs more than a
map of depths does.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import cKDTree  # pyright: ignore[reportAttributeAccessIssue] - not in SciPy's list of names

from ovseg3d.geometry.normals import fitted_normals
from ovseg3d.heads.naming.views import orbit

NEIGHBOURS = 16
"""Points that a normal is fitted to, and over which it is averaged."""
RADIUS = 1.0
"""Radius of a disc, as a multiple of the median distance to the sixth neighbour: holes of random samples close."""
SPACING_RANK = 6
LARGEST_RADIUS = 0.056
"""As a share of the picture's side; less than the margin that `SHARE` leaves, so discs stay inside."""
SHARE = 0.86
"""Share of the picture's side that the shape fills."""
DISTANCE = 4.0
"""Of the viewer from the middle, in radii of the shape."""
LIGHT = np.array([-0.35, -0.55, -0.76])
"""Towards the light, in a view's frame: above the viewer's left shoulder."""
AMBIENT, DIFFUSE, DEPTH_CUE = 0.25, 0.6, 0.15
"""Shares of the light from everywhere, of the lamp's, and of nearness."""


@dataclass(frozen=True)
class Surfels:
    """A shape's points around the origin, inside the unit sphere, with smooth normals of unknown sign."""

    points: Float[np.ndarray, "points 3"]
    normals: Float[np.ndarray, "points 3"]
    spacing: float
    """Typical distance between neighbouring points."""


def surfels(points: Float[np.ndarray, "points 3"]) -> Surfels:
    """Centre and scale a cloud, and fit normals to it (needs at least 4 points that are not all one)."""
    points = np.asarray(points, float)
    points = points - (points.max(0) + points.min(0)) / 2
    points = points / np.linalg.norm(points, axis=1).max()
    count = min(NEIGHBOURS, len(points))
    distances, near = cKDTree(points).query(points, count)
    spacing = float(np.median(distances[:, min(SPACING_RANK, count - 1)]))
    return Surfels(points, _normals(points, near), max(spacing, 1e-4))


def _normals(points: np.ndarray, near: Int[np.ndarray, "points k"]) -> np.ndarray:
    """The directions of least spread, averaged over neighbours with signs aligned; random samples are noisy."""
    normals = fitted_normals(points[near])
    near = near[:, : NEIGHBOURS // 2]
    others = normals[near]
    agreement = np.einsum("nki,ni->nk", others, normals)
    # Cubing keeps edges: neighbours across one count little.
    total = np.einsum("nk,nki->ni", agreement**3, others)
    return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)


def relief(
    points: Float[np.ndarray, "points 3"],
    views: Float[np.ndarray, "views 3 3"] | None = None,
    size: int = 224,
) -> Float[np.ndarray, "views size size"]:
    """Grey pictures of a shape, 0 to 1, white where nothing is.

    Args:
        points: in any frame and unit, at least 4; views that look from above expect z up.
        views: rotations to the views' frames (x right, y down, z forward); None: ten around the up axis.
        size: pixels of a side.
    """
    shape = surfels(points)
    light = LIGHT / np.linalg.norm(LIGHT)

    def shade(seen: "_Seen") -> np.ndarray:
        facing = np.where(seen.normals[:, 2:] > 0, -seen.normals, seen.normals)
        lit = AMBIENT + DIFFUSE * np.clip(facing @ light, 0, 1)
        return lit + DEPTH_CUE * np.clip((DISTANCE + 1 - seen.depth) / 2, 0, 1)

    return _pictures(shape, orbit() if views is None else views, size, shade, 1.0)


def nearness(
    points: Float[np.ndarray, "points 3"], views: Float[np.ndarray, "views 3 3"], size: int
) -> Float[np.ndarray, "views size size"]:
    """Depth maps in the views of `relief`: from 1 at the nearest point to 0.1 at the farthest; 0 where nothing is."""

    def near(seen: "_Seen") -> np.ndarray:
        return 1 - 0.9 * (seen.depth - seen.depth.min()) / max(float(np.ptp(seen.depth)), 1e-9)

    return _pictures(surfels(points), views, size, near, 0.0)


def pinholes(
    points: Float[np.ndarray, "points 3"], views: Float[np.ndarray, "views 3 3"], size: int
) -> tuple[Float[np.ndarray, "views 2"], Float[np.ndarray, " views"]]:
    """Where the views of `relief` show the middle of the shape's box, and their focal lengths, in pixels.

    That middle is `DISTANCE` away, in radii of the shape.
    """
    shape = surfels(points)
    drawn = [_projected(shape.points @ turn.T, size) for turn in views]
    return np.array([middle for _, middle, _ in drawn]), np.array([scale * DISTANCE for _, _, scale in drawn])


@dataclass(frozen=True)
class _Seen:
    """Points and normals in a view's frame."""

    points: np.ndarray
    normals: np.ndarray
    depth: np.ndarray
    """From the viewer."""


def _pictures(
    shape: Surfels, views: np.ndarray, size: int, value: Callable[[_Seen], np.ndarray], outside: float
) -> np.ndarray:
    """[views, size, size]: the mean value of the points at each pixel's nearest surface."""
    made = np.full((len(views), size * size), outside, np.float32)
    for image, turn in zip(made, views):
        points = shape.points @ turn.T
        seen = _Seen(points, shape.normals @ turn.T, points[:, 2] + DISTANCE)
        pixel, point, weight = _nearest(seen, shape.spacing, size)
        total = np.bincount(pixel, weight, size * size)
        covered = total > 0
        image[covered] = (np.bincount(pixel, weight * value(seen)[point], size * size)[covered]) / total[covered]
    return made.reshape(-1, size, size)


def _nearest(seen: _Seen, spacing: float, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels that discs cover, with the point and a weight; discs behind the nearest surface are left out."""
    xy, _, scale = _projected(seen.points, size)
    radius = float(np.clip(RADIUS * spacing * scale, 1.0, LARGEST_RADIUS * size))
    pixel, point, weight = _discs(xy, radius, size)
    front = np.full(size * size, np.inf)
    np.minimum.at(front, pixel, seen.depth[point])
    # Discs on the nearest surface; a steep one changes by about its radius within a disc.
    same = seen.depth[point] <= front[pixel] + 2.0 * radius / scale
    return pixel[same], point[same], weight[same]


def _projected(points: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Pixels of points in a view's frame and of that frame's origin, and pixels to a radius of the shape."""
    xy = points[:, :2] * (DISTANCE / (points[:, 2] + DISTANCE))[:, None]
    low, high = xy.min(0), xy.max(0)
    scale = SHARE * size / max(float((high - low).max()), 1e-9)
    return (xy - (low + high) / 2) * scale + size / 2, size / 2 - (low + high) / 2 * scale, scale


def _discs(xy: np.ndarray, radius: float, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels of round splats, the point of each, and a weight that falls with the distance from its centre."""
    reach = int(np.ceil(radius))
    cells = np.floor(xy).astype(np.int32)[:, :, None] + np.arange(-reach, reach + 1, dtype=np.int32)
    away = ((cells + 0.5 - xy[:, :, None]) ** 2).astype(np.float32)
    distance = away[:, 1, :, None] + away[:, 0, None, :]
    widest = max(radius, 0.75) ** 2  # a pixel's middle is up to 0.71 from a point in it
    inside = distance <= widest
    point = np.repeat(np.arange(len(xy)), inside.sum((1, 2)))
    pixel = (cells[:, 1, :, None] * size + cells[:, 0, None, :])[inside]
    return pixel, point, np.exp(-2 / widest * distance[inside])
