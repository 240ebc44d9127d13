"""Protocol instance-ap: hand-worked cases of ScanNet's rules, and a slow second implementation on sets of points."""

import numpy as np
import pytest

from ovseg3d.errors import MeasureError
from ovseg3d.evaluate.metrics import FoundMasks, TrueMasks, average_precision_scannet, measure_instance_ap

CHAIRS, BOTH = ("chair",), ("chair", "table")


def blocks(*parts: tuple[int, int, int]) -> TrueMasks:
    """Points in a row: (number of points, label, id) of each block."""
    label, instance = (np.repeat([part[k] for part in parts], [part[0] for part in parts]) for k in (1, 2))
    return TrueMasks(label, instance)


def ranges(points: int, *found: tuple[int, int, int, float]) -> FoundMasks:
    """Predictions that are ranges of that row: (first, end, label, confidence)."""
    place = np.arange(points)
    masks = np.array([(place >= first) & (place < end) for first, end, _, _ in found], bool).reshape(-1, points)
    return FoundMasks(masks, np.array([f[2] for f in found], np.int64), np.array([f[3] for f in found], np.float64))


def ap_of(true: TrueMasks, *found: tuple[int, int, int, float], classes: tuple[str, ...] = CHAIRS):  # noqa: ANN201
    return measure_instance_ap({"a": ranges(len(true.label), *found)}, {"a": true}, classes)


def test_average_precision_by_hand() -> None:
    """Right at 0.9, wrong at 0.8, right at 0.7, one missed: precision 1, 1/2, 2/3 at recall 1/3, 1/3, 2/3."""
    ap = average_precision_scannet(np.array([0.7, 0.9, 0.8]), np.array([True, True, False]), 1)
    # Curve from low to high confidence, closed by (0, 1); each step is half of the distance between its neighbours.
    expected = 2 / 3 * (2 / 3 - 1 / 3) / 2 + 1 / 2 * (2 / 3 - 1 / 3) / 2 + 1 * (1 / 3 - 0) / 2 + 1 * (1 / 3 - 0) / 2
    assert ap == pytest.approx(expected)
    assert average_precision_scannet(np.array([0.5, 0.5]), np.array([True, False]), 0) == pytest.approx(
        1 / 2 * 1 / 2 + 1 * 1 / 2
    ), "equal confidences are one point of the curve"
    none = np.zeros(0)
    assert average_precision_scannet(none, none.astype(bool), 2) == 0
    assert np.isnan(average_precision_scannet(none, none.astype(bool), 0))


def test_mean_over_thresholds_and_strict_overlap() -> None:
    """A prediction with IoU 0.6 is right at 0.5 and 0.55 of nine thresholds, and at 0.25: 0.6 itself is not above."""
    scores = ap_of(blocks((200, 1, 1)), (0, 120, 1, 0.9))
    assert (scores.ap, scores.ap_50, scores.ap_25) == pytest.approx((2 / 9, 1, 1))
    assert ap_of(blocks((200, 1, 1)), (0, 200, 1, 0.9)).ap == 1
    assert scores.as_dict()["protocol"] == "instance-ap" and "0.5 to 0.9" in scores.aggregation


def test_classes_are_averaged_and_merged() -> None:
    """A chair called table is wrong by class, right without classes; a class without truth does not count."""
    true = blocks((150, 1, 1), (150, 2, 1), (150, 0, 0))
    scores = ap_of(true, (0, 150, 2, 0.9), (150, 300, 2, 0.8), classes=("chair", "table", "sofa"))
    assert set(scores.by_class) == {"chair", "table"} and scores.by_class["chair"]["ap"] == 0
    assert scores.by_class["table"]["ap_50"] == pytest.approx(1 / 2 * 1 / 2 + 1 / 2 * 0)  # wrong at 0.9, right at 0.8
    assert scores.ap_50 == pytest.approx(scores.by_class["table"]["ap_50"] / 2)
    assert scores.agnostic_ap == scores.agnostic_ap_50 == 1
    unnamed = ap_of(true, (0, 150, 0, 0.9), (150, 300, 0, 0.8), classes=BOTH)
    assert unnamed.ap == 0 and unnamed.agnostic_ap == 1


def test_void_and_small_regions_are_ignored() -> None:
    """400 points of a chair, 99 of another, 300 of no class."""
    true = blocks((400, 1, 1), (99, 1, 2), (300, 0, 0), (300, 1, 0))
    right = (0, 400, 1, 0.5)
    clean = ap_of(true, right)
    assert (clean.ap, clean.true_instances, clean.ignored_instances, clean.found_instances) == (1, 1, 1, 1)
    ignored = ap_of(true, right, (499, 799, 1, 0.9), (799, 1099, 1, 0.9), (399, 499, 1, 0.9))
    assert ignored.ap == 1, "on void, on points without an id, and on the small chair (99 of 100 points)"
    # 100 of 250 points on the chair: the share on void is 0.6, above 0.55 but not above 0.6.
    half = ap_of(blocks((400, 1, 1), (250, 0, 0)), right, (300, 550, 1, 0.9))
    assert half.ap_50 == half.ap_25 == 1
    assert half.ap == pytest.approx((2 * 1 + 7 * 0.25) / 9)  # wrong before right: 1/2 * 1/2
    assert ap_of(true, right, (100, 199, 1, 0.9)).found_instances == 1, "99 points are too few to count as wrong"
    assert ap_of(blocks((99, 1, 1), (200, 0, 0)), (0, 150, 1, 0.9)).as_dict()["ap"] is None


def test_each_instance_once_by_confidence() -> None:
    """The better of two predictions of a chair is right, whatever their order; the other one is wrong."""
    true = blocks((200, 1, 1))
    for order in ((0, 1), (1, 0)):
        found = [((0, 200, 1, 0.9), (0, 190, 1, 0.4))[k] for k in order]
        assert ap_of(true, *found).ap_50 == pytest.approx(1 / 2 * 0 + 1 * 1 / 2 + 1 * 1 / 2)
    # One prediction over two chairs, each with IoU 0.5: above 0.25, and it is taken once.
    two = ap_of(blocks((200, 1, 1), (200, 1, 2)), (0, 400, 1, 0.9))
    assert two.ap_50 == 0 and two.ap_25 == pytest.approx(1 / 2 * 1)
    # Beside a better one of the first chair it is wrong there and right at the second: right, wrong, right.
    both = ap_of(blocks((200, 1, 1), (200, 1, 2)), (0, 200, 1, 0.9), (0, 400, 1, 0.8))
    assert both.ap_25 == pytest.approx(2 / 3 * (1 - 1 / 2) / 2 + 1 * (1 - 0) / 2 + 1 * (1 / 2 - 0) / 2)


def slow_ap(found: dict[str, FoundMasks], true: dict[str, TrueMasks], label: int, threshold: float) -> float:
    """Sets of points, one loop for each rule, precision and recall counted anew at each confidence."""
    events: list[tuple[float, bool]] = []
    instances = 0
    for name, t in true.items():
        ids = {i for i in t.instance[t.label == label].tolist() if i}
        objects = [set(np.flatnonzero((t.label == label) & (t.instance == i)).tolist()) for i in sorted(ids)]
        void = set(np.flatnonzero((t.label == 0) | (t.instance == 0)).tolist())
        f = found[name]
        rows = sorted(np.flatnonzero(f.label == label).tolist(), key=lambda row: -f.confidence[row])
        guesses = [(float(f.confidence[row]), set(np.flatnonzero(f.masks[row]).tolist())) for row in rows]
        guesses = [guess for guess in guesses if len(guess[1]) >= 100]
        used = set()
        for one in objects:
            if len(one) < 100:
                continue
            instances += 1
            fits = [k for k, (_, g) in enumerate(guesses) if k not in used and len(g & one) / len(g | one) > threshold]
            used.update(fits[:1])
            events += [(guesses[k][0], number == 0) for number, k in enumerate(fits)]
        for confidence, guess in guesses:
            if all(len(guess & one) / len(guess | one) <= threshold for one in objects):
                unclear = guess & void.union(*(one for one in objects if len(one) < 100))
                if len(unclear) / len(guess) <= threshold:
                    events.append((confidence, False))
    if not instances:
        return float("nan")
    curve = [(0.0, 1.0)]
    for cut in sorted({confidence for confidence, _ in events}, reverse=True):
        above = [right for confidence, right in events if confidence >= cut]
        curve.append((sum(above) / instances, sum(above) / len(above)))
    area = 0.0
    for k, (recall, precision) in enumerate(curve):
        after = curve[k + 1][0] if k + 1 < len(curve) else recall
        before = curve[k - 1][0] if k else 0.0
        area += precision * (after - before) / 2
    return area


def test_against_a_slow_implementation() -> None:
    """Overlapping predictions with equal confidences in two scenes, some small, some on void."""
    rng = np.random.default_rng(0)
    found, true, figures = {}, {}, []
    for name in "ab":
        sizes = rng.integers(60, 400, 14)
        label = np.repeat(rng.integers(0, 3, 14), sizes)
        instance = np.repeat(rng.permutation(14), sizes)
        true[name] = TrueMasks(label, instance)
        ends, spans = np.cumsum(sizes), []
        for _ in range(40):
            k = rng.integers(14)
            first, end = ends[k] - sizes[k] + rng.integers(-60, 60), ends[k] + rng.integers(-80, 80)
            kind = int(label[ends[k] - 1]) if rng.random() < 0.8 else int(rng.integers(0, 3))
            spans.append((int(first), int(end), kind, round(float(rng.random()), 1)))
        found[name] = ranges(len(label), *spans)
    scores = measure_instance_ap(found, true, BOTH)
    for label, kind in enumerate(BOTH, start=1):
        slow = [slow_ap(found, true, label, percent / 100) for percent in (25, *range(50, 95, 5))]
        told = scores.by_class[kind]
        assert (told["ap_25"], told["ap_50"]) == pytest.approx((slow[0], slow[1]))
        assert told["ap"] == pytest.approx(np.mean(slow[1:]))
        figures.append(told["ap"])
    assert scores.ap == pytest.approx(np.mean(figures)) and 0.05 < scores.ap < scores.ap_50 < scores.ap_25 < 0.95


def test_bad_input() -> None:
    true = blocks((200, 1, 1))
    for found, words in (
        (ranges(199, (0, 150, 1, 0.5)), "a mask over all points"),
        (ranges(200, (0, 150, 2, 0.5)), "not among 0 to 1"),
        (ranges(200, (0, 150, 1, float("nan"))), "not finite"),
    ):
        with pytest.raises(MeasureError, match=words):
            measure_instance_ap({"a": found}, {"a": true}, CHAIRS)
    with pytest.raises(MeasureError, match="do not belong together"):
        measure_instance_ap({}, {"a": true}, CHAIRS)
