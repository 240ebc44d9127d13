"""Boxes around the points of detections."""

import numpy as np
from scipy.spatial.transform import Rotation

from ovseg3d.geometry import rotated_iou
from ovseg3d.heads.detection import Detection, boxes_around_points

TRUE = (1.0, 2.0, 0.3, 2.0, 0.8, 0.6, 0.4)
SHIFTED = (1.2, 2.0, 0.3, 1.6, 0.8, 0.6, 0.4)


def detection(box: tuple[float, ...], points: np.ndarray, score: float = 0.5) -> Detection:
    x, y, z, length, width, height, yaw = box
    return Detection(
        (x, y, z), (length, width, height), (1.0, 0.0, 0.0, 0.0), yaw, 2, None, score,
        np.zeros(24), points, np.zeros(3),
    )  # fmt: skip


def box(one: Detection) -> np.ndarray:
    return np.array([*one.center, *one.size, one.yaw_rad or 0.0])


def cloud() -> np.ndarray:
    """A stray point, then those of the object."""
    inside = np.random.default_rng(0).uniform(-0.5, 0.5, (3000, 3)) * TRUE[3:6]
    return np.concatenate([[[9.0, 9.0, 9.0]], Rotation.from_euler("z", TRUE[6]).apply(inside) + TRUE[:3]])


def test_the_box_is_that_of_the_points_and_its_score_says_how_far_both_agree() -> None:
    xyz, points = cloud(), np.arange(1, 3001)
    (fitted,) = boxes_around_points([detection(SHIFTED, points)], xyz)
    assert np.allclose(box(fitted), TRUE, atol=0.01)
    iou = rotated_iou(np.array([SHIFTED]), np.array([TRUE]))[0, 0]
    assert abs(fitted.score - 0.5 * iou**0.5) < 0.005
    (fitted,) = boxes_around_points([detection(TRUE, points)], xyz)
    assert fitted.score > 0.49, "both agree"


def test_few_points_have_no_box() -> None:
    few = detection(SHIFTED, np.arange(1, 5))
    assert boxes_around_points([few], cloud()) == (few,)
    assert boxes_around_points([], cloud()) == ()


def test_points_of_a_plane_have_a_box() -> None:
    flat = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0], [0.5, 0.5, 0]])
    (fitted,) = boxes_around_points([detection((0.5, 0.5, 0.0, 1.0, 1.0, 0.02, 0.0), np.arange(5))], flat)
    assert np.allclose(fitted.size, (1, 1, 0.01)) and fitted.score > 0.3


def test_what_agrees_comes_first_and_no_two_overlap() -> None:
    xyz, points = cloud(), np.arange(1, 3001)
    wrong = detection((3.0, 2.0, 0.3, 2.0, 0.8, 0.6, 0.4), points[1::2], 0.9)  # beside its points
    right = detection(TRUE, points[::2], 0.5)
    (kept,) = boxes_around_points([wrong, right], xyz)
    assert np.array_equal(kept.points, right.points)
