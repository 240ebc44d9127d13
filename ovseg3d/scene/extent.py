"""Extent of a capture's content, for the field's box and the plot of `info`.

Sources, the best first: measured depth, sparse points, near and far bounds of an LLFF capture. Without them the extent
comes from the point that the cameras look at. Points are in the input frame and its units.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ovseg3d.limits import MAX_LENGTH
from ovseg3d.scene.cameras import Camera
from ovseg3d.scene.capture import Frame, Scene
from ovseg3d.scene.check import common_focus
from ovseg3d.scene.images import load_depth

_DEPTH_VIEWS = 32
_DEPTH_SAMPLES = 2000
_MIN_POINTS = 50


@dataclass(frozen=True)
class Evidence:
    """Points of the content and their source."""

    points: Float[np.ndarray, "points 3"]
    source: str
    """"depth", "sparse points" or "near and far"."""


@dataclass(frozen=True)
class Extent:
    """A box and its source."""

    bounds: Float[np.ndarray, "2 3"]
    """Lower and upper corner, input frame and units."""
    source: str
    """"depth", "sparse points", "near and far" or "cameras"."""


def content_points(scene: Scene, views: Sequence[Frame], use_depth: bool) -> Evidence | None:
    """Points of the content from the best source; None if there are only cameras.

    Args:
        scene: its sparse points are used.
        views: their depth, and near and far bounds, are used.
        use_depth: whether to use measured depth.

    Raises:
        SceneError: a depth file is broken.
    """
    if use_depth and any(frame.depth_path for frame in views):
        chosen = views[:: max(1, len(views) // _DEPTH_VIEWS)]
        measured = np.concatenate([_depth_points(scene, frame) for frame in chosen])
        if len(measured):  # depth files may hold no known depth
            return Evidence(measured, "depth")
    if scene.points is not None and len(scene.points) >= _MIN_POINTS:
        return Evidence(scene.points, "sparse points")
    if all(frame.near_far for frame in views):
        # Half way in disparity: more distant content is small in the photos.
        ends = [(frame, frame.near_far) for frame in views if frame.near_far]
        parts = [_frustum_points(frame.camera, (near, 2 * near * far / (near + far))) for frame, (near, far) in ends]
        return Evidence(np.concatenate(parts), "near and far")
    return None


def scene_extent(scene: Scene) -> Extent | None:
    """The box of the content, without the outer 2 % on each side; None without any source.

    Raises:
        SceneError: a depth file is broken.
    """
    views = [frame for frame in scene.frames if frame.depth_path is not None] or scene.frames
    evidence = content_points(scene, views, use_depth=True)
    if evidence is not None:
        return Extent(np.percentile(evidence.points, [2, 98], axis=0), evidence.source)
    focus = common_focus(scene)
    if focus is None:
        return None
    nearest = min(float(np.linalg.norm(frame.camera.position - focus)) for frame in scene.frames)
    return Extent(np.stack([focus - nearest / 2, focus + nearest / 2]), "cameras")


def _depth_points(scene: Scene, frame: Frame) -> Float[np.ndarray, "points 3"]:
    """Points of a depth image, evenly thinned."""
    depth = load_depth(frame, scene).ravel()
    chosen = np.flatnonzero((depth > 0) & (depth <= MAX_LENGTH))
    chosen = chosen[:: max(1, len(chosen) // _DEPTH_SAMPLES)]
    origins, directions = frame.camera.rays(frame.camera.pixel_centres()[chosen])
    cosine = directions @ frame.camera.forward
    return origins + directions * (depth[chosen] / cosine)[:, None]


def _frustum_points(camera: Camera, depths: tuple[float, ...]) -> Float[np.ndarray, "points 3"]:
    """Points at an image's corners and middle, at these z-depths."""
    w, h = camera.width, camera.height
    corners = np.array([[0, 0], [w, 0], [0, h], [w, h], [w / 2, h / 2]], dtype=float)
    origins, directions = camera.rays(corners)
    cosine = directions @ camera.forward
    return np.concatenate([origins + directions * (depth / cosine)[:, None] for depth in depths])
