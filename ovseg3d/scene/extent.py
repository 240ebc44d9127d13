"""Where a capture's content is: points that tell, which the field's box and the image of `info` both come from.

The evidence, the best first: measured depth, sparse points, the near and far that an LLFF capture states. Without any
the cameras alone tell, by the point that they look at. Points are in the input frame and its units.
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
_FEWEST_POINTS = 50


@dataclass(frozen=True)
class Evidence:
    """Points of the content and where they come from."""

    points: Float[np.ndarray, "points 3"]
    source: str
    """"depth", "sparse points" or "near and far"."""


@dataclass(frozen=True)
class Extent:
    """A box and where it comes from."""

    bounds: Float[np.ndarray, "2 3"]
    """Lower and upper corner, input frame and units."""
    source: str
    """"depth", "sparse points", "near and far" or "cameras"."""


def content_points(scene: Scene, views: Sequence[Frame], use_depth: bool) -> Evidence | None:
    """Points where the content is, by the best evidence there is; None where only the cameras tell.

    Args:
        scene: for its sparse points.
        views: whose depth, and near and far, are looked at.
        use_depth: whether measured depth counts.

    Raises:
        SceneError: a depth file is broken.
    """
    if use_depth and any(frame.depth_path for frame in views):
        chosen = views[:: max(1, len(views) // _DEPTH_VIEWS)]
        measured = np.concatenate([_depth_points(scene, frame) for frame in chosen])
        if len(measured):  # depth files may know nothing
            return Evidence(measured, "depth")
    if scene.points is not None and len(scene.points) >= _FEWEST_POINTS:
        return Evidence(scene.points, "sparse points")
    if all(frame.near_far for frame in views):
        # Halfway in disparity: what is further off is small in the photos.
        ends = [(frame, frame.near_far) for frame in views if frame.near_far]
        parts = [_frustum_points(frame.camera, (near, 2 * near * far / (near + far))) for frame, (near, far) in ends]
        return Evidence(np.concatenate(parts), "near and far")
    return None


def scene_extent(scene: Scene) -> Extent | None:
    """The box of the content, without the farthest 2 % on each side; None when nothing tells.

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
    """What a depth image shows, evenly thinned."""
    depth = load_depth(frame, scene).ravel()
    chosen = np.flatnonzero((depth > 0) & (depth <= MAX_LENGTH))
    chosen = chosen[:: max(1, len(chosen) // _DEPTH_SAMPLES)]
    origins, directions = frame.camera.rays(frame.camera.pixel_centres()[chosen])
    cosine = directions @ frame.camera.forward
    return origins + directions * (depth[chosen] / cosine)[:, None]


def _frustum_points(camera: Camera, depths: tuple[float, ...]) -> Float[np.ndarray, "points 3"]:
    """Where an image's corners and middle are at these z-depths."""
    w, h = camera.width, camera.height
    corners = np.array([[0, 0], [w, 0], [0, h], [w, h], [w / 2, h / 2]], dtype=float)
    origins, directions = camera.rays(corners)
    cosine = directions @ camera.forward
    return np.concatenate([origins + directions * (depth / cosine)[:, None] for depth in depths])
