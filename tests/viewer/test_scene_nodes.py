"""Corners and tops of boxes in the 3D view, by hand."""

import numpy as np

from ovseg3d.instances.records import Instance
from ovseg3d.viewer.scene_nodes import box_corners, top_of

TURNED = Instance(
    id=1, label=None, score=1.0, center=(1.0, 2.0, 3.0), size=(2.0, 4.0, 6.0),
    rotation_wxyz=(2**-0.5, 0.0, 0.0, 2**-0.5), yaw_rad=np.pi / 2, frame="input", n_points=8, distance=None,
)  # fmt: skip
"""Turned by a quarter about z, so that (x, y) of the box are (y, -x) of the frame."""


def test_corners_follow_the_rotation_of_the_box() -> None:
    corners = box_corners(TURNED)
    np.testing.assert_allclose(corners[[0, 1, 2, 4]], [[3, 1, 0], [3, 3, 0], [-1, 1, 0], [3, 1, 6]], atol=1e-12)
    np.testing.assert_allclose(corners[7], [-1, 3, 6], atol=1e-12)


def test_the_top_is_slightly_above_the_box() -> None:
    np.testing.assert_allclose(top_of(TURNED, np.array([0.0, 0.0, 1.0])), [1, 2, 6.15], atol=1e-12)
