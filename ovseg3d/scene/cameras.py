"""Cameras: pose and lens of each photo.

Axes are OpenCV's (x right, y down, z forward); `c2w` maps camera to input frame. A pixel's centre is at +0.5, so
that the image spans [0, width] x [0, height]. Two lens models: OPENCV (a pinhole when it has no distortion) and
OPENCV_FISHEYE (equidistant). Everything here is float64 numpy; `rays.Cameras` is the batched torch counterpart.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float

from ovseg3d.geometry.lens import distort_theta, distort_xy, undistort_theta, undistort_xy

LensModel = Literal["OPENCV", "OPENCV_FISHEYE"]

# Right-multiplied onto a c2w, it turns OpenGL camera axes (x right, y up, z backward) into OpenCV's, and back.
OPENGL_AXES = np.diag([1.0, -1.0, -1.0, 1.0])

# To the precision of float64; rays in the image of a usual lens take five or six steps.
_NEWTON_STEPS, _NEWTON_TOLERANCE = 30, 1e-14


@dataclass(frozen=True)
class Camera:
    """One view: lens, image size and pose.

    `distortion` is (k1, k2, p1, p2, k3, k4) for OPENCV, where the radial factor is the polynomial
    1 + k1 r^2 + k2 r^4 + k3 r^6 + k4 r^8, and (k1, k2, k3, k4) for OPENCV_FISHEYE; missing ones are 0.
    """

    width: int
    """Pixels."""
    height: int
    """Pixels."""
    fx: float
    """Focal length, pixels."""
    fy: float
    """Focal length, pixels."""
    cx: float
    """Principal point from the left edge, pixels."""
    cy: float
    """Principal point from the upper edge, pixels."""
    c2w: Float[np.ndarray, "4 4"]
    """Camera to input frame, OpenCV axes, input units."""
    model: LensModel = "OPENCV"
    """Lens model."""
    distortion: tuple[float, ...] = ()
    """Coefficients, see above."""

    @property
    def coefficients(self) -> tuple[float, ...]:
        """The distortion padded with zeros: six numbers for OPENCV, four for OPENCV_FISHEYE."""
        count = 6 if self.model == "OPENCV" else 4
        return self.distortion + (0.0,) * (count - len(self.distortion))

    @property
    def lens(self) -> tuple[Any, ...]:
        """Everything but the pose: equal where photos were taken with one lens at one size."""
        return (self.model, self.width, self.height, self.fx, self.fy, self.cx, self.cy, self.coefficients)

    @property
    def is_pinhole(self) -> bool:
        """Whether there is no distortion and no fisheye."""
        return self.model == "OPENCV" and not any(self.distortion)

    @property
    def position(self) -> Float[np.ndarray, "3"]:
        """Optical centre in the input frame."""
        return self.c2w[:3, 3]

    @property
    def forward(self) -> Float[np.ndarray, "3"]:
        """Unit viewing direction in the input frame."""
        return self.c2w[:3, 2]

    @property
    def up(self) -> Float[np.ndarray, "3"]:
        """Unit direction towards the upper edge of the image, input frame."""
        return -self.c2w[:3, 1]

    def scaled(self, width: int, height: int) -> "Camera":
        """The same view at another image size; each axis is scaled by its own ratio."""
        x, y = width / self.width, height / self.height
        return replace(
            self,
            width=int(width),
            height=int(height),
            fx=self.fx * x,
            fy=self.fy * y,
            cx=self.cx * x,
            cy=self.cy * y,
        )

    def pixel_centres(self) -> Float[np.ndarray, "points 2"]:
        """(x, y) of every pixel's centre, row by row: (height * width, 2)."""
        x, y = np.meshgrid(np.arange(self.width) + 0.5, np.arange(self.height) + 0.5)
        return np.stack([x.ravel(), y.ravel()], axis=-1)

    def rays(
        self, xy: Float[np.ndarray, "points 2"]
    ) -> tuple[Float[np.ndarray, "points 3"], Float[np.ndarray, "points 3"]]:
        """Rays through image positions.

        Args:
            xy: pixels; (0, 0) is the upper left corner of the image.

        Returns:
            Origins and unit directions in the input frame, distortion undone by Newton's method (to 1e-10).
        """
        x = (xy[:, 0] - self.cx) / self.fx
        y = (xy[:, 1] - self.cy) / self.fy
        if self.model == "OPENCV_FISHEYE":
            radius = np.hypot(x, y)
            theta = undistort_theta(radius, self.coefficients, _NEWTON_STEPS, _NEWTON_TOLERANCE)
            ratio = np.where(radius > 1e-12, np.sin(theta) / np.maximum(radius, 1e-12), 1.0)
            local = np.stack([x * ratio, y * ratio, np.cos(theta)], axis=-1)
        else:
            if not self.is_pinhole:
                x, y = undistort_xy(x, y, self.coefficients, _NEWTON_STEPS, _NEWTON_TOLERANCE)
            local = np.stack([x, y, np.ones_like(x)], axis=-1)
        directions = local @ self.c2w[:3, :3].T
        directions = directions / np.linalg.norm(directions, axis=-1, keepdims=True)
        return np.broadcast_to(self.position, directions.shape).copy(), directions

    def reaches(self, xy: Float[np.ndarray, "points 2"]) -> Bool[np.ndarray, "points"]:
        """Whether the lens model has a valid ray for image positions.

        A distortion polynomial that was fitted to the middle of the image may fold back further out. There a pixel has
        no ray, or two, and the result of `rays` is meaningless.
        """
        if self.is_pinhole:
            return np.ones(len(xy), dtype=bool)
        origins, directions = self.rays(xy)
        local = directions @ self.c2w[:3, :3]
        # Distortion must be monotonic from the optical axis to the ray, and the ray must project back to the pixel.
        shares = np.linspace(0.0, 1.0, 33)[1:, None]
        if self.model == "OPENCV_FISHEYE":
            theta = np.arctan2(np.hypot(local[:, 0], local[:, 1]), local[:, 2])
            growing = distort_theta(shares * theta, *self.coefficients)[1] > 0
        else:
            x, y = local[:, 0] / local[:, 2], local[:, 1] / local[:, 2]
            _, _, a, b, c = distort_xy(shares * x, shares * y, *self.coefficients)
            growing = (a * c - b * b > 0) & (a + c > 0)
        back, _ = self.project(origins + directions)
        return growing.all(axis=0) & (np.abs(back - xy) < 0.01).all(axis=-1)

    def project(
        self, points: Float[np.ndarray, "points 3"]
    ) -> tuple[Float[np.ndarray, "points 2"], Float[np.ndarray, "points"]]:
        """Project points of the input frame into the image.

        Returns:
            Pixel positions with distortion, and z-depth in input units. Behind a camera that is no fisheye
            (z-depth not positive) the position is NaN.
        """
        local = (points - self.position) @ self.c2w[:3, :3]
        z = local[:, 2]
        if self.model == "OPENCV_FISHEYE":
            radius = np.hypot(local[:, 0], local[:, 1])
            theta = np.arctan2(radius, z)
            distorted, _ = distort_theta(theta, *self.coefficients)
            ratio = np.where(radius > 1e-12, distorted / np.maximum(radius, 1e-12), 1.0)
            x, y = local[:, 0] * ratio, local[:, 1] * ratio
        else:
            depth = np.where(z > 0, z, np.nan)
            x, y = local[:, 0] / depth, local[:, 1] / depth
            if not self.is_pinhole:
                x, y, *_ = distort_xy(x, y, *self.coefficients)
        return np.stack([x * self.fx + self.cx, y * self.fy + self.cy], axis=-1), z

    def sees(
        self, points: Float[np.ndarray, "points 3"]
    ) -> tuple[Float[np.ndarray, "points 2"], Float[np.ndarray, "points"], Bool[np.ndarray, "points"]]:
        """Pixel positions of points, their z-depth, and whether they are in the image, if nothing hides them."""
        xy, z = self.project(points)
        with np.errstate(invalid="ignore"):
            inside = (z > 0) & (xy >= 0).all(-1) & (xy < (self.width, self.height)).all(-1)
        if not self.is_pinhole:
            # A distortion polynomial may fold back and project points far outside the field of view into the image.
            inside &= z >= self._least_cosine * np.linalg.norm(points - self.position, axis=-1)
        return xy, z, inside

    @cached_property
    def _least_cosine(self) -> float:
        """Of the angle between the optical axis and what the image shows."""
        steps = np.linspace(0, 1, 9)
        lattice = np.stack(np.meshgrid(self.width * steps, self.height * steps), -1).reshape(-1, 2)
        _, directions = self.rays(lattice[self.reaches(lattice)])
        # A fisheye reaches 90 degrees, where z-depth is 0.
        return max(float((directions @ self.forward).min(initial=1.0)) - 1e-6, 0.1)
