"""Scene bounds, from cameras, sparse points, measured depth or transparency.

`find_box` places the field's box; `seen_cells` finds the cells of its occupancy grid that any camera sees. Held-out
photos and their poses are not used; sparse points and the up direction are those of the whole capture. Points are in
the input frame unless said otherwise.
"""

import math
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.spatial import cKDTree  # pyright: ignore[reportAttributeAccessIssue] - not in SciPy's list of names
from torch import Tensor

from ovseg3d.errors import SceneError
from ovseg3d.field.box import FieldBox
from ovseg3d.field.config import FieldConfig
from ovseg3d.scene import Camera, Frame, Scene, load_photo
from ovseg3d.scene.extent import content_points

MAX_BOX_VIEWS = 100
"""Cameras that the box is found from; more only take time."""
MAX_CELL_VIEWS = 300
"""Cameras that cells are tested against; in longer sequences neighbours see the same."""
MAX_POINTS = 500_000
"""Content points that are used, evenly thinned; their depths in more would take gigabytes."""
FAR = 3.0
"""Content farther from all cameras than this many times the median depth is background, and left to the contraction. In
a room nothing is. Outdoors a few buildings on the horizon would make all cells coarse."""
MAX_SILHOUETTES = 32
"""Photos that carve the visual hull."""


def find_box(scene: Scene, config: FieldConfig, use_depth: bool = False) -> FieldBox:
    """The field's box, around the content of a capture. Sources, the best available first:

    - Transparent photos: the bounding box of their visual hull (bounded).
    - Depth files if `use_depth`, sparse points, or the near and far bounds of an LLFF capture.
    - Cameras: around the point that they look at, if there is one, else around the cameras.

    Raises:
        SceneError: the opaque parts of the photos have no point in common.
    """
    views = _spread([scene.frames[i] for i in scene.train])
    cameras = [frame.camera for frame in views]
    rotation = _rotation(scene)
    open_scene = config.bounds == "open" or (config.bounds == "auto" and not scene.has_alpha)
    eyes = np.array([camera.position for camera in cameras])
    center, radius = _from_cameras(cameras)
    if scene.has_alpha and not open_scene:
        center, radius = _hull_box(views, center, radius, rotation)
        return _box(center, radius * 1.05, False, 1, config.near, rotation)
    evidence = content_points(scene, views, use_depth)
    if evidence is None:
        # Cameras lie in the inner box or on its border. Content further away is contracted.
        return _box(center, radius, open_scene, config.cascades if open_scene else 1, config.near, rotation)
    content = evidence.points[:: -(-len(evidence.points) // MAX_POINTS)]
    local = np.concatenate([content, eyes]) @ rotation.T
    low, high = np.percentile(content[~_is_far(content, cameras)] @ rotation.T, [3, 97], axis=0)
    low, high = np.minimum(low, (eyes @ rotation.T).min(0)), np.maximum(high, (eyes @ rotation.T).max(0))
    center = rotation.T @ ((low + high) / 2)
    radius = float((high - low).max() / 2) * 1.05 or 1.0  # if all points coincide
    farthest = float(np.percentile(np.abs(local - rotation @ center).max(-1), 99.5)) / radius
    cascades = int(np.clip(math.ceil(math.log2(max(farthest, 1.0))) + 1, 1, 6)) if open_scene else 1
    depths = np.concatenate([camera.project(content)[1] for camera in cameras])
    nearest = float(np.percentile(depths[depths > 0], 1)) if (depths > 0).any() else 0.0
    near = max(config.near, 0.5 * nearest / radius)
    return _box(center, radius, open_scene, max(cascades, 2) if open_scene else 1, near, rotation)


def _is_far(points: Float[np.ndarray, "points 3"], cameras: list[Camera]) -> Bool[np.ndarray, " points"]:
    """Points whose nearest camera is farther than `FAR` times the median depth in the images."""
    seen = (camera.sees(points) for camera in cameras)
    depths = np.concatenate([z[inside] for _, z, inside in seen])
    if not len(depths):
        return np.zeros(len(points), dtype=bool)
    nearest, _ = cKDTree([camera.position for camera in cameras]).query(points)
    return nearest > FAR * np.median(depths)


def _box(
    center: Float[np.ndarray, "3"],
    radius: float,
    open_scene: bool,
    cascades: int,
    near: float,
    rotation: Float[np.ndarray, "3 3"],
) -> FieldBox:
    x, y, z = (float(value) for value in center)
    axes = tuple(tuple(float(value) for value in row) for row in rotation)
    return FieldBox((x, y, z), float(radius), open_scene, cascades, float(near), axes)


def _rotation(scene: Scene) -> Float[np.ndarray, "3 3"]:
    """Rotation from the input frame to the world frame, without the scale."""
    matrix = scene.world_from_input[:3, :3]
    return matrix / np.cbrt(np.linalg.det(matrix))


def _spread(items: list[Frame], most: int = MAX_BOX_VIEWS) -> list[Frame]:
    """At most `most` of the frames, evenly spread."""
    if len(items) <= most:
        return items
    return [items[i] for i in np.linspace(0, len(items) - 1, most).round().astype(int)]


def _from_cameras(cameras: list[Camera]) -> tuple[Float[np.ndarray, "3"], float]:
    """Centre and radius from poses alone."""
    eyes = np.array([camera.position for camera in cameras])
    forward = np.array([camera.forward for camera in cameras])
    spread = float(np.ptp(eyes, axis=0).max()) / 2 or 1.0
    # The point closest to all optical axes, by least squares: sum of (I - f f^T)(p - eye) = 0.
    across = np.eye(3) - forward[:, :, None] * forward[:, None, :]
    target, *_ = np.linalg.lstsq(across.sum(0), (across @ eyes[:, :, None]).sum(0)[:, 0], rcond=1e-3)
    ahead = ((target - eyes) * forward).sum(-1)
    if (ahead > 0).mean() > 0.8:
        return target, max(float(np.median(np.linalg.norm(target - eyes, axis=-1))), 0.5 * spread)
    return (eyes.min(0) + eyes.max(0)) / 2, 1.5 * spread


# -- visual hull --------------------------------------------------------------------------------------------------


def _hull_box(
    views: list[Frame], center: Float[np.ndarray, "3"], radius: float, rotation: Float[np.ndarray, "3 3"]
) -> tuple[Float[np.ndarray, "3"], float]:
    """Centre and half side of the bounding cube of what every photo shows as opaque."""
    half = (
        max(
            radius * math.tan(math.atan(max(f.camera.width / f.camera.fx, f.camera.height / f.camera.fy) / 2))
            for f in views
        )
        * 1.2
    )
    cells = 48
    axis = (np.arange(cells) + 0.5) / cells * 2 - 1
    lattice = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3) * half
    points = lattice @ rotation + center
    size = half / cells * math.sqrt(3)
    # Cells that few photos show, behind the object or at the edges of images, are rarely part of it.
    inside = _carve(views, points, size, share=0.5)
    if not inside.any():
        inside = _carve(views, points, size)
    if not inside.any():
        raise SceneError(
            "The opaque parts of the photos have no point in common",
            fix="check the poses with `ovseg3d info`, or train with --field.bounds open",
        )
    low, high = lattice[inside].min(0) - half / cells, lattice[inside].max(0) + half / cells
    return center + rotation.T @ ((low + high) / 2), float((high - low).max() / 2)


def _carve(
    views: list[Frame], points: Float[np.ndarray, "points 3"], size: float, share: float = 0.0
) -> Bool[np.ndarray, " points"]:
    """Whether balls of radius `size` are in the image of more than `share` of the photos, and transparent in none."""
    alive, shown = np.arange(len(points)), np.zeros(len(points), dtype=int)
    views = _spread(views, MAX_SILHOUETTES)
    for frame in views:
        photo = load_photo(frame)
        if photo.shape[-1] == 3:
            photo = np.pad(photo, ((0, 0), (0, 0), (0, 1)), constant_values=255)
        camera = frame.camera
        h, w = camera.height, camera.width
        # A summed-area table: the opaque pixels of any window are counted with four look-ups.
        counts = np.pad((photo[..., 3] > 0).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
        xy, z = camera.project(points[alive])
        within = (z > size) & (xy >= 0).all(-1) & (xy < [w, h]).all(-1)
        x, y = xy[within].T
        reach = max(camera.fx, camera.fy) * size / (z[within] - size) + 1.0
        left, right = np.clip(x - reach, 0, w).astype(int), np.clip(np.ceil(x + reach), 0, w).astype(int)
        upper, lower = np.clip(y - reach, 0, h).astype(int), np.clip(np.ceil(y + reach), 0, h).astype(int)
        opaque = counts[lower, right] - counts[upper, right] - counts[lower, left] + counts[upper, left]
        shown[alive[within]] += 1
        empty = np.zeros(len(alive), dtype=bool)
        empty[within] = opaque == 0
        alive = alive[~empty]
    inside = np.zeros(len(points), dtype=bool)
    inside[alive] = True
    return inside & (shown > share * len(views))


# -- visible cells ------------------------------------------------------------------------------------------------


def seen_cells(scene: Scene, box: FieldBox, config: FieldConfig) -> Bool[Tensor, "cascades cells cells cells"]:
    """Cells of the occupancy grid, [cascade, z, y, x], that are in the image of some training camera.

    The test is conservative, on blocks of 4^3 cells. In a bounded scene with transparency, cells outside the visual
    hull of the photos do not count as seen.
    """
    cells = config.occupancy_resolution
    coarse = max(cells // 4, 1)
    views = [scene.frames[i] for i in scene.train]
    axis = (torch.arange(coarse) + 0.5) / coarse * 2 - 1
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    lattice = torch.stack([x, y, z], -1).view(-1, 3)
    input_from_field = np.linalg.inv(box.field_from_input)
    carved = scene.has_alpha and not box.open
    grids = []
    for cascade in range(box.cascades):
        half = 2.0**cascade
        points = lattice.double().numpy() * half @ input_from_field[:3, :3].T + input_from_field[:3, 3]
        size = half / coarse * math.sqrt(3) * box.radius
        seen = _in_view(views, points, size)
        if carved:
            seen[seen] = _carve(views, points[seen], size)
        seen = torch.from_numpy(seen).view(coarse, coarse, coarse)
        grids.append(torch.nn.functional.interpolate(seen[None, None].float(), (cells,) * 3)[0, 0] > 0)
    grid = torch.stack(grids)
    if carved:
        index = grid[0].nonzero()
        u = ((index.flip(-1) + 0.5) / cells * 2 - 1).double().numpy()
        points = u @ input_from_field[:3, :3].T + input_from_field[:3, 3]
        size = math.sqrt(3) / cells * box.radius
        grid[0][tuple(index.T)] = torch.from_numpy(_carve(views, points, size))
    return grid


def _in_view(views: list[Frame], points: Float[np.ndarray, "points 3"], size: float) -> Bool[np.ndarray, " points"]:
    """Whether balls of radius `size` touch the image of some camera (with a margin)."""
    seen = np.zeros(len(points), dtype=bool)
    for frame in _spread(views, MAX_CELL_VIEWS):
        camera, rest = frame.camera, np.flatnonzero(~seen)
        if not len(rest):
            break
        if camera.model == "OPENCV_FISHEYE":
            # A fisheye may see half of space and more.
            return np.ones(len(points), dtype=bool)
        local = (points[rest] - camera.position) @ camera.c2w[:3, :3]
        x, y, z = local.T
        near = np.linalg.norm(local, axis=-1) < size
        depth = np.maximum(z, 1e-9)
        (left, top), (right, bottom) = _without_distortion(camera.lens)
        margin_x = 0.05 * camera.width + camera.fx * size * 1.5 / depth
        margin_y = 0.05 * camera.height + camera.fy * size * 1.5 / depth
        u, v = camera.fx * x / depth + camera.cx, camera.fy * y / depth + camera.cy
        inside = (u > left - margin_x) & (u < right + margin_x) & (v > top - margin_y) & (v < bottom + margin_y)
        seen[rest] = near | (inside & (z > 0))
    return seen


@lru_cache(MAX_CELL_VIEWS)  # photos share lenses, and cascades their photos
def _without_distortion(lens: tuple[Any, ...]) -> tuple[Float[np.ndarray, "2"], Float[np.ndarray, "2"]]:
    """Upper left and lower right corner of what an image by a lens (`Camera.lens`) shows, in pixels of a pinhole with
    the same focal lengths; at least the image itself. A wide lens may show a third more than the pinhole."""
    model, width, height, fx, fy, cx, cy, coefficients = lens
    camera = Camera(width, height, fx, fy, cx, cy, np.eye(4), model, coefficients)
    corners = np.array([(0.0, 0.0), (camera.width, camera.height)])
    if not camera.is_pinhole:
        steps = np.linspace(0.0, 1.0, 17)
        lattice = np.stack(np.meshgrid(camera.width * steps, camera.height * steps), -1).reshape(-1, 2)
        _, local = camera.rays(lattice[camera.reaches(lattice)])
        flat = local[:, :2] / local[:, 2:] * (camera.fx, camera.fy) + (camera.cx, camera.cy)
        corners = np.concatenate([corners, flat])
    return corners.min(0), corners.max(0)
