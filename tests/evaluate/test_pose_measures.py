"""Pose metrics: the reference's sanity figures, the released evaluator's formulas, and what it gets wrong."""

import math

import numpy as np
import pytest
from scipy.linalg import logm
from scipy.spatial.transform import Rotation

from ovseg3d.errors import MeasureError
from ovseg3d.evaluate.metrics import PredictedPoses, TruePoses, measure_poses, pose_errors_rad
from ovseg3d.geometry import angles_of_rotation

BIN = 2 * math.pi / 40
NAMES = ("bed", "chair", "guitar", "mug", "sofa")
KNOWN = ("bed", "chair", "guitar")
META = {"Furniture": ("bed", "chair", "sofa"), "Household": ("mug",), "Music": ("guitar",)}


def photos(count: int, seed: int = 0) -> np.ndarray:
    """Viewpoints as of photos: any azimuth, elevations from -29 to 57 degrees, tilted by up to 29 degrees."""
    rng = np.random.default_rng(seed)
    return rng.uniform([0, -0.5, -0.5], [2 * math.pi, 1, 0.5], (count, 3))


def binned(angles: np.ndarray) -> np.ndarray:
    return (np.floor(angles / BIN) + 0.5) * BIN


def all_of(predicted: np.ndarray, true: np.ndarray):
    return measure_poses(PredictedPoses(predicted), TruePoses(true, ["chair"] * len(true))).figures["all"]


def test_figures_of_the_reference():
    """opendlign-imagenet3d.md, 2.3: what bins and guesses are worth."""
    true = photos(20_000)
    oracle = all_of(binned(true), true)
    assert oracle.median_deg == pytest.approx(4.4, abs=0.05) and oracle.mean_deg == pytest.approx(4.35, abs=0.06)
    assert oracle.acc_10 == 1
    shifted = all_of(binned(true) + [BIN, 0, 0], true)
    assert shifted.median_deg == pytest.approx(9.7, abs=0.1)
    assert shifted.acc_10 == pytest.approx(0.535, abs=0.01)
    # Closed forms: (x - sin x) / pi of uniform rotations, x / pi of a random azimuth.
    guess = all_of(angles_of_rotation(Rotation.random(20_000, np.random.default_rng(1))), true)
    assert guess.acc_30 == pytest.approx((math.pi / 6 - 0.5) / math.pi, abs=0.002)
    assert guess.acc_30 == pytest.approx(0.0075, abs=0.002)
    spun = true.copy()
    spun[:, 0] = photos(20_000, 2)[:, 0]
    spun_scores = all_of(spun, true)
    assert spun_scores.acc_30 == pytest.approx(1 / 6, abs=0.01) and spun_scores.median_deg == pytest.approx(90, abs=2)


def made_up(count: int = 400) -> tuple[PredictedPoses, TruePoses]:
    """A prediction file: good, bad, missing and wrongly named answers; errors depend on the category."""
    rng = np.random.default_rng(3)
    number = rng.integers(0, len(NAMES), count)
    true, names = photos(count, 4), [NAMES[k] for k in number]
    guessed = true + rng.normal(0, 1, true.shape) * np.array([0.05, 0.2, 0.6, 0.1, 0.9])[number][:, None]
    guessed[::29] = math.nan
    labels = [NAMES[(k + (rng.random() < 0.2)) % len(NAMES)] for k in number]
    return PredictedPoses(guessed, labels), TruePoses(true, names)


def released_error(predicted: np.ndarray, true: np.ndarray) -> float:
    """||log(R_pred^T R_true)|| / sqrt(2) with Rz(t) Rx(e - pi/2) Rz(-a); pi where it is NaN."""
    if np.isnan(predicted).any():
        return math.pi
    one, other = (Rotation.from_euler("zxz", [-a, e - math.pi / 2, t]).as_matrix() for a, e, t in (predicted, true))
    return float(np.linalg.norm(logm(one.T @ other), "fro") / math.sqrt(2))


def test_equal_to_the_released_evaluator_where_it_is_right():
    predicted, true = made_up()
    errors = np.array([released_error(*pair) for pair in zip(predicted.angles_rad, true.angles_rad)])
    named = PredictedPoses(predicted.angles_rad)
    assert np.allclose(pose_errors_rad(named, true), errors, atol=1e-6)
    names, wrong = np.array(true.categories), np.array(predicted.categories) != np.array(true.categories)
    found = measure_poses(named, true, known=KNOWN, meta_classes=META).figures
    joint = measure_poses(predicted, true, known=KNOWN, meta_classes=META)
    rows = {"all": names != "", "known": np.isin(names, KNOWN), "novel": ~np.isin(names, KNOWN)}
    rows |= {group: np.isin(names, members) for group, members in META.items()}
    rows |= {f"known, {group}": rows[group] & rows["known"] for group in ("Furniture", "Music")}
    for group, of in rows.items():
        for figures, own in ((found[group], errors[of]), (joint.figures[group], (errors + math.pi * wrong)[of])):
            expected = np.mean(own < math.pi / 6), np.mean(own < math.pi / 18)
            assert (figures.acc_30, figures.acc_10) == expected
            assert figures.median_deg == pytest.approx(np.degrees(np.median(own)))
            assert figures.mean_deg == pytest.approx(np.degrees(np.mean(own)))
    assert joint.class_accuracy == np.mean(~wrong)
    assert found["all"].unanswered == 14


def test_different_where_the_released_evaluator_is_wrong():
    """It pairs the errors of novel objects with the categories of known ones when it forms meta-classes."""
    predicted, true = made_up()
    predicted = PredictedPoses(predicted.angles_rad)
    errors, names = pose_errors_rad(predicted, true), np.array(true.categories)
    novel, shifted = errors[~np.isin(names, KNOWN)], names[np.isin(names, KNOWN)]
    released = {
        group: np.mean([error < math.pi / 6 for error, name in zip(novel, shifted) if name in members])
        for group, members in META.items()
        if np.isin(shifted, members).any()
    }
    found = measure_poses(predicted, true, known=KNOWN, meta_classes=META).figures
    assert found["novel, Furniture"].acc_30 == np.mean(errors[names == "sofa"] < math.pi / 6)
    assert abs(found["novel, Furniture"].acc_30 - released["Furniture"]) > 0.1
    assert "Music" in released and "novel, Music" not in found, "no novel object is an instrument"
    assert "Household" not in released and found["novel, Household"].objects == (names == "mug").sum()


def test_averages_over_categories_and_intervals():
    degrees = np.radians([1, 1, 1, 20, 1, 1, 1, 50.0])
    true = np.zeros((8, 3))
    names = ["chair"] * 6 + ["mug"] * 2
    scores = measure_poses(PredictedPoses(np.c_[degrees, true[:, :2]]), TruePoses(true, names))
    figures = scores.figures["all"]
    assert (figures.acc_30, figures.acc_10) == (7 / 8, 6 / 8)
    assert (figures.category_acc_30, figures.category_acc_10) == (3 / 4, (5 / 6 + 1 / 2) / 2)
    assert figures.category_median_deg == pytest.approx((1 + 25.5) / 2)
    assert scores.by_category["mug"] == pytest.approx({"acc_30": 0.5, "acc_10": 0.5, "median_deg": 25.5, "objects": 2})
    low, high = figures.acc_30_interval
    assert (low, high) == (6 / 8, 1), "only one of the two mugs is ever in doubt"


def test_intervals_cover_the_truth():
    """Of 20 data sets, about 19 intervals hold the true accuracy of 70 %."""
    held = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        errors = np.where(rng.random(150) < 0.7, 0.1, 1.0)
        low, high = all_of(np.c_[errors, np.zeros((150, 2))], np.zeros((150, 3))).acc_30_interval
        held += low <= 0.7 <= high
        assert 0.1 < high - low < 0.2
    assert held >= 17


def test_symmetry_forgives_only_what_looks_the_same():
    turned = np.radians([[180.0, 0, 0], [90, 0, 0], [77, 0, 0], [180, 0, 0], [0, 40, 0]])
    true = TruePoses(np.zeros((5, 3)), ["table"] * 5, symmetry_orders=np.array([2, 4, 0, 1, 0]))
    scores = measure_poses(PredictedPoses(turned), true)
    assert scores.figures["all"].acc_30 == 0
    assert scores.figures["all, up to symmetry"].acc_30 == 3 / 5
    with pytest.raises(MeasureError, match="symmetries"):
        pose_errors_rad(PredictedPoses(turned), TruePoses(np.zeros((5, 3)), ["table"] * 5), symmetric=True)


def test_a_predicted_box_must_be_on_the_object():
    square, centers = np.array([[0.0, 0, 10, 10]] * 4), np.full((4, 2), 5.0)
    true = TruePoses(np.zeros((4, 3)), ["mug"] * 4, None, square, centers, np.full(4, 2.0))
    boxes = np.array([[0.0, 0, 10, 10], [0, 0, 10, 5.1], [0, 0, 10, 4.9], [math.nan] * 4])
    predicted = PredictedPoses(
        np.zeros((4, 3)), boxes=boxes, centers_px=centers + [0.0, math.sqrt(2)], distances=np.full(4, 2.5)
    )
    scores = measure_poses(predicted, true)
    assert scores.figures["all"].acc_30 == 0.5 and scores.figures["all"].unanswered == 2
    assert scores.center_error == pytest.approx(0.1) and scores.distance_error == pytest.approx(0.25)
    assert math.isnan(measure_poses(PredictedPoses(np.zeros((4, 3))), true).distance_error)


def test_what_cannot_be_compared_is_refused():
    true = TruePoses(np.zeros((2, 3)), ["mug"] * 2)
    for predicted, truth, words in (
        (PredictedPoses(np.zeros((3, 3))), true, "3 predicted angles_rad for 2"),
        (PredictedPoses(np.zeros((2, 3)), ["mug"]), true, "1 predicted categories for 2"),
        (PredictedPoses(np.zeros((2, 3))), TruePoses(np.full((2, 3), math.nan), ["mug"] * 2), "not finite"),
        (PredictedPoses(np.zeros((2, 3)), boxes=np.zeros((2, 4))), true, "no true ones"),
        (PredictedPoses(np.zeros((0, 3))), TruePoses(np.zeros((0, 3)), []), "no object"),
    ):
        with pytest.raises(MeasureError, match=words):
            measure_poses(predicted, truth)
