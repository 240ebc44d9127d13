"""Objects that the detection head finds on the surface: boxes, names, fronts, and their colours."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from ovseg3d.heads.detection import Detection
from ovseg3d.heads.pose import likely_front
from ovseg3d.points.semantic_scene import SemanticScene
from ovseg3d.render.palette import colours
from ovseg3d.viewer.shared_scene import SharedScene

UNNAMED = "object"
"""The name of a detection without one."""


@dataclass(frozen=True)
class DetectedObject:
    """One detection, input frame."""

    detection: Detection
    instance: int
    """The instance that holds most of its points; 0: none does."""

    @property
    def name(self) -> str:
        """What it is called in the scene."""
        return self.detection.label or UNNAMED


@dataclass(frozen=True)
class Detected:
    """All detections of a surface, by falling score."""

    objects: tuple[DetectedObject, ...]
    tints: UInt8[np.ndarray, "objects 3"]
    """The colours of their names."""
    semantics: SemanticScene
    """Whose surface they lie on."""

    @property
    def sentence(self) -> str:
        """How many there are, and of how many an arrow shows the front."""
        count, fronts = len(self.objects), sum(likely_front(one.detection) is not None for one in self.objects)
        if not count:
            return "No object is found here, or none is sure enough."
        arrows = f"; arrows show the front of {fronts}" if fronts else ""
        return f"{count} {'object' if count == 1 else 'objects'}{arrows}."


def find_detected(shared: SharedScene, phrases: Sequence[str] | None, stage: Callable[[str], None]) -> Detected:
    """Detect the objects on the surface; the head runs only for the first browser.

    Args:
        shared: the scene.
        phrases: names to choose from; None: the scene's.
        stage: called with what is being done.

    Raises:
        RunError, EncoderError: the run cannot be queried. ConfigError: the surface has too few points.
    """
    stage("Finding objects")
    with shared.query_lock:
        engine = shared.need_engine()
        engine.detections.detect()
    stage("Naming them")  # waiting questions come first
    with shared.query_lock:
        found = engine.detect(phrases).detections
    ids = engine.semantics.instance
    objects = tuple(
        DetectedObject(one, int(np.bincount(ids[one.points]).argmax()) if len(one.points) else 0) for one in found
    )
    names = list(dict.fromkeys(one.name for one in objects))
    tints = colours(names, shared.scene.phrases)[1:]
    return Detected(objects, tints[[names.index(one.name) for one in objects]], engine.semantics)
