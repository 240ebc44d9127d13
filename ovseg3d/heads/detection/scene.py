"""The objects of a whole cloud, with what had to be assumed about its frame."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from ovseg3d.heads.detection.detector import MIN_POINTS, Detector
from ovseg3d.heads.detection.frame import SCENE, Frame, bounds_of, guess_frame
from ovseg3d.heads.detection.names import Names
from ovseg3d.heads.detection.records import Detection
from ovseg3d.heads.naming import ObjectNamer
from ovseg3d.scene.clouds import PointCloud, cloud_of_array
from ovseg3d.scene.units import Unit, unit_name


@dataclass(frozen=True)
class DetectedScene:
    """Detections by falling score, in the cloud's own frame and unit."""

    detections: tuple[Detection, ...]
    frame: Frame
    coordinates: Literal["input", "camera"] = "input"
    """Whose axes these are: the input's, or those of a lone photo's camera (x right, y down, z forward)."""
    is_scale_known: bool = True
    """Whether `frame.metres_per_unit` is more than an estimate: stated, or one metre, which is taken for granted."""

    @property
    def metres_per_unit(self) -> float | None:
        """Length of the cloud's unit; None: only estimated."""
        return self.frame.metres_per_unit if self.is_scale_known else None

    @property
    def unit(self) -> Unit:
        """The name of the cloud's unit."""
        return unit_name(self.metres_per_unit)


def detect_scene(
    cloud: PointCloud | Float[np.ndarray, "points columns"],
    detector: Detector | None = None,
    *,
    up: tuple[float, float, float] | None = None,
    metres_per_unit: float | None = None,
    names: Names | None = None,
    instance: Int[np.ndarray, " points"] | None = None,
    namers: Sequence[ObjectNamer] = (),
) -> DetectedScene:
    """Detect objects in a cloud whose up axis or unit may be unknown.

    Args:
        cloud: finite points; an array has columns x y z or x y z r g b (colours of 0 to 1, or 0 to 255).
        detector: by default one with the shipped weights.
        up: unit vector; None: z, or what `guess_frame` finds evident.
        metres_per_unit: None: 1, or what `guess_frame` finds evident.
        names, instance, namers: see `Detector.detect`.

    Raises:
        ConfigError: the cloud has too few points, or extends too far, or the array has other columns.
    """
    if not isinstance(cloud, PointCloud):
        cloud = cloud_of_array(cloud)
    guess = guess_frame(cloud.xyz)
    if instance is not None and guess.is_flat:  # objects that are known need not stand out
        guess = replace(guess, warnings=guess.warnings[:-1], is_flat=False)
    # What was stated needs no warning.
    warnings = tuple(
        text
        for text in guess.warnings
        if not (up is not None and "--up" in text) and not (metres_per_unit is not None and "--scale" in text)
    )
    frame = Frame(up or guess.up, metres_per_unit or guess.metres_per_unit, warnings, guess.is_flat)
    is_known = metres_per_unit is not None or guess.metres_per_unit == 1.0
    if frame.is_flat and len(cloud) >= MIN_POINTS:
        return DetectedScene((), frame, is_scale_known=is_known)
    detector = detector or Detector()
    found = detector.detect(
        cloud, up=frame.up, metres_per_unit=frame.metres_per_unit, names=names, instance=instance, namers=namers
    )
    return DetectedScene(found, frame, is_scale_known=is_known)


def is_small(cloud: PointCloud, metres_per_unit: float) -> bool:
    """Whether a cloud is smaller than any room: it may be a single object."""
    return bool(np.ptp(bounds_of(cloud.xyz), axis=0).max() * metres_per_unit < SCENE[0])
