"""Protocol `index`: label images against true ones, by one confusion matrix over all views.

Label images hold 0 for none, 1, 2, ... for the classes in their order, and an ignore value (255 in uint8, 65535 in
uint16, else the caller's). Rules:
- A true pixel of a class that is predicted as none, or as ignore, is an error of its class.
- A true ignore pixel is left out.
- A true none pixel states that no class of the list is there: a class predicted there loses IoU and accuracy, none is
  right. If 0 means "unlabelled" in the data, `count_true_none=False` leaves those pixels out.
- IoU is pooled over views (sums of pixels, not a mean of views), then averaged over the classes in the ground truth. A
  class that is predicted but not in the ground truth lowers the IoU of the classes whose pixels it takes.
The same accumulator is used for labelled points (`points.py`): an array of any shape is a set of labelled samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Integer

from ovseg3d.errors import MeasureError
from ovseg3d.evaluate.metrics.report import Scores
from ovseg3d.query.words import STRUCTURAL, is_structural

IGNORE = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}
"""The value that means ignore, by the type of a label image."""


@dataclass(frozen=True)
class LabelScores(Scores):
    """Results of `Confusion`. Object classes are all classes but the structural ones (wall, floor, ceiling)."""

    protocol: ClassVar[str] = "index"
    aggregation: ClassVar[str] = (
        "One confusion matrix over all views; IoU by class; mean over the classes that the ground truth has."
    )

    miou: float
    """Mean IoU over the classes in the truth."""
    miou_objects: float
    """Mean over the object classes among them; wall pixels that are predicted as an object still lower its IoU."""
    accuracy: float
    """Share of the counted pixels that are right."""
    accuracy_objects: float
    """The same over the pixels whose true class is an object class."""
    iou: dict[str, float]
    """By class; NaN if the ground truth lacks the class."""
    pixels: int
    """Number of counted pixels."""
    miou_large: float
    """`miou` without the pixels of small segments."""
    accuracy_small: float
    """Share of the pixels of small segments that are right."""
    found_small: float
    """Share of the small segments with at least half of their pixels right."""
    small_segments: int
    """Number of small segments, counted in each view."""


class Confusion:
    """Accumulates label images; `result` returns the scores.

    Args:
        classes: the phrases; label k is `classes[k - 1]`.
        structural: names of the classes that are no objects.
        ignore: the true value to leave out; None: by the type of the image (none for types other than uint8 and
            uint16). 0 is the same as `count_true_none=False`.
        count_true_none: whether true 0 counts (see above).
        small_below: segments with fewer pixels in a view are small; 0: none are.

    Raises:
        MeasureError: no classes, a class given twice, or an `ignore` that is also a class.
    """

    def __init__(
        self,
        classes: Sequence[str],
        *,
        structural: Sequence[str] = STRUCTURAL,
        ignore: int | None = None,
        count_true_none: bool = True,
        small_below: int = 100,
    ) -> None:
        self.classes = tuple(classes)
        if not self.classes or len(set(self.classes)) < len(self.classes):
            raise MeasureError(
                f"The classes to measure must be given, and each only once: {', '.join(self.classes) or 'none'}",
                fix="remove the duplicates",
            )
        self.ignore = None if ignore == 0 else ignore
        self.count_true_none, self.small_below = count_true_none and ignore != 0, small_below
        if self.ignore is not None:
            self._check_ignore(self.ignore)
        self._instances = np.array([not is_structural(name, tuple(structural)) for name in self.classes])
        size = len(self.classes) + 1
        self._matrix = np.zeros((size, size), dtype=np.int64)
        self._small = np.zeros((size, size), dtype=np.int64)
        self._segments = self._found = 0

    @property
    def matrix(self) -> Integer[np.ndarray, "classes classes"]:
        """Pixels by true (row) and predicted (column) label; index 0 is none."""
        return self._matrix.copy()

    def update(
        self,
        predicted: Integer[np.ndarray, "..."],
        true: Integer[np.ndarray, "..."],
        *,
        instances: Integer[np.ndarray, "..."] | None = None,
        keep: Bool[np.ndarray, "..."] | None = None,
    ) -> None:
        """Add one view.

        Args:
            predicted: label image, (h, w).
            true: label image of the same size.
            instances: instance id of each pixel, 0 for the room itself. A segment is then one instance in this view,
                else all pixels of one object class in this view.
            keep: only these pixels count, for figures over a subset of objects. Segment sizes include all pixels.

        Raises:
            MeasureError: the sizes differ, or a label is not in the list of classes.
        """
        for name, other in (("predicted labels", predicted), ("instances", instances), ("pixels to keep", keep)):
            if other is not None and other.shape != true.shape:
                raise MeasureError(
                    f"The {name} are of size {_size(other)}, the true labels of size {_size(true)}",
                    fix="render and measure at the size of the true label images",
                )
        ignore = IGNORE.get(true.dtype) if self.ignore is None else self.ignore
        if ignore is not None:
            self._check_ignore(ignore)
        guess = predicted.ravel().astype(np.int64)
        guess[(guess == ignore) | (guess == IGNORE.get(predicted.dtype))] = 0
        truth = true.ravel().astype(np.int64)
        known = truth != ignore if ignore is not None else np.ones(truth.shape, dtype=bool)
        self._check_range("true", truth[known], true.dtype)
        self._check_range("predicted", guess, predicted.dtype)
        counted = known & ((truth != 0) | self.count_true_none)
        if keep is not None:
            counted &= keep.ravel()
        self._matrix += self._count(truth, guess, counted)
        if self.small_below > 0:
            self._add_small(truth, guess, counted, known, None if instances is None else instances.ravel())

    def result(self) -> LabelScores:
        """The scores over everything added so far; NaN for empty sets."""
        matrix, large = self._matrix, self._matrix - self._small
        iou = _iou(matrix)
        rows = np.r_[False, self._instances]
        return LabelScores(
            miou=_mean(iou),
            miou_objects=_mean(iou[self._instances]),
            accuracy=_accuracy(matrix, np.ones(len(matrix), dtype=bool)),
            accuracy_objects=_accuracy(matrix, rows),
            iou=dict(zip(self.classes, iou.tolist())),
            pixels=int(matrix.sum()),
            miou_large=_mean(_iou(large)),
            accuracy_small=_accuracy(self._small, np.ones(len(matrix), dtype=bool)),
            found_small=self._found / self._segments if self._segments else float("nan"),
            small_segments=self._segments,
        )

    def _add_small(
        self,
        truth: np.ndarray,
        guess: np.ndarray,
        counted: np.ndarray,
        known: np.ndarray,
        instances: np.ndarray | None,
    ) -> None:
        """Find the small segments of this view, and count their pixels separately."""
        segment = np.where(np.r_[False, self._instances][np.where(known, truth, 0)], truth, 0)
        if instances is not None:
            segment = np.where(known & (truth != 0), instances.astype(np.int64), 0)
        ids, place, pixels = np.unique(segment, return_inverse=True, return_counts=True)
        place = place.reshape(-1)
        share = np.bincount(place, counted, len(ids))  # segments without a counted pixel are left out
        right = np.bincount(place, counted & (guess == truth), len(ids))
        small = (ids != 0) & (pixels < self.small_below) & (share > 0)
        self._small += self._count(truth, guess, counted & small[place])
        self._segments += int(small.sum())
        self._found += int((small & (2 * right >= share)).sum())

    def _count(self, truth: np.ndarray, guess: np.ndarray, where: np.ndarray) -> np.ndarray:
        size = len(self.classes) + 1
        return np.bincount(truth[where] * size + guess[where], minlength=size * size).reshape(size, size)

    def _check_ignore(self, ignore: int) -> None:
        if 0 <= ignore <= len(self.classes):
            raise MeasureError(
                f"Label {ignore} is to be ignored but is also one of {len(self.classes)} classes",
                fix="use a higher value for ignore, such as 65535 in 16-bit images",
            )

    def _check_range(self, name: str, labels: np.ndarray, dtype: np.dtype) -> None:
        if labels.size and (labels.min() < 0 or labels.max() > len(self.classes)):
            wrong = int(labels.max() if labels.max() > len(self.classes) else labels.min())
            raise MeasureError(
                f"A {name} label is {wrong}, but there are {len(self.classes)} classes",
                fix=f"give all classes; if {wrong} means ignore, say so (images are {dtype} here)",
            )


def _iou(matrix: np.ndarray) -> np.ndarray:
    """IoU of each class but none; NaN if the ground truth lacks it."""
    hit = np.diag(matrix)[1:].astype(np.float64)
    truth, guess = matrix.sum(axis=1)[1:], matrix.sum(axis=0)[1:]
    return np.where(truth > 0, hit / np.maximum(truth + guess - hit, 1), np.nan)


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")


def _accuracy(matrix: np.ndarray, rows: np.ndarray) -> float:
    total = int(matrix[rows].sum())
    return float(np.diag(matrix)[rows].sum() / total) if total else float("nan")


def _size(array: np.ndarray) -> str:
    return "x".join(map(str, array.shape[::-1]))
