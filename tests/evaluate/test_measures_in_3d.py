"""Protocols points and instances, and boxes: known answers by hand, brute force and Monte Carlo."""

import math

import numpy as np
import pytest

from ovseg3d.errors import MeasureError, SceneError
from ovseg3d.evaluate.metrics.instances import FoundInstance, TrueInstance, assign, measure_instances, true_instances
from ovseg3d.evaluate.metrics.points import TrueCloud, measure_points
from ovseg3d.geometry.boxes import Box, box_from_record, box_iou


def line(*x: float) -> np.ndarray:
    """Points on the x axis."""
    return np.array([[v, 0.0, 0.0] for v in x]).reshape(-1, 3)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


# Points


def test_points_by_hand() -> None:
    """True points at 0, 1, 2, 10; predicted at 0.1 (right), 1.2 (wrong), 50 (floater): 2 and 10 are holes."""
    scores = measure_points(
        line(0.1, 1.2, 50.0), ints(1, 1, 2), TrueCloud(line(0, 1, 2, 10), ints(1, 2, 2, 2)), ("wall", "mug"), limit=0.5
    )
    assert scores.iou == pytest.approx({"wall": 1 / 2, "mug": 0.0})
    assert (scores.point_miou, scores.point_miou_objects) == pytest.approx((1 / 4, 0))
    assert (scores.point_accuracy, scores.point_accuracy_objects) == pytest.approx((1 / 4, 0))
    assert scores.completeness == 2 / 4 and scores.precision == pytest.approx(2 / 3)
    assert scores.distance_median == pytest.approx(0.2)  # 0.1, 0.2, 40
    assert scores.gap_median == pytest.approx((0.2 + 0.8) / 2)  # 0.1, 0.2, 0.8, 8.8
    assert scores.predicted_accuracy == pytest.approx(1 / 3)
    assert scores.predicted_miou == pytest.approx((1 / 2 + 0) / 2)  # wall: 1 of 2 called so; mug: missed
    assert (scores.true_points, scores.predicted_points) == (4, 3)


def test_points_do_not_depend_on_the_sampling_of_the_prediction() -> None:
    true = TrueCloud(line(0, 1, 2, 3), ints(1, 1, 2, 2))
    xyz, label = line(0, 1, 2, 3), ints(1, 1, 2, 1)
    many = measure_points(np.repeat(xyz, [9, 1, 1, 1], 0), np.repeat(label, [9, 1, 1, 1]), true, ("a", "b"), limit=0.1)
    once = measure_points(xyz, label, true, ("a", "b"), limit=0.1)
    assert many.point_miou == once.point_miou == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert many.predicted_accuracy == pytest.approx(11 / 12)


def test_points_that_nobody_saw_count_neither_way() -> None:
    seen = np.array([True, True, False])
    scores = measure_points(
        line(0, 1, 2), ints(1, 2, 1), TrueCloud(line(0, 1, 2), ints(1, 2, 2), seen), ("a", "b"), limit=0.1
    )
    assert (scores.point_miou, scores.predicted_miou, scores.precision) == (1.0, 1.0, 1.0)
    assert (scores.true_points, scores.predicted_points) == (2, 2)


def test_points_of_an_empty_cloud() -> None:
    scores = measure_points(line(), ints(), TrueCloud(line(0, 1), ints(1, 1)), ("a",), limit=0.1)
    assert (scores.point_miou, scores.completeness) == (0.0, 0.0)
    assert math.isnan(scores.precision) and scores.as_dict()["gap_median"] is None


@pytest.mark.parametrize("seed", range(3))
def test_points_against_brute_force(seed: int) -> None:
    rng = np.random.default_rng(seed)
    xyz, true_xyz = rng.random((60, 3)), rng.random((80, 3))
    label, truth = rng.integers(0, 4, 60), rng.integers(1, 4, 80)
    scores = measure_points(xyz, label, TrueCloud(true_xyz, truth), ("a", "b", "c"), limit=0.15)
    distance = np.linalg.norm(true_xyz[:, None] - xyz[None], axis=2)
    moved = np.where(distance.min(1) <= 0.15, label[distance.argmin(1)], 0)
    ious = [((moved == k) & (truth == k)).sum() / ((moved == k) | (truth == k)).sum() for k in (1, 2, 3)]
    assert scores.point_miou == pytest.approx(np.mean(ious))
    assert scores.point_accuracy == pytest.approx((moved == truth).mean())
    assert scores.completeness == pytest.approx((distance.min(1) <= 0.15).mean())
    assert scores.precision == pytest.approx((distance.min(0) <= 0.15).mean())
    assert scores.distance_median == pytest.approx(np.median(distance.min(0)))


def test_points_bad_input() -> None:
    with pytest.raises(MeasureError, match="not finite"):
        measure_points(line(math.nan), ints(1), TrueCloud(line(0), ints(1)), ("a",), limit=0.1)
    with pytest.raises(MeasureError, match="no true point"):
        TrueCloud(line(), ints())
    with pytest.raises(MeasureError, match="but there are 1 classes"):
        measure_points(line(0), ints(2), TrueCloud(line(0), ints(1)), ("a",), limit=0.1)


# Boxes


def test_boxes_by_hand() -> None:
    unit = Box((0.0, 0.0, 0.0), (2.0, 2.0, 2.0))
    assert box_iou(unit, unit) == pytest.approx(1.0)
    assert box_iou(unit, Box((1.0, 0.0, 0.0), (2.0, 2.0, 2.0))) == pytest.approx(1 / 3)
    assert box_iou(unit, Box((0.0, 0.0, 1.0), (2.0, 2.0, 2.0))) == pytest.approx(1 / 3)
    assert box_iou(unit, Box((5.0, 0.0, 0.0), (2.0, 2.0, 2.0))) == 0.0
    assert box_iou(unit, Box((0.0, 0.0, 2.0), (2.0, 2.0, 2.0))) == 0.0  # they touch
    assert box_iou(unit, Box((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))) == pytest.approx(1 / 8)
    assert box_iou(unit, Box((0.0, 0.0, 0.0), (0.0, 1.0, 1.0))) == 0.0
    for flat in ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 1.0, 1.0), (1.0, 1.0, 0.0), (0.0, 0.0, 0.0)):
        nothing = Box((0.0, 0.0, 0.0), flat, 0.3)
        assert box_iou(unit, nothing) == box_iou(nothing, unit) == box_iou(nothing, nothing) == 0.0, flat
    # A square and itself turned by 45 degrees share a regular octagon of area 8 (sqrt 2 - 1).
    octagon = 8 * (math.sqrt(2) - 1)
    turned = Box((0.0, 0.0, 0.0), (2.0, 2.0, 2.0), math.pi / 4)
    assert box_iou(unit, turned) == pytest.approx(octagon / (8 - octagon))
    long = Box((1.0, 2.0, 3.0), (4.0, 1.0, 1.0), 0.3)
    assert box_iou(long, Box((1.0, 2.0, 3.0), (1.0, 4.0, 1.0), 0.3 - math.pi / 2)) == pytest.approx(1.0)
    assert box_iou(long, Box((1.0, 2.0, 3.0), (4.0, 1.0, 1.0), -0.3)) < 0.6


def inside(box: Box, xyz: np.ndarray) -> np.ndarray:
    along = np.array([math.cos(box.yaw_rad), math.sin(box.yaw_rad), 0.0])
    axes = np.stack([along, np.cross([0.0, 0.0, 1.0], along), [0.0, 0.0, 1.0]])
    return (np.abs((xyz - box.center) @ axes.T) <= np.array(box.size) / 2).all(axis=1)


@pytest.mark.parametrize("seed", range(6))
def test_boxes_against_monte_carlo(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = (
        Box(
            tuple(rng.uniform(-0.3, 0.3, 3).tolist()),
            tuple(rng.uniform(0.5, 1.5, 3).tolist()),
            float(rng.uniform(-4, 4)),
        )
        for _ in range(2)
    )
    xyz = rng.uniform(-1.5, 1.5, (200_000, 3))
    a, b = inside(first, xyz), inside(second, xyz)
    exact = box_iou(first, second)
    assert exact == pytest.approx((a & b).sum() / (a | b).sum(), abs=0.015) and exact > 0.05
    assert box_iou(second, first) == pytest.approx(exact)


def test_boxes_of_records() -> None:
    record = {"id": 3, "center": [1, 2, 3], "size": [1, 1, 2]}
    assert box_from_record(record) == Box((1.0, 2.0, 3.0), (1.0, 1.0, 2.0), 0.0)
    assert box_from_record({**record, "yaw_rad": 0.5}).yaw_rad == 0.5
    quarter = [math.cos(0.2), 0.0, 0.0, math.sin(0.2)]
    assert box_from_record({**record, "rotation_wxyz": quarter}).yaw_rad == pytest.approx(0.4)
    (c, s), (cos, sin) = (math.cos(0.2), math.sin(0.2)), (math.cos(0.15), math.sin(0.15))
    tilted = [c * cos, -s * sin, c * sin, s * cos]  # 0.3 about y, then 0.4 about z
    assert box_from_record({**record, "rotation_wxyz": tilted}).yaw_rad == pytest.approx(0.4)
    for broken in ({"center": [1, 2]}, {"size": None}, {"size": [1, 1, -1]}, {"yaw_rad": "left"}):
        with pytest.raises(SceneError, match="object 3 is not usable"):
            box_from_record({**record, **broken})


# Instances

CHAIRS = dict(true_xyz=line(*range(10)), true_id=ints(0, 0, 1, 1, 1, 1, 2, 2, 2, 2), limit=0.1, xyz=line(*range(10)))
TWO = (TrueInstance(1, "chair"), TrueInstance(2, "chair"))


def test_instances_by_hand() -> None:
    """One chair found whole, the other to a quarter with a wall point, and a third that is not there."""
    box = Box((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    found = [
        FoundInstance(ints(2, 3, 4, 5), "Chair", box),
        FoundInstance(ints(1, 6, 7), "mug"),  # IoU 2 of 5
        FoundInstance(ints(0), "chair"),
    ]
    true = (TrueInstance(1, "chair", Box((0.5, 0.0, 0.0), (1.0, 1.0, 1.0))), TWO[1])
    scores = measure_instances(found, true, **CHAIRS)
    assert (scores.recall_25, scores.precision_25) == pytest.approx((1.0, 2 / 3))
    assert (scores.recall_50, scores.precision_50) == pytest.approx((1 / 2, 1 / 3))
    assert (scores.labelled_recall_25, scores.labelled_precision_50) == pytest.approx((1 / 2, 1 / 3))
    assert scores.best_iou == pytest.approx({1: 1.0, 2: 2 / 5})
    assert scores.counts == {"chair": {"true": 2, "found": 2}, "mug": {"true": 0, "found": 1}}
    assert scores.count_error == 0.0
    assert [(m.predicted, m.true_id, m.same_label) for m in scores.matches] == [(0, 1, True), (1, 2, False)]
    assert scores.box_iou_mean == pytest.approx(1 / 3) and math.isnan(scores.matches[1].box_iou)
    assert scores.as_dict()["matches"][1]["box_iou"] is None


def test_instances_merged_or_split() -> None:
    merged = measure_instances([FoundInstance(ints(*range(2, 10)))], TWO, **CHAIRS)
    assert (merged.recall_25, merged.recall_50, merged.precision_50) == (0.5, 0.5, 1.0)  # IoU 0.5 with each, one pair
    parts = [FoundInstance(ints(k, k + 1)) for k in (2, 4, 6, 8)]
    split = measure_instances(parts, TWO, **CHAIRS)
    assert (split.recall_50, split.precision_50) == (1.0, 0.5)
    assert math.isnan(split.count_error)  # nothing was named


def test_instances_of_the_room_are_left_out_but_a_chair_of_wall_is_wrong() -> None:
    room = ints(0, 1)
    found = [FoundInstance(room), FoundInstance(room, "wall"), FoundInstance(room, "chair")]
    scores = measure_instances(found, TWO, **CHAIRS)
    assert (scores.structural_instances, scores.found_instances, scores.precision_25) == (2, 1, 0.0)


def test_instances_that_nobody_saw_are_left_out() -> None:
    keep = CHAIRS["true_id"] != 2
    scores = measure_instances([FoundInstance(ints(2, 3, 4, 5, 6, 7))], TWO, keep=keep, **CHAIRS)
    assert (scores.recall_50, scores.true_instances, scores.unseen_instances) == (1.0, 1, 1)
    assert scores.best_iou == {1: 1.0}  # points of the unseen chair do not count against it


def test_instances_do_not_depend_on_the_sampling_of_the_surface() -> None:
    """Ninety surface points on one end of the chair are still a quarter of it."""
    xyz = np.concatenate([np.repeat(line(2.0), 90, axis=0), line(3, 4, 5)])
    scores = measure_instances([FoundInstance(np.arange(90))], TWO[:1], **{**CHAIRS, "xyz": xyz})
    assert scores.best_iou == {1: 0.25}


def test_instances_beyond_the_limit_are_not_there() -> None:
    far = {**CHAIRS, "xyz": CHAIRS["xyz"] + np.array([0.0, 0.0, 0.2])}
    assert measure_instances([FoundInstance(ints(2, 3, 4, 5))], TWO, **far).recall_25 == 0.0


def test_instances_of_nothing() -> None:
    nothing = measure_instances([], TWO, **CHAIRS)
    assert nothing.recall_25 == 0.0 and math.isnan(nothing.precision_25)
    empty = measure_instances([FoundInstance(ints())], TWO, **{**CHAIRS, "xyz": line()})
    assert (empty.recall_25, empty.precision_25) == (0.0, 0.0)
    no_truth = measure_instances([FoundInstance(ints(2))], (), **CHAIRS)
    assert math.isnan(no_truth.recall_25) and no_truth.precision_25 == 0.0


@pytest.mark.parametrize("seed", range(20))
def test_assignment_against_all_permutations(seed: int) -> None:
    from itertools import permutations

    rng = np.random.default_rng(seed)
    iou = rng.random((4, 5)) * (rng.random((4, 5)) < 0.6)
    best = max(
        (sum(iou[r, c] >= 0.25 for r, c in enumerate(p)), sum(iou[r, c] for r, c in enumerate(p) if iou[r, c] >= 0.25))
        for p in permutations(range(5), 4)
    )
    pairs = assign(iou, 0.25)
    assert (len(pairs), sum(iou[r, c] for r, c in pairs)) == pytest.approx(best)


def test_more_pairs_come_before_a_better_one() -> None:
    assert sorted(assign(np.array([[0.9, 0.3], [0.3, 0.0]]), 0.25)) == [(0, 1), (1, 0)]
    assert assign(np.array([[0.9, 0.3], [0.3, 0.0]]), 0.5) == [(0, 0)]


def test_instances_bad_input() -> None:
    with pytest.raises(MeasureError, match="Instance 0 has a point outside"):
        measure_instances([FoundInstance(ints(10))], TWO, **CHAIRS)
    with pytest.raises(MeasureError, match="different ids"):
        measure_instances([], (TWO[0], TWO[0]), **CHAIRS)


def test_true_instances_of_records() -> None:
    record = {"id": 7, "category": "curtain", "phrase": "yellow curtain", "center": [0, 0, 1], "size": [1, 1, 2]}
    assert true_instances([record]) == (TrueInstance(7, "curtain", Box((0.0, 0.0, 1.0), (1.0, 1.0, 2.0))),)
    assert true_instances([record], name="phrase")[0].kind == "yellow curtain"
    with pytest.raises(SceneError, match="a phrase"):
        true_instances([{**record, "phrase": None}], name="phrase")
    with pytest.raises(SceneError, match="as id"):
        true_instances([{**record, "id": "7"}])
