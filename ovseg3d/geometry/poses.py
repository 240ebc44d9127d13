"""Where a camera stands around an object: azimuth, elevation, in-plane rotation and distance, from poses and back.

Frames. An object has z up and its front at -y, so its own right side is -x. A camera has OpenCV axes (x right, y down,
z forward). A pose is a 4x4 matrix from the object to a frame, `c2w` one from the camera to the same frame; neither
scales or mirrors.

Angles are those of ImageNet3D, ObjectNet3D and PASCAL3D+. The camera stands in the object's frame at

    distance * (cos e sin a, -cos e cos a, sin e)

    azimuth a     0: the camera sees the front; 90 degrees: it stands at +x, and the front is at the image's left
    elevation e   positive: it looks down on the object
    theta t       in-plane: positive turns the object counter-clockwise in the image

With OpenGL camera axes (x right, y up, z backward), object to camera is R = Rz(t) Rx(e - pi/2) Rz(-a).

The angles belong to a camera that looks straight at the object's centre, which is how the data sets project: the centre
is the principal point. A real camera sees the object off its axis; it is turned to the centre on the shortest way
first, and the direction of the centre is what the four numbers do not hold.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from ovseg3d.errors import PoseError
from ovseg3d.geometry.rotations import from_wxyz

OPENGL = np.diag([1.0, -1.0, -1.0])
"""OpenCV camera axes from OpenGL ones, and back."""
MAX_DEVIATION = 1e-3
"""How far a matrix may be from a rotation, for files that keep four digits."""
POLE = 1e-8
"""Cosine of the elevation below which azimuth and theta turn about the same axis; theta is 0 there."""


@dataclass(frozen=True)
class Viewpoint:
    """A view of an object, see the module. Azimuth is in [0, 2 pi), elevation in [-pi/2, pi/2], theta in [-pi, pi]."""

    azimuth_rad: float
    """About the object's up axis."""
    elevation_rad: float
    """Above the object's horizontal plane."""
    theta_rad: float
    """In the image."""
    distance: float
    """From the camera to the object's centre, in units of the frame."""


def object_pose(rotation_wxyz: Sequence[int | float], center: Sequence[int | float]) -> Float[np.ndarray, "4 4"]:
    """The pose of a record with `rotation_wxyz` (frame from object) and `center`.

    Raises:
        PoseError: the numbers are not finite, not as many, or the quaternion is zero.
    """
    pose = np.eye(4)
    try:
        pose[:3, :3] = from_wxyz(rotation_wxyz).as_matrix()
        pose[:3, 3] = center
    except (TypeError, ValueError) as cause:
        raise PoseError("A pose needs rotation_wxyz (4 numbers) and center (3)", fix="correct the record") from cause
    return check_pose(pose)


def check_pose(matrix: Float[np.ndarray, "4 4"], what: str = "pose") -> Float[np.ndarray, "4 4"]:
    """The matrix in double precision, with its rotation made exact.

    Raises:
        PoseError: it is no 4x4 matrix, has NaN or infinity, mirrors, scales, or has another last row than 0 0 0 1.
    """
    matrix = np.array(matrix, dtype=np.float64)
    if matrix.shape != (4, 4):
        shape = " x ".join(map(str, matrix.shape))
        raise PoseError(f"The {what} must be a 4 x 4 matrix, not {shape}", fix="add the translation and 0 0 0 1")
    if not np.isfinite(matrix).all():
        raise PoseError(f"The {what} has numbers that are not finite", fix="leave the object out, or correct its pose")
    turn = matrix[:3, :3]
    if (
        np.abs(turn @ turn.T - np.eye(3)).max() > MAX_DEVIATION
        or np.abs(matrix[3] - [0, 0, 0, 1]).max() > MAX_DEVIATION
    ):
        raise PoseError(
            f"The {what} is no rotation and translation", fix="divide the scale out; the last row is 0 0 0 1"
        )
    if np.linalg.det(turn) < 0:
        raise PoseError(
            f"The {what} is mirrored (its determinant is -1)",
            fix="flip two axes, not one, where it is converted; convert_pose knows the usual conventions",
        )
    matrix[:3, :3] = Rotation.from_matrix(turn).as_matrix()
    return matrix


def rotation_of_angles(angles_rad: Float[np.ndarray, "*n 3"]) -> Rotation:
    """Object to an OpenCV camera that looks at the object's centre, of azimuth, elevation and theta."""
    azimuth, elevation, theta = np.moveaxis(np.asarray(angles_rad, dtype=np.float64), -1, 0)
    euler = np.stack([theta, elevation - math.pi / 2, -azimuth], axis=-1)
    return Rotation.from_matrix(OPENGL) * Rotation.from_euler("ZXZ", euler)


def angles_of_rotation(rotation: Rotation) -> Float[np.ndarray, "*n 3"]:
    """Azimuth, elevation and theta, in the ranges of `Viewpoint`: the inverse of `rotation_of_angles`."""
    matrix = OPENGL @ rotation.as_matrix()
    # Row 2 is the camera's place (see the module), and column 2 is the object's up axis in the image.
    place, up = matrix[..., 2, :], matrix[..., :, 2]
    horizontal = np.hypot(place[..., 0], place[..., 1])
    elevation = np.arctan2(place[..., 2], horizontal)
    pole = horizontal < POLE
    above = np.sign(place[..., 2])
    azimuth = np.where(
        pole,
        np.arctan2(-above * matrix[..., 1, 0], matrix[..., 0, 0]),
        np.arctan2(place[..., 0], -place[..., 1]),
    )
    theta = np.where(pole, 0.0, np.arctan2(0.0 - up[..., 0], up[..., 1]))
    azimuth = azimuth % (2 * math.pi)
    azimuth = np.where(azimuth == 2 * math.pi, 0.0, azimuth)  # of a tiny negative angle, by rounding
    return np.stack([azimuth, elevation, theta], axis=-1)


def viewpoint(c2w: Float[np.ndarray, "4 4"], pose: Float[np.ndarray, "4 4"]) -> Viewpoint:
    """The angles and the distance under which a camera sees an object.

    Args:
        c2w: from the camera (OpenCV axes) to the frame; the identity for a pose in the camera's own frame.
        pose: from the object to the same frame.

    Raises:
        PoseError: a matrix is not finite, mirrored or scaled, or the camera is at the object's centre.
    """
    seen = np.linalg.inv(check_pose(c2w, "camera")) @ check_pose(pose)
    distance = float(np.linalg.norm(seen[:3, 3]))
    if distance == 0:
        raise PoseError("The camera is at the centre of the object", fix="check that both are in the same frame")
    rotation = turn_to(seen[:3, 3] / distance).inv() * Rotation.from_matrix(seen[:3, :3])
    azimuth, elevation, theta = angles_of_rotation(rotation).tolist()
    return Viewpoint(azimuth, elevation, theta, distance)


def pose_of_viewpoint(
    c2w: Float[np.ndarray, "4 4"], seen: Viewpoint, ray: Sequence[int | float] = (0, 0, 1)
) -> Float[np.ndarray, "4 4"]:
    """The pose of an object that a camera sees so: the inverse of `viewpoint`.

    Args:
        c2w: from the camera to the frame.
        seen: angles and distance.
        ray: direction of the object's centre in the camera, of any length; by default straight ahead.

    Raises:
        PoseError: a number is not finite, the camera is mirrored or scaled, or the ray has no length.
    """
    direction = np.array(ray, dtype=np.float64)
    length = np.linalg.norm(direction)
    if not np.isfinite(length) or length == 0:
        raise PoseError(
            "The direction of the object has no length, or is not finite", fix="(0, 0, 1) is straight ahead"
        )
    turn = turn_to(direction / length)
    pose = np.eye(4)
    angles = np.array([seen.azimuth_rad, seen.elevation_rad, seen.theta_rad])
    if not np.isfinite([*angles, seen.distance]).all():
        raise PoseError("The viewpoint has numbers that are not finite", fix="leave the object out")
    pose[:3, :3] = (turn * rotation_of_angles(angles)).as_matrix()
    pose[:3, 3] = seen.distance * direction / length
    return check_pose(c2w, "camera") @ pose


def turn_to(ray: Float[np.ndarray, "3"]) -> Rotation:
    """The smallest rotation from straight ahead (z) to a unit direction; straight back is a half turn about x."""
    axis = np.array([-ray[1], ray[0], 0.0])
    length = np.linalg.norm(axis)
    if length == 0:
        return Rotation.from_rotvec([0.0 if ray[2] > 0 else math.pi, 0, 0])
    return Rotation.from_rotvec(axis / length * math.atan2(length, ray[2]))
