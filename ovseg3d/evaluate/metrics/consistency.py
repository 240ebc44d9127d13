"""Protocol `consistency`: the rendered labels of a surface point, compared over all views that see it.

Labels need not be right, only equal. None (0) counts as a label: "none" in one view and "chair" in another disagree.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Integer

from ovseg3d.errors import MeasureError
from ovseg3d.evaluate.metrics.report import Scores

_CHUNK = 50_000


@dataclass(frozen=True)
class ConsistencyScores(Scores):
    """Results of `measure_consistency`; NaN if no point is seen by two views."""

    protocol: ClassVar[str] = "consistency"
    aggregation: ClassVar[str] = "Over all surface points that at least two views see."

    all_agree: float
    """Share of the points whose label is the same in all views that see it."""
    pairs_agree: float
    """Share of all pairs of views at a point that agree; points seen by many views weigh more."""
    pairs_agree_by_point: float
    """The same share at each point, then the mean over points."""
    points: int
    """Number of points that were compared."""


def measure_consistency(
    labels: Integer[np.ndarray, "views points"], visible: Bool[np.ndarray, "views points"]
) -> ConsistencyScores:
    """Compare labels over views.

    Args:
        labels: the rendered label at each point's pixel, 0 or more; arbitrary where it is not visible.
        visible: whether the view sees the point.

    Raises:
        MeasureError: the shapes differ, or the label of a visible point is negative.
    """
    if labels.shape != visible.shape:
        raise MeasureError(f"Labels are {labels.shape}, visibility is {visible.shape}", fix="give both by view, point")
    if visible.any() and labels[visible].min() < 0:
        raise MeasureError("A label is negative", fix="0 is none, classes are 1, 2, ...")
    agree = points = 0
    same_pairs = all_pairs = share = 0.0
    for start in range(0, labels.shape[1], _CHUNK):
        seen = visible[:, start : start + _CHUNK]
        seen = seen & (seen.sum(axis=0) > 1)
        some = np.where(seen, labels[:, start : start + _CHUNK], 0).astype(np.int64)
        kinds, width = int(some.max(initial=0)) + 1, some.shape[1]
        cell = (some + kinds * np.arange(width))[seen]
        votes = np.bincount(cell, minlength=kinds * width).reshape(width, kinds).astype(np.float64)
        votes = votes[votes.sum(axis=1) > 0]
        total = votes.sum(axis=1)
        same, pairs = (votes * (votes - 1)).sum(axis=1), total * (total - 1)
        agree += int((same == pairs).sum())
        points += len(votes)
        same_pairs, all_pairs, share = same_pairs + same.sum(), all_pairs + pairs.sum(), share + (same / pairs).sum()
    if not points:
        return ConsistencyScores(*[float("nan")] * 3, points=0)
    return ConsistencyScores(agree / points, float(same_pairs / all_pairs), float(share / points), points)
