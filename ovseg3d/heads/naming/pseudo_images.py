"""Pseudo images: what a photo of a coloured point cloud would show (the word is ImOV3D's, Yang et al. 2024).

Points are surfels: discs in space whose radius follows the cloud's density. They are splatted in two passes (Zwicker et
al. 2001): the first finds the nearest disc at every pixel, the second averages the colours of all discs on that
surface. What lies behind is hidden; where it shows through a pinhole of a nearer surface, the pixel counts as a hole.
Holes between covered pixels to the left and right, or above and below, are filled from these. Of several surfaces the
farthest counts: what is missing at an edge of depth is missing from the surface behind.

Cameras are pinholes with OpenCV axes; depth is z-depth in the cloud's unit.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage
from scipy.spatial import cKDTree  # pyright: ignore[reportAttributeAccessIssue] - not in SciPy's list of names

from ovseg3d.errors import ShapeError
from ovseg3d.geometry.normals import fitted_normals
from ovseg3d.heads.naming.splat import LIGHT
from ovseg3d.scene.cameras import Camera
from ovseg3d.scene.clouds import PointCloud

NEIGHBOURS = 12
"""Points that a normal is fitted to."""
RADIUS_RANK = 4
"""A disc reaches to the fourth neighbour: surfaces of random points close, and silhouettes swell little."""
MAX_RADIUS_RATIO = 3.0
"""Of a disc to the median disc: a lone stray point is no large surface."""
MAX_RADIUS_PIXELS = 24
PIXEL_REACH = 0.75
"""Pixels that a disc covers at least; a pixel's middle is up to 0.71 from a point in it."""
DEPTH_TOLERANCE = 1.0
"""Discs within so many of their radii behind the nearest one are of the same surface."""
PINHOLE = 5
"""Pixels of the square in which a gap of the nearest surface is a pinhole."""
FILL_REACH = 0.2
"""Widest hole that is filled, as a share of the picture's longer side."""
SAME_DEPTH = 0.9
"""Ratio of depths above which two places may be of one surface: one that is seen at a slant changes over a hole."""
MIN_CONTRAST = 0.01
"""Range of a channel below which a cloud has one colour: files without colours often say white."""
CELLS_AT_ONCE = 1 << 17
"""Pixels of discs that are computed together: what fits a processor's cache."""
AMBIENT, DIFFUSE = 0.5, 0.6
"""Factors of colours under light from everywhere, and under the lamp."""
BACKGROUND = 0.5
"""Grey of what no surface reaches."""


@dataclass(frozen=True)
class Surfels:
    """Coloured discs."""

    xyz: Float[np.ndarray, "points 3"]
    normal: Float[np.ndarray, "points 3"]
    """Unit vectors of unknown sign."""
    rgb: Float[np.ndarray, "points 3"]
    """0 to 1."""
    radius: Float[np.ndarray, " points"]

    def take(self, rows: Int[np.ndarray, " some"] | Bool[np.ndarray, " points"]) -> "Surfels":
        """Some of the discs."""
        return Surfels(self.xyz[rows], self.normal[rows], self.rgb[rows], self.radius[rows])


@dataclass(frozen=True)
class PseudoImage:
    """A picture of a cloud."""

    rgb: Float[np.ndarray, "h w 3"]
    """0 to 1; `BACKGROUND` where nothing is."""
    depth_z: Float[np.ndarray, "h w"]
    """0 where nothing is."""
    covered: Bool[np.ndarray, "h w"]
    """Pixels that discs cover; others are filled, or empty."""
    point: Int[np.ndarray, "h w"]
    """The disc that counts most in a covered pixel, else -1."""


def drawable(cloud: PointCloud) -> Bool[np.ndarray, " points"]:
    """Points with finite coordinates and colours; none of a cloud without colours, or with one colour only."""
    if cloud.rgb is None:
        return np.zeros(len(cloud), bool)
    usable = np.isfinite(cloud.xyz.sum(1) + cloud.rgb.sum(1))
    if not usable.any() or np.ptp(cloud.rgb[usable], axis=0).max() < MIN_CONTRAST:
        return np.zeros(len(cloud), bool)
    return usable


def coloured_surfels(cloud: PointCloud) -> Surfels:
    """The discs of a cloud's points, in their order.

    Args:
        cloud: `drawable` points in any unit; without normals they are estimated.

    Raises:
        ShapeError: the cloud has no colours, or fewer than `NEIGHBOURS` points.
    """
    if cloud.rgb is None:
        raise ShapeError("The cloud has no colours, so there are no pictures of it", fix="use a cloud with colours")
    if len(cloud) < NEIGHBOURS:
        raise ShapeError(f"{len(cloud)} points are too few for a picture", fix="use a denser cloud")
    xyz = cloud.xyz.astype(np.float64)
    count = RADIUS_RANK + 1 if cloud.normal is not None else NEIGHBOURS
    distance, near = cKDTree(xyz).query(xyz, count)
    normal = fitted_normals(xyz[near]) if cloud.normal is None else cloud.normal.astype(np.float64)
    radius = distance[:, RADIUS_RANK]
    radius = np.minimum(radius, MAX_RADIUS_RATIO * np.median(radius))
    return Surfels(xyz, normal, cloud.rgb.astype(np.float32), np.maximum(radius, 1e-9))


def lit(surfels: Surfels, camera: Camera) -> Surfels:
    """The discs under a lamp above the camera's left shoulder, besides light from everywhere.

    Colours of a cloud may be those of its materials, without any light: then edges between faces do not show.
    """
    towards = camera.c2w[:3, :3] @ (LIGHT / np.linalg.norm(LIGHT))
    facing = np.sign(((camera.position - surfels.xyz) * surfels.normal).sum(1))
    lamp = np.clip(facing * (surfels.normal @ towards), 0, 1)
    return replace(surfels, rgb=np.clip(surfels.rgb * (AMBIENT + DIFFUSE * lamp)[:, None], 0, 1).astype(np.float32))


def render(surfels: Surfels, camera: Camera, near: float = 0.0) -> PseudoImage:
    """The picture that a camera takes.

    Args:
        surfels: what it sees.
        camera: a pinhole.
        near: least z-depth; what is nearer is cut away.
    """
    height, width = camera.height, camera.width
    count = height * width
    splats = _splat(surfels, camera, near)
    front = np.full(count, np.inf, np.float32)
    np.minimum.at(front, splats.pixel, splats.depth)
    splats = splats.take(
        np.flatnonzero(splats.depth <= front[splats.pixel] + DEPTH_TOLERANCE * surfels.radius[splats.point])
    )
    covered = np.isfinite(front) & ~_pinholes(front.reshape(height, width)).ravel()
    values = np.zeros((count, 4), np.float32)
    for channel, value in enumerate((*surfels.rgb[splats.point].T, splats.depth)):
        values[:, channel] = np.bincount(splats.pixel, splats.weight * value, count)
    values /= np.maximum(np.bincount(splats.pixel, splats.weight, count), 1e-12)[:, None]
    values[~covered] = (BACKGROUND, BACKGROUND, BACKGROUND, 0)
    image, mask = values.reshape(height, width, 4), covered.reshape(height, width)
    image = fill_holes(image, mask)
    return PseudoImage(image[..., :3], image[..., 3], mask, _heaviest(splats, covered).reshape(height, width))


def _heaviest(splats: "_Splats", covered: np.ndarray) -> np.ndarray:
    """The disc that counts most in each pixel; -1 where none is."""
    most = np.zeros(len(covered), np.float32)
    np.maximum.at(most, splats.pixel, splats.weight)
    first = splats.weight == most[splats.pixel]
    shown = np.full(len(covered), -1)
    shown[splats.pixel[first]] = splats.point[first]
    shown[~covered] = -1
    return shown


def fill_holes(image: Float[np.ndarray, "h w 4"], covered: Bool[np.ndarray, "h w"]) -> Float[np.ndarray, "h w 4"]:
    """Fill what is not covered between covered pixels to its left and right, or above and below.

    Args:
        image: rgb and z-depth.
        covered: the pixels to fill from.
    """
    reach = FILL_REACH * max(covered.shape)
    weights, values = [], []
    for axis in (0, 1):
        sides = [_nearest_covered(covered, axis, flip) for flip in (False, True)]
        within = sum(away for away, _, _ in sides) <= reach
        for away, row, column in sides:
            weights.append(np.where(within & ~covered, 1 / np.maximum(away, 1), 0))
            values.append(image[row, column])
    weight, found = np.stack(weights), np.stack(values)
    depth = np.where(weight > 0, found[..., 3], 0)
    weight[depth < SAME_DEPTH * depth.max(0)] = 0
    total = weight.sum(0)
    holes = total > 0
    filled = image.copy()
    filled[holes] = (weight[:, holes, None] * found[:, holes]).sum(0) / total[holes, None]
    return filled


def _nearest_covered(covered: np.ndarray, axis: int, flip: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distance to the nearest covered pixel before, or after, along an axis (infinite for none), and its place."""
    seen = covered if axis == 1 else covered.T
    seen = seen[:, ::-1] if flip else seen
    place = np.arange(seen.shape[1])
    last = np.maximum.accumulate(np.where(seen, place, -1), 1)
    away = np.where(last < 0, np.inf, place - last)
    last = np.maximum(last, 0)
    if flip:
        last, away = seen.shape[1] - 1 - last[:, ::-1], away[:, ::-1]
    line = np.broadcast_to(np.arange(len(seen))[:, None], last.shape)
    return (away, line, last) if axis == 1 else (away.T, last.T, line.T)


def _pinholes(front: Float[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Pixels of a far surface in narrow gaps of a near one: a morphological closing of nearness removes them."""
    nearness = 1 / np.maximum(front, 1e-6)
    closed = ndimage.grey_closing(nearness, PINHOLE)
    return nearness < SAME_DEPTH * closed


@dataclass(frozen=True)
class _Splats:
    """Pixels that discs cover: one entry for each pixel and disc."""

    pixel: Int[np.ndarray, " splats"]
    """Row times width plus column."""
    point: Int[np.ndarray, " splats"]
    depth: Float[np.ndarray, " splats"]
    """z-depth of the disc there."""
    weight: Float[np.ndarray, " splats"]
    """Falls from the middle of the disc."""

    def take(self, kept: np.ndarray) -> "_Splats":
        return _Splats(self.pixel[kept], self.point[kept], self.depth[kept], self.weight[kept])


def _splat(surfels: Surfels, camera: Camera, near: float) -> _Splats:
    local = ((surfels.xyz - camera.position) @ camera.c2w[:3, :3]).astype(np.float32)
    rows = np.flatnonzero(local[:, 2] > max(near, 1e-6))
    local = local[rows]
    focal, middle = np.array([[camera.fx, camera.fy], [camera.cx, camera.cy]], np.float32)
    xy = local[:, :2] / local[:, 2:] * focal + middle
    wide = np.clip(focal.max() * surfels.radius[rows] / local[:, 2], PIXEL_REACH, MAX_RADIUS_PIXELS)
    inside = ((xy > -wide[:, None]) & (xy < np.array([camera.width, camera.height]) + wide[:, None])).all(1)
    rows, local, xy, reach = rows[inside], local[inside], xy[inside], np.ceil(wide[inside]).astype(int)
    normal = (surfels.normal[rows] @ camera.c2w[:3, :3]).astype(np.float32)
    radius = surfels.radius[rows].astype(np.float32)
    found = []
    for size in np.unique(reach):
        every = np.flatnonzero(reach == size)
        for some in np.array_split(every, len(every) * (2 * size + 1) ** 2 // CELLS_AT_ONCE + 1):
            splats = _discs(local[some], normal[some], radius[some], xy[some], int(size), camera)
            found.append(_Splats(splats.pixel, rows[some][splats.point], splats.depth, splats.weight))
    if not found:
        return _Splats(np.zeros(0, int), np.zeros(0, int), np.zeros(0), np.zeros(0))
    return _Splats(*(np.concatenate([getattr(one, name) for one in found]) for name in vars(found[0])))


def _discs(
    local: np.ndarray, normal: np.ndarray, radius: np.ndarray, xy: np.ndarray, size: int, camera: Camera
) -> _Splats:
    """Discs in the camera's frame that reach over `size` pixels at most; all arrays are float32."""
    step = np.arange(-size, size + 1, dtype=np.int32)
    dy, dx = (grid.ravel() for grid in np.meshgrid(step, step, indexing="ij"))
    near = np.hypot(dx, dy) <= size + PIXEL_REACH
    cell = np.floor(xy).astype(np.int32)
    column, row = (cell[:, axis, None] + offset[near] for axis, offset in enumerate((dx, dy)))
    u, v = column.astype(np.float32) + np.float32(0.5), row.astype(np.float32) + np.float32(0.5)
    # Where a pixel's ray (x, y, 1) meets the disc's plane.
    x, y = (u - np.float32(camera.cx)) / np.float32(camera.fx), (v - np.float32(camera.cy)) / np.float32(camera.fy)
    nx, ny, nz = (normal[:, axis, None] for axis in range(3))
    cx, cy, cz = (local[:, axis, None] for axis in range(3))
    slant = nx * x + ny * y + nz
    depth = (nx * cx + ny * cy + nz * cz) / np.where(np.abs(slant) < 1e-6, np.float32(1e-6), slant)
    apart = ((depth * x - cx) ** 2 + (depth * y - cy) ** 2 + (depth - cz) ** 2) / radius[:, None] ** 2
    centre = (u - xy[:, :1]) ** 2 + (v - xy[:, 1:]) ** 2 <= PIXEL_REACH**2
    shown = (column >= 0) & (row >= 0) & (column < camera.width) & (row < camera.height)
    kept = np.flatnonzero(((apart <= 1) | centre) & shown)
    disc = kept // column.shape[1]
    apart, depth = apart.ravel()[kept], depth.ravel()[kept]
    on = apart <= 1
    return _Splats(
        row.ravel()[kept] * camera.width + column.ravel()[kept],
        disc,
        np.where(on, depth, local[disc, 2]),
        np.exp(-2 * np.minimum(apart, 1)),
    )
