"""Protocol `instances`: predicted 3D instances against the true ones of objects.json.

Predicted instances are sets of surface points; true ones are ids on the exact cloud (0 is the room itself). Sets over
two clouds are compared on one: each exact point belongs to the instances of the surface point nearest to it, within
`limit`. Point IoU is then a ratio of areas and does not depend on how the surface points are sampled. Predicted sets
may overlap.

Pairs are one to one, by the Hungarian method among pairs whose IoU is at least the threshold: as many pairs as
possible, and of those choices the one with the largest sum of IoU. Recall is pairs / true instances, precision
pairs / predicted ones. "Labelled" figures allow only pairs whose label is the true kind (case does not matter).
- A true instance without an exact point that counts (none of it was seen) is left out.
- A prediction of the room itself is left out: its label is structural, or, without a label, more than half of its
  exact points have id 0. A "chair" on wall points is an error; a "wall" is not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float, Int, Integer

from ovseg3d.errors import MeasureError, SceneError
from ovseg3d.evaluate.metrics.points import nearest
from ovseg3d.evaluate.metrics.report import Scores
from ovseg3d.geometry.boxes import Box, box_from_record, box_iou
from ovseg3d.query.words import STRUCTURAL, is_structural


@dataclass(frozen=True)
class FoundInstance:
    """One predicted instance."""

    points: Int[np.ndarray, " members"]
    """Indices of surface points, each once."""
    label: str | None = None
    """None: class-agnostic."""
    box: Box | None = None


@dataclass(frozen=True)
class TrueInstance:
    """One true instance."""

    id: int
    """As on the exact cloud; above 0."""
    kind: str
    """The right label."""
    box: Box | None = None


@dataclass(frozen=True)
class Match:
    """A pair at point IoU 0.25, regardless of labels."""

    predicted: int
    """Index into the predictions."""
    true_id: int
    kind: str
    point_iou: float
    box_iou: float
    """NaN if one of them has no box."""
    same_label: bool


@dataclass(frozen=True)
class InstanceScores(Scores):
    """Results of `measure_instances`; recall or precision of an empty set is NaN."""

    protocol: ClassVar[str] = "instances"
    aggregation: ClassVar[str] = (
        "All instances of the scene pooled; one-to-one pairs by the Hungarian method at the stated point IoU."
    )

    recall_25: float
    precision_25: float
    recall_50: float
    precision_50: float
    labelled_recall_25: float
    labelled_precision_25: float
    labelled_recall_50: float
    labelled_precision_50: float
    count_error: float
    """Mean over the true kinds of |found - true|, by label; NaN if no prediction has a label."""
    counts: dict[str, dict[str, int]]
    """By true or predicted kind: the number of true ("true") and of predicted ("found") instances."""
    box_iou_mean: float
    """Over the matches with two boxes."""
    box_iou_median: float
    matches: tuple[Match, ...]
    best_iou: dict[int, float]
    """By true id: the largest point IoU of any prediction, matched or not."""
    true_instances: int
    found_instances: int
    unseen_instances: int
    """True ones that were left out."""
    structural_instances: int
    """Predictions that were left out."""


def true_instances(objects: Sequence[Mapping[str, Any]], *, name: str = "category") -> tuple[TrueInstance, ...]:
    """The entries of objects.json; `name` is the key of the right label ("category" or "phrase").

    Raises SceneError: an entry has no id or name, or an unusable box.
    """
    found = []
    for record in objects:
        if not isinstance(record.get("id"), int) or not record.get(name):
            raise SceneError(
                f"An object needs a whole number as id, and a {name}", where="objects.json", fix="write both"
            )
        found.append(TrueInstance(record["id"], str(record[name]), box_from_record(record)))
    return tuple(found)


def measure_instances(
    predicted: Sequence[FoundInstance],
    true: Sequence[TrueInstance],
    *,
    xyz: Float[np.ndarray, "points 3"],
    true_xyz: Float[np.ndarray, "points2 3"],
    true_id: Integer[np.ndarray, " points2"],
    limit: float,
    keep: Bool[np.ndarray, " points2"] | None = None,
    structural: Sequence[str] = STRUCTURAL,
) -> InstanceScores:
    """Compare predicted with true instances.

    Args:
        predicted: sets of points of `xyz`.
        true: the true instances; other ids on the cloud belong to none of them.
        xyz: the surface points.
        true_xyz: the exact cloud, in the same frame.
        true_id: instance of each of its points, 0 for the room.
        limit: largest distance of an exact point from its surface point.
        keep: the exact points that count, such as those that a photo sees.
        structural: labels that belong to the room.

    Raises:
        MeasureError: a prediction names a point that does not exist, or two true instances have one id.
    """
    keep = np.ones(len(true_xyz), dtype=bool) if keep is None else keep
    ids = true_id[keep].astype(np.int64)
    seen = [instance for instance in true if (ids == instance.id).any()]
    if len({instance.id for instance in true}) < len(true) or any(instance.id <= 0 for instance in true):
        raise MeasureError("True instances need different ids above 0", where="objects.json", fix="number them 1, 2..")
    shares = _shares(predicted, len(xyz), nearest(xyz, true_xyz[keep]), limit)  # (exact points, predictions), sparse
    room = _is_room(predicted, shares, ids, tuple(structural))
    found = [i for i in range(len(predicted)) if not room[i]]
    iou = _point_iou(shares, ids, found, [instance.id for instance in seen])
    same = np.array([[_same(predicted[i].label, instance.kind) for instance in seen] for i in found], dtype=bool)
    same = same.reshape(iou.shape)
    pairs = {t: assign(iou, t) for t in (0.25, 0.5)}
    labelled = {t: assign(np.where(same, iou, 0.0), t) for t in (0.25, 0.5)}
    matches = tuple(
        Match(found[row], seen[column].id, seen[column].kind, float(iou[row, column]),
              _boxes(predicted[found[row]].box, seen[column].box), bool(same[row, column]))
        for row, column in pairs[0.25]
    )  # fmt: skip
    overlaps = np.array([match.box_iou for match in matches])
    overlaps = overlaps[np.isfinite(overlaps)]
    counts, error = _counts([predicted[i].label for i in found], [instance.kind for instance in seen])
    return InstanceScores(
        recall_25=_share(len(pairs[0.25]), len(seen)),
        precision_25=_share(len(pairs[0.25]), len(found)),
        recall_50=_share(len(pairs[0.5]), len(seen)),
        precision_50=_share(len(pairs[0.5]), len(found)),
        labelled_recall_25=_share(len(labelled[0.25]), len(seen)),
        labelled_precision_25=_share(len(labelled[0.25]), len(found)),
        labelled_recall_50=_share(len(labelled[0.5]), len(seen)),
        labelled_precision_50=_share(len(labelled[0.5]), len(found)),
        count_error=error,
        counts=counts,
        box_iou_mean=float(overlaps.mean()) if overlaps.size else float("nan"),
        box_iou_median=float(np.median(overlaps)) if overlaps.size else float("nan"),
        matches=matches,
        best_iou={instance.id: float(iou[:, k].max(initial=0.0)) for k, instance in enumerate(seen)},
        true_instances=len(seen),
        found_instances=len(found),
        unseen_instances=len(true) - len(seen),
        structural_instances=sum(room),
    )


def assign(iou: Float[np.ndarray, "found true"], threshold: float) -> list[tuple[int, int]]:
    """One-to-one pairs (row, column) with IoU at least `threshold`: most pairs first, then the largest sum of IoU."""
    from scipy.optimize import linear_sum_assignment

    # A pair's constant exceeds the largest sum of IoU, so that the number of pairs decides first.
    value = (iou >= threshold) * (1.0 + min(iou.shape) + iou)
    rows, columns = linear_sum_assignment(value, maximize=True)
    return [(int(r), int(c)) for r, c in zip(rows, columns) if iou[r, c] >= threshold]


def _shares(predicted: Sequence[FoundInstance], points: int, neighbour: tuple[np.ndarray, np.ndarray], limit: float):  # noqa: ANN202 - a scipy sparse matrix, imported late
    """Membership of exact points (rows) in predictions (columns), 0 or 1."""
    from scipy.sparse import csr_array

    for number, one in enumerate(predicted):
        if one.points.size and (one.points.min() < 0 or one.points.max() >= points):
            raise MeasureError(
                f"Instance {number} has a point outside of the {points} surface points",
                fix="measure it with the surface that it was found on",
            )
    members = [np.unique(one.points) for one in predicted]
    rows = np.concatenate([*members, np.zeros(0, dtype=np.int64)]).astype(np.int64)
    columns = np.repeat(np.arange(len(members)), [len(m) for m in members])
    member = csr_array((np.ones(len(rows), dtype=np.int64), (rows, columns)), shape=(points + 1, len(members)))
    index, distance = neighbour
    return member[np.where(distance <= limit, index, points)]  # row `points` is empty


def _is_room(
    predicted: Sequence[FoundInstance], shares: Any, ids: np.ndarray, structural: tuple[str, ...]
) -> list[bool]:
    """Whether each prediction belongs to the room: by its label, else by most of its exact points."""
    on_room, size = (np.asarray(part.sum(axis=0)).ravel() for part in (shares[ids == 0], shares))
    return [
        is_structural(one.label, structural) if one.label is not None else bool(2 * on_room[i] > size[i])
        for i, one in enumerate(predicted)
    ]


def _point_iou(shares: Any, ids: np.ndarray, found: list[int], seen: list[int]) -> Float[np.ndarray, "found true"]:
    """IoU of the predictions `found` with the true instances of the ids `seen`."""
    size, iou = np.asarray(shares.sum(axis=0)).ravel(), np.zeros((len(found), len(seen)))
    for column, number in enumerate(seen):
        inside = ids == number
        both = np.asarray(shares[inside].sum(axis=0)).ravel()[found]
        iou[:, column] = both / np.maximum(size[found] + inside.sum() - both, 1)
    return iou


def _counts(labels: list[str | None], kinds: list[str]) -> tuple[dict[str, dict[str, int]], float]:
    names = {kind.strip().casefold(): kind for kind in [*(label for label in labels if label), *kinds]}
    counts = {
        name: {
            "true": sum(_same(kind, name) for kind in kinds),
            "found": sum(_same(label, name) for label in labels),
        }
        for name in names.values()
    }
    errors = [abs(c["found"] - c["true"]) for c in counts.values() if c["true"]]
    known = errors and any(label is not None for label in labels)
    return counts, float(np.mean(errors)) if known else float("nan")


def _same(label: str | None, kind: str) -> bool:
    return label is not None and label.strip().casefold() == kind.strip().casefold()


def _boxes(first: Box | None, second: Box | None) -> float:
    return box_iou(first, second) if first is not None and second is not None else float("nan")


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
