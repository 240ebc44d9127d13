"""Surface points of a trained field, and the visibility of each point in each view.

The field is rendered at low resolution from all training views and from views between them. A ray hits a surface
where most of its light stops near one depth. Hits are gathered in cells of one size (in contracted space in an open
scene, so that distant objects take few points); the mean of a cell is a point. Then every point is projected into
every view. Points that more views see through than see are floaters and are removed.

Positions, normals and lengths are in the input frame.
"""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from scipy.spatial import cKDTree  # pyright: ignore[reportAttributeAccessIssue] - not in SciPy's list of names
from scipy.spatial.transform import Rotation, Slerp

from ovseg3d.engine import Event, Report, ignore
from ovseg3d.errors import RunError
from ovseg3d.field.box import FieldBox
from ovseg3d.field.renderer import Renderer
from ovseg3d.geometry.normals import fitted_normals
from ovseg3d.scene import Camera
from ovseg3d.scene.clouds import PointCloud

STAGE = "surface"


@dataclass(frozen=True)
class SurfaceConfig:
    """How a surface is extracted from a field."""

    points: int = 150_000
    """Largest number of points."""
    hits: int = 4
    """Smallest mean number of hits per point: few or small views give few points."""
    pixels: int = 8_000
    """Pixels of each rendered view."""
    between: bool = True
    """Also render views between neighbouring training views."""
    opacity: float = 0.5
    """Rays of less opacity hit nothing."""
    termination: float = 0.5
    """Share of a ray's light that must stop near one depth for a hit."""
    tolerance: float = 1.5
    """Depths are equal within this many cells, or within `relative` of the depth if that is more."""
    relative: float = 0.02
    """See `tolerance`."""
    support: int = 2
    """Smallest number of views that see a point."""
    against: float = 0.5
    """Largest share of views that see through a point, among those that see it or through it."""
    neighbours: int = 32
    """Number of points that a normal is fitted to."""


@dataclass(frozen=True)
class DepthView:
    """A rendered view of the field, at low resolution."""

    camera: Camera
    """Camera of this size."""
    depth_z: Float[np.ndarray, "h w"]
    """z-depth, input units; 0 without a surface."""
    termination: Float[np.ndarray, "h w"]
    """Share of the light that stops near `depth_z`, 0 to 1: the sum of the render weights there."""
    rgb: Float[np.ndarray, "h w 3"]

    def see(
        self, xyz: Float[np.ndarray, "points 3"], cell: Float[np.ndarray, " points"], config: SurfaceConfig
    ) -> "Visibility":
        """Which points this view sees, and which it sees through; `cell` is the size of their cells."""
        xy, z, inside = self.camera.sees(xyz)
        h, w = self.depth_z.shape
        chosen = np.flatnonzero(inside)
        xy, z = xy[chosen], z[chosen]
        column, row = xy.astype(np.int64).T
        low, high, nearest = (depth[row, column] for depth in self._ranges)
        tolerance = np.maximum(config.tolerance * cell[chosen], config.relative * z)
        gap = np.maximum(np.maximum(low - z, z - high), 0.0)
        seen = gap < tolerance
        # Beside a thin object a pixel may show the background only, so all neighbours must be behind the point, too.
        through = np.minimum(low, nearest) > z + 2 * tolerance
        weight = self.termination[row, column][seen] * (1 - gap[seen] / tolerance[seen])
        return Visibility(
            chosen[seen].astype(np.int32),
            (xy[seen] / (w, h)).astype(np.float32),
            weight.astype(np.float32),
            chosen[through].astype(np.int32),
        )

    @cached_property
    def _ranges(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For each pixel the least and greatest depth within it, and the least around it; infinite without a surface.

        Depth varies within the pixel of a slanted surface, half way to the depths of those neighbours that are on the
        same surface: their depth is similar, or they are coplanar with the pixel, so that 1/depth is linear. Beyond
        the border of the image it is continued linearly.
        """
        h, w = self.depth_z.shape
        inverse = np.divide(1.0, self.depth_z, out=np.zeros((h, w)), where=self.depth_z > 0)

        def around(**mode: Any) -> np.ndarray:
            padded = np.pad(inverse, 1, **mode)
            return np.stack([padded[y : y + h, x : x + w] for y in range(3) for x in range(3)])

        near = around(mode="reflect", reflect_type="odd")
        step, bend = np.abs(near - inverse), np.abs(near + near[::-1] - 2 * inverse)
        same = (step < 0.05 * inverse) | ((step < 0.25 * inverse) & (bend < 0.02 * inverse))
        half = np.where(same, 0.5 * (near + inverse), inverse)
        with np.errstate(divide="ignore"):
            return 1 / half.max(0), 1 / half.min(0), 1 / around(mode="edge").max(0)


@dataclass(frozen=True)
class Visibility:
    """Visibility of points in one view."""

    point: Int[np.ndarray, " seen"]
    """Indices of visible points."""
    xy: Float[np.ndarray, "seen 2"]
    """Their positions in the image, 0 to 1 of its width and height."""
    weight: Float[np.ndarray, " seen"]
    """Confidence of each: share of the ray's light that stops there, less with a difference in depth."""
    through: Int[np.ndarray, " through"]
    """Indices of points that the view sees through."""

    def where(self, good: Bool[np.ndarray, " seen"]) -> "Visibility":
        """The same view, restricted to some of its visible points."""
        return replace(self, point=self.point[good], xy=self.xy[good], weight=self.weight[good])


@dataclass(frozen=True)
class Surface:
    """Surface points of a run."""

    xyz: Float[np.ndarray, "points 3"]
    normal: Float[np.ndarray, "points 3"]
    """Unit normals, on the side of the cameras."""
    rgb: UInt8[np.ndarray, "points 3"]
    confidence: Float[np.ndarray, " points"]
    """Confidence, 0 to 1: s / (s + t + `support`) for s views that see a point and t that see through it. It is low for
    few views, and close to 1 for many that agree."""
    cell: Float[np.ndarray, " points"]
    """Size of each point's cell, about the distance to the next point, input units."""
    up: Float[np.ndarray, "3"]
    metric: bool

    def __len__(self) -> int:
        return len(self.xyz)

    @property
    def cloud(self) -> PointCloud:
        """The points as the heads take them."""
        return PointCloud(
            self.xyz.astype(np.float64), self.normal.astype(np.float32), self.rgb.astype(np.float32) / 255
        )

    def take(self, which: Bool[np.ndarray, " points"] | Int[np.ndarray, " some"]) -> "Surface":
        """The surface with some of its points."""
        rows = ("xyz", "normal", "rgb", "confidence", "cell")
        return replace(self, **{name: getattr(self, name)[which] for name in rows})


def look(
    renderer: Renderer,
    cameras: Sequence[Camera],
    config: SurfaceConfig,
    report: Report = ignore,
    stop: threading.Event | None = None,
) -> Iterator[DepthView]:
    """Render the field at low resolution from each camera, in order.

    Args:
        renderer: of the field.
        cameras: input frame, any size.
        config: how many pixels, and what counts as a hit.
        report: receives progress.
        stop: ends the iteration early when set.
    """
    for number, camera in enumerate(cameras):
        if stop is not None and stop.is_set():
            return
        shrink = min(1.0, (config.pixels / (camera.width * camera.height)) ** 0.5)
        size = (max(1, round(camera.width * shrink)), max(1, round(camera.height * shrink)))
        small = camera.scaled(*size)
        shown = renderer.render(small, termination=True)
        met = shown["opacity"] > config.opacity
        depth_z, termination = (np.where(met, shown[name], 0.0) for name in ("depth_z", "termination"))
        yield DepthView(small, depth_z, termination, shown["rgb"])
        report(Event("progress", STAGE, number + 1, len(cameras), (number + 1) / len(cameras)))


def between(cameras: Sequence[Camera]) -> list[Camera]:
    """A camera half way between each camera and its neighbour in position and direction, each pair once."""
    if len(cameras) < 2:
        return []
    positions = np.stack([camera.position for camera in cameras])
    ahead = np.stack([camera.forward for camera in cameras])
    distance = np.linalg.norm(positions[:, None] - positions, axis=-1)
    apart = distance / max(np.median(distance), 1e-9) + 2 * (1 - ahead @ ahead.T)
    np.fill_diagonal(apart, np.inf)
    pairs = sorted({tuple(sorted((first, int(apart[first].argmin())))) for first in range(len(cameras))})
    made = []
    for first, second in pairs:
        turns = Rotation.from_matrix(np.stack([cameras[i].c2w[:3, :3] for i in (first, second)]))
        c2w = np.eye(4)
        c2w[:3, :3] = Slerp([0, 1], turns)(0.5).as_matrix()
        c2w[:3, 3] = (positions[first] + positions[second]) / 2
        made.append(replace(cameras[first], c2w=c2w))
    return made


def extract_surface(
    renderer: Renderer,
    views: Sequence[DepthView],
    up: Float[np.ndarray, "3"],
    metric: bool,
    config: SurfaceConfig | None = None,
) -> Surface:
    """Surface points from views of the field.

    Args:
        renderer: the field, for its box.
        views: from `look`; the result does not depend on their order.
        up: up direction, unit length, input frame.
        metric: whether the scale of the input frame is known in metres.
        config: thresholds; None uses the defaults.

    Raises:
        RunError: no ray hits a surface, or no point is seen by enough views.
    """
    config = config or SurfaceConfig()
    # Sums depend on their order in the last bits, so views are sorted by their content.
    views = sorted(views, key=lambda view: (view.camera.c2w.tobytes(), view.depth_z.tobytes()))
    hits, colours, origins = _hits(views, config)
    if not len(hits):
        raise RunError("The field has no surface: no ray stops at one depth", fix="train longer, or check the poses")
    space = _CellSpace(renderer.box)
    size, group, count = _cells(space.contract(hits), min(config.points, len(hits) // config.hits + 1))
    xyz, rgb, towards = (_means(values, group, count) for values in (hits, colours, origins - hits))
    cell = size * space.units(xyz)
    seen, through = np.zeros(count), np.zeros(count)
    for view in views:
        visibility = view.see(xyz, cell, config)
        seen[visibility.point] += 1
        through[visibility.through] += 1
    share = seen / np.maximum(seen + through, 1)
    kept = (seen >= min(config.support, len(views))) & (share >= 1 - config.against)
    if not kept.any():
        raise RunError("The field has no surface that two views agree on", fix="train longer, or check the poses")
    xyz = xyz[kept]
    normal = normals(xyz, towards[kept], config.neighbours)
    confidence = seen / (seen + through + config.support)
    return Surface(
        xyz.astype(np.float32),
        normal.astype(np.float32),
        np.rint(rgb[kept].clip(0, 1) * 255).astype(np.uint8),
        confidence[kept].astype(np.float32),
        cell[kept].astype(np.float32),
        np.asarray(up, dtype=np.float64),
        metric,
    )


def normals(
    xyz: Float[np.ndarray, "points 3"], towards: Float[np.ndarray, "points 3"], neighbours: int
) -> Float[np.ndarray, "points 3"]:
    """Unit normals: the axis of least variance of each point's neighbours, on the side of `towards`."""
    tree, count, made = cKDTree(xyz), min(neighbours, len(xyz)), np.empty_like(xyz)
    for rows in np.array_split(np.arange(len(xyz)), max(1, len(xyz) // 20_000)):
        made[rows] = fitted_normals(xyz[tree.query(xyz[rows], k=count, workers=-1)[1].reshape(len(rows), count)])
    return np.where((made * towards).sum(-1, keepdims=True) < 0, -made, made)


@dataclass(frozen=True)
class _CellSpace:
    """The map from the input frame to the unit cube that is divided into cells."""

    box: FieldBox

    def contract(self, xyz: np.ndarray) -> np.ndarray:
        return self.box.contract(torch.from_numpy(self._field_units(xyz))).numpy()

    def units(self, xyz: np.ndarray) -> np.ndarray:
        """Length of the unit cube's side in input units at each point; contraction makes it longer far away."""
        if not self.box.open:
            return np.full(len(xyz), 2 * self.box.radius)
        return 4 * self.box.radius * np.maximum(np.abs(self._field_units(xyz)).max(-1), 1.0) ** 2

    def _field_units(self, xyz: np.ndarray) -> np.ndarray:
        return (xyz - np.asarray(self.box.center)) @ np.asarray(self.box.rotation).T / self.box.radius


def _hits(views: Sequence[DepthView], config: SurfaceConfig) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hits of the rays of all views: positions, colours, and origins of the rays."""
    parts = [(np.empty((0, 3)),) * 3]
    for view in views:
        clear = (view.depth_z > 0) & (view.termination > config.termination)
        origins, directions = view.camera.rays(view.camera.pixel_centres()[clear.ravel()])
        along = view.depth_z[clear] / (directions @ view.camera.forward)
        parts.append((origins + directions * along[:, None], view.rgb[clear], origins))
    positions, colours, sources = (np.concatenate(column) for column in zip(*parts))
    return positions, colours, sources


def _cells(unit: Float[np.ndarray, "hits 3"], most: int) -> tuple[float, Int[np.ndarray, " hits"], int]:
    """The smallest cell size (share of the unit cube) with at most `most` cells; the cell of each hit; their number."""

    def gather(size: float) -> tuple[np.ndarray, int]:
        cells = np.floor(unit / size).astype(np.int64)
        key = (cells[:, 0] << 42) + (cells[:, 1] << 21) + cells[:, 2]
        _, group = np.unique(key, return_inverse=True)
        return group, int(group.max()) + 1

    sizes = 2.0 ** -np.arange(0.0, 12.01, 0.125)
    low, high = 0, len(sizes) - 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if gather(sizes[middle])[1] <= most else (low, middle - 1)
    return float(sizes[low]), *gather(sizes[low])


def _means(values: np.ndarray, group: np.ndarray, count: int) -> np.ndarray:
    """Mean of the rows (hits, dim) in each cell, (cells, dim)."""
    number = np.bincount(group, minlength=count)
    return np.stack([np.bincount(group, column, minlength=count) for column in values.T], -1) / number[:, None]
