"""Camera paths for videos.

A path is a list of `Camera`s in the input frame (OpenCV axes), without lens distortion. Positions follow a Catmull-Rom
spline and rotations a rotation spline (SciPy's RotationSpline), both through the key poses.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.interpolate import CubicHermiteSpline
from scipy.spatial.transform import Rotation, RotationSpline

from ovseg3d.errors import ConfigError, SceneError
from ovseg3d.files import read_json
from ovseg3d.limits import MAX_LENGTH, shorten
from ovseg3d.scene import Camera, Scene

LARGEST_SIDE = 8192
"""Pixels."""
LONGEST, FASTEST = 3600.0, 240.0
"""Seconds, and frames per second."""


@dataclass(frozen=True)
class CameraPath:
    """Cameras in order of time."""

    cameras: tuple[Camera, ...]
    fps: float
    """Frames per second."""


def interpolate_poses(
    keys: Float[np.ndarray, "views 4 4"], count: int, closed: bool = False
) -> Float[np.ndarray, "poses 4 4"]:
    """`count` poses, evenly spaced in key index, on a smooth curve through `keys` (camera to input, rigid).

    The first pose is the first key. The last pose is the last key; if `closed`, the curve returns to the first key.
    """
    if closed:
        keys = np.concatenate([keys, keys[:1]])
    if len(keys) == 1:
        return np.repeat(keys, count, axis=0)
    times = np.arange(len(keys), dtype=np.float64)
    points = keys[:, :3, 3]
    at = np.linspace(0, times[-1], count, endpoint=not closed)
    if closed:
        tangents = (np.roll(points[:-1], -1, axis=0) - np.roll(points[:-1], 1, axis=0)) / 2
        tangents = np.concatenate([tangents, tangents[:1]])
    else:
        tangents = np.gradient(points, axis=0)
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, :3, 3] = CubicHermiteSpline(times, points, tangents)(at)
    poses[:, :3, :3] = RotationSpline(times, Rotation.from_matrix(keys[:, :3, :3]))(at).as_matrix()
    return poses


def interpolation(scene: Scene, seconds: float = 8.0, fps: float = 24.0, keys: int = 8) -> CameraPath:
    """A path through at most `keys` training cameras; each next one is the nearest not yet visited."""
    views = list(scene.train or range(len(scene.frames)))
    chosen = [views[i] for i in np.unique(np.linspace(0, len(views) - 1, min(keys, len(views))).astype(int))]
    poses = np.stack([scene.frames[view].camera.c2w for view in chosen])
    order, left = [0], set(range(1, len(poses)))
    while left:
        here = poses[order[-1]]
        order.append(min(left, key=lambda i: _pose_distance(here, poses[i])))
        left.remove(order[-1])
    pinhole = _pinhole(scene.frames[chosen[0]].camera)
    path = interpolate_poses(poses[order], max(2, round(seconds * fps)))
    return CameraPath(tuple(_at(pinhole, pose) for pose in path), fps)


def _pose_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Distance of positions, increased by the angle between view directions."""
    return float(np.linalg.norm(a[:3, 3] - b[:3, 3]) * (2 - a[:3, 2] @ b[:3, 2]) + 1e-9 * (1 - a[:3, 2] @ b[:3, 2]))


def spiral(scene: Scene, seconds: float = 8.0, fps: float = 24.0, turns: int = 2, radius: float = 0.3) -> CameraPath:
    """A closed spiral around the central training camera, looking at its focus point.

    Args:
        scene: the capture.
        seconds: length of the path.
        fps: frames per second.
        turns: number of turns.
        radius: radius of the spiral, relative to the spread of the camera positions.
    """
    cameras = [scene.frames[view].camera for view in (scene.train or range(len(scene.frames)))]
    positions = np.stack([camera.c2w[:3, 3] for camera in cameras])
    spread = np.std(positions, axis=0).max()
    forward = np.stack([camera.c2w[:3, 2] for camera in cameras])
    # A central camera that also looks in the mean direction.
    distance = np.linalg.norm(positions - np.median(positions, axis=0), axis=1) / max(spread, 1e-9)
    middle = cameras[int(np.argmin(distance - forward @ forward.mean(axis=0)))]
    focus = middle.c2w[:3, 3] + middle.c2w[:3, 2] * _focus_distance(positions, forward, middle)
    reach = radius * spread if spread > 0 else 0.05 * np.linalg.norm(focus - middle.c2w[:3, 3])
    count = max(2, round(seconds * fps))
    pinhole, down = _pinhole(middle), middle.c2w[:3, 1]
    poses = []
    for share in np.arange(count) / count:
        angle = 2 * math.pi * turns * share
        offset = np.array([math.cos(angle), math.sin(angle), math.sin(angle / turns)]) * [
            reach,
            0.6 * reach,
            0.3 * reach,
        ]
        poses.append(look_at(middle.c2w[:3, 3] + middle.c2w[:3, :3] @ offset, focus, down))
    return CameraPath(tuple(_at(pinhole, pose) for pose in poses), fps)


def _focus_distance(positions: np.ndarray, forward: np.ndarray, middle: Camera) -> float:
    """Distance in front of `middle` where the cameras' optical axes meet, by least squares."""
    across = np.eye(3) - forward[:, :, None] * forward[:, None, :]
    meeting, *_ = np.linalg.lstsq(across.sum(axis=0), np.einsum("nij,nj->i", across, positions), rcond=None)
    distance = float((meeting - middle.c2w[:3, 3]) @ middle.c2w[:3, 2])
    spread = float(np.linalg.norm(np.std(positions, axis=0)))
    return distance if distance > 0.1 * spread else max(2 * spread, 1.0)


def look_at(
    eye: Float[np.ndarray, "3"], target: Float[np.ndarray, "3"], down: Float[np.ndarray, "3"]
) -> Float[np.ndarray, "4 4"]:
    """Pose of an OpenCV camera at `eye` that looks at `target`, with its y axis as close to `down` as possible."""
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(down, forward)
    right = right / np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3] = np.stack([right, np.cross(forward, right), forward, eye], axis=1)
    return pose


def read_nerfstudio_path(path: Path) -> CameraPath:
    """Read a camera path saved by nerfstudio's viewer.

    `camera_path` is a list of {camera_to_world: 16 numbers, row by row, OpenGL axes; fov: vertical, degrees};
    also `render_width`, `render_height`, and `fps` or `seconds`. Poses are in the input frame.

    Raises:
        SceneError: the file is missing or invalid, or the path cannot be rendered.
    """
    description = read_json(path)
    entries = description.get("camera_path")
    if not isinstance(entries, list) or not entries:
        raise SceneError("The camera path has no list `camera_path`", where=path, fix="save it again in the viewer")
    if len(entries) > LONGEST * FASTEST:
        raise SceneError(f"The camera path has {len(entries)} cameras", where=path, fix="save a shorter one")
    width, height = (_number(description, key, path) for key in ("render_width", "render_height"))
    if not (1 <= width <= LARGEST_SIDE and 1 <= height <= LARGEST_SIDE):
        raise SceneError(f"The camera path asks for {width:.0f} x {height:.0f} pixels", where=path)
    cameras = tuple(
        _nerfstudio_camera(entry, int(width), int(height), f"{path}, camera_path[{index}]")
        for index, entry in enumerate(entries)
    )
    if "fps" in description:
        fps = _number(description, "fps", path)
    else:
        seconds = _number(description, "seconds", path) if "seconds" in description else len(cameras) / 24.0
        fps = len(cameras) / seconds if seconds > 0 else 0.0
    if not 0 < fps <= 1000:
        raise SceneError("The camera path's fps or seconds must be above 0", where=path)
    return CameraPath(cameras, fps)


def _nerfstudio_camera(entry: Any, width: int, height: int, where: str) -> Camera:
    try:
        matrix = np.array(entry["camera_to_world"], dtype=np.float64).reshape(4, 4)
        fov = float(entry.get("fov", 50.0))
    except (TypeError, KeyError, ValueError, AttributeError, OverflowError):
        raise SceneError("camera_to_world must be 16 numbers and fov one", where=where) from None
    rotation = matrix[:3, :3]
    size = np.cbrt(np.linalg.det(rotation)) if np.abs(matrix).max() <= MAX_LENGTH else 0.0  # also for NaN
    if size <= 0 or not np.allclose(rotation @ rotation.T, np.eye(3) * size**2, atol=1e-3 * size**2):
        raise SceneError("camera_to_world is not a rotation with a position", where=where)
    if not 1 <= fov <= 179:
        raise SceneError(f"The field of view must be from 1 to 179 degrees, not {fov}", where=where)
    pose = np.eye(4)
    pose[:3, :3] = rotation / size @ np.diag([1.0, -1.0, -1.0])  # OpenGL axes to OpenCV's
    pose[:3, 3] = matrix[:3, 3]
    focal = height / 2 / math.tan(math.radians(fov) / 2)
    return Camera(width, height, focal, focal, width / 2, height / 2, pose)


def _number(description: dict[str, Any], key: str, path: Path) -> float:
    value = description.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= 1e9:
        raise SceneError(f"The camera path's {key} must be a number, not {shorten(repr(value))}", where=path)
    return float(value)


def _pinhole(camera: Camera) -> Camera:
    """The same view without lens distortion."""
    return Camera(camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy, camera.c2w)


def _at(camera: Camera, pose: np.ndarray) -> Camera:
    return Camera(camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy, pose)


def check_video(seconds: float, fps: float, width: int | None) -> None:
    """Raises ConfigError: length, frame rate or width of a video is out of range."""
    for name, value, most in (("seconds", seconds, LONGEST), ("fps", fps, FASTEST), ("width", width, LARGEST_SIDE)):
        if value is not None and not 0 < value <= most:
            raise ConfigError(f"--{name} must be above 0 and at most {most:g}, not {value:g}")


def resized(cameras: Sequence[Camera], width: int | None) -> list[Camera]:
    """The cameras at another image width, with the same aspect ratio."""
    if width is None:
        return list(cameras)
    return [camera.scaled(width, max(1, round(camera.height * width / camera.width))) for camera in cameras]
