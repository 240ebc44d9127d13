"""Measures of monocular depth, on depth whose errors are known."""

from pathlib import Path

import numpy as np
import pytest

from ovseg3d.errors import ConfigError
from ovseg3d.scene import Camera, Frame
from scripts.benchmarks.depth import Depth, compared, plane

FRAME = Frame("photo", Path("photo"), Camera(40, 30, 35.0, 35.0, 20.0, 15.0, np.eye(4)))


def slanted() -> np.ndarray:
    rows, columns = np.indices((30, 40))
    return 1 / (0.3 + 0.004 * rows + 0.002 * columns)


def test_scale_and_offset_are_fitted() -> None:
    true = slanted()
    assert compared(true, true, FRAME) == pytest.approx([0, 1, 0, 0, 1, 0], abs=0.1)
    error, near, scaled, fitted, fitted_near, _ = compared(2 * true, true, FRAME)
    assert (error, near) == pytest.approx((1.0, 0.0)) and scaled == pytest.approx(0, abs=1e-9)
    shifted = compared(1 / (1 / true + 0.5), true, FRAME)
    assert shifted[2] > 0.02 and shifted[3] < 1e-3 and (fitted, fitted_near) == pytest.approx((0, 1), abs=1e-3)


def test_a_plane_is_found_in_what_is_known() -> None:
    true = slanted()
    holes = np.where(np.random.default_rng(0).random(true.shape) < 0.5, 0.0, true)
    np.testing.assert_allclose(plane(holes), true, rtol=1e-6)


def test_unknown_tables_and_captures_without_depth_are_errors(tiny_scene: Path) -> None:
    with pytest.raises(ConfigError, match="no table"):
        Depth((tiny_scene,), rows="everything").main()
