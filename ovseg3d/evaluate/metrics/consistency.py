"""Do views agree? The label rendered at the pixel of a surface point, compared over all views that see the point.

Only whether a point is seen is asked, not whether its label is right. None (0) is a label like another: a view that
says nothing where another says chair disagrees with it.
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
    """What `measure_consistency` found; NaN when no point is seen by two views."""

    protocol: ClassVar[str] = "consistency"
    aggregation: ClassVar[str] = "Over all surface points that at least two views see."

    all_agree: float
    """Share of the points whose label is the same in all views that see it."""
    pairs_agree: float
    """Share of all pairs of views at a point that agree; points seen by many views weigh more."""
    pairs_agree_by_point: float
    """The same share at each point, then the mean over points."""
    points: int
    """How many points were compared."""


def measure_consistency(
    labels: Integer[np.ndarray, "views points"], visible: Bool[np.ndarray, "views points"]
) -> ConsistencyScores:
    """Compare labels over views.

    Args:
        labels: the rendered label at the pixel that each point falls on, 0 or more; any where it is not visible.
        visible: whether the view sees the point.

    Raises:
        MeasureError: the shapes differ, or a label that counts is negative.
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
