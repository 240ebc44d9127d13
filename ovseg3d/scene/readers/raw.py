"""Result of a reader for `load.py`: the capture as its files state it, before sizes, splits and checks.

A reader only translates: poses become OpenCV camera-to-input; lens parameters keep the units of the size that the file
states. `load.py` does what formats share (copies and sizes of photos, held-out views).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float, Num

from ovseg3d.errors import SceneError
from ovseg3d.limits import CENTRES, FOCAL_LENGTHS, MAX_DISTORTION, MAX_LENGTH, MAX_SIDE, check_number
from ovseg3d.scene.cameras import Camera, LensModel


@dataclass(frozen=True)
class Lens:
    """A lens as a file states it: focal lengths in pixels of the stated size, or fields of view."""

    size: tuple[int, int] | None = None
    """(width, height) that the numbers refer to; None: the photo's own."""
    fx: float | None = None
    fy: float | None = None
    cx: float | None = None
    cy: float | None = None
    angle_x: float | None = None
    """Horizontal field of view, radians; used without a focal length."""
    angle_y: float | None = None
    model: LensModel = "OPENCV"
    distortion: tuple[float, ...] = ()

    def camera(self, c2w: np.ndarray, photo_size: tuple[int, int]) -> Camera:
        """The camera at the stated size, else at the photo's."""
        width, height = self.size or photo_size
        fx = self.fx if self.fx is not None else _focal(self.angle_x, width)
        fy = self.fy if self.fy is not None else _focal(self.angle_y, height)
        fx, fy = fx if fx is not None else fy, fy if fy is not None else fx
        assert fx is not None and fy is not None  # readers require one of the four
        cx = self.cx if self.cx is not None else width / 2
        cy = self.cy if self.cy is not None else height / 2
        return Camera(width, height, fx, fy, cx, cy, c2w, self.model, self.distortion)


def _focal(angle: float | None, size: int) -> float | None:
    return None if angle is None else 0.5 * size / math.tan(0.5 * angle)


# The power of the distance from the centre that each coefficient goes with, relative to that distance.
_POWERS = {"k1": 2, "k2": 4, "p1": 1, "p2": 1, "k3": 6, "k4": 8}


def check_lens(lens: Lens, size: tuple[int, int], where: str) -> None:
    """Refuse a lens with numbers that no camera has. Keys are called as transforms.json calls them.

    Args:
        lens: as the file states it.
        size: (width, height) that its numbers refer to.
        where: the file and the frame, for the message.

    Raises:
        SceneError: names the key, its value and what is allowed.
    """
    for key, side in zip("wh", size):
        check_number(side, key, where, 1, MAX_SIDE)
    fix = f"correct it: the image is {size[0]}x{size[1]} pixels"
    low, high = (share * max(size) for share in FOCAL_LENGTHS)
    focals = []
    for axis, side, focal, angle in (("x", size[0], lens.fx, lens.angle_x), ("y", size[1], lens.fy, lens.angle_y)):
        if focal is not None:
            check_number(focal, f"fl_{axis}", where, low, high, fix=fix)
        if angle is not None:
            # An angle beside a focal length is not used.
            least, most = (0.0, math.pi)
            if focal is None:
                least, most = (2 * math.atan(0.5 * side / f) for f in (high, low))
            check_number(angle, f"camera_angle_{axis}", where, least, most, fix=f"{fix}; the angle is in radians")
        focals.append(focal if focal is not None else _focal(angle, side))
    reach = 0.0
    for axis, side, centre, focal in zip("xy", size, (lens.cx, lens.cy), focals):
        if centre is not None:
            check_number(centre, f"c{axis}", where, CENTRES[0] * side, CENTRES[1] * side, fix=fix)
        middle = side / 2 if centre is None else centre
        reach = math.hypot(reach, max(abs(middle), abs(side - middle)) / (focal or max(filter(None, focals))))
    fisheye = lens.model == "OPENCV_FISHEYE"
    reach = min(reach, math.pi) if fisheye else reach
    for key, value in zip(("k1", "k2", "k3", "k4") if fisheye else _POWERS, lens.distortion):
        most = MAX_DISTORTION / reach ** _POWERS[key]
        check_number(value, key, where, -most, most, fix="calibrate again, or undistort the photos")


@dataclass
class RawFrame:
    """One frame as its file states it."""

    name: str
    photo: Path
    """Expected path of the full-size photo."""
    c2w: np.ndarray
    """4x4, OpenCV axes; not yet checked."""
    lens: Lens
    file: Path
    """The file that states all this, for messages."""
    mask: Path | None = None
    depth: Path | None = None
    depth_window: tuple[float, float, float, float] | None = None
    """See `Frame.depth_window`; a depth file may then have any size."""
    label: Path | None = None
    near_far: tuple[float, float] | None = None
    split: str | None = None
    """"train", "val" or "test", if stated."""


@dataclass
class RawCapture:
    """A capture as its files state it."""

    path: Path
    format: str
    frames: list[RawFrame]
    z_up: bool
    """Whether the format defines +z as up."""
    points: np.ndarray | None = None
    points_rgb: np.ndarray | None = None
    depth_unit: float = 0.001
    depth_is_metric: bool = False
    """Whether depth files imply that the input frame is in metres."""
    metric: bool | None = None
    """Whether the capture states that its unit is the metre; None if it states nothing."""
    classes: dict[int, str] = field(default_factory=dict)
    ignore_label: int | None = None
    recommended_encoder: dict[str, str] = field(default_factory=dict)
    aabb_scale: float | None = None
    notes: list[str] = field(default_factory=list)


class Incomplete(Exception):
    """A folder looks like this reader's format but lacks files; the next reader may try. Says why."""


def check_pose(matrix: Num[np.ndarray, "4 4"], where: str) -> Float[np.ndarray, "4 4"]:
    """A pose as an exact rigid transform.

    The nearest rotation is taken, which corrects rounding.

    Args:
        matrix: 4x4 camera to input.
        where: the frame, for the message.

    Raises:
        SceneError: the pose is not finite, not rigid beyond rounding, mirrored, or too far away.
    """
    if not np.isfinite(matrix).all():
        raise SceneError(
            "The pose holds NaN or infinity",
            where=where,
            fix="remove the frame: structure from motion did not find where its photo was taken",
        )
    rotation = matrix[:3, :3]
    # Entries of a rotation are at most 1; squares of larger ones may overflow.
    if np.abs(rotation).max() > 1e6 or np.abs(rotation.T @ rotation - np.eye(3)).max() > 1e-2:
        with np.errstate(over="ignore"):
            size = np.linalg.norm(rotation, axis=0)
        detail = f"its columns have lengths {size[0]:.3g}, {size[1]:.3g}, {size[2]:.3g}"
        raise SceneError(
            f"The pose is no rotation and translation ({detail}; all should be 1 and at right angles)",
            where=where,
            fix="divide a scale out of the 3x3 part, and check that it is camera-to-world",
        )
    farthest = float(np.abs(matrix[:3, 3]).max())
    if farthest > MAX_LENGTH:
        raise SceneError(
            f"The camera stands {farthest:.3g} units away, expected at most {MAX_LENGTH:g}",
            where=where,
            fix="correct the pose, or move the origin near the cameras",
        )
    u, _, vt = np.linalg.svd(rotation)
    if np.linalg.det(rotation) < 0:
        raise SceneError(
            "The pose mirrors the image (its rotation has determinant -1)",
            where=where,
            fix="one axis was flipped on the way: flip two, as between OpenGL and OpenCV cameras",
        )
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = u @ vt, matrix[:3, 3]
    return pose


def every_eighth(count: int) -> tuple[list[int], list[int]]:
    """Training and held-out indices where a capture states none: 0, 8, 16, ... are held out."""
    return [i for i in range(count) if i % 8], list(range(0, count, 8))


def shorten(names: Sequence[str], most: int = 3) -> str:
    """The first of `names`, and the number of the others."""
    listed = ", ".join(names[:most])
    return listed if len(names) <= most else f"{listed} and {len(names) - most} more"
