"""A camera path that a visitor records: places one after the other, a smooth flight through them, a film of it.

Saved as nerfstudio's viewer saves paths (OpenGL axes, row by row, input frame), which `ovseg3d render RUN --path FILE`
reads back: what is filmed here can be filmed again there, larger.
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
from ovseg3d.viewer.lens import Viewpoint

FPS = 24.0
MOST_KEYS = 100
LONGEST = 120.0
"""Seconds."""


def flight(keys: Sequence[Viewpoint], seconds: float, width: int, fps: float = FPS) -> CameraPath:
    """A smooth flight through viewpoints, of the first one's field of view and shape.

    Args:
        width: of the pictures; width and height become even, as films want them.

    Raises:
        ConfigError: fewer than two viewpoints, or a length that cannot be meant.
    """
    if len(keys) < 2:
        raise ConfigError("A path needs at least two views", fix="go somewhere else and add that view too")
    if not 0 < seconds <= LONGEST:
        raise ConfigError(f"A film may last up to {LONGEST:g} s, not {seconds:g} s")
    first = keys[0]
    width = max(2, width // 2 * 2)
    height = max(2, round(width * first.height / first.width) // 2 * 2)
    focal = height / 2 / math.tan(first.fov / 2)
    lens = Camera(width, height, focal, focal, width / 2, height / 2, np.eye(4))
    poses = interpolate_poses(np.stack([key.c2w for key in keys]), max(2, round(seconds * fps)))
    return CameraPath(tuple(replace(lens, c2w=pose) for pose in poses), fps)


def as_nerfstudio(path: CameraPath) -> dict[str, Any]:
    """The path as nerfstudio saves it; `render.paths.read_nerfstudio_path` reads it."""
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
