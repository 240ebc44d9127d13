"""A recorded camera path: a list of viewpoints, and a smooth path through them.

Paths are saved in the format of nerfstudio's viewer (OpenGL axes, row-major, input frame). `ovseg3d render RUN --path
FILE` reads it, to render the same video again, for example larger.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ovseg3d.errors import ConfigError
from ovseg3d.render.paths import CameraPath, interpolate_poses
from ovseg3d.scene import Camera
from ovseg3d.scene.cameras import OPENGL_AXES
from ovseg3d.viewer.viewpoint import Viewpoint

FPS = 24.0
MAX_VIEWS = 100
MAX_SECONDS = 120.0
"""Longest duration of a path."""


def smooth_path(views: Sequence[Viewpoint], seconds: float, width: int, fps: float = FPS) -> CameraPath:
    """A smooth path through viewpoints, of the first one's field of view and shape.

    Args:
        views: the viewpoints.
        seconds: duration of the path.
        width: of the images, pixels; width and height are made even, as videos require.
        fps: cameras per second.

    Raises:
        ConfigError: fewer than two viewpoints, or an invalid duration.
    """
    if len(views) < 2:
        raise ConfigError("A path needs at least two views", fix="go somewhere else and add that view too")
    if not 0 < seconds <= MAX_SECONDS:
        raise ConfigError(f"A video may last up to {MAX_SECONDS:g} s, not {seconds:g} s")
    first = views[0]
    width = max(2, width // 2 * 2)
    height = max(2, round(width * first.height / first.width) // 2 * 2)
    focal = height / 2 / math.tan(first.fov / 2)
    lens = Camera(width, height, focal, focal, width / 2, height / 2, np.eye(4))
    poses = interpolate_poses(np.stack([view.c2w for view in views]), max(2, round(seconds * fps)))
    return CameraPath(tuple(replace(lens, c2w=pose) for pose in poses), fps)


def as_nerfstudio(path: CameraPath) -> dict[str, Any]:
    """The path in nerfstudio's format; `render.paths.read_nerfstudio_path` reads it."""
    first = path.cameras[0]
    fov = math.degrees(2 * math.atan(first.height / 2 / first.fy))
    return {
        "render_width": first.width,
        "render_height": first.height,
        "fps": path.fps,
        "seconds": len(path.cameras) / path.fps,
        "camera_path": [
            {
                "camera_to_world": (camera.c2w @ OPENGL_AXES).ravel().tolist(),
                "fov": fov,
                "aspect": camera.width / camera.height,
            }
            for camera in path.cameras
        ],
    }
