"""Square crops around objects, as the photo head sees them, and the cameras that look at their middles."""

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from ovseg3d.scene.cameras import Camera

MARGIN = 0.15
"""Side of the crop beyond the longer side of the object's box, as a share of it."""
Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels, from the upper left corner of the upper left pixel."""


def square_crop(rgb: UInt8[np.ndarray, "h w 3"], box: Box, side: int, margin: float = MARGIN) -> UInt8[np.ndarray, "side side 3"]:
    """The square around a box, resized to `side` pixels; beyond the photo's edge its outermost pixels are repeated.

    Args:
        rgb: the photo.
        box: of the object.
        side: of the crop, pixels.
        margin: around the box, a share of its longer side in all.
    """
    x0, y0, x1, y1 = box
    half = max(x1 - x0, y1 - y0, 2.0) * (1 + margin) / 2
    middle = (x0 + x1) / 2, (y0 + y1) / 2
    low = [int(np.floor(m - half)) for m in middle]
    size = max(2, int(np.ceil(2 * half)))
    columns = np.clip(np.arange(low[0], low[0] + size), 0, rgb.shape[1] - 1)
    rows = np.clip(np.arange(low[1], low[1] + size), 0, rgb.shape[0] - 1)
    return np.asarray(Image.fromarray(rgb[rows[:, None], columns]).resize((side, side), Image.Resampling.BICUBIC))


def mask_box(mask: np.ndarray) -> Box:
    """The box of a mask that is not empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def turn_to(camera: Camera, box: Box) -> Float[np.ndarray, "3 3"]:
    """World-from-camera rotation of the camera turned, by the shortest way, until a box's middle is its axis.

    What an object looks like depends on the ray on which it is seen, not on where the photo's middle is.
    """
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    ray = np.array([(x - camera.cx) / camera.fx, (y - camera.cy) / camera.fy, 1.0])
    return camera.c2w[:3, :3] @ turn_z_to(ray)


def turn_z_to(ray: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 3"]:
    """The shortest rotation of the z axis to a ray in front of the camera."""
    x, y, z = ray / np.linalg.norm(ray)
    # Rodrigues' formula for z to (x, y, z).
    return np.array([[1 - x * x / (1 + z), -x * y / (1 + z), x], [-x * y / (1 + z), 1 - y * y / (1 + z), y], [-x, -y, z]])
