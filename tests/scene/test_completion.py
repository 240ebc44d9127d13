"""Depth completed from sparse points."""

import numpy as np
import pytest

from ovseg3d.scene import completion
from ovseg3d.scene.completion import CELL, complete

H, W = 48, 64


def cells() -> tuple[np.ndarray, np.ndarray]:
    """Pixel coordinates of the cells' centres."""
    x, y = np.meshgrid((np.arange(W // CELL) + 0.5) * CELL, (np.arange(H // CELL) + 0.5) * CELL)
    return x, y


def plane(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Disparity of a slanted plane."""
    return 0.5 + 0.002 * x - 0.003 * y


def test_a_bare_plane_is_completed_from_four_points():
    xy = np.array([[6.0, 6.0], [58.0, 8.0], [10.0, 40.0], [50.0, 42.0]])
    photo = np.full((H, W, 3), 120, np.uint8)
    disparity, sigma = complete(photo, xy, 1.0 / plane(*xy.T), np.full(4, 0.005))
    np.testing.assert_allclose(disparity, plane(*cells()), rtol=2e-3)
    assert (sigma > 0).all() and sigma[1:-1, 2:-2].max() < 0.2


def test_depth_may_jump_where_the_colour_changes():
    """Two fronto-parallel planes, one in each half of the photo."""
    photo = np.full((H, W, 3), 200, np.uint8)
    photo[:, W // 2 :] = 40
    random = np.random.default_rng(0)
    xy = random.uniform([2, 2], [W - 2, H - 2], (40, 2))
    z = np.where(xy[:, 0] < W / 2, 1.0, 3.0)
    disparity, _ = complete(photo, xy, z, np.full(40, 0.01))
    one_colour, _ = complete(np.full_like(photo, 120), xy, z, np.full(40, 0.01))
    true = np.where(cells()[0] < W / 2, 1.0, 1 / 3.0)
    off, blurred = np.abs(disparity / true - 1), np.abs(one_colour / true - 1)
    assert np.median(off) < 0.015 and (off < 0.05).mean() > 0.65
    assert (off < 0.05).mean() > (blurred < 0.05).mean() + 0.2


def test_depth_of_a_bare_thing_without_points_is_unsure():
    """It may be anywhere before the plane behind it: the points around it do not tell."""
    random = np.random.default_rng(5)
    photo = random.normal(150, 1.5, (H, W, 3)).astype(np.uint8)  # a photo of a bare wall is never quite constant
    photo[16:36, 24:44] -= 100
    xy = random.uniform([2, 2], [W - 2, H - 2], (60, 2))
    xy = xy[(np.abs(xy - [34, 26]) > 12).any(1)]
    disparity, sigma = complete(photo, xy, 1.0 / plane(*xy.T), np.full(len(xy), 0.005))
    thing = np.zeros((H // CELL, W // CELL), bool)
    thing[5:8, 7:10] = True
    wall = np.ones_like(thing)
    wall[3:10, 5:12] = False
    assert np.median(sigma[thing]) > 0.05 and np.median(sigma[wall]) < 0.01
    assert np.median(np.abs(disparity / plane(*cells()) - 1)[wall]) < 0.01


@pytest.mark.parametrize("level", [0, 255])
def test_clipped_pixels_are_no_bare_plane(level: int):
    """A gap between points of a plane is completed surely where it is grey, unsurely where it is clipped."""
    random = np.random.default_rng(3)
    xy = random.uniform([2, 2], [W - 2, H - 2], (60, 2))
    xy = xy[np.abs(xy[:, 0] - W / 2) > 14]
    z = 1.0 / plane(*xy.T)
    photo = random.integers(60, 200, (H, W, 3)).astype(np.uint8)
    gap = np.s_[:, W // 2 - 12 : W // 2 + 12]
    inside = np.s_[2:-2, W // 2 // CELL - 1 : W // 2 // CELL + 1]
    photo[gap] = level
    _, clipped = complete(photo, xy, z, np.full(len(xy), 0.01))
    photo[gap] = 120
    _, grey = complete(photo, xy, z, np.full(len(xy), 0.01))
    assert np.median(clipped[inside]) > 1.5 * np.median(grey[inside])


def test_a_wrong_point_hardly_matters_among_many():
    random = np.random.default_rng(1)
    xy = random.uniform([2, 2], [W - 2, H - 2], (60, 2))
    z = 1.0 / plane(*xy.T)
    z[7] *= 3.0
    disparity, _ = complete(np.full((H, W, 3), 90, np.uint8), xy, z, np.full(60, 0.01))
    np.testing.assert_allclose(disparity, plane(*cells()), rtol=0.03)


def test_deviations_are_those_of_the_gaussian_model(monkeypatch: pytest.MonkeyPatch):
    """Against the inverse of the dense normal matrix, without reweighting."""
    monkeypatch.setattr(completion, "ROUNDS", 1)
    monkeypatch.setattr(completion, "SAMPLES", 4000)
    random = np.random.default_rng(2)
    photo = random.integers(0, 255, (24, 32, 3)).astype(np.uint8)
    xy, z = random.uniform([2, 2], [30, 22], (12, 2)), np.full(12, 2.0)
    sigma = random.uniform(0.01, 0.05, 12)
    disparity, deviation = complete(photo, xy, z, sigma)
    lines, flat = completion._lines(completion._flatness(photo, CELL))
    tau = completion.PLANE + (completion.EDGE - completion.PLANE) * (1 - flat) ** 2
    points = completion._interpolation(xy / CELL - 0.5, 6, 8)
    a, b = lines.toarray() / tau[:, None], points.toarray() / sigma[:, None]
    inverse = np.linalg.inv(a.T @ a + b.T @ b + completion._ANCHOR * np.eye(48))
    exact = np.sqrt(np.diag(inverse)).reshape(6, 8) / (disparity * 2.0)
    np.testing.assert_allclose(deviation, exact, rtol=0.1)


def step(scale: float, offset: float) -> np.ndarray:
    """Disparity of a near half of the photo and a far one, up to a scale and an offset."""
    return np.where(np.arange(W) < W / 2, 1.0, 1 / 3.0)[None].repeat(H, 0) * scale + offset


def test_a_prior_places_a_jump_between_distant_points():
    """On a photo of noise, colours do not show where depth jumps."""
    random = np.random.default_rng(1)
    photo = random.integers(0, 255, (H, W, 3)).astype(np.uint8)
    xy = random.uniform([2, 2], [W - 2, H - 2], (40, 2))
    xy = xy[np.abs(xy[:, 0] - W / 2) > 10]
    z = np.where(xy[:, 0] < W / 2, 1.0, 3.0)
    true = np.where(cells()[0] < W / 2, 1.0, 1 / 3.0)

    def share_right(prior: np.ndarray | None) -> float:
        disparity, _ = complete(photo, xy, z, np.full(len(xy), 0.01), prior)
        return float((np.abs(disparity / true - 1) < 0.05).mean())

    assert share_right(step(50.0, -7.0)) > 0.95
    assert share_right(None) < 0.8


@pytest.mark.parametrize("prior", [step(-2.0, 5.0), np.full((H, W), 3.0)], ids=["inverted", "constant"])
def test_a_prior_that_contradicts_the_points_counts_for_nothing(prior: np.ndarray):
    random = np.random.default_rng(4)
    photo = random.integers(0, 255, (H, W, 3)).astype(np.uint8)
    xy = random.uniform([2, 2], [W - 2, H - 2], (40, 2))
    z, sigma = np.where(xy[:, 0] < W / 2, 1.0, 3.0), np.full(40, 0.01)
    for with_prior, alone in zip(complete(photo, xy, z, sigma, prior), complete(photo, xy, z, sigma)):
        np.testing.assert_array_equal(with_prior, alone)
