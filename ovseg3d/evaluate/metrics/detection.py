"""Protocol `detection`: 3D boxes with scores against true boxes, over a whole set of scenes.

The procedure of VoteNet (Qi et al., ICCV 2019), which is PASCAL VOC's since 2010. For each class, the detections of all
scenes are taken in order of score. Each goes to the true box of its scene and class with the largest IoU. It is right
if this IoU exceeds the threshold and no detection before it was right about the same box, else it is an error. Average
precision (AP) is the area under the envelope of precision over recall, at all points. IoU is exact, in 3D.
- AP and recall are means over the classes with a true box; precision is the mean over the classes with a detection.
- Class-agnostic figures ignore the names. A box that is listed under several names counts once, with its best score.
- An error is left out if its IoU with an ignore region exceeds the threshold, or if most of it is inside of one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from ovseg3d.errors import MeasureError
from ovseg3d.evaluate.metrics.report import Scores
from ovseg3d.geometry.overlap import rotated_iou

CALIBRATION_BINS = 10


def _no_boxes() -> Float[np.ndarray, "0 7"]:
    return np.zeros((0, 7))


@dataclass(frozen=True)
class FoundBoxes:
    """Detections in one scene."""

    boxes: Float[np.ndarray, "found 7"]
    """Centre, full size, yaw_rad."""
    scores: Float[np.ndarray, " found"]
    """0 to 1; higher is surer."""
    labels: Sequence[str]
    """One name each. A box may be listed under several names."""


@dataclass(frozen=True)
class TrueBoxes:
    """The truth of one scene."""

    boxes: Float[np.ndarray, "true 7"]
    """Centre, full size, yaw_rad."""
    labels: Sequence[str]
    """One name each."""
    ignore: Float[np.ndarray, "regions 7"] = field(default_factory=_no_boxes)
    """Regions without labels, and objects that need not be found."""


@dataclass(frozen=True)
class CalibrationBin:
    """Detections whose scores are in one interval."""

    score: float
    """Mean score."""
    iou: float
    """Mean IoU with the true box that overlaps most, whatever its name."""
    detections: int


@dataclass(frozen=True)
class DetectionScores(Scores):
    """Results of `measure_detection`. `_25` and `_50` are thresholds of IoU."""

    protocol: ClassVar[str] = "detection"
    aggregation: ClassVar[str] = (
        "Detections of all scenes pooled, in order of score; AP and recall are plain means over the classes with a "
        "true box, precision over the classes with a detection."
    )

    ap_25: float
    recall_25: float
    precision_25: float
    ap_50: float
    recall_50: float
    precision_50: float
    agnostic_ap_25: float
    agnostic_recall_25: float
    agnostic_precision_25: float
    agnostic_ap_50: float
    agnostic_recall_50: float
    agnostic_precision_50: float
    min_score: float
    """The score of the recall and precision figures; AP takes all detections."""
    calibration_error: float
    """Mean difference of score and IoU over ten intervals of the score, weighted by detections; names do not count."""
    calibration: tuple[CalibrationBin, ...]
    """The intervals with a detection, from low to high."""
    by_class: dict[str, dict[str, float]]
    """By name: `ap_25`, `recall_25`, `precision_25`, the same at 50, and the numbers `true` and `found`."""
    scenes: int
    true_boxes: int
    found_boxes: int
    """Each once, even if it has several names."""


class _Pool(NamedTuple):
    """Detections of all scenes, and the true box that overlaps each most."""

    scores: Float[np.ndarray, " found"]
    iou: Float[np.ndarray, " found"]
    """0 in a scene without a true box."""
    true: Int[np.ndarray, " found"]
    """Number of the true box in the pool."""
    ignored_iou: Float[np.ndarray, " found"]
    """Largest IoU with an ignore region."""
    ignored_share: Float[np.ndarray, " found"]
    """Largest share of the box inside an ignore region."""
    true_boxes: int


class _Scene(NamedTuple):
    """One scene's boxes with their overlaps, computed once for all classes and thresholds."""

    scores: Float[np.ndarray, " found"]
    labels: np.ndarray
    true_labels: np.ndarray
    iou: Float[np.ndarray, "found true"]
    ignored_iou: Float[np.ndarray, " found"]
    ignored_share: Float[np.ndarray, " found"]
    once: Bool[np.ndarray, " found"]
    """One entry of each box: the one with the best score."""


def measure_detection(
    found: Mapping[str, FoundBoxes], true: Mapping[str, TrueBoxes], *, min_score: float = 0.0
) -> DetectionScores:
    """Compare detected with true boxes.

    Args:
        found: detections by scene.
        true: true boxes by scene; a scene without any box is a test of false alarms.
        min_score: recall and precision are those of the detections with at least this score.

    Raises:
        MeasureError: the scenes differ, numbers of boxes, scores and labels differ, or a number is not finite.
    """
    if set(found) != set(true) or not true:
        raise MeasureError(
            f"Detections of {len(found)} scenes and true boxes of {len(true)} scenes do not belong together",
            fix="give both for the same scenes, with empty arrays where nothing was found",
        )
    scenes = [_compare(name, found[name], true[name]) for name in true]
    names = np.unique(np.concatenate([part for scene in scenes for part in (scene.labels, scene.true_labels)]))
    pools = {str(name): _pool(scenes, name) for name in names}
    by_class = {name: _figures(pool, min_score) for name, pool in pools.items()}
    everything = _pool(scenes, None)
    agnostic = _figures(everything, min_score)
    bins = _calibration(everything)
    errors = np.repeat([abs(one.score - one.iou) for one in bins], [one.detections for one in bins])
    return DetectionScores(
        **{key: _mean([figures[key] for figures in by_class.values()]) for key in agnostic},
        **{f"agnostic_{key}": value for key, value in agnostic.items()},
        min_score=min_score,
        calibration_error=_mean(errors),
        calibration=bins,
        by_class={
            name: {**figures, "true": pools[name].true_boxes, "found": len(pools[name].scores)}
            for name, figures in by_class.items()
        },
        scenes=len(scenes),
        true_boxes=everything.true_boxes,
        found_boxes=len(everything.scores),
    )


def average_precision(right: Bool[np.ndarray, " found"], true_boxes: int) -> float:
    """Area under the envelope of precision over recall, at all points; NaN without a true box.

    Args:
        right: whether each detection is right, in order of score.
        true_boxes: number of boxes to be found.
    """
    if not true_boxes:
        return float("nan")
    hits = right.cumsum()
    precision = hits / np.arange(1, len(right) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(envelope[right].sum() / true_boxes)  # recall rises by 1 / true_boxes at each right one


def _compare(name: str, found: FoundBoxes, true: TrueBoxes) -> _Scene:
    """The overlaps of one scene."""
    count = len(found.boxes)
    if not len(found.scores) == len(found.labels) == count or len(true.labels) != len(true.boxes):
        raise MeasureError("Each detection needs a score and a label, and each true box a label", where=name)
    if not all(np.isfinite(values).all() for values in (found.boxes, found.scores, true.boxes, true.ignore)):
        raise MeasureError("A box or a score is not finite", where=name, fix="leave such boxes out")
    ignored = rotated_iou(found.boxes, true.ignore)
    volume, others = (boxes[:, 3:6].prod(axis=1) for boxes in (found.boxes, true.ignore))
    shared = ignored * (volume[:, None] + others) / (1 + ignored)
    order = np.argsort(-found.scores, kind="stable")
    once = np.zeros(count, dtype=bool)
    once[order[np.unique(found.boxes[order], axis=0, return_index=True)[1]]] = True
    return _Scene(
        found.scores.astype(np.float64),
        np.array(found.labels, dtype=str),
        np.array(true.labels, dtype=str),
        rotated_iou(found.boxes, true.boxes),
        ignored.max(axis=1, initial=0.0),
        (shared / np.maximum(volume, 1e-300)[:, None]).max(axis=1, initial=0.0),
        once,
    )


def _pool(scenes: Sequence[_Scene], name: str | None) -> _Pool:
    """Detections and true boxes of one class, or, without a name, of all of them."""
    parts, offset = [], 0
    for scene in scenes:
        rows = scene.once if name is None else scene.labels == name
        iou = scene.iou if name is None else scene.iou[:, scene.true_labels == name]
        iou, columns = iou[rows], iou.shape[1]
        best = iou.argmax(axis=1) if columns else np.zeros(len(iou), dtype=np.int64)
        overlap = iou.max(axis=1, initial=0.0)
        parts.append((scene.scores[rows], overlap, best + offset, scene.ignored_iou[rows], scene.ignored_share[rows]))
        offset += columns
    scores, iou, best, ignored_iou, ignored_share = (np.concatenate(columns) for columns in zip(*parts))
    order = np.argsort(-scores, kind="stable")
    return _Pool(scores[order], iou[order], best[order], ignored_iou[order], ignored_share[order], offset)


def _figures(pool: _Pool, min_score: float) -> dict[str, float]:
    """AP, and recall with its precision, at each threshold."""
    figures: dict[str, float] = {}
    for percent in (25, 50):
        right, counted = _match(pool, percent / 100)
        sure = counted & (pool.scores >= min_score)
        hits = int((right & sure).sum())
        figures[f"ap_{percent}"] = average_precision(right[counted], pool.true_boxes)
        figures[f"recall_{percent}"] = hits / pool.true_boxes if pool.true_boxes else float("nan")
        figures[f"precision_{percent}"] = hits / int(sure.sum()) if sure.any() else float("nan")
    return figures


def _match(pool: _Pool, threshold: float) -> tuple[Bool[np.ndarray, " found"], Bool[np.ndarray, " found"]]:
    """Whether each detection is right, and whether it counts."""
    near = np.flatnonzero(pool.iou > threshold)
    right = np.zeros(len(pool.scores), dtype=bool)
    right[near[np.unique(pool.true[near], return_index=True)[1]]] = True
    return right, right | ~((pool.ignored_iou > threshold) | (pool.ignored_share > 0.5))


def _calibration(pool: _Pool) -> tuple[CalibrationBin, ...]:
    """Mean score and IoU by intervals of the score, without detections in ignore regions."""
    counted = _match(pool, 0.25)[1]
    scores, iou = pool.scores[counted], pool.iou[counted]
    place = np.clip((scores * CALIBRATION_BINS).astype(np.int64), 0, CALIBRATION_BINS - 1)
    return tuple(
        CalibrationBin(float(scores[place == k].mean()), float(iou[place == k].mean()), int((place == k).sum()))
        for k in np.unique(place)
    )


def _mean(values: Sequence[float] | Float[np.ndarray, " values"]) -> float:
    known = np.asarray(values, dtype=np.float64)
    known = known[np.isfinite(known)]
    return float(known.mean()) if known.size else float("nan")
