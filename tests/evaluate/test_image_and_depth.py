"""Image and depth measures against closed forms and an independent reference."""

import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from ovseg3d.evaluate.metrics.depth import depth_errors
from ovseg3d.evaluate.metrics.image import psnr, ssim


def image(seed: int, h: int = 40, w: int = 30) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return gaussian_filter(rng.random((h, w, 3)), (2, 2, 0)).astype(np.float32)


@pytest.mark.parametrize("offset", [0.5, 0.1, 0.01])
def test_psnr_of_a_constant_offset(offset: float) -> None:
    image = np.full((8, 9, 3), 0.25)
    assert psnr(image, image + offset) == pytest.approx(-20 * math.log10(offset), abs=1e-9)


def test_psnr_of_equal_images() -> None:
    assert psnr(image(0), image(0)) == math.inf


def test_ssim_of_equal_images() -> None:
    assert ssim(image(0), image(0)) == pytest.approx(1.0, abs=1e-9)


def test_ssim_of_two_flat_images_is_the_luminance_term() -> None:
    a, b = np.full((20, 20, 3), 0.2), np.full((20, 20, 3), 0.6)
    c1 = 0.01**2
    assert ssim(a, b) == pytest.approx((2 * 0.2 * 0.6 + c1) / (0.2**2 + 0.6**2 + c1), abs=1e-4)


def reference_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """The formula of Wang et al. with scipy's filter, of whole windows."""
    a, b = a.astype(np.float64), b.astype(np.float64)

    def mean(x: np.ndarray) -> np.ndarray:
        return gaussian_filter(x, (1.5, 1.5, 0), truncate=5 / 1.5)

    ma, mb = mean(a), mean(b)
    va, vb, cov = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
    c1, c2 = 0.01**2, 0.03**2
    every = (2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))
    return float(np.mean(every[5:-5, 5:-5]))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_ssim_against_the_formula(seed: int) -> None:
    a = image(seed)
    b = np.clip(a + 0.1 * (image(seed + 10) - 0.5), 0, 1)
    assert ssim(a, b) == pytest.approx(reference_ssim(a, b), abs=1e-9)


def test_ssim_is_undefined_below_the_window() -> None:
    assert math.isnan(ssim(image(0, 10, 30), image(0, 10, 30)))


def test_depth_errors_by_hand() -> None:
    true = np.array([[1.0, 2.0, 4.0], [10.0, 0.0, np.nan]])
    pred = np.array([[1.04, 2.2, 4.0], [9.0, 7.0, 7.0]])  # relative 0.04, 0.1, 0, 0.1
    errors = depth_errors(pred, true)
    assert errors.rel_median == pytest.approx(0.07)
    assert errors.within_5_percent == pytest.approx(0.5)
    assert errors.abs_median == pytest.approx(0.12)


def test_a_missing_prediction_counts_as_wrong() -> None:
    errors = depth_errors(np.array([[np.nan, np.inf]]), np.array([[2.0, 2.0]]))
    assert (errors.rel_median, errors.within_5_percent, errors.abs_median) == (1.0, 0.0, 2.0)


def test_no_known_depth_gives_nan() -> None:
    errors = depth_errors(np.ones((2, 2)), np.zeros((2, 2)))
    assert math.isnan(errors.rel_median) and math.isnan(errors.within_5_percent)
