"""Names of shapes: top-1, 3 and 5 over shapes and over classes; retrieval by recall and mean average precision.

- A name is right in the top k if fewer than k other classes score as high: equal scores count as errors, so that a
  constant answer gets nothing.
- Intervals hold 95 % of a bootstrap over shapes with a fixed seed.
- Recall@k is the share of queries that have a right answer among the first k. Average precision is the mean precision
  at the ranks of the right answers; queries without any are left out. Equal scores keep their order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float, Int

from ovseg3d.errors import MeasureError
from ovseg3d.evaluate.metrics.report import Scores

RESAMPLES = 2000
RECALLS = (1, 5, 10)
NO_ANSWER = 10**9
"""The rank of a shape without an answer, which is in no top k."""


@dataclass(frozen=True)
class NamingScores(Scores):
    """Results of `measure_names`."""

    protocol: ClassVar[str] = "names"
    aggregation: ClassVar[str] = (
        "Means over shapes; class_top1 is the plain mean over classes that have shapes; a shape that cannot be read is "
        "an error."
    )

    shapes: int
    classes: int
    """That names were chosen from, with shapes or without."""
    top1: float
    top3: float
    top5: float
    top1_interval: tuple[float, float]
    class_top1: float
    by_class: dict[str, float]
    """Top-1 of each class that has shapes."""


@dataclass(frozen=True)
class RetrievalScores(Scores):
    """Results of `measure_retrieval`."""

    protocol: ClassVar[str] = "retrieval"
    aggregation: ClassVar[str] = "Means over the queries that have a right answer."

    queries: int
    recall: dict[int, float]
    """By k, see `RECALLS`."""
    map: float
    """Mean average precision."""


def name_ranks(
    scores: Float[np.ndarray, "shapes classes"], labels: Int[np.ndarray, " shapes"]
) -> Int[np.ndarray, " shapes"]:
    """How many other classes score as high as the right one, or higher; 0 is right.

    Args:
        scores: any numbers that grow with the likelihood of a name.
        labels: index of each shape's class.

    Raises:
        MeasureError: scores are not numbers, or labels are no classes.
    """
    if np.isnan(scores).any():
        raise MeasureError("Scores of names are not numbers", fix="leave out shapes without an answer")
    if ((labels < 0) | (labels >= scores.shape[1])).any():
        raise MeasureError("A shape's label is none of the classes", fix="name all classes")
    own = scores[np.arange(len(scores)), labels]
    return (scores >= own[:, None]).sum(1) - 1


def measure_names(
    ranks: Int[np.ndarray, " shapes"], labels: Int[np.ndarray, " shapes"], classes: Sequence[str]
) -> NamingScores:
    """Top-k accuracies.

    Args:
        ranks: of `name_ranks`; `NO_ANSWER` for a shape that cannot be read.
        labels: index of each shape's class.
        classes: that names were chosen from.

    Raises:
        MeasureError: there is no shape.
    """
    if not len(ranks):
        raise MeasureError("There is no shape to measure", fix="check the data set's folder")
    right = ranks == 0
    _, low, high = bootstrap(right)
    by_class = {name: float(right[labels == k].mean()) for k, name in enumerate(classes) if (labels == k).any()}
    top1, top3, top5 = (float((ranks < k).mean()) for k in (1, 3, 5))
    each = float(np.mean(list(by_class.values())))
    return NamingScores(len(ranks), len(classes), top1, top3, top5, (low, high), each, by_class)


def measure_retrieval(
    scores: Float[np.ndarray, "queries shapes"], right: Bool[np.ndarray, "queries shapes"]
) -> RetrievalScores:
    """Recall and mean average precision.

    Args:
        scores: a shape that should not be found by a query (itself, say) has minus infinity.
        right: which shapes answer a query.

    Raises:
        MeasureError: no query has a right answer.
    """
    asked = right.any(1)
    if not asked.any():
        raise MeasureError("No query has a right answer", fix="leave such queries out")
    order = np.take_along_axis(right[asked], np.argsort(-scores[asked], axis=1, kind="stable"), 1)
    precision = np.cumsum(order, 1) / np.arange(1, order.shape[1] + 1)
    first = order.argmax(1)
    recalls = {k: float((first < k).mean()) for k in RECALLS}
    return RetrievalScores(len(order), recalls, float(((precision * order).sum(1) / order.sum(1)).mean()))


def bootstrap(values: np.ndarray) -> tuple[float, float, float]:
    """The mean of numbers or truths, and its 95 % interval by a bootstrap with a fixed seed."""
    rng, values = np.random.default_rng(0), np.asarray(values, float)
    # In parts, since a data set may have 50,000 shapes.
    means = np.array([values[rng.integers(len(values), size=len(values))].mean() for _ in range(RESAMPLES)])
    low, high = np.quantile(means, (0.025, 0.975))
    return float(np.mean(values)), float(low), float(high)
