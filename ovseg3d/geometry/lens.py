"""OpenCV's two lens models on the image plane (focal length 1), and their inverses by Newton's method.

Only arithmetic and `clip` are used, so that the same code serves numpy arrays and torch tensors of any precision.
Without `tolerance`, no value is read back from a device.
"""

import math
from collections.abc import Sequence
from typing import Any, TypeVar

Array = TypeVar("Array")
"""A numpy array or a torch tensor."""

# Beyond the turning point of a strong distortion there is no inverse; these keep Newton's steps finite there.
_MIN_DETERMINANT = 1e-3
_MIN_DERIVATIVE = 1e-6


def distort_xy(x: Any, y: Any, k1: Any, k2: Any, p1: Any, p2: Any, k3: Any, k4: Any) -> tuple[Any, Any, Any, Any, Any]:
    """OpenCV's radial and tangential distortion of image-plane positions.

    The radial factor is 1 + k1 r^2 + k2 r^4 + k3 r^6 + k4 r^8.

    Args:
        x: undistorted position on the image plane.
        y: the same.
        k1: coefficients in OpenCV's order, from here to k4; numbers, or arrays like x.
        k2: radial.
        p1: tangential.
        p2: tangential.
        k3: radial.
        k4: radial.

    Returns:
        Distorted x and y, and the Jacobian's entries dx/dx, dx/dy (equal to dy/dx), dy/dy.
    """
    r2 = x * x + y * y
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * (k3 + r2 * k4)))
    slope = k1 + r2 * (2 * k2 + r2 * (3 * k3 + r2 * 4 * k4))  # d radial / d r2
    xy = x * y
    return (
        x * radial + 2 * p1 * xy + p2 * (r2 + 2 * x * x),
        y * radial + 2 * p2 * xy + p1 * (r2 + 2 * y * y),
        radial + 2 * x * x * slope + 2 * p1 * y + 6 * p2 * x,
        2 * xy * slope + 2 * p1 * x + 2 * p2 * y,
        radial + 2 * y * y * slope + 2 * p2 * x + 6 * p1 * y,
    )


def distort_theta(theta: Any, k1: Any, k2: Any, k3: Any, k4: Any) -> tuple[Any, Any]:
    """OpenCV's fisheye (Kannala and Brandt 2006): distorted angle from the axis, in radians, and its derivative.

    Args:
        theta: angle between the ray and the optical axis, radians.
        k1: coefficient of theta^3.
        k2: of theta^5.
        k3: of theta^7.
        k4: of theta^9.
    """
    t2 = theta * theta
    distorted = theta * (1 + t2 * (k1 + t2 * (k2 + t2 * (k3 + t2 * k4))))
    derivative = 1 + t2 * (3 * k1 + t2 * (5 * k2 + t2 * (7 * k3 + t2 * 9 * k4)))
    return distorted, derivative


def undistort_xy(
    x_distorted: Array, y_distorted: Array, k: Sequence[Any], steps: int, tolerance: float | None = None
) -> tuple[Array, Array]:
    """The inverse of `distort_xy`.

    Args:
        x_distorted: distorted position on the image plane.
        y_distorted: the same.
        k: the six coefficients.
        steps: of Newton's method; each doubles the number of correct digits.
        tolerance: stop when all errors are below it.
    """
    x, y = x_distorted, y_distorted
    for _ in range(steps):
        xd, yd, a, b, c = distort_xy(x, y, *k)
        ex, ey = xd - x_distorted, yd - y_distorted
        inverse = 1 / (a * c - b * b).clip(_MIN_DETERMINANT)
        x, y = x - (c * ex - b * ey) * inverse, y - (a * ey - b * ex) * inverse
        if tolerance is not None and bool(((abs(ex) < tolerance) & (abs(ey) < tolerance)).all()):
            break
    return x, y


def undistort_theta(radius: Array, k: Sequence[Any], steps: int, tolerance: float | None = None) -> Array:
    """The inverse of `distort_theta`, from 0 to pi.

    Args:
        radius: distorted angle, radians: the distance from the principal point on the image plane.
        k: the four coefficients.
        steps: as for `undistort_xy`.
        tolerance: as for `undistort_xy`.
    """
    theta: Any = radius
    theta = theta.clip(0.0, math.pi)
    for _ in range(steps):
        distorted, derivative = distort_theta(theta, *k)
        error = distorted - radius
        theta = (theta - error / derivative.clip(_MIN_DERIVATIVE)).clip(0.0, math.pi)
        if tolerance is not None and bool((abs(error) < tolerance).all()):
            break
    return theta
