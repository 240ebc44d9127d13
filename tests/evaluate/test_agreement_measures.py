"""Absence, consistency of views, and agreement of scores: by hand, brute force and scipy."""

import math
from itertools import combinations

import numpy as np
import pytest
from scipy.stats import spearmanr

from ovseg3d.errors import MeasureError
from ovseg3d.evaluate.metrics import consistency as consistency_module
from ovseg3d.evaluate.metrics.absence import absence_curve, measure_absence
from ovseg3d.evaluate.metrics.consistency import measure_consistency
from ovseg3d.evaluate.metrics.relevancy import compare_relevancy


def test_absence_by_hand() -> None:
    present = {"a": {"chair": 0.9, "mug": 0.8, "rug": 0.3}, "b": {"sofa": 0.7, "lamp": 0.6}}
    absent = {"a": {"elephant": 0.75, "boat": 0.1}, "b": {"cup": 0.6, "car": 0.2}, "c": {"tent": 0.5}}
    scores = measure_absence(present, absent)
    assert scores.threshold == 0.6 and scores.recall == 0.8  # four of five
    assert scores.false_alarm_rate == pytest.approx(2 / 5)
    assert scores.false_alarms == ("a: elephant", "b: cup")
    assert scores.by_scene["a"] == pytest.approx({"recall": 2 / 3, "false_alarm_rate": 1 / 2})
    assert scores.by_scene["c"]["false_alarm_rate"] == 0.0 and math.isnan(scores.by_scene["c"]["recall"])
    assert (scores.present, scores.absent) == (5, 5)
    # Of 25 pairs the present phrase wins: chair 5, mug 5, rug 2, sofa 4, lamp 3 and a tie.
    assert scores.area == pytest.approx(19.5 / 25)
    assert scores.as_dict()["by_scene"]["c"]["recall"] is None


def test_absence_takes_the_recall_that_ties_allow() -> None:
    scores = measure_absence({"a": dict(zip("abcd", (0.5, 0.5, 0.5, 0.5)))}, {"a": {"x": 0.5, "y": 0.4}}, recall=0.8)
    assert (scores.recall, scores.false_alarm_rate) == (1.0, 0.5)


@pytest.mark.parametrize("seed", range(5))
def test_absence_curve_against_every_threshold(seed: int) -> None:
    rng = np.random.default_rng(seed)
    present, absent = rng.integers(3, 20, 30) / 10, rng.integers(0, 12, 20) / 10
    curve = absence_curve(present, absent)
    assert (np.diff(curve.recall) >= 0).all() and (np.diff(curve.false_alarm_rate) >= 0).all()
    assert (curve.recall[0], curve.recall[-1], curve.false_alarm_rate[-1]) == (0.0, 1.0, 1.0)
    for threshold in (-1.0, 0.45, 0.6, 1.9, 5.0):
        expected = ((present >= threshold).mean(), (absent >= threshold).mean())
        assert curve.at_threshold(threshold) == pytest.approx(expected)
    for target in (0.1, 0.5, 0.8, 1.0):
        threshold, recall, rate = curve.at_recall(target)
        best = max(t for t in present if (present >= t).mean() >= target)
        assert (present >= threshold).mean() == recall == pytest.approx((present >= best).mean())
        assert rate == pytest.approx((absent >= best).mean())
    wins = np.mean([(p > a) + 0.5 * (p == a) for p in present for a in absent])
    assert curve.area == pytest.approx(wins)


def test_absence_bad_input() -> None:
    with pytest.raises(MeasureError, match="found 0 and 1"):
        measure_absence({"a": {}}, {"a": {"x": 0.5}})
    with pytest.raises(MeasureError):
        absence_curve(np.array([0.5]), np.array([math.nan]))


def test_consistency_by_hand() -> None:
    labels = np.array([[1, 1, 0, 4, 1], [1, 2, 3, 9, 1], [1, 1, 3, 9, 2]])
    visible = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 1], [1, 1, 1, 0, 0]], bool)
    scores = measure_consistency(labels, visible)
    # Points: all three agree; one of three pairs; one of three pairs (none is a label); seen once; one pair of one.
    assert scores.points == 4
    assert scores.all_agree == 2 / 4
    assert scores.pairs_agree == pytest.approx((3 + 1 + 1 + 1) / (3 + 3 + 3 + 1))
    assert scores.pairs_agree_by_point == pytest.approx((1 + 1 / 3 + 1 / 3 + 1) / 4)


@pytest.mark.parametrize("chunk", [7, 1000])
def test_consistency_against_pairs(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(consistency_module, "_CHUNK", chunk)
    rng = np.random.default_rng(0)
    labels, visible = rng.integers(0, 3, (5, 60)).astype(np.uint8), rng.random((5, 60)) < 0.5
    whole, shares, same = [], [], []
    for point in range(60):
        seen = labels[visible[:, point], point]
        pairs = [a == b for a, b in combinations(seen, 2)]
        if pairs:
            whole.append(len(set(seen)) == 1)
            shares.append(np.mean(pairs))
            same += pairs
    scores = measure_consistency(labels, visible)
    assert scores.points == len(whole)
    expected = (np.mean(whole), np.mean(same), np.mean(shares))
    assert (scores.all_agree, scores.pairs_agree, scores.pairs_agree_by_point) == pytest.approx(expected)


def test_consistency_of_nothing_and_of_other_shapes() -> None:
    once = np.ones((1, 3), np.int64)
    assert math.isnan(measure_consistency(once, once > 0).all_agree)
    with pytest.raises(MeasureError, match="negative"):
        measure_consistency(-once, once > 0)


def test_relevancy_by_hand() -> None:
    full = np.array([[1.0, 0.0], [2.0, 5.0], [3.0, 1.0]])
    other = np.array([[10.0, 2.0], [30.0, 31.0], [20.0, 21.0]])
    scores = compare_relevancy(full, other)
    # Ranks 1 2 3 against 1 3 2: 1 - 6 * 2 / (3 * 8); ranks 1 3 2 against 1 3 2.
    assert scores.spearman == pytest.approx((0.5, 1.0))
    assert (scores.spearman_mean, scores.spearman_min) == pytest.approx((0.75, 0.5))
    assert scores.top1 == pytest.approx(2 / 3)


@pytest.mark.parametrize("seed", range(3))
def test_relevancy_against_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    full = rng.integers(0, 9, (50, 6)) / 8  # with ties
    other = (full + 0.4 * rng.standard_normal(full.shape)).astype(np.float32)
    scores = compare_relevancy(full, other)
    assert scores.spearman == pytest.approx([spearmanr(a, b).statistic for a, b in zip(full.T, other.T)])
    assert compare_relevancy(full, np.exp(full)).spearman == pytest.approx([1.0] * 6)  # only the order counts


def test_relevancy_of_constant_scores() -> None:
    flat, rising = np.zeros((4, 1)), np.arange(4.0)[:, None]
    assert compare_relevancy(rising, flat).spearman_mean == 0.0  # the basis lost what the features told
    assert math.isnan(compare_relevancy(flat, rising).spearman_mean)


def test_relevancy_bad_input() -> None:
    with pytest.raises(MeasureError, match="cannot be compared"):
        compare_relevancy(np.zeros((1, 2)), np.zeros((1, 2)))
    with pytest.raises(MeasureError, match="not finite"):
        compare_relevancy(np.zeros((2, 2)), np.full((2, 2), np.nan))
