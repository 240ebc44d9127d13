"""Protocol `points`: a labelled cloud against the exact cloud of the same surface, in one frame and unit.

The exact cloud samples the surface evenly (synth's `surface_cloud`), so a share of its points is a share of area. Each
true point takes the label of the nearest predicted point within `limit`, or none (an error) if there is none, and the
labels are compared as in protocol `index`. This is independent of the density of the predicted cloud, and penalises
holes. Surplus points are measured in the other direction: each predicted point is compared with the nearest true point
within `limit`; without one it is a floater, whose true label is none. Label 0 is none in both clouds.

Restrict the true points with `keep` to those that a photo sees. Hidden faces in contact (the back of a picture and the
wall behind it) have two labels at one position, and no cloud can be right there. With a limit of at least three times
the spacing of the predicted points, small gaps between them do not count as holes.
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
    """Results of `measure_points`. Lengths are in the unit of the clouds."""

    protocol: ClassVar[str] = "points"
    aggregation: ClassVar[str] = (
        "Labels of the nearest predicted points at all true points that count; one confusion matrix; mean over the "
        "classes that the ground truth has."
    )

    point_miou: float
    """Mean IoU at the true points, over the classes that they have."""
    point_miou_objects: float
    """The same over the classes that are not structural."""
    point_accuracy: float
    """Share of the true points with the right label."""
    point_accuracy_objects: float
    """The same over the true points of object classes."""
    iou: dict[str, float]
    """By class at the true points; NaN if the ground truth lacks the class."""
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
    """Number of points that count."""
    predicted_points: int
    """Number of points that count."""


@dataclass(frozen=True)
class TrueCloud:
    """The exact cloud, as ground truth of a labelled one.

    Raises:
        MeasureError: no point counts.
    """

    xyz: Float[np.ndarray, "points 3"]
    """In the frame and unit of the labelled cloud."""
    label: Integer[np.ndarray, " points"]
    """k is `classes[k - 1]`, 0 is none."""
    keep: Bool[np.ndarray, " points"] | None = None
    """The points that count, such as those that a photo sees; None: all. A predicted point whose nearest true point
    does not count is left out."""

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
        limit: largest distance of a point from its match in the other cloud, in the clouds' unit.
        structural: classes that are no objects.
        ignore: true label to leave out; None as for `Confusion`.

    Raises:
        MeasureError: coordinates that are not finite, or a label outside the list.
    """
    keep = true.counted
    found, gap = labels_at(xyz, label, true.xyz[keep], limit)
    forth, distance = nearest(true.xyz, xyz)
    counts = keep[forth]
    at_true = Confusion(classes, structural=structural, ignore=ignore, small_below=0)
    at_true.update(found, true.label[keep])
    at_predicted = Confusion(classes, structural=structural, ignore=ignore, small_below=0)
    truth = np.where(distance <= limit, true.label[forth], np.zeros((), dtype=true.label.dtype))
    at_predicted.update(label, truth, keep=counts)
    scores, reverse = at_true.result(), at_predicted.result()
    return PointScores(
        point_miou=scores.miou,
        point_miou_objects=scores.miou_objects,
        point_accuracy=scores.accuracy,
        point_accuracy_objects=scores.accuracy_objects,
        iou=scores.iou,
        completeness=float((gap <= limit).mean()),
        precision=float((distance[counts] <= limit).mean()) if counts.any() else float("nan"),
        distance_median=float(np.median(distance[counts])) if counts.any() else float("nan"),
        gap_median=float(np.median(gap)),
        predicted_miou=reverse.miou,
        predicted_accuracy=reverse.accuracy,
        limit=limit,
        true_points=int(keep.sum()),
        predicted_points=int(counts.sum()),
    )


def labels_at(
    xyz: Float[np.ndarray, "points 3"],
    label: Integer[np.ndarray, " points"],
    queries: Float[np.ndarray, "points2 3"],
    limit: float,
) -> tuple[Integer[np.ndarray, " points2"], Float[np.ndarray, " points2"]]:
    """The label of the point nearest to each query, 0 if it is further away than `limit`; and its distance.

    Raises MeasureError: a coordinate is not finite.
    """
    index, distance = nearest(xyz, queries)
    near = distance <= limit
    found = np.zeros(len(queries), dtype=label.dtype)
    found[near] = label[index[near]]
    return found, distance


def nearest(
    xyz: Float[np.ndarray, "points 3"], queries: Float[np.ndarray, "points2 3"]
) -> tuple[Int[np.ndarray, " points2"], Float[np.ndarray, " points2"]]:
    """Index and distance of the point nearest to each query: 0 and infinity if there are no points.

    Raises MeasureError: a coordinate is not finite.
    """
    from scipy.spatial import cKDTree  # pyright: ignore[reportAttributeAccessIssue]

    if not (np.isfinite(xyz).all() and np.isfinite(queries).all()):
        raise MeasureError("A point has a coordinate that is not finite", fix="remove such points from the cloud")
    if not len(xyz):
        return np.zeros(len(queries), dtype=np.int64), np.full(len(queries), np.inf)
    distance, index = cKDTree(xyz).query(queries)
    return np.asarray(index, dtype=np.int64), np.asarray(distance, dtype=np.float64)
