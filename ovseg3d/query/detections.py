"""Detections of a run: its instances, whose boxes the detection head says, named by the run's own language features.

The head runs once for each detector and unit. Boxes and names, and what questions about places and the viewer take of
them, all come from here. Everything is in the input frame and unit.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np

from ovseg3d.heads.detection import Candidate, DetectedScene, Detection, Detector, detect_scene
from ovseg3d.query.context import RunContext
from ovseg3d.query.labels import LabelModel
from ovseg3d.query.matching import detections_of
from ovseg3d.runs.phrases import in_list

MAX_CANDIDATES = 5
"""Names that are kept of each detection."""
MIN_SHARE = 0.3
"""Least share of a detection's points that carry a name of the list; otherwise it is none of them."""


class DetectionModel:
    """Runs the head on a run's surface, and keeps what it found.

    Args:
        context: of the run.
        labels: names detections.
    """

    def __init__(self, context: RunContext, labels: LabelModel) -> None:
        self._context, self._labels = context, labels
        self._found: dict[tuple[Detector, float | None, bool], DetectedScene] = {}

    def detect(self, detector: Detector | None = None, metres_per_unit: float | None = None) -> DetectedScene:
        """The objects on the surface, with the head's own names: the run's instances, or what the head finds if there
        are none.

        Args:
            detector: whose least score counts for instances, too; None: the shipped one, and instances of any score.
            metres_per_unit: None: the scene's, stated or estimated (see `RunContext.metres`).

        Raises:
            ConfigError: the surface has too few points.
        """
        every = self._unfiltered(detector or Detector(), metres_per_unit)
        if detector is None:
            return every
        return replace(every, detections=tuple(d for d in every.detections if d.score >= detector.min_score))

    def _unfiltered(self, detector: Detector, metres_per_unit: float | None) -> DetectedScene:
        """The same with instances of any score."""
        metres = metres_per_unit or self._context.metres
        stated = metres_per_unit is not None or self._context.stated_metres is not None
        if (detector, metres, stated) not in self._found:
            semantics = self._context.semantics
            x, y, z = (float(v) for v in semantics.surface.up / np.linalg.norm(semantics.surface.up))
            known = semantics.instance if semantics.instance.any() else None
            found = detect_scene(
                semantics.surface.cloud, detector, up=(x, y, z), metres_per_unit=metres, instance=known
            )  # fmt: skip
            found = replace(found, is_scale_known=stated)
            if known is not None:
                of_run = tuple(replace(one, id=int(known[one.points].max())) for one in found.detections)
                found = replace(found, detections=of_run)
            self._found[detector, metres, stated] = found
        return self._found[detector, metres, stated]

    def named(
        self,
        phrases: Sequence[str] | None = None,
        detector: Detector | None = None,
        metres_per_unit: float | None = None,
    ) -> DetectedScene:
        """The same with names of a list.

        Args:
            phrases: names to choose from, a list or a text with semicolons; what is none of them is left out. None:
                those of the run; what is none of these has no name, or, if the run has no phrases, the head's own.
            detector, metres_per_unit: as for `detect`.

        Raises:
            ConfigError: the surface has too few points.
            EncoderError: a phrase is too long, or the run's encoder is not available.
        """
        found = self.detect(detector, metres_per_unit)
        names = self._context.phrases if phrases is None else tuple(in_list(phrases))
        if phrases is None and not names:
            return found
        labels = self._labels.labels(names)
        named = [(one, _named(one, labels, names)) for one in found.detections]
        kept = [new or replace(old, candidates=()) for old, new in named if new is not None or phrases is None]
        return replace(found, detections=tuple(kept))

    @cached_property
    def of_instances(self) -> dict[int, Detection]:
        """The detection of each instance that has one (see `detections_of`), by the instance's id."""
        return detections_of(self._context.semantics.instance, self._unfiltered(Detector(), None).detections)


def _named(detection: Detection, labels: np.ndarray, phrases: tuple[str, ...]) -> Detection | None:
    """The detection with the phrases of its points as candidates; None: it is none of them."""
    counts = np.bincount(labels[detection.points], minlength=len(phrases) + 1)
    if not len(detection.points) or counts[1:].sum() < MIN_SHARE * counts.sum():
        return None
    shares = counts[1:] / counts.sum()
    best = [i for i in np.argsort(-shares, kind="stable")[:MAX_CANDIDATES].tolist() if shares[i] > 0]
    return replace(detection, candidates=tuple(Candidate(phrases[i], float(shares[i])) for i in best))
