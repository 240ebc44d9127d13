"""Protocol `instance-ap`: average precision of 3D instances over points, by the rules of ScanNet's benchmark.

Predictions are sets of points with a label and a confidence; true instances are ids on the same points. Points of no
listed class (walls, floors, what is not annotated) are void. Regions below `MIN_POINTS` points are ignored.

At each IoU threshold, and for each class by itself:
- A true instance takes the predictions of its class with an IoU above the threshold that no other one has taken. The
  most confident one is right, the others are wrong; without any the instance is missed.
- A prediction without such an instance is wrong, unless its share on void points and on ignored instances of its class
  is above the threshold: then it does not count.
- Precision and recall at each distinct confidence, closed by precision 1 at recall 0, are integrated by central
  differences of recall (the benchmark's convolution).
AP is the mean over classes that have a true instance, and over the thresholds 0.5, 0.55, ... 0.9: the benchmark's page
says 0.95, its released code stops before. Class-agnostic figures treat all listed classes as one, with predictions of
any label. Source: ScanNet (Dai et al. 2017), BenchmarkScripts/3d_evaluation; void points by the rule that its text
states. Difference: predictions are taken by falling confidence, in the released code as they are listed, which matters
only where several ones fit one instance.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Integer

from ovseg3d.errors import MeasureError
from ovseg3d.evaluate.metrics.report import Scores

MIN_POINTS = 100
"""Smaller predictions are left out, smaller true instances are ignored."""
THRESHOLDS = tuple(percent / 100 for percent in range(50, 95, 5))
"""Of the mean AP."""


@dataclass(frozen=True)
class FoundMasks:
    """Predicted instances of one scene."""

    masks: Bool[np.ndarray, "found points"]
    """The points of each; predictions may overlap."""
    label: Integer[np.ndarray, " found"]
    """k is `classes[k - 1]`; 0 is none of them, which counts only for class-agnostic figures."""
    confidence: Float[np.ndarray, " found"]


@dataclass(frozen=True)
class TrueMasks:
    """True instances of one scene. Points with the same label and id are one; 0 in one of both is void."""

    label: Integer[np.ndarray, " points"]
    """k is `classes[k - 1]`."""
    instance: Integer[np.ndarray, " points"]


@dataclass(frozen=True)
class InstanceApScores(Scores):
    """Results of `measure_instance_ap`; NaN without a true instance."""

    protocol: ClassVar[str] = "instance-ap"
    aggregation: ClassVar[str] = (
        "Scenes pooled; ScanNet's average precision by class, mean over the classes with a true instance; AP is the "
        "mean over IoU 0.5 to 0.9 in steps of 0.05."
    )

    ap: float
    ap_50: float
    ap_25: float
    agnostic_ap: float
    """All classes as one."""
    agnostic_ap_50: float
    agnostic_ap_25: float
    by_class: dict[str, dict[str, float]]
    """By name: `ap`, `ap_50`, `ap_25`, for the classes with a true instance."""
    scenes: int
    true_instances: int
    """With at least `MIN_POINTS` points."""
    ignored_instances: int
    """Smaller ones."""
    found_instances: int
    """With at least `MIN_POINTS` points."""


class _Overlaps(NamedTuple):
    """One scene, reduced to numbers of points; predictions by falling confidence."""

    confidence: Float[np.ndarray, " found"]
    label: Int[np.ndarray, " found"]
    size: Int[np.ndarray, " found"]
    void: Int[np.ndarray, " found"]
    """Points of each prediction that are void."""
    both: Int[np.ndarray, "found true"]
    true_label: Int[np.ndarray, " true"]
    true_size: Int[np.ndarray, " true"]

    def of(self, label: int) -> "_Overlaps":
        """Predictions and true instances of one class."""
        rows, columns = self.label == label, self.true_label == label
        return _Overlaps(
            self.confidence[rows], self.label[rows], self.size[rows], self.void[rows],
            self.both[rows][:, columns], self.true_label[columns], self.true_size[columns],
        )  # fmt: skip

    def as_one_class(self) -> "_Overlaps":
        """The same without labels."""
        return self._replace(label=np.ones_like(self.label), true_label=np.ones_like(self.true_label))


class _Matched(NamedTuple):
    """Predictions that count, and the number of true instances without one."""

    confidence: Float[np.ndarray, " counted"]
    right: Bool[np.ndarray, " counted"]
    missed: int


def measure_instance_ap(
    found: Mapping[str, FoundMasks], true: Mapping[str, TrueMasks], classes: Sequence[str]
) -> InstanceApScores:
    """Average precision of predicted instances over a set of scenes.

    Args:
        found: predictions by scene.
        true: ground truth by scene, on the same points.
        classes: the listed classes, in the order of their labels.

    Raises:
        MeasureError: the scenes differ, numbers of points, labels or confidences differ, a label is not in the list, or
            a confidence is not finite.
    """
    if set(found) != set(true) or not true:
        raise MeasureError(
            f"Instances of {len(found)} scenes and true ones of {len(true)} scenes do not belong together",
            fix="give both for the same scenes, with empty arrays where nothing was found",
        )
    scenes = [_overlaps(name, found[name], true[name], len(classes)) for name in true]
    figures = {name: _figures([one.of(k) for one in scenes]) for k, name in enumerate(classes, start=1)}
    by_class = {name: one for name, one in figures.items() if not np.isnan(one["ap"])}
    means = {
        key: float(np.mean([one[key] for one in by_class.values()])) if by_class else float("nan")
        for key in ("ap", "ap_50", "ap_25")
    }
    agnostic = _figures([one.as_one_class() for one in scenes])
    large = [int((one.true_size >= MIN_POINTS).sum()) for one in scenes]
    return InstanceApScores(
        **means,
        **{f"agnostic_{key}": value for key, value in agnostic.items()},
        by_class=by_class,
        scenes=len(scenes),
        true_instances=sum(large),
        ignored_instances=sum(len(one.true_size) for one in scenes) - sum(large),
        found_instances=sum(len(one.size) for one in scenes),
    )


def average_precision_scannet(
    confidence: Float[np.ndarray, " counted"], right: Bool[np.ndarray, " counted"], missed: int
) -> float:
    """Area under the curve of precision over recall, by central differences of recall.

    Args:
        confidence: of the predictions that count.
        right: whether each is right.
        missed: number of true instances without a prediction.

    Returns:
        0 to 1; NaN without a true instance.
    """
    total = int(right.sum())
    if not total + missed:
        return float("nan")
    if not len(right):
        return 0.0
    order = np.argsort(confidence)
    _, first = np.unique(confidence[order], return_index=True)
    hits = total - np.append(0, right[order].cumsum())[first]  # at this confidence or above it
    precision = np.append(hits / (len(right) - first), 1.0)
    recall = np.append(hits / (total + missed), 0.0)
    step = np.convolve(np.r_[recall[0], recall, 0.0], [-0.5, 0.0, 0.5], "valid")
    return float(precision @ step)


def _overlaps(name: str, found: FoundMasks, true: TrueMasks, classes: int) -> _Overlaps:
    """Sizes and overlaps of one scene, without predictions that are too small."""
    points, count = len(true.label), len(found.masks)
    whole = len(true.instance) == points == found.masks.shape[1]
    if not (whole and len(found.label) == len(found.confidence) == count):
        raise MeasureError("Each prediction needs a mask over all points, a label and a confidence", where=name)
    if not np.isfinite(found.confidence).all():
        raise MeasureError("A confidence is not finite", where=name, fix="leave such predictions out")
    for labels in (found.label, true.label):
        if labels.size and not 0 <= labels.min() <= labels.max() <= classes:
            raise MeasureError(f"A label is not among 0 to {classes}", where=name, fix="number the classes 1, 2, ...")
    place, true_label, true_size = _number(true)
    order = np.argsort(-found.confidence, kind="stable")
    order = order[found.masks[order].sum(axis=1) >= MIN_POINTS]
    counts = [np.bincount(place[mask], minlength=len(true_size) + 1) for mask in found.masks[order]]
    both = np.array(counts, dtype=np.int64).reshape(len(order), -1)
    if not len(order):
        both = np.zeros((0, len(true_size) + 1), dtype=np.int64)
    return _Overlaps(
        found.confidence[order].astype(np.float64), found.label[order].astype(np.int64), both.sum(axis=1),
        both[:, 0], both[:, 1:], true_label, true_size,
    )  # fmt: skip


def _number(true: TrueMasks) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Number of each point's instance, 0 for void; label and size of the instances 1, 2, ..."""
    known = (true.label > 0) & (true.instance > 0)
    pairs = np.stack([true.label[known], true.instance[known]], axis=1).astype(np.int64)
    names, inverse, sizes = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
    place = np.zeros(len(true.label), dtype=np.int64)
    place[known] = inverse.reshape(-1) + 1
    return place, names[:, 0], sizes.astype(np.int64)


def _figures(scenes: Sequence[_Overlaps]) -> dict[str, float]:
    """AP of one class over all scenes."""
    ap = {threshold: _ap(scenes, threshold) for threshold in (0.25, *THRESHOLDS)}
    return {"ap": float(np.mean([ap[one] for one in THRESHOLDS])), "ap_50": ap[0.5], "ap_25": ap[0.25]}


def _ap(scenes: Sequence[_Overlaps], threshold: float) -> float:
    parts = [_match(one, threshold) for one in scenes]
    confidence, right = (np.concatenate(column) for column in ([p.confidence for p in parts], [p.right for p in parts]))
    return average_precision_scannet(confidence, right, sum(part.missed for part in parts))


def _match(scene: _Overlaps, threshold: float) -> _Matched:
    """Decide which predictions of one class are right, wrong or left out."""
    large = scene.true_size >= MIN_POINTS
    both = scene.both[:, large]
    near = both / np.maximum(scene.size[:, None] + scene.true_size[large] - both, 1) > threshold
    taken = np.zeros(len(scene.size), dtype=bool)
    rows, right, missed = [], [], 0
    for fits in near.T:
        fitting = np.flatnonzero(fits & ~taken)
        missed += not fitting.size
        taken[fitting[:1]] = True  # a worse one of the same instance may still fit another instance
        rows += fitting.tolist()
        right += [True, *[False] * (len(fitting) - 1)][: len(fitting)]
    ignored = scene.void + scene.both[:, ~large].sum(axis=1)
    alone = np.flatnonzero(~near.any(axis=1) & (ignored <= threshold * scene.size))
    return _Matched(
        scene.confidence[np.array([*rows, *alone], dtype=np.int64)],
        np.array([*right, *[False] * len(alone)], dtype=bool),
        missed,
    )
