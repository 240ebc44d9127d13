"""Normals of a depth image: planes fitted to windows of inverse depth."""

import numpy as np
from jaxtyping import Bool, Float

WINDOW = 9
"""Side of the window, pixels."""
MIN_KNOWN = 0.4
"""Least share of a window's pixels with a depth."""


def depth_normals(
    depth_z: Float[np.ndarray, "h w"], known: Bool[np.ndarray, "h w"], xy: Float[np.ndarray, "h w 2"]
) -> Float[np.ndarray, "h w 3"]:
    """Unit normals in the camera's frame, towards the camera; NaN where too little is known.

    With x, y = X/Z, Y/Z, a plane n.X = d gives 1/Z = (n/d).(x, y, 1): an affine function of x and y, whose coefficients
    are a multiple of the normal. They are fitted to each window by least squares.

    Args:
        depth_z: z-depth in any unit.
        known: pixels to use.
        xy: direction of each pixel's ray as X/Z and Y/Z, without lens distortion.
    """
    from scipy.ndimage import uniform_filter

    def mean(values: np.ndarray) -> np.ndarray:
        return uniform_filter(values, WINDOW, mode="constant")

    weight = known.astype(np.float64)
    inverse = weight / np.where(known, depth_z, 1)
    x, y = xy[..., 0].astype(np.float64), xy[..., 1].astype(np.float64)
    share = mean(weight)
    usable = share >= MIN_KNOWN
    share = np.where(usable, share, 1)
    mx, my, mz = mean(weight * x) / share, mean(weight * y) / share, mean(inverse) / share
    xx, yy = mean(weight * x * x) / share - mx * mx, mean(weight * y * y) / share - my * my
    xy_, xz = mean(weight * x * y) / share - mx * my, mean(inverse * x) / share - mx * mz
    yz = mean(inverse * y) / share - my * mz
    determinant = xx * yy - xy_ * xy_
    usable &= determinant > 1e-6 * (xx + yy) ** 2
    determinant = np.where(usable, determinant, 1)
    a, b = (yy * xz - xy_ * yz) / determinant, (xx * yz - xy_ * xz) / determinant
    away = np.stack([a, b, mz - a * mx - b * my], -1)
    length = np.linalg.norm(away, axis=-1, keepdims=True)
    usable &= (length[..., 0] > 0) & known
    return np.where(usable[..., None], -away / np.where(length > 0, length, 1), np.nan).astype(np.float32)
