"""Conversion between a browser's camera and ours.

viser's cameras also follow OpenCV (x right, y down, z forward), posed by a quaternion (w first) and a position, with a
vertical field of view and square pixels. Everything is in the input frame.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ovseg3d.geometry.rotations import from_wxyz
from ovseg3d.scene import Camera


@dataclass(frozen=True)
class Viewpoint:
    """A browser's camera, and the size of its window."""

    wxyz: tuple[float, float, float, float]
    position: tuple[float, float, float]
    fov: float
    """Vertical, radians."""
    width: int
    """Pixels of the window."""
    height: int

    @property
    def c2w(self) -> Float[np.ndarray, "4 4"]:
        """Camera to input frame."""
        pose = np.eye(4)
        pose[:3, :3] = from_wxyz(self.wxyz).as_matrix()
        pose[:3, 3] = self.position
        return pose

    def camera(self, pixels: float) -> Camera:
        """A camera of the window's aspect ratio with about so many pixels, at most those of the window."""
        shrink = min(1.0, (pixels / (self.width * self.height)) ** 0.5)
        width, height = max(2, round(self.width * shrink)), max(2, round(self.height * shrink))
        focal = height / 2 / np.tan(self.fov / 2)
        # Rounding a side must not shift the image against the browser's nodes.
        across = focal * (width / height) / (self.width / self.height)
        return Camera(width, height, float(across), float(focal), width / 2, height / 2, self.c2w)


def vertical_fov(camera: Camera) -> float:
    """Vertical field of view of a photo's camera in radians, without distortion."""
    return float(2 * np.arctan(camera.height / 2 / camera.fy))


def strip_camera(camera: Camera, top: int, rows: int) -> Camera:
    """A camera for some rows of another camera's image."""
    return Camera(camera.width, rows, camera.fx, camera.fy, camera.cx, camera.cy - top, camera.c2w)


def ray_camera(origin: Float[np.ndarray, "3"], direction: Float[np.ndarray, "3"]) -> Camera:
    """A camera of one pixel that looks along a ray; its z-depth is the distance along the ray."""
    forward = direction / np.linalg.norm(direction)
    side = np.cross(forward, np.eye(3)[np.abs(forward).argmin()])
    side /= np.linalg.norm(side)
    pose = np.eye(4)
    pose[:3] = np.stack([side, np.cross(forward, side), forward, origin], axis=1)
    return Camera(1, 1, 1000.0, 1000.0, 0.5, 0.5, pose)
