"""Quaternions: known ones, both ways."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ovseg3d.geometry import from_wxyz, to_wxyz

HALF = 2**-0.5


@pytest.mark.parametrize(
    ("wxyz", "matrix"),
    [
        ((1, 0, 0, 0), np.eye(3)),
        ((HALF, 0, 0, HALF), [[0, -1, 0], [1, 0, 0], [0, 0, 1]]),  # a quarter about z
        ((0, 1, 0, 0), np.diag([1, -1, -1])),  # a half about x
    ],
)
def test_known_quaternions(wxyz, matrix):
    assert np.allclose(from_wxyz(wxyz).as_matrix(), matrix)
    assert np.allclose(from_wxyz(tuple(-3 * v for v in wxyz)).as_matrix(), matrix), "neither length nor sign counts"
    assert np.allclose(to_wxyz(Rotation.from_matrix(matrix)), wxyz)


def test_there_and_back():
    for turn in Rotation.random(20, random_state=0):
        wxyz = to_wxyz(turn)
        assert wxyz[0] >= 0 and np.isclose(np.linalg.norm(wxyz), 1)
        assert np.allclose(from_wxyz(wxyz).as_matrix(), turn.as_matrix())


@pytest.mark.parametrize("wrong", [(0, 0, 0, 0), (1, 0, 0), (1, 0, 0, 0, 0)])
def test_what_is_no_rotation_is_refused(wrong):
    with pytest.raises(ValueError):
        from_wxyz(wrong)
