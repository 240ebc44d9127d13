"""How data sets and programs write cameras, poses and viewpoint angles, and conversion between them.

A convention says three things, each where it has one:

    camera    directions of its x, y and z axis; whether its matrix leads from the camera to the frame, or the reverse
    object    directions of its x, y and z axis
    angles    the unit of azimuth, elevation and theta, and what is added to them

Ours is "opencv": right, down, forward; camera to frame; object z up, front -y. Left and right of an object are its own,
as seen when one looks where its front looks. OpenCV, COLMAP and Blender say nothing of objects: z up and front -y are
Blender's front view, and OpenGL's are glTF's.
Pix3D's model has its x axis at the left, y up and z inward "in canonical view"; that this view shows the front is our
reading. Objectron's camera is a phone's lying sensor, with directions of the upright photo; its faces name the front.
Orient Anything has one bin for each degree: azimuth from 0, elevation from -90, rotation from -180.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ovseg3d.errors import ConfigError, PoseError, nearest
from ovseg3d.geometry.poses import check_pose

# Directions in our camera (OpenCV) and in our object.
_CAMERA = {"right": (1, 0, 0), "left": (-1, 0, 0), "down": (0, 1, 0), "up": (0, -1, 0), "forward": (0, 0, 1),
           "backward": (0, 0, -1)}  # fmt: skip
_OBJECT = {"left": (1, 0, 0), "right": (-1, 0, 0), "back": (0, 1, 0), "front": (0, -1, 0), "up": (0, 0, 1),
           "down": (0, 0, -1)}  # fmt: skip


@dataclass(frozen=True)
class Convention:
    """One way to write poses."""

    camera: tuple[str, str, str] = ("right", "down", "forward")
    """Where the camera's x, y and z axes point, for somebody behind it."""
    object: tuple[str, str, str] = ("left", "back", "up")
    """Where the object's x, y and z axes point."""
    camera_to_frame: bool = True
    """What a camera's matrix does; else it leads from the frame to the camera."""
    angle_unit_rad: float | None = None
    """Radians of the value 1 of an angle; None without angles."""
    angle_zeros: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Values of azimuth 0, elevation 0 and theta 0."""

    @property
    def camera_axes(self) -> Float[np.ndarray, "3 3"]:
        """From this camera's axes to ours."""
        return np.array([_CAMERA[axis] for axis in self.camera], dtype=np.float64).T

    @property
    def object_axes(self) -> Float[np.ndarray, "3 3"]:
        """From this object's axes to ours."""
        return np.array([_OBJECT[axis] for axis in self.object], dtype=np.float64).T


_OPENGL_CAMERA = ("right", "up", "backward")
_DEGREE = math.pi / 180

CONVENTIONS: Mapping[str, Convention] = {
    "opencv": Convention(),
    "colmap": Convention(camera_to_frame=False),
    "opengl": Convention(_OPENGL_CAMERA, ("left", "up", "front")),
    "blender": Convention(_OPENGL_CAMERA),
    "pix3d": Convention(("left", "up", "forward"), ("right", "up", "back"), camera_to_frame=False),
    "imagenet3d": Convention(_OPENGL_CAMERA, camera_to_frame=False, angle_unit_rad=1.0),
    "objectnet3d": Convention(_OPENGL_CAMERA, camera_to_frame=False, angle_unit_rad=_DEGREE),
    "pascal3d+": Convention(_OPENGL_CAMERA, camera_to_frame=False, angle_unit_rad=_DEGREE),
    "orient-anything": Convention(
        ("backward", "right", "up"), ("front", "left", "up"), False, _DEGREE, angle_zeros=(0.0, 90.0, 180.0)
    ),
    "objectron": Convention(("down", "right", "backward"), ("left", "up", "front")),
}
"""By name."""


def convention(name: str) -> Convention:
    """The convention of this name. Raises ConfigError: there is none."""
    if name not in CONVENTIONS:
        close = nearest(name.lower(), CONVENTIONS)
        raise ConfigError(
            f"There is no convention {name!r}; there are {', '.join(CONVENTIONS)}",
            fix=f"use {close}" if close else "use one of these",
        )
    return CONVENTIONS[name]


def convert_camera(matrix: Float[np.ndarray, "4 4"], source: str, target: str = "opencv") -> Float[np.ndarray, "4 4"]:
    """A camera's matrix of one convention, as another writes it. The frame that it stands in stays.

    Raises:
        ConfigError: a convention does not exist.
        PoseError: the matrix is not finite, mirrored or scaled.
    """
    one, other = convention(source), convention(target)
    c2w = check_pose(matrix, "camera")
    if not one.camera_to_frame:
        c2w = np.linalg.inv(c2w)
    c2w = c2w @ _homogeneous(one.camera_axes.T @ other.camera_axes)
    return c2w if other.camera_to_frame else np.linalg.inv(c2w)


def convert_pose(pose: Float[np.ndarray, "4 4"], source: str, target: str = "opencv") -> Float[np.ndarray, "4 4"]:
    """An object's pose in its camera, camera from object, as another convention writes it.

    Pix3D's is `rot_mat` and `trans_mat`. For a pose in another frame than the camera's, see `convert_object`.

    Raises:
        ConfigError: a convention does not exist.
        PoseError: the matrix is not finite, mirrored or scaled.
    """
    one, other = convention(source), convention(target)
    return _homogeneous(other.camera_axes.T @ one.camera_axes) @ convert_object(pose, source, target)


def convert_object(pose: Float[np.ndarray, "4 4"], source: str, target: str = "opencv") -> Float[np.ndarray, "4 4"]:
    """An object's pose, frame from object, with another convention's axes of the object. The frame stays.

    Raises:
        ConfigError: a convention does not exist.
        PoseError: the matrix is not finite, mirrored or scaled.
    """
    one, other = convention(source), convention(target)
    return check_pose(pose) @ _homogeneous(one.object_axes.T @ other.object_axes)


def convert_angles(
    angles: Float[np.ndarray, "*n 3"], source: str, target: str = "imagenet3d"
) -> Float[np.ndarray, "*n 3"]:
    """Azimuth, elevation and theta of one convention, as another writes them; by default radians about zero.

    Values are neither wrapped nor rounded: 360 bins of Orient Anything are the numbers 0 to 359.

    Raises:
        ConfigError: a convention does not exist, or has no angles.
        PoseError: the angles are not three each, or not finite.
    """
    (unit, zeros), (new_unit, new_zeros) = _angles_of(source), _angles_of(target)
    try:
        angles = np.array(angles, dtype=np.float64)
    except ValueError:  # ragged, or no numbers
        angles = np.zeros(0)
    if angles.shape[-1:] != (3,):
        raise PoseError("The angles are not three each", fix="give azimuth, elevation and theta")
    if not np.isfinite(angles).all():
        raise PoseError("The angles have numbers that are not finite", fix="leave the object out, or correct its pose")
    return (angles - zeros) * (unit / new_unit) + new_zeros


def _angles_of(name: str) -> tuple[float, tuple[float, float, float]]:
    found = convention(name)
    if found.angle_unit_rad is None:
        known = ", ".join(own for own, one in CONVENTIONS.items() if one.angle_unit_rad is not None)
        raise ConfigError(f"The convention {name!r} has no viewpoint angles; {known} have", fix="use `viewpoint`")
    return found.angle_unit_rad, found.angle_zeros


def _homogeneous(turn: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "4 4"]:
    matrix = np.eye(4)
    matrix[:3, :3] = turn
    return matrix
