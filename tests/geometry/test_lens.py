"""Lens distortion and its inverse: derivatives, closed forms, round trips, and numpy and torch alike."""

import numpy as np
import pytest
import torch

from ovseg3d.geometry.lens import distort_theta, distort_xy, undistort_theta, undistort_xy

BENT = (0.3, -0.2, 0.05, -0.04, 0.1, 0.07)
PHONE = (0.0578421, -0.0805099, -0.000980296, 0.00015575, 0.0, 0.0)
FISHEYE = (0.04, -0.01, 0.005, -0.001)


def plane(count: int = 200, reach: float = 0.7) -> np.ndarray:
    return np.random.default_rng(0).uniform(-reach, reach, (2, count))


def test_newton_has_the_true_derivatives():
    step, (x, y) = 1e-6, plane()
    _, _, a, b, c = distort_xy(x, y, *BENT)
    along_x = np.subtract(distort_xy(x + step, y, *BENT)[:2], distort_xy(x - step, y, *BENT)[:2]) / (2 * step)
    along_y = np.subtract(distort_xy(x, y + step, *BENT)[:2], distort_xy(x, y - step, *BENT)[:2]) / (2 * step)
    assert np.allclose([a, b, b, c], [*along_x, *along_y], atol=1e-8)
    _, slope = distort_theta(x, *BENT[:4])
    numeric = (distort_theta(x + step, *BENT[:4])[0] - distort_theta(x - step, *BENT[:4])[0]) / (2 * step)
    assert np.allclose(slope, numeric, atol=1e-8)


def test_the_inverse_of_a_cubic_is_cardanos():
    """x + k x^3 = d with k > 0 has one real root, in closed form."""
    k, d = 0.5, np.linspace(-1.5, 1.5, 41)
    root = np.sqrt((d / (2 * k)) ** 2 + 1 / (3 * k) ** 3)
    exact = np.cbrt(d / (2 * k) + root) + np.cbrt(d / (2 * k) - root)
    x, y = undistort_xy(d, np.zeros_like(d), (k, 0, 0, 0, 0, 0), steps=30)
    assert np.allclose(x, exact, atol=1e-13) and not y.any()
    assert np.allclose(undistort_theta(d[d >= 0], (k, 0, 0, 0), steps=30), exact[d >= 0], atol=1e-13)


@pytest.mark.parametrize("k", [PHONE, BENT, (0,) * 6])
def test_undistorting_undoes_distorting(k):
    x, y = plane(reach=0.5)
    xd, yd, *_ = distort_xy(x, y, *k)
    assert np.allclose(undistort_xy(xd, yd, k, steps=30, tolerance=1e-14), (x, y), atol=1e-12)
    given = [torch.from_numpy(v).float() for v in (xd, yd)]
    assert np.allclose(undistort_xy(*given, k, steps=5), (x, y), atol=1e-6)


def test_undistorting_a_fisheye_undoes_distorting():
    theta = np.linspace(0, 1.6, 50)
    radius, _ = distort_theta(theta, *FISHEYE)
    assert np.allclose(undistort_theta(radius, FISHEYE, steps=30, tolerance=1e-14), theta, atol=1e-12)
    assert np.allclose(undistort_theta(torch.from_numpy(radius).float(), FISHEYE, steps=5), theta, atol=1e-6)


def test_past_the_fold_of_a_lens_everything_stays_finite():
    """r (1 - r^2 / 3) grows up to r = 1, where it is 2/3: nothing is shown beyond."""
    beyond, none = np.linspace(0.7, 5, 30), np.zeros(30)
    assert np.isfinite(undistort_xy(beyond, none, (-1 / 3, 0, 0, 0, 0, 0), steps=5)).all()
    assert np.isfinite(undistort_theta(beyond, (-1 / 3, 0, 0, 0), steps=30)).all()


def test_no_positions_are_no_trouble():
    none = np.zeros(0)
    assert undistort_xy(none, none, BENT, steps=30, tolerance=1e-14)[0].shape == (0,)
    assert undistort_theta(none, FISHEYE, steps=30, tolerance=1e-14).shape == (0,)
