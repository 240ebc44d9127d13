"""Completed depth, fused over photos."""

from dataclasses import replace

import numpy as np
import pytest

from ovseg3d.scene import Camera, fusion
from ovseg3d.scene.fusion import fuse, similar_poses

SIDE, ROWS, COLUMNS = 4, 12, 16


def camera(x: float = 0.0, angle: float = 0.0) -> Camera:
    """At (x, 0, 0), looking along z, turned about y by an angle in degrees."""
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    c2w = np.eye(4)
    c2w[:3, :3] = [[c, 0, s], [0, 1, 0], [-s, 0, c]]
    c2w[0, 3] = x
    return Camera(COLUMNS * SIDE, ROWS * SIDE, 50.0, 50.0, COLUMNS * SIDE / 2, ROWS * SIDE / 2, c2w)


def slanted(cameras: list[Camera]) -> np.ndarray:
    """Disparity of the plane z = 3 + x / 4 at the cells' centres of each photo."""
    centres = (np.indices((ROWS, COLUMNS))[::-1].reshape(2, -1).T + 0.5) * SIDE
    found = []
    for one in cameras:
        origins, rays = one.rays(centres)
        t = (3 + origins[:, 0] / 4 - origins[:, 2]) / (rays[:, 2] - rays[:, 0] / 4)
        found.append(1 / (t * (rays @ one.forward)))
    return np.stack(found).reshape(-1, ROWS, COLUMNS)


CAMERAS = [camera(x, angle) for x, angle in ((0, 0), (0.2, -3), (-0.2, 3), (0.4, -5), (-0.4, 6), (0.1, 0), (-0.1, 2))]
CELLS = np.full(len(CAMERAS), SIDE)


def test_photos_that_agree_keep_their_depth_and_become_surer():
    true, sigma = slanted(CAMERAS), np.full((len(CAMERAS), ROWS, COLUMNS), 0.03)
    fused, deviation = fuse(true, sigma, CELLS, CAMERAS)
    np.testing.assert_allclose(fused, true, rtol=0.02)  # the other photos' depth is that of their nearest cell
    assert np.median(np.abs(fused / true - 1)) < 0.005
    assert np.median(deviation) < 0.75 * 0.03


def test_a_photo_that_errs_is_corrected_by_the_others_and_less_sure():
    """A front without points, taken for what is behind it: sure, and a third too deep."""
    true, sigma = slanted(CAMERAS), np.full((len(CAMERAS), ROWS, COLUMNS), 0.03)
    wrong = true.copy()
    front = np.s_[0, 4:8, 6:10]
    wrong[front] /= 1.3
    fused, deviation = fuse(wrong, sigma, CELLS, CAMERAS)
    before, after = (np.abs(image[front] / true[front] - 1).mean() for image in (wrong, fused))
    assert before > 0.2 and after < 0.05
    assert deviation[front].mean() > 2 * np.median(deviation[0])


def test_without_others_the_depth_stays():
    true, sigma = slanted(CAMERAS[:1]), np.full((1, ROWS, COLUMNS), 0.03)
    fused, deviation = fuse(true, sigma, CELLS[:1], CAMERAS[:1])
    np.testing.assert_allclose(fused, true, rtol=1e-12)
    np.testing.assert_allclose(deviation, np.sqrt(0.03**2 + 2 * fusion.FLOOR**2), rtol=1e-9)


def test_what_nothing_is_known_of_says_nothing():
    true, sigma = slanted(CAMERAS), np.full((len(CAMERAS), ROWS, COLUMNS), 0.03)
    sigma[2] = np.inf
    wrong = true.copy()
    wrong[2] = 1.0
    fused, deviation = fuse(wrong, sigma, CELLS, CAMERAS)
    others = np.arange(len(CAMERAS)) != 2
    alone = fuse(true[others], sigma[others], CELLS[others], [CAMERAS[i] for i in np.flatnonzero(others)])
    np.testing.assert_allclose(fused[others], alone[0], rtol=1e-9)
    np.testing.assert_allclose(deviation[others], alone[1], rtol=1e-9)
    assert np.isinf(deviation[2]).all() and (fused[2] == 1.0).all()


@pytest.mark.parametrize("elsewhere", [camera(0.0, 180.0), camera(60.0)], ids=["behind", "aside"])
def test_a_photo_that_looks_elsewhere_says_nothing(elsewhere: Camera):
    cameras = [*CAMERAS[:3], elsewhere]
    depth = np.concatenate([slanted(CAMERAS[:3]), np.ones((1, ROWS, COLUMNS))])
    sigma = np.full(depth.shape, 0.03)
    without, with_it = fuse(depth[:3], sigma[:3], CELLS[:3], cameras[:3]), fuse(depth, sigma, CELLS[:4], cameras)
    np.testing.assert_allclose(with_it[0][:3], without[0], rtol=1e-9)
    np.testing.assert_allclose(with_it[1][:3], without[1], rtol=1e-9)


def test_the_mean_minimises_cauchys_loss(monkeypatch: pytest.MonkeyPatch):
    """Photos from one place that complete other depths, against a minimiser of the loss."""
    monkeypatch.setattr(fusion, "ROUNDS", 1)
    monkeypatch.setattr(fusion, "REWEIGHTINGS", 200)
    random = np.random.default_rng(0)
    said, sigma = np.array([0.0, 0.03, 0.05, -0.02, 0.4]), random.uniform(0.01, 0.05, 5)
    views = [camera()] * 5
    ones = np.ones((5, ROWS, COLUMNS))
    fused, _ = fuse(ones / 3 * np.exp(-said)[:, None, None], ones * sigma[:, None, None], CELLS[:5], views)
    precision = np.array([1, *[fusion.SHARE] * 4]) / (sigma**2 + fusion.FLOOR**2)

    def loss(mean: float) -> float:
        return float((precision * np.log1p(((said - mean) / (2 * fusion.SPREAD)) ** 2)).sum())

    grid = np.linspace(-0.05, 0.1, 150_001)
    best = grid[np.argmin([loss(mean) for mean in grid])]
    np.testing.assert_allclose(-np.log(fused[0] * 3), best, atol=2e-6)


def test_photos_of_other_sizes():
    """One photo has half the pixels, and cells of another side; its images are padded."""
    small = replace(CAMERAS[1], width=32, height=24, fx=25.0, fy=25.0, cx=16.0, cy=12.0)
    cameras = [CAMERAS[0], small, *CAMERAS[2:]]
    cell = np.where(np.arange(len(cameras)) == 1, 2, SIDE)
    true, sigma = slanted(CAMERAS), np.full((len(cameras), ROWS, COLUMNS), 0.03)
    np.testing.assert_allclose(fuse(true, sigma, cell, cameras)[0], fuse(true, sigma, CELLS, CAMERAS)[0], rtol=1e-9)


def test_similar_poses():
    near, turned, far = similar_poses([camera(), camera(0.1), camera(0, 180), camera(5.0)], [1.0] * 4)[0]
    assert (near, turned, far) == (1, 2, 3)
