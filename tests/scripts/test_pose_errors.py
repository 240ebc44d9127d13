"""Poses against true ones: a similarity is no error, a disturbance is, and an outlier does not spoil the others."""

import numpy as np
from scipy.spatial.transform import Rotation

from scripts.benchmarks.similarity import compare_poses


def test_errors_are_those_beyond_a_similarity():
    random = np.random.default_rng(0)
    true = np.tile(np.eye(4), (40, 1, 1))
    true[:, :3, :3] = Rotation.random(40, rng=random).as_matrix()
    true[:, :3, 3] = random.normal(size=(40, 3))
    turn = Rotation.from_rotvec([0.3, -1.0, 0.5]).as_matrix()
    found = true.copy()
    found[:, :3, :3] = turn @ true[:, :3, :3]
    found[:, :3, 3] = 2.5 * true[:, :3, 3] @ turn.T + [1.0, 2.0, 3.0]
    same = compare_poses(found, true)
    assert same.rotation_deg.max() < 1e-4 and same.position.max() < 1e-6
    np.testing.assert_allclose(same.scale, 0.4, rtol=1e-6)
    found[7, :3, 3] += 2.5 * turn @ [0.0, 0.0, 0.3]
    found[9, :3, :3] = found[9, :3, :3] @ Rotation.from_rotvec([0.0, np.radians(5.0), 0.0]).as_matrix()
    moved = compare_poses(found, true)
    np.testing.assert_allclose(moved.position[7], 0.3, atol=1e-3)
    assert np.delete(moved.position, 7).max() < 0.01
    np.testing.assert_allclose(moved.rotation_deg[9], 5.0, atol=0.3)
    assert np.median(moved.rotation_deg) < 0.2
