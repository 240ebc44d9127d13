"""The surface of a trained field as points, each once, and what every view sees of it.

A field is rendered small from all training views and from places between them. Where a ray's light stops in one
place there is a surface: such hits are gathered in cells of one size (in the contracted space of an open scene, so
that far things take few points), and a cell's mean is a point. Then every point is looked for in every view: a view
that sees through it speaks against it, and what is spoken against more than for is a floater and goes.

Positions, normals and lengths are in the input frame.
"""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation, Slerp

from ovseg3d.engine import Event, Report, ignore
from ovseg3d.errors import RunError
from ovseg3d.field.box import FieldBox
from ovseg3d.field.renderer import Renderer
from ovseg3d.scene import Camera

STAGE = "surface"


@dataclass(frozen=True)
class SurfaceConfig:
    """How a surface is taken from a field."""

    points: int = 150_000
    """At most so many."""
    hits: int = 4
    """Hits that a point is the mean of, at least, on average: few and small views make few points."""
    pixels: int = 8_000
    """Of each small view."""
    between: bool = True
    """Also look from places between neighbouring training views."""
    opacity: float = 0.5
    """A ray that lets more light through than this has met nothing."""
    termination: float = 0.5
    """Share of a ray's light that must stop near one place for a hit."""
    tolerance: float = 1.5
    """What "near" and "the same depth" mean: so many cells, or `relative` of the depth if that is more."""
    relative: float = 0.02
    support: int = 2
    """Views that must see a point."""
    against: float = 0.5
    """Most views that may see through a point, as a share of those that see it or through it."""
    neighbours: int = 32
    """Points that a normal is fitted to."""


@dataclass(frozen=True)
class DepthView:
    """A view of the field, small."""

    camera: Camera
    """Of this size."""
    depth_z: Float[np.ndarray, "h w"]
    """0 where nothing is."""
    termination: Float[np.ndarray, "h w"]
    """Share of the light that stops near `depth_z`, 0 to 1: render weights, summed over a surface's thickness."""
    rgb: Float[np.ndarray, "h w 3"]

    def see(
        self, xyz: Float[np.ndarray, "points 3"], cell: Float[np.ndarray, " points"], config: SurfaceConfig
    ) -> "Visibility":
        """Which points this view sees; `cell` is the size of their cells."""
        xy, z, inside = self._in_picture(xyz)
        h, w = self.depth_z.shape
        chosen = np.flatnonzero(inside)
        xy, z = xy[chosen], z[chosen]
        column, row = xy.astype(np.int64).T
        low, high, nearest = (depth[row, column] for depth in self._ranges)
        tolerance = np.maximum(config.tolerance * cell[chosen], config.relative * z)
        gap = np.maximum(np.maximum(low - z, z - high), 0.0)
        seen = gap < tolerance
        # The background beside a thin thing does not speak against it, so all around must lie behind the point.
        through = np.minimum(low, nearest) > z + 2 * tolerance
        weight = self.termination[row, column][seen] * (1 - gap[seen] / tolerance[seen])
        return Visibility(
            chosen[seen].astype(np.int32),
            (xy[seen] / (w, h)).astype(np.float32),
            weight.astype(np.float32),
            chosen[through].astype(np.int32),
        )

    def _in_picture(self, xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where points appear, their z-depth, and whether they are in the picture."""
        camera = self.camera
        xy, z = camera.project(xyz)
        h, w = self.depth_z.shape
        with np.errstate(invalid="ignore"):
            inside = (z > 0) & (xy >= 0).all(-1) & (xy[:, 0] < w) & (xy[:, 1] < h)
        if not camera.is_pinhole:
            # A lens polynomial may fold back: what lies far beyond the picture's corners lands in the picture again.
            lattice = np.stack(np.meshgrid(np.linspace(0, w, 9), np.linspace(0, h, 9)), -1).reshape(-1, 2)
            _, directions = camera.rays(lattice[camera.reaches(lattice)])
            # At right angles to the view, which a fisheye reaches, z-depth says nothing.
            widest = max((directions @ camera.forward).min(initial=1.0) - 1e-6, 0.1)
            inside &= z >= widest * np.linalg.norm(xyz - camera.position, axis=-1)
        return xy, z, inside

    @cached_property
    def _ranges(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For each pixel the least and greatest depth within it, and the least around it; infinite where nothing is.

        A pixel shows a patch of a slanted surface, which reaches half way to its neighbours' depths if they belong to
        it: they are near, or lie on one plane with the pixel, so that 1/depth goes on straight. Beyond the picture's
        border it is taken to.
        """
        h, w = self.depth_z.shape
        inverse = np.divide(1.0, self.depth_z, out=np.zeros((h, w)), where=self.depth_z > 0)

        def around(**mode: str) -> np.ndarray:
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
    """What one view says about points."""

    point: Int[np.ndarray, " seen"]
    """Those it sees."""
    xy: Float[np.ndarray, "seen 2"]
    """Where, in 0..1 of the picture."""
    weight: Float[np.ndarray, " seen"]
    """Share of the ray's light that stops there."""
    through: Int[np.ndarray, " through"]
    """Points that it sees through."""

    def where(self, good: Bool[np.ndarray, " seen"]) -> "Visibility":
        """The same, as if it saw some of its points only."""
        return replace(self, point=self.point[good], xy=self.xy[good], weight=self.weight[good])


@dataclass(frozen=True)
class Surface:
    """Surface points of a run."""

    xyz: Float[np.ndarray, "points 3"]
    normal: Float[np.ndarray, "points 3"]
    """Unit length, towards the cameras."""
    rgb: UInt8[np.ndarray, "points 3"]
    confidence: Float[np.ndarray, " points"]
    """How sure a point is, 0 to 1: s / (s + t + `support`) of s views that see it and t that see through it. Two views
    that agree by chance say little, many say nearly 1."""
    cell: Float[np.ndarray, " points"]
    """About the distance to the next point, input units."""
    up: Float[np.ndarray, "3"]
    metric: bool

    def __len__(self) -> int:
        return len(self.xyz)

    def take(self, which: Bool[np.ndarray, " points"] | Int[np.ndarray, " some"]) -> "Surface":
        """Some of the points."""
        rows = ("xyz", "normal", "rgb", "confidence", "cell")
        return replace(self, **{name: getattr(self, name)[which] for name in rows})


def look(
    renderer: Renderer,
    cameras: Sequence[Camera],
    config: SurfaceConfig,
    report: Report = ignore,
    stop: threading.Event | None = None,
) -> Iterator[DepthView]:
    """Small pictures of the field from `cameras`, in their order; ends early after `stop`."""
    for number, camera in enumerate(cameras):
        if stop is not None and stop.is_set():
            return
        shrink = min(1.0, (config.pixels / (camera.width * camera.height)) ** 0.5)
        size = (max(1, round(camera.width * shrink)), max(1, round(camera.height * shrink)))
        small = camera.scaled(*size)
        shown = renderer.render(small, termination=True)
        met = shown["opacity"] > config.opacity
        yield DepthView(small, np.where(met, shown["depth_z"], 0.0), np.where(met, shown["focus"], 0.0), shown["rgb"])
        report(Event("progress", STAGE, number + 1, len(cameras), (number + 1) / len(cameras)))


def between(cameras: Sequence[Camera]) -> list[Camera]:
    """A camera half way between each one and the neighbour that looks most alike from nearby, without doubles."""
    if len(cameras) < 2:
        return []
    places = np.stack([camera.position for camera in cameras])
    ahead = np.stack([camera.forward for camera in cameras])
    distance = np.linalg.norm(places[:, None] - places, axis=-1)
    apart = distance / max(np.median(distance), 1e-9) + 2 * (1 - ahead @ ahead.T)
    np.fill_diagonal(apart, np.inf)
    pairs = sorted({tuple(sorted((first, int(apart[first].argmin())))) for first in range(len(cameras))})
    made = []
    for first, second in pairs:
        turns = Rotation.from_matrix(np.stack([cameras[i].c2w[:3, :3] for i in (first, second)]))
        c2w = np.eye(4)
        c2w[:3, :3] = Slerp([0, 1], turns)(0.5).as_matrix()
        c2w[:3, 3] = (places[first] + places[second]) / 2
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
        views: from `look`; their order does not matter.
        up: unit vector of the input frame.
        metric: whether input units are known in metres.
        config: see there.

    Raises:
        RunError: nothing is there to be seen, or no two views see the same.
    """
    config = config or SurfaceConfig()
    # Sums depend on their order in the last bits, so views are put in one that is their own.
    views = sorted(views, key=lambda view: (view.camera.c2w.tobytes(), view.depth_z.tobytes()))
    hits, colours, origins = _hits(views, config)
    if not len(hits):
        raise RunError("The field shows no surface: its rays stop nowhere", fix="train longer, or check the poses")
    place = _Place(renderer.box)
    size, group, count = _cells(place.unit(hits), min(config.points, len(hits) // config.hits + 1))
    xyz, rgb, towards = (_means(values, group, count) for values in (hits, colours, origins - hits))
    cell = size * place.stretch(xyz)
    seen, through = np.zeros(count), np.zeros(count)
    for view in views:
        visibility = view.see(xyz, cell, config)
        seen[visibility.point] += 1
        through[visibility.through] += 1
    share = seen / np.maximum(seen + through, 1)
    kept = (seen >= min(config.support, len(views))) & (share >= 1 - config.against)
    if not kept.any():
        raise RunError("The field shows no surface that two views agree on", fix="train longer, or check the poses")
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
    """Unit normals: the least principal axis of each point's neighbours, on the side of `towards`."""
    tree, count, made = cKDTree(xyz), min(neighbours, len(xyz)), np.empty_like(xyz)
    for rows in np.array_split(np.arange(len(xyz)), max(1, len(xyz) // 20_000)):
        near = xyz[tree.query(xyz[rows], k=count, workers=-1)[1].reshape(len(rows), count)]
        apart = near - near.mean(1, keepdims=True)
        _, axes = np.linalg.eigh(np.einsum("nki,nkj->nij", apart, apart))
        made[rows] = axes[:, :, 0]
    return np.where((made * towards).sum(-1, keepdims=True) < 0, -made, made)


@dataclass(frozen=True)
class _Place:
    """From input units to the unit cube in which cells are counted."""

    box: FieldBox

    def unit(self, xyz: np.ndarray) -> np.ndarray:
        return self.box.unit(torch.from_numpy(self._turned(xyz))).numpy()

    def stretch(self, xyz: np.ndarray) -> np.ndarray:
        """Input units that the unit cube's side spans, at each place: contraction makes it longer far away."""
        if not self.box.open:
            return np.full(len(xyz), 2 * self.box.radius)
        return 4 * self.box.radius * np.maximum(np.abs(self._turned(xyz)).max(-1), 1.0) ** 2

    def _turned(self, xyz: np.ndarray) -> np.ndarray:
        return (xyz - np.asarray(self.box.center)) @ np.asarray(self.box.rotation).T / self.box.radius


def _hits(views: Sequence[DepthView], config: SurfaceConfig) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where rays of all views end: places, colours, and where they came from."""
    parts = [(np.empty((0, 3)),) * 3]
    for view in views:
        clear = (view.depth_z > 0) & (view.termination > config.termination)
        origins, directions = view.camera.rays(view.camera.pixel_centres()[clear.ravel()])
        along = view.depth_z[clear] / (directions @ view.camera.forward)
        parts.append((origins + directions * along[:, None], view.rgb[clear], origins))
    return tuple(np.concatenate(column) for column in zip(*parts))


def _cells(unit: Float[np.ndarray, "hits 3"], most: int) -> tuple[float, Int[np.ndarray, " hits"], int]:
    """The least cell size (share of the unit cube) that gives at most so many cells; each hit's cell; their number."""

    def gather(size: float) -> tuple[np.ndarray, int]:
        places = np.floor(unit / size).astype(np.int64)
        key = (places[:, 0] << 42) + (places[:, 1] << 21) + places[:, 2]
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
