"""What a reader hands to `load.py`: the capture as its files state it, before sizes, splits and checks.

A reader only translates: poses become OpenCV camera-to-input, lens parameters keep the units of the size that the
file states. Everything that formats share (which copy of a photo, how large, held-out views) happens once, later.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ovseg3d.errors import SceneError
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
    """Horizontal field of view, radians; used when there is no focal length."""
    angle_y: float | None = None
    model: LensModel = "OPENCV"
    distortion: tuple[float, ...] = ()

    def camera(self, c2w: np.ndarray, photo_size: tuple[int, int]) -> Camera:
        """The camera at the stated size, or the photo's where none is stated."""
        width, height = self.size or photo_size
        fx = self.fx if self.fx is not None else _focal(self.angle_x, width)
        fy = self.fy if self.fy is not None else _focal(self.angle_y, height)
        fx, fy = fx if fx is not None else fy, fy if fy is not None else fx
        assert fx is not None and fy is not None  # the readers demand one of the four
        cx = self.cx if self.cx is not None else width / 2
        cy = self.cy if self.cy is not None else height / 2
        return Camera(width, height, fx, fy, cx, cy, c2w, self.model, self.distortion)


def _focal(angle: float | None, size: int) -> float | None:
    return None if angle is None else 0.5 * size / math.tan(0.5 * angle)


@dataclass
class RawFrame:
    """One frame as its file states it."""

    name: str
    photo: Path
    """Where the full-size photo is expected."""
    c2w: np.ndarray
    """4x4, OpenCV axes; not yet checked."""
    lens: Lens
    mask: Path | None = None
    depth: Path | None = None
    label: Path | None = None
    near_far: tuple[float, float] | None = None
    split: str | None = None
    """"train", "val" or "test" where the file says so."""


@dataclass
class RawCapture:
    """A capture as its files state it."""

    path: Path
    format: str
    frames: list[RawFrame]
    z_up: bool
    """Whether the format promises +z up."""
    points: np.ndarray | None = None
    points_rgb: np.ndarray | None = None
    depth_unit: float = 0.001
    depth_is_metric: bool = False
    """Whether depth files, if there are any, tie the input frame to metres."""
    metric: bool | None = None
    """Whether the capture says that its unit is the metre; None where it says nothing."""
    classes: dict[int, str] = field(default_factory=dict)
    ignore_label: int | None = None
    recommended_encoder: dict[str, str] = field(default_factory=dict)
    aabb_scale: float | None = None
    notes: list[str] = field(default_factory=list)


class Incomplete(Exception):
    """A folder looks like this reader's format but lacks files; the next reader may try. Says why."""


def check_pose(matrix: np.ndarray, where: str) -> np.ndarray:
    """A pose as an exact rigid transform.

    Rounding in a file is mended (the nearest rotation is taken); anything worse is a SceneError.

    Args:
        matrix: 4x4 camera to input.
        where: the frame, for the message.
    """
    if not np.isfinite(matrix).all():
        raise SceneError(
            "The pose holds NaN or infinity",
            where=where,
            fix="remove the frame: structure from motion did not find where its photo was taken",
        )
    rotation = matrix[:3, :3]
    if np.abs(rotation.T @ rotation - np.eye(3)).max() > 1e-2:
        size = np.linalg.norm(rotation, axis=0)
        detail = f"its columns have lengths {size[0]:.3g}, {size[1]:.3g}, {size[2]:.3g}"
        raise SceneError(
            f"The pose is no rotation and translation ({detail}; all should be 1 and at right angles)",
            where=where,
            fix="divide a scale out of the 3x3 part, and check that it is camera-to-world",
        )
    u, _, vt = np.linalg.svd(rotation)
    if np.linalg.det(rotation) < 0:
        raise SceneError(
            "The pose mirrors the picture (its rotation has determinant -1)",
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
    """A few of `names` and how many more there are."""
    listed = ", ".join(names[:most])
    return listed if len(names) <= most else f"{listed} and {len(names) - most} more"
