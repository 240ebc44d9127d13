"""Compare relevancy scores of a compressed basis with those of the full features.

Queries need the order of the points for a phrase (rank correlation) and the best phrase of a point (top-1), which the
retained energy does not measure. Neither depends on the scale of the scores.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from ovseg3d.errors import MeasureError
from ovseg3d.evaluate.metrics.report import Scores


@dataclass(frozen=True)
class RelevancyScores(Scores):
    """Results of `compare_relevancy`."""

    protocol: ClassVar[str] = "relevancy"
    aggregation: ClassVar[str] = "Spearman's rank correlation over the points of each phrase, then the mean of phrases."

    spearman: tuple[float, ...]
    """By phrase; NaN if the full scores are all equal, 0 if only the others are."""
    spearman_mean: float
    """Over the phrases with a finite value."""
    spearman_min: float
    top1: float
    """Share of the points with the same best phrase; the first of equal ones."""


def compare_relevancy(
    full: Float[np.ndarray, "points classes"], other: Float[np.ndarray, "points classes"]
) -> RelevancyScores:
    """Compare scores by point and phrase with those of the full features.

    Ties share their mean rank (Spearman's coefficient is the correlation of such ranks).

    Raises:
        MeasureError: the shapes differ, there are fewer than two points or no phrase, or a score is not finite.
    """
    if full.shape != other.shape or len(full) < 2 or not full.shape[1]:
        raise MeasureError(
            f"Scores of shape {full.shape} and {other.shape} cannot be compared", fix="score the same points twice"
        )
    if not (np.isfinite(full).all() and np.isfinite(other).all()):
        raise MeasureError("A score is not finite", fix="leave out points without features")
    values = np.array([_spearman(a, b) for a, b in zip(full.T, other.T)])
    known = values[np.isfinite(values)]
    return RelevancyScores(
        spearman=tuple(values.tolist()),
        spearman_mean=float(known.mean()) if known.size else float("nan"),
        spearman_min=float(known.min()) if known.size else float("nan"),
        top1=float((full.argmax(axis=1) == other.argmax(axis=1)).mean()),
    )


def _spearman(first: np.ndarray, second: np.ndarray) -> float:
    from scipy.stats import rankdata

    a, b = (rankdata(scores) - (len(scores) + 1) / 2 for scores in (first, second))
    if not a.any():
        return float("nan")
    return float(a @ b / np.sqrt((a @ a) * (b @ b))) if b.any() else 0.0
