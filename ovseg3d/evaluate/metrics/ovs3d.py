"""Protocol `3d-ovs`: argmax over the phrases of classes.txt, IoU by view and class, as in the 3D-OVS paper's code.

Its rules, which differ from protocol `index`:
- Ground truth is one binary mask for each phrase and view: `segmentations/<NN>/<phrase>.png`; `scene.segmentations`
  maps NN to photos. A mask is read as grey, resized by nearest neighbour, and only the value 255 is inside.
- IoU is computed for each view and class; a class absent from both the ground truth and the prediction of a view counts
  as 0 (not as 1, and it is not left out). mIoU is the plain mean over views x classes, then over scenes.
- A pixel that no mask covers, or that several cover, is wrong whatever is predicted: accuracy is the exact match of
  the row of masks. Accuracy is the mean over views (the paper's table calls it "mAP").
- There is no "none": a predicted 0 is wrong.
`miou_present` leaves out the classes absent from both, since the rule above penalises a method for the data.
The papers evaluate views that were also trained on; here the caller chooses the views.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Integer
from PIL import Image

from ovseg3d.errors import MeasureError, SceneError
from ovseg3d.evaluate.metrics.report import Scores
from ovseg3d.scene.opening import open_image


@dataclass(frozen=True)
class Ovs3dScores(Scores):
    """Results of `Ovs3dViews`."""

    protocol: ClassVar[str] = "3d-ovs"
    aggregation: ClassVar[str] = (
        "IoU by view and class, 0 for a class absent from both truth and prediction; plain mean over views x classes. "
        "Accuracy: mean over views."
    )

    miou: float
    """Mean over views x classes, by the paper's rule."""
    accuracy: float
    """Mean over views of the share of right pixels."""
    miou_present: float
    """Mean over the pairs of view and class in the ground truth or the prediction; not the paper's figure."""
    iou: dict[str, dict[str, float]]
    """By view and phrase, by the paper's rule."""
    accuracy_by_view: dict[str, float]
    """By view."""


class Ovs3dViews:
    """Accumulates views; `result` returns the scores. Label k is `phrases[k - 1]`."""

    def __init__(self, phrases: Sequence[str]) -> None:
        if not phrases:
            raise MeasureError("There are no phrases to measure", fix="list them in segmentations/classes.txt")
        self.phrases = tuple(phrases)
        self._iou: dict[str, np.ndarray] = {}
        self._present: dict[str, np.ndarray] = {}
        self._accuracy: dict[str, float] = {}

    def update(
        self, view: str, predicted: Integer[np.ndarray, "h w"], masks: Bool[np.ndarray, "classes h2 w2"]
    ) -> None:
        """Add one view.

        Args:
            view: its name.
            predicted: label image, the argmax over the phrases.
            masks: the true mask of each phrase, from `read_phrase_masks` at the size of `predicted`.

        Raises:
            MeasureError: sizes or the number of phrases differ, or a label is not in the list.
        """
        if masks.shape != (len(self.phrases), *predicted.shape):
            raise MeasureError(
                f"{len(masks)} masks of size {masks.shape[2]}x{masks.shape[1]} cannot be compared with labels of "
                f"{len(self.phrases)} phrases of size {predicted.shape[1]}x{predicted.shape[0]}",
                where=view,
                fix="read one mask for each phrase, at the size of the prediction",
            )
        if predicted.min(initial=0) < 0 or predicted.max(initial=0) > len(self.phrases):
            raise MeasureError(
                f"A label is {predicted.max()}, but there are {len(self.phrases)} phrases",
                where=view,
                fix="this protocol takes the argmax over the phrases: 1, 2, ... in their order",
            )
        chosen = predicted[None] == np.arange(1, len(self.phrases) + 1).reshape(-1, 1, 1)
        both, either = (chosen & masks).sum(axis=(1, 2)), (chosen | masks).sum(axis=(1, 2))
        self._iou[view] = both / np.maximum(either, 1)
        self._present[view] = either > 0
        right = (chosen == masks).all(axis=0) & (predicted > 0)
        self._accuracy[view] = float(right.mean())

    def result(self) -> Ovs3dScores:
        """The scores over all views. Raises MeasureError: there are none."""
        if not self._iou:
            raise MeasureError("No view was measured", fix="annotated views are folders in segmentations/")
        iou, present = np.stack(list(self._iou.values())), np.stack(list(self._present.values()))
        return Ovs3dScores(
            miou=float(iou.mean()),
            accuracy=float(np.mean(list(self._accuracy.values()))),
            miou_present=float(iou[present].mean()) if present.any() else float("nan"),
            iou={view: dict(zip(self.phrases, row.tolist())) for view, row in self._iou.items()},
            accuracy_by_view=dict(self._accuracy),
        )


def read_phrase_masks(folder: Path, phrases: Sequence[str], width: int, height: int) -> Bool[np.ndarray, "classes h w"]:
    """The masks of one annotated view, `<phrase>.png` each, by the protocol's rule for reading.

    Args:
        folder: `segmentations/<NN>`.
        phrases: in the order of the labels.
        width: of the result, in pixels.
        height: of the result, in pixels.

    Raises:
        SceneError: a phrase has no mask, or a file is not an image.
    """
    masks = np.zeros((len(phrases), height, width), dtype=bool)
    for mask, phrase in zip(masks, phrases):
        path = folder / f"{phrase}.png"
        if not os.path.lexists(path):
            raise SceneError(
                f"There is no mask for the phrase {phrase!r}",
                where=path,
                fix="every phrase of classes.txt needs a mask in every annotated view; an empty one says absent",
            )
        with open_image(path, "mask", fix="write the file again") as image:
            mask[:] = np.asarray(image.convert("L").resize((width, height), Image.Resampling.NEAREST)) == 255
    return masks
