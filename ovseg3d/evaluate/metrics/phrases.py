"""Protocols that measure each phrase by itself: `selection`, `lerf-3d` and `3d-ovs-phrase`.

- Direct 3D selection: a phrase selects points, and only what was selected is compared. Scores are the mean IoU and the
  shares of phrases with an IoU above 0.25 and 0.5 (Acc@0.25, Acc@0.5). `selection` compares on the points of a labelled
  cloud; `lerf-3d` shows the selected points in LERF's labelled frames, and compares with the polygons there.
- LangSplat's figures on 3D-OVS's data: at each level the pixels whose relevancy is above 0.4; of these masks the one
  with the highest mean relevancy inside; IoU with the phrase's mask. No code of it was released.

An IoU of two empty sets is 0.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float

from ovseg3d.errors import MeasureError
from ovseg3d.evaluate.metrics.report import Scores

RELEVANCY_THRESHOLD = 0.4
"""Of LangSplat on 3D-OVS's data."""

Ious = dict[str, dict[str, float]]
"""By scene or view, and phrase."""


@dataclass(frozen=True)
class PhraseScores(Scores):
    """LangSplat's per-phrase protocol on 3D-OVS's data."""

    protocol: ClassVar[str] = "3d-ovs-phrase"
    aggregation: ClassVar[str] = "IoU of each phrase by itself; plain mean over views x phrases."

    miou: float
    iou: Ious


@dataclass(frozen=True)
class SelectionScores(Scores):
    """Direct 3D selection, on the points of a labelled cloud."""

    protocol: ClassVar[str] = "selection"
    aggregation: ClassVar[str] = "IoU of each phrase by itself; plain mean over the phrases of the scene."

    miou: float
    acc_25: float
    """Share of the phrases with an IoU above 0.25."""
    acc_50: float
    iou: Ious


@dataclass(frozen=True)
class LerfSelectionScores(SelectionScores):
    """Direct 3D selection, shown in LERF's labelled frames."""

    protocol: ClassVar[str] = "lerf-3d"
    aggregation: ClassVar[str] = "Mean over the units (a phrase in a frame) of the scene."


def phrase_scores(iou: Ious) -> PhraseScores:
    """Scores by IoU. Raises MeasureError: there is none."""
    return PhraseScores(float(_values(iou).mean()), iou)


def selection_scores(iou: Ious) -> SelectionScores:
    """Scores by IoU. Raises MeasureError: there is none."""
    values = _values(iou)
    return SelectionScores(float(values.mean()), float((values > 0.25).mean()), float((values > 0.5).mean()), iou)


def lerf_selection_scores(iou: Ious) -> LerfSelectionScores:
    """Scores by IoU. Raises MeasureError: there is none."""
    return LerfSelectionScores(**vars(selection_scores(iou)))


def relevant_pixels(
    maps: Float[np.ndarray, "levels h w"], threshold: float = RELEVANCY_THRESHOLD
) -> Bool[np.ndarray, "h w"]:
    """The mask of a phrase by LangSplat's rule for 3D-OVS's data; empty if no level has a pixel above the threshold."""
    masks = maps > threshold
    means = [float(level[mask].mean()) if mask.any() else -np.inf for level, mask in zip(maps, masks)]
    return masks[int(np.argmax(means))]


def overlap(found: Bool[np.ndarray, "*shape"], true: Bool[np.ndarray, "*shape"]) -> float:
    """IoU of two sets; 0 if both are empty."""
    return float((found & true).sum() / max(int((found | true).sum()), 1))


def _values(iou: Ious) -> Float[np.ndarray, " phrases"]:
    values = np.array([value for phrases in iou.values() for value in phrases.values()], dtype=np.float64)
    if not values.size:
        raise MeasureError("No phrase was measured", fix="labels of at least one phrase are needed")
    return values
