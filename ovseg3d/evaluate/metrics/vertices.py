"""A labelled cloud at the vertices of a data set's labelled mesh: protocols `scannet-20`, `-19`, `-200`, `replica`.

Each vertex takes the label of the nearest predicted point within `limit`, or none (an error) if there is none, as in
protocol `points`. Vertices without a true label do not count, whatever is predicted there. IoU and accuracy (the share
of a class's vertices that are right) are averaged over the classes that the truth has: ScanNet's benchmark (Dai et al.
2017, evaluate_semantic_label.py) for IoU, OpenNeRF (Engelmann et al. 2024) for both and for splits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Integer

from ovseg3d.evaluate.metrics.labels import Confusion
from ovseg3d.evaluate.metrics.points import TrueCloud, labels_at
from ovseg3d.evaluate.metrics.report import Scores


@dataclass(frozen=True)
class VertexScores(Scores):
    """Results of `measure_vertices`."""

    protocol: ClassVar[str] = "vertices"
    aggregation: ClassVar[str] = (
        "Labels of the nearest predicted points at all labelled vertices of the scene; one confusion matrix; means "
        "over the classes that the ground truth has."
    )

    miou: float
    mean_accuracy: float
    """Mean over classes of `class_accuracy`."""
    accuracy: float
    """Share of the labelled vertices that are right."""
    split_miou: dict[str, float]
    """Mean IoU by group of classes, such as "head"; NaN if none of it occurs."""
    split_mean_accuracy: dict[str, float]
    iou: dict[str, float]
    """By class that occurs."""
    class_accuracy: dict[str, float]
    """By class that occurs: the share of its vertices that are right."""
    completeness: float
    """Share of the labelled vertices with a predicted point within the limit."""
    limit: float
    """In the unit of the clouds."""
    vertices: int
    """Labelled ones."""
    unlabelled: int
    """Those that do not count."""


def measure_vertices(
    xyz: Float[np.ndarray, "points 3"],
    label: Integer[np.ndarray, " points"],
    true: TrueCloud,
    classes: Sequence[str],
    *,
    limit: float,
    splits: Mapping[str, Sequence[str]] | None = None,
) -> VertexScores:
    """Compare a labelled cloud with labelled vertices.

    Args:
        xyz: predicted points, in the frame of the vertices.
        label: their labels; k is `classes[k - 1]`, 0 is none.
        true: the vertices; 0 is not labelled.
        classes: names of the labels.
        limit: largest distance of a vertex from its predicted point.
        splits: groups of classes to average, too.

    Raises:
        MeasureError: no vertex counts, coordinates that are not finite, or a label outside the list.
    """
    keep = true.counted & (true.label > 0)
    true = TrueCloud(true.xyz[keep], true.label[keep])
    found, gap = labels_at(xyz, label, true.xyz, limit)
    confusion = Confusion(classes, small_below=0)
    confusion.update(found.astype(np.int64), true.label.astype(np.int64))
    scores, matrix = confusion.result(), confusion.matrix[1:]
    known = [k for k, name in enumerate(classes) if not np.isnan(scores.iou[name])]
    iou = {classes[k]: scores.iou[classes[k]] for k in known}
    right = {classes[k]: float(matrix[k, k + 1] / matrix[k].sum()) for k in known}
    groups = splits or {}
    return VertexScores(
        miou=scores.miou,
        mean_accuracy=_mean(right, classes),
        accuracy=scores.accuracy,
        split_miou={name: _mean(iou, group) for name, group in groups.items()},
        split_mean_accuracy={name: _mean(right, group) for name, group in groups.items()},
        iou=iou,
        class_accuracy=right,
        completeness=float((gap <= limit).mean()),
        limit=limit,
        vertices=len(gap),
        unlabelled=int((~keep).sum()),
    )


def _mean(values: Mapping[str, float], names: Sequence[str]) -> float:
    known = [values[name] for name in names if name in values]
    return float(np.mean(known)) if known else float("nan")
