"""Boxes of a run's instances from the detection head, where it is surer than the points of the instance are.

A box around points ends where the photos saw nothing, and has no front. The head's box is the whole object's.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Float, Integer

from ovseg3d.heads.detection import Detection
from ovseg3d.instances.records import Instance

SAME = 0.5
"""Least IoU of the points of a detection and an instance: then they are the same object, and no second detection or
instance can be."""


@dataclass(frozen=True)
class DetectedInstance(Instance):
    """An instance with the box of the detection head."""

    front: tuple[float, float, float] | None = None
    """Unit vector towards which it faces; None for symmetric objects."""
    symmetry_order: int | None = None
    """See `Detection`."""
    box_score: float | None = None
    """The expected IoU of the box."""


def with_head_boxes(
    instances: Sequence[Instance],
    ids: Integer[np.ndarray, " points"],
    detections: Sequence[Detection],
    eye: Float[np.ndarray, "3"] | None = None,
) -> tuple[Instance, ...]:
    """The instances, those that a detection means with its box, front and symmetry.

    Args:
        instances: in the frame of the detections.
        ids: instance of each point of the cloud, 0 for none.
        detections: in the same cloud, which the detector is sure of.
        eye: position of a camera, for `distance`.
    """
    totals = np.bincount(ids)
    meant: dict[int, Detection] = {}
    for detection in detections:
        counts = np.bincount(ids[detection.points], minlength=1)
        counts[0] = 0
        number = int(counts.argmax())
        if counts[number] >= SAME * (totals[number] + len(detection.points) - counts[number]) and counts[number] > 0:
            meant[number] = detection
    return tuple(_boxed(one, meant[one.id], eye) if one.id in meant else one for one in instances)


def _boxed(instance: Instance, detection: Detection, eye: np.ndarray | None) -> DetectedInstance:
    box = {
        "center": detection.center, "size": detection.size, "rotation_wxyz": detection.rotation_wxyz,
        "yaw_rad": detection.yaw_rad,
        "distance": None if eye is None else float(np.linalg.norm(np.subtract(detection.center, eye))),
    }  # fmt: skip
    return DetectedInstance(
        **(asdict(instance) | box),
        front=detection.front,
        symmetry_order=detection.symmetry_order,
        box_score=detection.score,
    )
