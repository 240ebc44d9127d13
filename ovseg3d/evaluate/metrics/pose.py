"""Protocol `pose`: azimuth, elevation and theta of objects in photos, against true ones (ImageNet3D's metrics).

The error of an object is the geodesic distance of its rotations. An object without an answer (NaN) has the largest, pi.
Acc@30 and Acc@10 are shares of the objects with a smaller error than 30 and 10 degrees.
- An average is over objects; `category_` averages are plain means of the categories' figures.
- Up to symmetry, the error is the smallest over the turns that leave the object as it is (`symmetric_geodesic_rad`).
- "3D-aware": pi is added to the error of an object whose class is wrong, so that it is right in neither accuracy. A
  predicted box with an IoU below one half counts as no answer.
- Intervals hold 95 % of a bootstrap that draws objects anew within each category: the categories are the benchmark's.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float, Int

from ovseg3d.errors import MeasureError
from ovseg3d.evaluate.metrics.report import Scores
from ovseg3d.geometry import geodesic_rad, rotation_of_angles, symmetric_geodesic_rad

MIN_BOX_IOU = 0.5
RESAMPLES = 500
Interval = tuple[float, float]


@dataclass(frozen=True)
class TruePoses:
    """The truth, one row for each object."""

    angles_rad: Float[np.ndarray, "n 3"]
    """Azimuth, elevation, theta."""
    categories: Sequence[str]
    """One name each."""
    symmetry_orders: Int[np.ndarray, " n"] | None = None
    """0 for every turn about the up axis, 1 for none, 2, 4..."""
    boxes: Float[np.ndarray, "n 4"] | None = None
    """x1, y1, x2, y2 in the photo, pixels."""
    centers_px: Float[np.ndarray, "n 2"] | None = None
    """Where the object's centre is in the photo."""
    distances: Float[np.ndarray, " n"] | None = None
    """From the camera to the centre, any unit that both sides share."""


@dataclass(frozen=True)
class PredictedPoses:
    """Answers in the order of the true objects."""

    angles_rad: Float[np.ndarray, "n 3"]
    """NaN where there is no answer."""
    categories: Sequence[str] | None = None
    """Predicted classes; None if the class was given."""
    boxes: Float[np.ndarray, "n 4"] | None = None
    """Predicted boxes, NaN where there is none; None if the boxes were given."""
    centers_px: Float[np.ndarray, "n 2"] | None = None
    """As for the truth."""
    distances: Float[np.ndarray, " n"] | None = None
    """As for the truth."""


@dataclass(frozen=True)
class PoseFigures:
    """Figures of one group of objects. Accuracies are fractions, errors degrees."""

    acc_30: float
    acc_10: float
    median_deg: float
    mean_deg: float
    acc_30_interval: Interval
    acc_10_interval: Interval
    median_deg_interval: Interval
    category_acc_30: float
    category_acc_10: float
    category_median_deg: float
    category_acc_30_interval: Interval
    category_acc_10_interval: Interval
    objects: int
    categories: int
    unanswered: int
    """Objects without an answer, or whose predicted box is elsewhere."""


@dataclass(frozen=True)
class PoseScores(Scores):
    """Results of `measure_poses`."""

    protocol: ClassVar[str] = "pose"
    aggregation: ClassVar[str] = (
        "Means and medians over objects; category_ figures are plain means over categories; an object without an "
        "answer has an error of 180 degrees, and a wrong class adds 180 where classes are predicted."
    )

    figures: dict[str, PoseFigures]
    """By group: all; known and novel, if categories are named as known; each meta-class of these ("novel, Furniture");
    and, where symmetries are stated, the same "up to symmetry" for all, known and novel."""
    by_category: dict[str, dict[str, float]]
    """`acc_30`, `acc_10`, `median_deg` and the number `objects` of each category."""
    class_accuracy: float
    """Share of right classes; NaN where classes were given."""
    center_error: float
    """Median distance of predicted and true centres, as a share of the true box's diagonal; NaN if not predicted."""
    distance_error: float
    """Median of |predicted / true - 1|; NaN if not predicted."""


def pose_errors_rad(predicted: PredictedPoses, true: TruePoses, *, symmetric: bool = False) -> Float[np.ndarray, " n"]:
    """The error of each object, radians: 0 to pi, and to 2 pi where classes are predicted.

    Args:
        predicted: the answers.
        true: the truth.
        symmetric: up to the true symmetry.

    Raises:
        MeasureError: the numbers of rows differ, a true number is not finite, or symmetries are not stated.
    """
    _check(predicted, true)
    answered = _answered(predicted, true)
    errors = np.full(len(answered), math.pi)
    if answered.any():
        found, target = (rotation_of_angles(one.angles_rad[answered]) for one in (predicted, true))
        if not symmetric:
            errors[answered] = geodesic_rad(found, target)
        elif true.symmetry_orders is None:
            raise MeasureError("The symmetries of the true objects are not stated", fix="give symmetry_orders")
        else:
            errors[answered] = symmetric_geodesic_rad(found, target, true.symmetry_orders[answered])
    if predicted.categories is not None:
        errors += math.pi * (np.array(predicted.categories) != np.array(true.categories))
    return errors


def measure_poses(
    predicted: PredictedPoses,
    true: TruePoses,
    *,
    known: Collection[str] | None = None,
    meta_classes: Mapping[str, Collection[str]] | None = None,
) -> PoseScores:
    """Compare predicted with true poses.

    Args:
        predicted: the answers, in the order of the true objects.
        true: the truth.
        known: categories that were trained on; the others are novel.
        meta_classes: categories of each meta-class.

    Raises:
        MeasureError: there is no object, the numbers of rows differ, or a true number is not finite.
    """
    errors = pose_errors_rad(predicted, true)
    if not len(errors):
        raise MeasureError("There is no object to measure", fix="check the test set and the categories")
    categories, answered = np.array(true.categories), _answered(predicted, true)
    every = np.ones(len(errors), dtype=bool)
    parts = {"all": every}
    if known is not None:
        is_known = np.isin(categories, list(known))
        parts |= {"known": is_known, "novel": ~is_known}
    groups = dict(parts)
    for name, members in (meta_classes or {}).items():
        inside = np.isin(categories, list(members))
        groups |= {name if part == "all" else f"{part}, {name}": inside & rows for part, rows in parts.items()}
    figures = _of_groups(errors, categories, answered, groups)
    if true.symmetry_orders is not None:
        alike = _of_groups(pose_errors_rad(predicted, true, symmetric=True), categories, answered, parts)
        figures |= {f"{name}, up to symmetry": own for name, own in alike.items()}
    return PoseScores(
        figures,
        {str(name): _of_category(errors[categories == name]) for name in np.unique(categories)},
        float("nan") if predicted.categories is None else float(np.mean(np.array(predicted.categories) == categories)),
        _center_error(predicted, true),
        _distance_error(predicted, true),
    )


def _check(predicted: PredictedPoses, true: TruePoses) -> None:
    count = len(true.angles_rad)
    for side, one in (("predicted", predicted), ("true", true)):
        for name, rows in vars(one).items():
            if rows is not None and len(rows) != count:
                raise MeasureError(
                    f"There are {len(rows)} {side} {name} for {count} true poses", fix="one row for each"
                )
    for name, rows in vars(true).items():
        if name != "categories" and rows is not None and not np.isfinite(rows).all():
            raise MeasureError(f"The true {name} have values that are not finite", fix="leave these objects out")


def _answered(predicted: PredictedPoses, true: TruePoses) -> Bool[np.ndarray, " n"]:
    answered = np.isfinite(predicted.angles_rad).min(axis=1)
    if predicted.boxes is None:
        return answered
    if true.boxes is None:
        raise MeasureError("There are predicted boxes, but no true ones", fix="give both, or none")
    found = _box_iou(predicted.boxes, true.boxes) >= MIN_BOX_IOU
    return answered & found


def _box_iou(a: Float[np.ndarray, "n 4"], b: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, " n"]:
    """Intersection over union of boxes in the same row; 0 where one is NaN or empty."""
    sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    shared = np.nan_to_num(sides).clip(0).prod(axis=1)
    either = (a[:, 2:] - a[:, :2]).prod(axis=1) + (b[:, 2:] - b[:, :2]).prod(axis=1) - shared
    return np.divide(shared, either, out=np.zeros(len(a)), where=shared > 0)


def _of_groups(
    errors_rad: np.ndarray, categories: np.ndarray, answered: np.ndarray, groups: Mapping[str, np.ndarray]
) -> dict[str, PoseFigures]:
    """Figures of the groups that have an object."""
    groups = {name: rows for name, rows in groups.items() if rows.any()}
    return {name: _figures(errors_rad[own], categories[own], answered[own]) for name, own in groups.items()}


def _figures(errors_rad: np.ndarray, categories: np.ndarray, answered: np.ndarray) -> PoseFigures:
    """Figures and their intervals. Objects are put in order of their category, so that a category is a slice."""
    names, number = np.unique(categories, return_inverse=True)
    order = np.argsort(number, kind="stable")
    errors, counts = np.degrees(errors_rad[order]), np.bincount(number)
    starts = counts.cumsum() - counts
    start, count = np.repeat(starts, counts), np.repeat(counts, counts)
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(RESAMPLES):
        drawn = errors[start + (rng.random(len(errors)) * count).astype(np.int64)]
        draws.append((*_accuracies(drawn, starts, counts), np.median(drawn)))
    low, high = np.percentile(np.array(draws), [2.5, 97.5], axis=0)
    acc_30, acc_10, by_30, by_10, median = ((float(a), float(b)) for a, b in zip(low, high))
    values = _accuracies(errors, starts, counts)
    return PoseFigures(
        values[0],
        values[1],
        float(np.median(errors)),
        float(errors.mean()),
        acc_30,
        acc_10,
        median,
        values[2],
        values[3],
        float(np.mean([np.median(part) for part in np.split(errors, starts[1:])])),
        by_30,
        by_10,
        len(errors),
        len(names),
        int((~answered).sum()),
    )


def _accuracies(errors_deg: np.ndarray, starts: np.ndarray, counts: np.ndarray) -> tuple[float, float, float, float]:
    """Acc@30 and Acc@10 over objects, and the same over categories."""
    right = np.stack([errors_deg < 30, errors_deg < 10])
    of_category = np.add.reduceat(right, starts, axis=1, dtype=np.int64)
    return (*(right.mean(axis=1).tolist()), *((of_category / counts).mean(axis=1).tolist()))


def _of_category(errors_rad: np.ndarray) -> dict[str, float]:
    errors = np.degrees(errors_rad)
    return {
        "acc_30": float(np.mean(errors < 30)),
        "acc_10": float(np.mean(errors < 10)),
        "median_deg": float(np.median(errors)),
        "objects": len(errors),
    }


def _center_error(predicted: PredictedPoses, true: TruePoses) -> float:
    if predicted.centers_px is None or true.centers_px is None or true.boxes is None:
        return float("nan")
    diagonal = np.linalg.norm(true.boxes[:, 2:] - true.boxes[:, :2], axis=1)
    return _median(np.linalg.norm(predicted.centers_px - true.centers_px, axis=1) / np.maximum(diagonal, 1e-9))


def _distance_error(predicted: PredictedPoses, true: TruePoses) -> float:
    if predicted.distances is None or true.distances is None:
        return float("nan")
    return _median(np.abs(predicted.distances / true.distances - 1))


def _median(errors: np.ndarray) -> float:
    """An answer that is missing counts as infinitely wrong; a median of these is NaN."""
    median = float(np.median(np.where(np.isnan(errors), np.inf, errors)))
    return median if math.isfinite(median) else float("nan")
