"""Protocol `detection`: against a slow implementation of VoteNet's procedure, and by hand."""

import math

import numpy as np
import pytest

from ovseg3d.errors import MeasureError
from ovseg3d.evaluate.metrics import Box, DetectionScores, FoundBoxes, TrueBoxes, box_iou, measure_detection

NAMES = ("bed", "chair", "table", "lamp")


def boxes(*rows: tuple[float, ...]) -> np.ndarray:
    """Cubes of side 1 at these x, or whole rows."""
    return np.array([row if len(row) == 7 else (*row, 0, 0, 1, 1, 1, 0) for row in rows], dtype=float).reshape(-1, 7)


def found(x: list[float], scores: list[float], labels: str | None = None) -> FoundBoxes:
    return FoundBoxes(boxes(*((v,) for v in x)), np.array(scores, dtype=float), list(labels or "a" * len(x)))


def true(x: list[float], labels: str | None = None, ignore: np.ndarray | None = None) -> TrueBoxes:
    return TrueBoxes(boxes(*((v,) for v in x)), list(labels or "a" * len(x)), boxes() if ignore is None else ignore)


def one(found_boxes: FoundBoxes, true_boxes: TrueBoxes, **options: float) -> DetectionScores:
    return measure_detection({"room": found_boxes}, {"room": true_boxes}, **options)


def random_scenes(seed: int) -> tuple[dict[str, FoundBoxes], dict[str, TrueBoxes]]:
    """True boxes, and detections near them, far off, twice, and by wrong names; scores differ."""
    rng = np.random.default_rng(seed)
    detections, truth = {}, {}
    for number in range(rng.integers(2, 6)):
        n, m = rng.integers(0, 8), rng.integers(0, 25)
        own = np.column_stack([rng.uniform(-2, 2, (n, 3)), rng.uniform(0.4, 1.5, (n, 3)), rng.uniform(-3, 3, n)])
        names = rng.integers(0, 3, n)
        source = rng.integers(0, n, m) if n else np.zeros(m, dtype=int)
        rows = own[source] if n else np.column_stack([rng.uniform(-2, 2, (m, 3)), np.ones((m, 3)), np.zeros(m)])
        rows = rows + rng.normal(0, 0.15, (m, 7)) * rng.uniform(0, 1.5, (m, 1))
        rows[:, 3:6] = np.abs(rows[:, 3:6])
        labels = np.where(rng.random(m) < 0.7, names[source] if n else 0, rng.integers(0, 4, m))
        detections[f"room{number}"] = FoundBoxes(rows, rng.random(m), [NAMES[k] for k in labels])
        truth[f"room{number}"] = TrueBoxes(own, [NAMES[k] for k in names])
    return detections, truth


def slow_ap(
    detections: list[tuple[str, float, Box]], truth: dict[str, list[Box]], threshold: float
) -> tuple[float, float, float]:
    """AP, final recall and precision, by loops over (scene, score, box) and the curve's corners."""
    claimed = {scene: [False] * len(own) for scene, own in truth.items()}
    positives = sum(len(own) for own in truth.values())
    curve, hits, errors = [(0.0, 0.0)], 0, 0
    for scene, _, box in sorted(detections, key=lambda entry: -entry[1]):
        best, which = -math.inf, -1
        for k, other in enumerate(truth[scene]):
            if box_iou(box, other) > best:
                best, which = box_iou(box, other), k
        if best > threshold and not claimed[scene][which]:
            claimed[scene][which] = True
            hits += 1
        else:
            errors += 1
        curve.append((hits / positives, hits / (hits + errors)))
    curve.append((1.0, 0.0))
    area = 0.0
    for k in range(1, len(curve)):
        area += (curve[k][0] - curve[k - 1][0]) * max(precision for _, precision in curve[k:])
    return area, hits / positives, hits / max(hits + errors, 1)


def as_boxes(rows: np.ndarray) -> list[Box]:
    return [Box(tuple(row[:3].tolist()), tuple(row[3:6].tolist()), float(row[6])) for row in rows]


@pytest.mark.parametrize("seed", range(12))
def test_random_scenes_against_the_slow_procedure(seed: int) -> None:
    detections, truth = random_scenes(seed)
    scores = measure_detection(detections, truth)
    assert (scores.ap_25 >= scores.ap_50 > 0) or seed
    for percent in (25, 50):
        figures = []
        for name in (*NAMES, None):
            listed = [
                (scene, float(score), box)
                for scene, own in detections.items()
                for box, score, label in zip(as_boxes(own.boxes), own.scores, own.labels)
                if name in (None, label)
            ]
            targets = {
                scene: [box for box, label in zip(as_boxes(own.boxes), own.labels) if name in (None, label)]
                for scene, own in truth.items()
            }
            if not any(targets.values()):
                continue
            expected = slow_ap(listed, targets, percent / 100)
            if name is None:
                keys = [f"agnostic_{key}_{percent}" for key in ("ap", "recall", "precision")]
                assert [getattr(scores, key) for key in keys] == pytest.approx(expected, abs=1e-6)
            else:
                own = scores.by_class[name]
                assert [own[f"ap_{percent}"], own[f"recall_{percent}"]] == pytest.approx(expected[:2], abs=1e-6)
                assert not listed or own[f"precision_{percent}"] == pytest.approx(expected[2], abs=1e-6)
                figures.append(expected)
        mean = np.mean(figures, axis=0)
        assert getattr(scores, f"ap_{percent}") == pytest.approx(mean[0], abs=1e-6)
        assert getattr(scores, f"recall_{percent}") == pytest.approx(mean[1], abs=1e-6)


def test_perfect_detections() -> None:
    scores = one(found([0, 5, 9], [1, 1, 1], "abb"), true([0, 5, 9], "abb"))
    assert scores.ap_25 == scores.ap_50 == scores.recall_50 == scores.precision_50 == scores.agnostic_ap_50 == 1
    assert scores.calibration_error == pytest.approx(0, abs=1e-8)
    assert (scores.scenes, scores.true_boxes, scores.found_boxes) == (1, 3, 3)
    assert scores.as_dict()["protocol"] == "detection"


def test_a_curve_by_hand() -> None:
    """Right, wrong, right, and one box is never found: AP = (1 + 2/3) / 3."""
    scores = one(found([0, 50, 5], [0.9, 0.8, 0.7]), true([0, 5, 9]))
    assert scores.ap_25 == pytest.approx((1 + 2 / 3) / 3)
    assert (scores.recall_25, scores.precision_25) == pytest.approx((2 / 3, 2 / 3))


def test_a_second_detection_of_a_box_is_an_error() -> None:
    scores = one(found([0, 0.01], [0.9, 0.8]), true([0]))
    assert (scores.ap_50, scores.recall_50, scores.precision_50) == (1, 1, 0.5)
    assert one(found([0, 0.01], [0.8, 0.9]), true([0])).precision_50 == 0.5


def test_a_detection_goes_to_the_nearest_box_only() -> None:
    """As in VoteNet: the second one overlaps the free box by IoU 0.33, but the taken one by more."""
    scores = one(found([0, 0.3], [0.9, 0.8]), true([0, 0.8]))
    assert (scores.recall_25, scores.precision_25) == (0.5, 0.5)


def test_the_iou_decides() -> None:
    for height, expected in ((0.51, 1), (0.49, 0)):
        scores = one(FoundBoxes(boxes((0, 0, 0, 1, 1, height, 0)), np.array([1.0]), ["a"]), true([0]))
        assert (scores.ap_25, scores.ap_50) == (1, expected)


def test_scenes_and_classes_are_apart() -> None:
    scores = measure_detection({"a": found([0], [0.9]), "b": found([], [])}, {"a": true([]), "b": true([0])})
    assert scores.ap_25 == 0 and scores.precision_25 == 0
    scores = one(found([0], [0.9], "b"), true([0], "a"))
    assert scores.ap_25 == 0 and scores.agnostic_ap_25 == 1
    assert scores.by_class["a"]["true"] == scores.by_class["b"]["found"] == 1
    assert math.isnan(scores.by_class["b"]["ap_25"]) and scores.by_class["b"]["precision_25"] == 0


def test_a_box_with_several_names_counts_once_without_names() -> None:
    scores = one(found([0, 0, 5], [0.2, 0.9, 0.8], "aba"), true([0], "b"))
    assert scores.found_boxes == 2 and scores.agnostic_precision_25 == 0.5
    assert scores.agnostic_ap_25 == 1, "the better of its two scores counts"


def test_ignore_regions() -> None:
    region = boxes((5, 0, 0, 4, 4, 4, 0.2))
    detections = found([0, 5, 5.5, 50], [0.5, 0.9, 0.8, 0.1])
    assert one(detections, true([0])).ap_25 == pytest.approx(1 / 3)
    scores = one(detections, true([0], ignore=region))
    assert (scores.ap_25, scores.precision_25) == (1, 0.5), "inside the region nothing counts"
    assert sum(part.detections for part in scores.calibration) == 2
    inside = one(detections, true([0, 5], ignore=region))
    assert inside.recall_25 == 1 and inside.precision_25 == pytest.approx(2 / 3), "what is right counts even there"
    small = one(found([0, 5], [0.5, 0.9]), true([0], ignore=boxes((5, 0, 0, 0.7, 0.7, 0.7, 0))))
    assert small.precision_25 == 1 and small.precision_50 == 0.5, "an object may be ignored, by its IoU"


def test_recall_comes_with_its_precision_at_a_score() -> None:
    scores = one(found([0, 5, 50], [0.9, 0.3, 0.2]), true([0, 5]), min_score=0.5)
    assert (scores.recall_25, scores.precision_25, scores.ap_25) == (0.5, 1, 1)
    assert (scores.agnostic_recall_50, scores.agnostic_precision_50, scores.min_score) == (0.5, 1, 0.5)


def test_calibration() -> None:
    """Two detections of score 0.9 with IoU 1 and 0, and one of score 0.25 with IoU 1/3, by another name."""
    scores = one(found([0, 50, 5.5], [0.9, 0.9, 0.25], "aab"), true([0, 5]))
    assert [(part.score, part.detections) for part in scores.calibration] == [(0.25, 1), (pytest.approx(0.9), 2)]
    assert [part.iou for part in scores.calibration] == pytest.approx([1 / 3, 0.5])
    assert scores.calibration_error == pytest.approx((1 * (1 / 3 - 0.25) + 2 * 0.4) / 3)


def test_nothing_found_and_nothing_there() -> None:
    nothing = one(found([], []), true([0]))
    assert nothing.ap_25 == nothing.recall_25 == 0 and math.isnan(nothing.precision_25)
    empty = one(found([], []), true([]))
    assert math.isnan(empty.ap_25) and math.isnan(empty.calibration_error)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(MeasureError, match="do not belong together"):
        measure_detection({"a": found([0], [1])}, {"b": true([0])})
    with pytest.raises(MeasureError, match="needs a score"):
        one(FoundBoxes(boxes((0,)), np.ones(1), []), true([0]))
    with pytest.raises(MeasureError, match="not finite"):
        one(found([math.nan], [1]), true([0]))
