"""Protocol `points`: a labelled cloud against the exact cloud of the same surface, in one frame and unit.

The exact cloud is spread evenly over the surface (synth's `surface_cloud`), so a share of its points is a share of
area. It leads: each true point takes the label of the nearest predicted point within `limit`, or none (an error) when
there is none so near, and the labels are compared as in protocol `index`. That is independent of how densely the
predicted cloud is sampled, and holes in it cost. What the cloud has too much is measured in the other direction: each
predicted point asks the nearest true point within `limit`; further out it is a floater, whose true label is none.
Label 0 is none in both clouds.

Say with `keep` which true points a photo sees. Hidden faces that touch others (the back of a picture and the wall
behind it) lie in one place with two labels, and no cloud can be right there. Sampling limits the rest: a limit of
three times the spacing of the predicted points or more keeps small gaps between them from counting as holes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float, Int, Integer

from ovseg3d.errors import MeasureError
from ovseg3d.evaluate.metrics.labels import Confusion
from ovseg3d.evaluate.metrics.report import Scores
from ovseg3d.query.words import STRUCTURAL


@dataclass(frozen=True)
class PointScores(Scores):
    """What `measure_points` found. Lengths are in the unit of the clouds."""

    protocol: ClassVar[str] = "points"
    aggregation: ClassVar[str] = (
        "Labels of the nearest predicted points at all true points that count; one confusion matrix; mean over the "
        "classes that the ground truth has."
    )

    point_miou: float
    """Mean IoU at the true points, over the classes that they have."""
    point_miou_things: float
    """The same over the classes that are not structural."""
    point_accuracy: float
    """Share of the true points with the right label."""
    point_accuracy_things: float
    """The same over the true points of things."""
    iou: dict[str, float]
    """By class at the true points; NaN where the truth lacks the class."""
    completeness: float
    """Share of the true points with a predicted point within the limit."""
    precision: float
    """Share of the predicted points with a true point within the limit."""
    distance_median: float
    """From a predicted point to the nearest true one."""
    gap_median: float
    """From a true point to the nearest predicted one."""
    predicted_miou: float
    """Mean IoU at the predicted points: weighted by how they are sampled, floaters included."""
    predicted_accuracy: float
    """Share of the predicted points with the right label; a floater is right only without a label."""
    limit: float
    true_points: int
    """How many counted."""
    predicted_points: int
    """How many counted."""


@dataclass(frozen=True)
class TrueCloud:
    """The exact cloud that a labelled one is compared with.

    Raises:
        MeasureError: no point counts.
    """

    xyz: Float[np.ndarray, "points 3"]
    """In the frame and unit of the labelled cloud."""
    label: Integer[np.ndarray, " points"]
    """k is `classes[k - 1]`, 0 is none."""
    keep: Bool[np.ndarray, " points"] | None = None
    """The points that count, such as those that a photo sees; None: all. The others are still surface: a predicted
    point whose nearest true point does not count is left out."""

    def __post_init__(self) -> None:
        if not self.counted.any():
            raise MeasureError("There is no true point to compare with", fix="make a larger exact cloud")

    @property
    def counted(self) -> Bool[np.ndarray, " points"]:
        """Whether each point counts."""
        return np.ones(len(self.xyz), dtype=bool) if self.keep is None else self.keep


def measure_points(
    xyz: Float[np.ndarray, "points 3"],
    label: Integer[np.ndarray, " points"],
    true: TrueCloud,
    classes: Sequence[str],
    *,
    limit: float,
    structural: Sequence[str] = STRUCTURAL,
    ignore: int | None = None,
) -> PointScores:
    """Compare a labelled cloud with the exact one.

    Args:
        xyz: predicted points.
        label: their labels; k is `classes[k - 1]`.
        true: the exact cloud.
        classes: names of the labels.
        limit: how far a point may be from its neighbour in the other cloud, in the clouds' unit.
        structural: classes that are no things.
        ignore: true label to leave out; None as for `Confusion`.

    Raises:
        MeasureError: coordinates that are not finite, or a label outside the list.
    """
    keep = true.counted
    back, gap = nearest(xyz, true.xyz[keep])
    forth, distance = nearest(true.xyz, xyz)
    counts = keep[forth]
    near = gap <= limit
    at_true = Confusion(classes, structural=structural, ignore=ignore, small_below=0)
    found = np.zeros(len(gap), dtype=label.dtype)
    found[near] = label[back[near]]
    at_true.update(found, true.label[keep])
    at_predicted = Confusion(classes, structural=structural, ignore=ignore, small_below=0)
    truth = np.where(distance <= limit, true.label[forth], np.zeros((), dtype=true.label.dtype))
    at_predicted.update(label, truth, keep=counts)
    scores, reverse = at_true.result(), at_predicted.result()
    return PointScores(
        point_miou=scores.miou,
        point_miou_things=scores.miou_things,
        point_accuracy=scores.accuracy,
        point_accuracy_things=scores.accuracy_things,
        iou=scores.iou,
        completeness=float(near.mean()),
        precision=float((distance[counts] <= limit).mean()) if counts.any() else float("nan"),
        distance_median=float(np.median(distance[counts])) if counts.any() else float("nan"),
        gap_median=float(np.median(gap)),
        predicted_miou=reverse.miou,
        predicted_accuracy=reverse.accuracy,
        limit=limit,
        true_points=int(keep.sum()),
        predicted_points=int(counts.sum()),
    )


def nearest(
    xyz: Float[np.ndarray, "points 3"], queries: Float[np.ndarray, "points2 3"]
) -> tuple[Int[np.ndarray, " points2"], Float[np.ndarray, " points2"]]:
    """Index of the point nearest to each query, and its distance: index 0 and infinity when there are no points.

    Raises MeasureError when a coordinate is not finite.
    """
    from scipy.spatial import cKDTree  # pyright: ignore[reportAttributeAccessIssue]

    if not (np.isfinite(xyz).all() and np.isfinite(queries).all()):
        raise MeasureError("A point has a coordinate that is not finite", fix="remove such points from the cloud")
    if not len(xyz):
        return np.zeros(len(queries), dtype=np.int64), np.full(len(queries), np.inf)
    distance, index = cKDTree(xyz).query(queries)
    return np.asarray(index, dtype=np.int64), np.asarray(distance, dtype=np.float64)
