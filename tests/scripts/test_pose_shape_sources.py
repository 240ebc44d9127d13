"""Sources of the yaw of shapes: frames agree, and errors are up to symmetry."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from jaxtyping import Float

from ovseg3d.heads.detection import Detection
from ovseg3d.heads.pose import CropPose
from ovseg3d.heads.pose.network import SYMMETRY_ORDERS
from ovseg3d.heads.pose.photo import GRID
from ovseg3d.scene import PointCloud
from scripts.benchmarks.pose_shape_sources import away_deg, mean_halves, yaw_errors
from scripts.benchmarks.pose_shapes import Shapes

BINS = 24


class Knowing:
    """A detector that finds the ball, which is the front at -y."""

    def detect(self, cloud: PointCloud, **_: Any) -> tuple[Detection, ...]:
        front = cloud.xyz[:2500].mean(0)
        yaw = np.arctan2(front[1], front[0]) + np.pi / 2
        near = np.cos(2 * np.pi * np.arange(BINS) / BINS - yaw)
        said = np.exp(8 * near)
        blank = np.zeros(1)
        return (
            Detection((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (1.0, 0.0, 0.0, 0.0), float(yaw), 1, None, 1.0,
                      said / said.sum(), blank.astype(int), blank),
        )  # fmt: skip


def peaked(angle: float) -> Float[np.ndarray, " grid"]:
    said = np.exp(20 * np.cos(2 * np.pi * np.arange(GRID) / GRID - angle))
    return said / said.sum()


def test_right_answers_have_no_error_in_any_source(shapes: Shapes) -> None:
    test = shapes.crops("novel", 3, seed=1)
    front = np.eye(4)[SYMMETRY_ORDERS.index(1)]
    poses = [CropPose(peaked(a), peaked(e), peaked(t), front, 1.0) for a, e, t in test.angles]
    wrong = [replace(one, azimuth=np.roll(one.azimuth, GRID // 4)) for one in poses]
    errors = yaw_errors(shapes, "novel", test, {"right": poses, "wrong": wrong}, Knowing())  # type: ignore[arg-type]
    assert set(errors) == {"cloud", "right", "wrong", "cloud + right", "cloud + wrong", "one guess"}
    assert {len(own) for own in errors.values()} == {int((test.order > 0).sum())}
    assert all(errors[name].max() < 12 for name in ("cloud", "right", "cloud + right")), "bins of 5 and 15 degrees"
    assert np.median(errors["wrong"]) == pytest.approx(90, abs=8)


def test_yaws_apart_up_to_symmetry() -> None:
    assert away_deg(0.1, 2 * np.pi, 1) == pytest.approx(np.degrees(0.1))
    assert away_deg(np.pi + 0.1, 0.0, 1) == pytest.approx(180 - np.degrees(0.1))
    assert away_deg(np.pi + 0.1, 0.0, 2) == pytest.approx(np.degrees(0.1))


def test_meshes_have_the_proportions_of_training_shapes(shapes: Shapes) -> None:
    halves = mean_halves(shapes)
    assert len(halves) == 2 and all(y > 2 * x and y > 2 * z for x, y, z in halves), "rods are long along y"
