"""Names of shapes, retrieval and few shots are measured as stated, against answers by hand."""

import numpy as np
import pytest

from ovseg3d.errors import MeasureError
from ovseg3d.evaluate.metrics.naming import NO_ANSWER, bootstrap, measure_names, measure_retrieval, name_ranks
from ovseg3d.evaluate.naming import few_shot_curve

CLASSES = ("bed", "chair", "lamp", "sofa", "table", "vase")


def test_names_by_hand() -> None:
    """Two chairs, first and third; one lamp, sixth; one shape that could not be read."""
    scores = np.array([[1, 6, 2, 3, 4, 5], [6, 4, 1, 2, 5, 3], [2, 3, 1, 4, 5, 6]], float)
    labels = np.array([1, 1, 2, 1])
    ranks = np.append(name_ranks(scores, labels[:3]), NO_ANSWER)
    assert ranks[:3].tolist() == [0, 2, 5]
    found = measure_names(ranks, labels, CLASSES)
    assert (found.shapes, found.classes) == (4, 6)
    assert (found.top1, found.top3, found.top5) == (0.25, 0.5, 0.5)
    assert found.by_class == {"chair": pytest.approx(1 / 3), "lamp": 0}
    assert found.class_top1 == pytest.approx(1 / 6)
    assert found.top1_interval[0] <= 0.25 <= found.top1_interval[1]
    assert found.as_dict()["protocol"] == "names" and "cannot be read" in found.as_dict()["aggregation"]


def test_a_constant_answer_gets_nothing() -> None:
    assert name_ranks(np.ones((2, 6)), np.array([0, 3])).tolist() == [5, 5]


@pytest.mark.parametrize(("scores", "label"), [([[np.nan, 1]], 0), ([[0, 1]], 2), ([[0, 1]], -1)])
def test_what_cannot_be_ranked(scores: list, label: int) -> None:
    with pytest.raises(MeasureError):
        name_ranks(np.array(scores, float), np.array([label]))


def test_nothing_cannot_be_measured() -> None:
    with pytest.raises(MeasureError, match="no shape"):
        measure_names(np.zeros(0, int), np.zeros(0, int), CLASSES)
    with pytest.raises(MeasureError, match="No query"):
        measure_retrieval(np.ones((1, 2)), np.zeros((1, 2), bool))


def test_retrieval_by_hand() -> None:
    """Right answers at the ranks 2 and 3, and at 1; a query without any does not count."""
    scores = np.array([[0.9, 0.5, 0.1], [0.1, 0.2, 0.3], [1, 1, 1]])
    found = measure_retrieval(scores, np.array([[0, 1, 1], [0, 0, 1], [0, 0, 0]], bool))
    assert found.queries == 2
    assert found.recall == {1: 0.5, 5: 1.0, 10: 1.0}
    assert found.map == pytest.approx(((1 / 2 + 2 / 3) / 2 + 1) / 2)


def test_intervals_hold_the_mean_and_shrink() -> None:
    rng = np.random.default_rng(0)
    mean, low, high = bootstrap(rng.random(50) < 0.5)
    _, low_more, high_more = bootstrap(rng.random(5000) < 0.5)
    assert low < mean < high and high_more - low_more < (high - low) / 5
    assert bootstrap(np.ones(9, bool)) == (1, 1, 1)


def test_few_shots_of_clear_classes() -> None:
    """Names say nothing; three classes lie apart, so labelled shapes tell them. They are measured on the others."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 4)
    views = np.eye(6)[labels][:, None] + 0.05 * rng.normal(size=(12, 2, 6))
    views /= np.linalg.norm(views, axis=2, keepdims=True)
    names = np.eye(6)[[3, 4, 5]]
    found = few_shot_curve(views, labels, names, logit_scale=30.0, shots=(1, 2), draws=[rng] * 2)
    assert set(found) == {"zero-shot", "logistic", "cached"} and set(found["zero-shot"]) == {0, 1, 2}
    assert found["logistic"] == {1: 1.0, 2: 1.0} == found["cached"]
    assert found["zero-shot"][0] < 0.8


def test_few_shots_are_drawn_from_a_pool_and_the_others_are_named() -> None:
    """Names are right of the pool alone; labelled shapes of the pool tell nothing of the others' swapped classes."""
    labels = np.tile(np.repeat(np.arange(2), 3), 2)
    pool = np.arange(12) < 6
    views = np.eye(2)[np.where(pool, labels, 1 - labels)][:, None]
    rng = np.random.default_rng(0)
    found = few_shot_curve(views, labels, np.eye(2), logit_scale=30.0, shots=(3,), draws=[rng], pool=pool)
    assert found == {"zero-shot": {0: 0.0, 3: 0.0}, "logistic": {3: 0.0}, "cached": {3: 0.0}}
