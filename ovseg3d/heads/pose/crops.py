"""Square crops around objects, as the photo head sees them, and the cameras that look at their middles."""

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image
from scipy.spatial.transform import Rotation

from ovseg3d.geometry.poses import turn_to
from ovseg3d.scene.cameras import Camera

MARGIN = 0.15
"""Side of the crop beyond the longer side of the object's box, as a share of it."""
Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels; the photo spans [0, width] x [0, height]."""


def square_crop(
    rgb: UInt8[np.ndarray, "h w 3"], box: Box, side: int, margin: float = MARGIN
) -> UInt8[np.ndarray, "{side} {side} 3"]:
    """The square around a box, resized to `side` pixels; beyond the photo's edge its outermost pixels are repeated.

    Args:
        rgb: the photo.
        box: of the object.
        side: of the crop, pixels.
        margin: around the box, a share of its longer side in all.
    """
    x0, y0, x1, y1 = box
    half = max(x1 - x0, y1 - y0, 2.0) * (1 + margin) / 2
    size = int(np.ceil(2 * half))
    left, top = int(np.floor((x0 + x1) / 2 - half)), int(np.floor((y0 + y1) / 2 - half))
    columns = np.clip(np.arange(left, left + size), 0, rgb.shape[1] - 1)
    rows = np.clip(np.arange(top, top + size), 0, rgb.shape[0] - 1)
    return np.asarray(Image.fromarray(rgb[rows[:, None], columns]).resize((side, side), Image.Resampling.BICUBIC))


def mask_box(mask: Bool[np.ndarray, "h w"]) -> Box:
    """The box of a mask that is not empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def turn_to_box(camera: Camera, box: Box) -> Rotation:
    """From a camera that looks at a box's middle to the frame: the photo's own, turned there by the shortest way.

    What an object looks like depends on the ray on which it is seen, not on where the photo's middle is.
    """
    middle = np.array([[(box[0] + box[2]) / 2, (box[1] + box[3]) / 2]])
    ray = camera.rays(middle)[1][0] @ camera.c2w[:3, :3]
    return Rotation.from_matrix(camera.c2w[:3, :3]) * turn_to(ray / np.linalg.norm(ray))
