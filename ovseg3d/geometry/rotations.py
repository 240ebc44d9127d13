"""Quaternions, as records and files write them (w, x, y, z), to and from scipy's `Rotation`, which does the maths."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

Quaternion = tuple[float, float, float, float]
"""w, x, y, z."""


def from_wxyz(wxyz: Sequence[int | float] | Float[np.ndarray, "4"]) -> Rotation:
    """The rotation of a quaternion (w, x, y, z) of any length but zero.

    Raises:
        ValueError: it has no length, or is not four numbers.
    """
    w, x, y, z = wxyz
    return Rotation.from_quat([x, y, z, w])


def to_wxyz(rotation: Rotation) -> Quaternion:
    """The unit quaternion of a rotation, the one of the two with w >= 0."""
    x, y, z, w = rotation.as_quat(canonical=True).tolist()
    return w, x, y, z
