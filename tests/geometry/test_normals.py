"""Normals fitted to neighbours."""

import numpy as np
from scipy.spatial.transform import Rotation

from ovseg3d.geometry.normals import fitted_normals


def test_normals_are_those_of_the_planes_that_neighbours_lie_on() -> None:
    rng = np.random.default_rng(0)
    turns = Rotation.random(20, random_state=0)
    flat = rng.normal(size=(20, 12, 3)) * [1.0, 0.3, 1e-6]
    near = np.stack([turn.apply(points) for turn, points in zip(turns, flat)]) + rng.normal(size=(20, 1, 3)) * 50
    found = fitted_normals(near)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1)
    np.testing.assert_allclose(np.abs((found * turns.apply([0, 0, 1])).sum(1)), 1, atol=1e-6)
