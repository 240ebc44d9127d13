"""Protocol index: confusion of label images by hand, and against a brute-force count."""

import math

import numpy as np
import pytest

from ovseg3d.errors import MeasureError
from ovseg3d.evaluate.metrics.consistency import measure_consistency
from ovseg3d.evaluate.metrics.labels import Confusion
from ovseg3d.evaluate.metrics.report import mean_over_scenes

CLASSES = ("wall", "chair", "mug")
U8 = np.uint8


def test_scores_by_hand() -> None:
    true = np.array([[1, 1, 1, 1], [2, 2, 3, 255]], U8)
    pred = np.array([[1, 1, 2, 0], [2, 0, 3, 3]], U8)
    confusion = Confusion(CLASSES)
    confusion.update(pred, true)
    scores = confusion.result()
    # wall: 2 of 4, none elsewhere; chair: 1 hit, union 2 true + 2 predicted - 1; mug: 1 of 1, the ignored one is out.
    assert scores.iou == pytest.approx({"wall": 1 / 2, "chair": 1 / 3, "mug": 1.0})
    assert scores.miou == pytest.approx((1 / 2 + 1 / 3 + 1) / 3)
    assert scores.miou_objects == pytest.approx((1 / 3 + 1) / 2)
    assert scores.accuracy == pytest.approx(4 / 7)
    assert scores.accuracy_objects == pytest.approx(2 / 3)
    assert scores.pixels == 7
    assert confusion.matrix[1].tolist() == [1, 2, 1, 0]


def test_views_are_pooled_and_not_averaged() -> None:
    confusion = Confusion(("a",))
    confusion.update(np.array([1], U8), np.array([1], U8))
    confusion.update(np.zeros(9, U8), np.ones(9, U8))
    assert confusion.result().miou == pytest.approx(0.1)  # the mean of views would be 0.5


def test_none_is_an_error_but_true_none_is_a_claim() -> None:
    true, pred = np.array([0, 0, 1], U8), np.array([0, 1, 1], U8)
    strict, lenient = Confusion(("a",)), Confusion(("a",), count_true_none=False)
    zero = Confusion(("a",), ignore=0)
    for confusion in (strict, lenient, zero):
        confusion.update(pred, true)
    assert zero.result().as_dict() == lenient.result().as_dict()
    assert (strict.result().accuracy, strict.result().miou) == pytest.approx((2 / 3, 1 / 2))
    assert (lenient.result().accuracy, lenient.result().miou) == (1.0, 1.0)


def test_a_predicted_ignore_is_no_way_out() -> None:
    confusion = Confusion(("a",))
    confusion.update(np.array([255, 1], U8), np.array([1, 1], U8))
    assert confusion.result().accuracy == 0.5


def test_a_class_that_the_truth_lacks_is_not_in_the_mean() -> None:
    confusion = Confusion(("a", "b"))
    confusion.update(np.array([1, 2], U8), np.array([1, 1], U8))
    scores = confusion.result()
    assert scores.miou == 0.5 and math.isnan(scores.iou["b"])
    assert scores.as_dict()["iou"] == {"a": 0.5, "b": None}


@pytest.mark.parametrize(
    "dtype, value, ignore", [(np.uint8, 255, None), (np.uint16, 65535, None), (np.int64, 255, 255), (np.int64, -1, -1)]
)
def test_ignore_by_type_or_by_word(dtype: type, value: int, ignore: int | None) -> None:
    confusion = Confusion(("a",), ignore=ignore)
    confusion.update(np.array([1, 0], dtype), np.array([1, value], dtype))
    assert confusion.result().accuracy == 1.0 and confusion.result().pixels == 1


def test_many_classes_in_16_bit() -> None:
    names = [f"thing {k}" for k in range(300)]
    confusion = Confusion(names)
    confusion.update(np.array([255, 300], np.uint16), np.array([255, 299], np.uint16))
    assert confusion.result().iou["thing 254"] == 1.0 and confusion.result().miou == 0.5


def brute_force(pred: np.ndarray, true: np.ndarray, classes: int) -> tuple[float, float]:
    ious = []
    for k in range(1, classes + 1):
        t, p = (true == k) & (true != 255), (pred == k) & (true != 255)
        if t.any():
            ious.append((t & p).sum() / (t | p).sum())
    known = true != 255
    return float(np.mean(ious)), float((pred == true)[known].mean())


@pytest.mark.parametrize("seed", range(5))
def test_against_brute_force(seed: int) -> None:
    rng = np.random.default_rng(seed)
    true = rng.integers(0, 5, (4, 20, 30)).astype(U8)
    true[rng.random(true.shape) < 0.1] = 255
    pred = np.where(rng.random(true.shape) < 0.6, true % 6, rng.integers(0, 6, true.shape)).astype(U8)
    confusion = Confusion([f"c{k}" for k in range(5)])
    for p, t in zip(pred, true):
        confusion.update(p, t)
    scores = confusion.result()
    assert (scores.miou, scores.accuracy) == pytest.approx(brute_force(pred, true, 5))


def test_small_segments_are_told_apart() -> None:
    """A mug of 6 pixels is half found; a chair of 20 is large; the wall never is small."""
    true = np.zeros((6, 10), U8)
    true[0, :5] = 1
    true[1, :6] = 3
    true[2:4] = 2
    pred = true.copy()
    pred[1, 3:6] = 2
    confusion = Confusion(CLASSES, small_below=10)
    confusion.update(pred, true)
    scores = confusion.result()
    assert (scores.small_segments, scores.accuracy_small, scores.found_small) == (1, 0.5, 1.0)
    assert scores.iou["chair"] == pytest.approx(20 / 23)
    assert scores.miou_large == 1.0  # without the mug's pixels nothing is wrong


def test_small_segments_by_instance() -> None:
    """Two chairs of 8 pixels: as a class they are large, as instances both are small, and one is missed."""
    true = np.full((2, 8), 2, U8)
    pred, instances = true.copy(), np.repeat([[5], [6]], 8, axis=1)
    pred[1] = 0
    by_class, by_instance = Confusion(CLASSES, small_below=10), Confusion(CLASSES, small_below=10)
    by_class.update(pred, true)
    by_instance.update(pred, true, instances=instances)
    assert by_class.result().small_segments == 0
    scores = by_instance.result()
    assert (scores.small_segments, scores.found_small, scores.accuracy_small) == (2, 0.5, 0.5)
    assert math.isnan(scores.miou_large)


def test_only_kept_pixels_count() -> None:
    true, pred = np.array([[1, 2, 2, 3]], U8), np.array([[1, 2, 1, 1]], U8)
    confusion = Confusion(CLASSES)
    confusion.update(pred, true, keep=true == 2)
    assert confusion.result().accuracy == 0.5 and confusion.result().pixels == 2
    assert confusion.result().small_segments == 1  # the mug, of which nothing is kept, is none


def test_structural_names() -> None:
    confusion = Confusion(("Wall", "wood wall", "ceiling light"))
    confusion.update(np.array([2, 2, 3], U8), np.array([1, 2, 3], U8))
    assert confusion.result().accuracy_objects == 1.0


@pytest.mark.parametrize(
    "pred, true, told",
    [
        (np.zeros((2, 3), U8), np.zeros((3, 2), U8), "3x2, the true labels of size 2x3"),
        (np.zeros(2, U8), np.array([0, 4], U8), "true label is 4, but there are 3"),
        (np.array([7], U8), np.array([1], U8), "predicted label is 7"),
        (np.array([1]), np.array([255]), "if 255 means ignore"),
        (np.array([-1]), np.array([1]), "predicted label is -1"),
    ],
)
def test_what_does_not_fit_is_told(pred: np.ndarray, true: np.ndarray, told: str) -> None:
    with pytest.raises(MeasureError, match=told):
        Confusion(CLASSES).update(pred, true)


def test_impossible_set_ups_are_told() -> None:
    with pytest.raises(MeasureError, match="only once"):
        Confusion(("a", "a"))
    with pytest.raises(MeasureError, match="only once"):
        Confusion(())
    with pytest.raises(MeasureError, match="also one of"):
        Confusion(("a", "b"), ignore=2)
    with pytest.raises(MeasureError, match="also one of"):
        Confusion([str(k) for k in range(255)]).update(np.zeros(1, U8), np.zeros(1, U8))


def test_nothing_measured_is_nan_and_null() -> None:
    scores = Confusion(("a",)).result()
    assert math.isnan(scores.miou) and math.isnan(scores.accuracy)
    assert scores.as_dict()["miou"] is None and scores.as_dict()["protocol"] == "index"


def test_mean_over_scenes_is_plain() -> None:
    results = {}
    for name, pred in (("small", [0]), ("large", [1] * 9), ("empty", [])):
        confusion = Confusion(("a",))
        confusion.update(np.array(pred, U8), np.ones(len(pred), U8))
        results[name] = confusion.result()
    mean = mean_over_scenes(results)
    assert mean["miou"] == 0.5 and mean["scenes"] == ["small", "large", "empty"]
    assert mean["accuracy_small"] == 0.5 and "3 scenes" in mean["aggregation"] and mean["protocol"] == "index"
    with pytest.raises(MeasureError, match="one protocol"):
        views = np.ones((2, 1), np.int64)
        mean_over_scenes({"a": results["small"], "b": measure_consistency(views, views > 0)})
    with pytest.raises(MeasureError):
        mean_over_scenes({})
