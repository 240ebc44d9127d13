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
    found = fuse(true, sigma, CELLS, CAMERAS)
    fused, deviation = found.disparity, found.sigma
    np.testing.assert_allclose(fused, true, rtol=0.02)  # the other photos' depth is that of their nearest cell
    assert np.median(np.abs(fused / true - 1)) < 0.005
    assert np.median(deviation) < 0.75 * 0.03


def test_a_photo_that_errs_is_corrected_by_the_others_and_less_sure():
    """A front without points, taken for what is behind it: sure, and a third too deep."""
    true, sigma = slanted(CAMERAS), np.full((len(CAMERAS), ROWS, COLUMNS), 0.03)
    wrong = true.copy()
    front = np.s_[0, 4:8, 6:10]
    wrong[front] /= 1.3
    found = fuse(wrong, sigma, CELLS, CAMERAS)
    fused, deviation = found.disparity, found.sigma
    before, after = (np.abs(image[front] / true[front] - 1).mean() for image in (wrong, fused))
    assert before > 0.2 and after < 0.05
    assert deviation[front].mean() > 2 * np.median(deviation[0])


def test_without_others_the_depth_stays():
    true, sigma = slanted(CAMERAS[:1]), np.full((1, ROWS, COLUMNS), 0.03)
    found = fuse(true, sigma, CELLS[:1], CAMERAS[:1])
    np.testing.assert_allclose(found.disparity, true, rtol=1e-12)
    np.testing.assert_allclose(found.sigma, np.sqrt(0.03**2 + 2 * fusion.FLOOR**2), rtol=1e-9)
    assert np.isinf(found.others_sigma).all()


def test_what_nothing_is_known_of_says_nothing():
    true, sigma = slanted(CAMERAS), np.full((len(CAMERAS), ROWS, COLUMNS), 0.03)
    sigma[2] = np.inf
    wrong = true.copy()
    wrong[2] = 1.0
    found = fuse(wrong, sigma, CELLS, CAMERAS)
    fused, deviation = found.disparity, found.sigma
    others = np.arange(len(CAMERAS)) != 2
    alone = fuse(true[others], sigma[others], CELLS[others], [CAMERAS[i] for i in np.flatnonzero(others)])
    np.testing.assert_allclose(fused[others], alone.disparity, rtol=1e-9)
    np.testing.assert_allclose(deviation[others], alone.sigma, rtol=1e-9)
    assert np.isinf(deviation[2]).all() and (fused[2] == 1.0).all()


@pytest.mark.parametrize("elsewhere", [camera(0.0, 180.0), camera(60.0)], ids=["behind", "aside"])
def test_a_photo_that_looks_elsewhere_says_nothing(elsewhere: Camera):
    cameras = [*CAMERAS[:3], elsewhere]
    depth = np.concatenate([slanted(CAMERAS[:3]), np.ones((1, ROWS, COLUMNS))])
    sigma = np.full(depth.shape, 0.03)
    without, with_it = fuse(depth[:3], sigma[:3], CELLS[:3], cameras[:3]), fuse(depth, sigma, CELLS[:4], cameras)
    np.testing.assert_allclose(with_it.disparity[:3], without.disparity, rtol=1e-9)
    np.testing.assert_allclose(with_it.sigma[:3], without.sigma, rtol=1e-9)
    np.testing.assert_allclose(with_it.others_sigma[:3], without.others_sigma, rtol=1e-9)


def test_the_mean_minimises_cauchys_loss(monkeypatch: pytest.MonkeyPatch):
    """Photos from one place that complete other depths, against a minimiser of the loss."""
    monkeypatch.setattr(fusion, "ROUNDS", 1)
    monkeypatch.setattr(fusion, "REWEIGHTINGS", 200)
    random = np.random.default_rng(0)
    said, sigma = np.array([0.0, 0.03, 0.05, -0.02, 0.4]), random.uniform(0.01, 0.05, 5)
    views = [camera()] * 5
    ones = np.ones((5, ROWS, COLUMNS))
    found = fuse(ones / 3 * np.exp(-said)[:, None, None], ones * sigma[:, None, None], CELLS[:5], views)
    precision = np.array([1, *[fusion.SHARE] * 4]) / (sigma**2 + fusion.FLOOR**2)

    def loss(mean: float) -> float:
        return float((precision * np.log1p(((said - mean) / (2 * fusion.SPREAD)) ** 2)).sum())

    grid = np.linspace(-0.05, 0.1, 150_001)
    best = grid[np.argmin([loss(mean) for mean in grid])]
    np.testing.assert_allclose(-np.log(found.disparity[0] * 3), best, atol=2e-6)


def boxed(cameras: list[Camera]) -> np.ndarray:
    """Disparity of a wall at z = 3 with a board before it, at z = 1.5 for x and y from -0.3 to 0.3."""
    centres = (np.indices((ROWS, COLUMNS))[::-1].reshape(2, -1).T + 0.5) * SIDE
    found = []
    for one in cameras:
        origins, rays = one.rays(centres)
        t = np.stack([z / rays[:, 2] for z in (1.5, 3.0)])
        board = (np.abs((origins + t[0][:, None] * rays)[:, :2]) < 0.3).all(1)
        found.append(1 / (np.where(board, *t) * (rays @ one.forward)))
    return np.stack(found).reshape(-1, ROWS, COLUMNS)


@pytest.mark.parametrize("count", [2, 4, 7])
def test_what_hides_a_point_says_nothing_of_it(count: int):
    """All photos are right. A photo that sees the board does not see the wall behind it. A cell on the board's edge may
    be the wall's in another photo, so these are left out."""
    true, sigma = boxed(CAMERAS[:count]), np.full((count, ROWS, COLUMNS), 0.03)
    fused = fuse(true, sigma, CELLS[:count], CAMERAS[:count]).disparity
    wall = true < 0.5
    assert np.abs(fused / true - 1)[wall].max() < 0.05 and (np.abs(fused / true - 1) > 0.1).mean() < 0.015


def test_a_distorted_lens_does_not_fold_points_into_the_image():
    """Photos that are turned by 75 degrees and more do not see what the first one sees."""
    lens = {"model": "OPENCV", "distortion": (-0.15,)}
    cameras = [replace(one, **lens) for one in (camera(), camera(0, 75), camera(0.1, -75), camera(0, 80))]
    sigma = np.full((4, ROWS, COLUMNS), 0.03)
    found = fuse(np.ones((4, ROWS, COLUMNS)), sigma, CELLS[:4], cameras)
    np.testing.assert_allclose(found.disparity[0], 1.0, rtol=1e-9)
    assert np.isinf(found.others_sigma[0]).all()


def test_photos_of_other_sizes():
    """One photo is smaller, with finer cells; its images are padded."""
    small = replace(CAMERAS[1], width=24, height=20, fx=25.0, fy=25.0, cx=12.0, cy=10.0)
    cameras, own = [CAMERAS[0], small, *CAMERAS[2:]], np.s_[:10, :12]
    cell = np.where(np.arange(len(cameras)) == 1, 2, SIDE)
    true, sigma = slanted(CAMERAS), np.full((len(cameras), ROWS, COLUMNS), 0.03)
    true[1], sigma[1] = 7.0, np.inf  # of the padding
    centres = (np.indices((10, 12))[::-1].reshape(2, -1).T + 0.5) * 2
    origins, rays = small.rays(centres)
    t = (3 + origins[:, 0] / 4 - origins[:, 2]) / (rays[:, 2] - rays[:, 0] / 4)
    true[1][own], sigma[1][own] = (1 / (t * (rays @ small.forward))).reshape(10, 12), 0.03
    found = fuse(true, sigma, cell, cameras)
    np.testing.assert_allclose(found.disparity[0], true[0], rtol=0.02)
    np.testing.assert_allclose(found.disparity[1][own], true[1][own], rtol=0.02)
    np.testing.assert_array_equal(found.disparity[1][:10, 12:], np.repeat(found.disparity[1][:10, 11:12], 4, 1))
    assert np.isinf(found.sigma[1][10:]).all() and np.isfinite(found.sigma[1][own]).all()


def test_similar_poses():
    cameras, known = [camera(), camera(0.1), camera(0, 180), camera(5.0)], np.array([True, True, True, True])
    depth = np.ones((4, 2, 2))
    assert similar_poses(cameras, depth, known)[0].tolist() == [1, 2, 3]
    known[2] = False
    assert similar_poses(cameras, depth, known)[0].tolist() == [1, 3]
