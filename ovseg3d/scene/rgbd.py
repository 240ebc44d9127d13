"""A photo and a depth image that belong to no capture: read at one size, with the focal length that EXIF states."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from ovseg3d.errors import SceneError
from ovseg3d.limits import MAX_PIXELS, first_line
from ovseg3d.scene.cameras import Camera
from ovseg3d.scene.capture import Frame, Scene
from ovseg3d.scene.images import load_depth, load_photo, read_header
from ovseg3d.scene.prepare.photos import read_photo

MAX_SIDE = 640
"""Longest side to which photo and depth are reduced, pixels: a cloud of at most 400,000 points."""
MILLIMETRES = 0.001
SAME_ASPECT = 0.02
"""Photo and depth may differ by this share in their ratio of sides."""


@dataclass(frozen=True)
class RgbdPhoto:
    """A photo, and its depth if there is one, of equal sizes."""

    rgb: UInt8[np.ndarray, "h w 3"]
    depth_z: Float[np.ndarray, "h w"] | None
    """Metres, 0 where unknown."""
    focal_px: float | None
    """Focal length by EXIF, in pixels of `rgb`."""
    scale: float
    """Width of `rgb` over that of the file, upright."""


def read_rgbd(photo: Path, depth: Path | None = None, depth_scale: float | None = None) -> RgbdPhoto:
    """Read a photo, upright, and the depth of its pixels.

    Args:
        photo: the file.
        depth: an image or .npy array of z-depth with the photo's field of view, of any size; 0 is unknown.
        depth_scale: metres per value; None: 0.001, and 1 for an .npy array.

    Raises:
        SceneError: a file is missing or broken, or both differ in shape.
    """
    width, height = _upright_size(photo)
    size = (width, height)
    if depth is not None:
        size = _depth_size(depth)
        if abs(size[0] / size[1] / (width / height) - 1) > SAME_ASPECT:
            raise SceneError(
                f"The photo has {width} x {height} pixels, upright, and the depth {size[0]} x {size[1]}",
                where=depth,
                fix="crop or turn the depth like the photo",
            )
    share = min(1.0, MAX_SIDE / max(size))
    size = (max(1, round(size[0] * share)), max(1, round(size[1] * share)))
    camera = Camera(*size, 1.0, 1.0, size[0] / 2, size[1] / 2, np.eye(4))
    frame = Frame(photo.name, photo, camera, depth_path=depth)
    metres = depth_scale or (1.0 if depth is not None and depth.suffix == ".npy" else MILLIMETRES)
    depth_z = None if depth is None else load_depth(frame, replace(_alone(frame), depth_unit=metres))
    return RgbdPhoto(load_photo(frame)[..., :3], depth_z, _exif_focal(photo, *size), size[0] / width)


def _upright_size(photo: Path) -> tuple[int, int]:
    return read_header(photo).upright_size


def _depth_size(depth: Path) -> tuple[int, int]:
    if depth.suffix == ".npy":
        from ovseg3d.limits import check_array

        height, width, *_ = check_array(depth, what="depth", kinds="uif", most=8 * MAX_PIXELS)
        return width, height
    header = read_header(depth, what="depth")
    return header.width, header.height


def _exif_focal(photo: Path, width: int, height: int) -> float | None:
    try:
        return read_photo(photo).focal_px(width, height)
    except (OSError, ValueError) as error:
        raise SceneError(
            f"The photo cannot be used: {first_line(error)}", where=photo, fix="use another one"
        ) from error


def _alone(frame: Frame) -> Scene:
    """A capture of this frame only, as `load_depth` takes it."""
    return Scene(frame.image_path.parent, frame.name, "nerfstudio", (frame,), (0,), (), True, 1.0, np.eye(4))
