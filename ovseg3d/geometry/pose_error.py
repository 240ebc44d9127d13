"""How far two rotations are apart, and how far when an object looks the same after a turn about its up axis.

The geodesic distance is the angle of the one rotation that leads from one to the other,
arccos((trace(A^T B) - 1) / 2) = ||log(A^T B)||_F / sqrt(2), from 0 to pi (Huynh, J. Math. Imaging Vis. 35, 2009).

Rotations lead from the object (z up) to any frame. The symmetry order is how many turns about z leave the object as it
is: 1 none, 2 a half turn (a plain table), 4 a quarter turn, 0 every turn (a bottle).
"""

import math

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial.transform import Rotation

from ovseg3d.errors import PoseError


def geodesic_rad(a: Rotation, b: Rotation) -> Float[np.ndarray, "*n"]:
    """The angle between rotations, row by row, in radians."""
    return np.asarray((a.inv() * b).magnitude())


def symmetric_geodesic_rad(
    a: Rotation, b: Rotation, symmetry_order: Int[np.ndarray, "n"] | int
) -> Float[np.ndarray, "n"]:
    """The smallest angle between `a` and what `b` may be after the turns that leave the object as it is.

    Args:
        a: object to a frame, n or one.
        b: the same.
        symmetry_order: of each object, or of all: 0, 1, 2, 3...

    Returns:
        Radians. For order 0 it is the angle between the up axes; the smallest rotation between two directions has it.

    Raises:
        PoseError: an order is negative.
    """
    between = np.atleast_3d((a.inv() * b).as_matrix().T).T
    orders = np.broadcast_to(np.asarray(symmetry_order), len(between))
    if (orders < 0).any():
        raise PoseError("A symmetry order is negative", fix="0 for every turn, 1 for none, 2, 4...")
    errors = np.empty(len(between))
    for order in np.unique(orders).tolist():
        own = orders == order
        errors[own] = _of_axis(between[own]) if order == 0 else _of_turns(between[own], order)
    return errors


def _of_axis(between: Float[np.ndarray, "n 3 3"]) -> Float[np.ndarray, "n"]:
    # By the arctangent: the arccosine of the cosine loses half of the digits near 0.
    return np.arctan2(np.hypot(between[:, 0, 2], between[:, 1, 2]), between[:, 2, 2])


def _of_turns(between: Float[np.ndarray, "n 3 3"], order: int) -> Float[np.ndarray, "n"]:
    turns = Rotation.from_euler("z", 2 * math.pi / order * np.arange(order)[:, None])
    rotations = Rotation.from_matrix(between)
    return np.min([(rotations * turn).magnitude() for turn in turns], axis=0)
