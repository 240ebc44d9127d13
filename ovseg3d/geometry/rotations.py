"""Conversion of quaternions (w, x, y, z), as in records and files, to and from scipy's `Rotation`."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

Quaternion = tuple[float, float, float, float]
"""w, x, y, z."""


def from_wxyz(wxyz: Sequence[int | float] | Float[np.ndarray, "4"]) -> Rotation:
    """The rotation of a quaternion (w, x, y, z), which need not have unit length.

    Raises:
        ValueError: the length is zero, or there are not four numbers.
    """
    w, x, y, z = wxyz
    return Rotation.from_quat([x, y, z, w])


def to_wxyz(rotation: Rotation) -> Quaternion:
    """The unit quaternion of a rotation with w >= 0."""
    x, y, z, w = rotation.as_quat(canonical=True).tolist()
    return w, x, y, z
