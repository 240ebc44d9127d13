"""Roughly where a capture's content is, for `info` and its picture; the field finds its own box.

An axis-aligned box of the input frame, from the best evidence at hand: sparse points, measured depth, the near and
far that an LLFF capture states, else the point that the cameras look at.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ovseg3d.limits import MAX_LENGTH
from ovseg3d.scene.cameras import Camera
from ovseg3d.scene.capture import Scene
from ovseg3d.scene.check import common_focus
from ovseg3d.scene.images import load_depth

_DEPTH_VIEWS = 8
_DEPTH_SAMPLES = 2000


@dataclass(frozen=True)
class Extent:
    """A box and where it comes from."""

    bounds: Float[np.ndarray, "2 3"]
    """Lower and upper corner, input frame and units."""
    source: str
    """"sparse points", "depth", "near and far" or "cameras"."""


def scene_extent(scene: Scene) -> Extent | None:
    """The box of the content, without the farthest 2 % on each side; None when nothing tells.

    Raises:
        SceneError: a depth file is broken.
    """
    if scene.points is not None and len(scene.points) >= 20:
        return Extent(np.percentile(scene.points, [2, 98], axis=0), "sparse points")
    measured = [frame for frame in scene.frames if frame.depth_path is not None]
    if measured:
        views = measured[:: max(1, len(measured) // _DEPTH_VIEWS)][:_DEPTH_VIEWS]
        points = np.concatenate([_lift(frame.camera, load_depth(frame, scene)) for frame in views])
        if len(points) >= 20:
            return Extent(np.percentile(points, [2, 98], axis=0), "depth")
    corners = [
        _corners(frame.camera, z) for frame in scene.frames if frame.near_far is not None for z in frame.near_far
    ]
    if corners:
        return Extent(np.percentile(np.concatenate(corners), [2, 98], axis=0), "near and far")
    focus = common_focus(scene)
    if focus is None:
        return None
    nearest = min(float(np.linalg.norm(frame.camera.position - focus)) for frame in scene.frames)
    return Extent(np.stack([focus - nearest / 2, focus + nearest / 2]), "cameras")


def _lift(camera: Camera, depth_z: np.ndarray) -> np.ndarray:
    """Points of the input frame that a depth image shows, evenly thinned."""
    z = depth_z.reshape(-1)
    chosen = np.flatnonzero((z > 0) & (z <= MAX_LENGTH))
    chosen = chosen[:: max(1, len(chosen) // _DEPTH_SAMPLES)]
    xy = np.stack([chosen % camera.width, chosen // camera.width], axis=-1) + 0.5
    origins, directions = camera.rays(xy)
    return origins + directions * (z[chosen] / (directions @ camera.forward))[:, None]


def _corners(camera: Camera, z: float) -> np.ndarray:
    w, h = float(camera.width), float(camera.height)
    origins, directions = camera.rays(np.array([[0.0, 0.0], [w, 0.0], [0.0, h], [w, h]]))
    return origins + directions * (z / np.maximum(directions @ camera.forward, 0.1))[:, None]
