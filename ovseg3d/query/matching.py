"""Which detection belongs to which instance of a run: the one that shares most of its points.

Detections of a run are its instances themselves; others come from another detector, or from a cloud alone.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Integer

from ovseg3d.heads.detection import Detection

MIN_OVERLAP = 0.25
"""Least IoU of the points of an instance with those of a detection that says which way it faces."""


def detections_of(ids: Integer[np.ndarray, " points"], detections: Sequence[Detection]) -> dict[int, Detection]:
    """For each instance the detection that shares most of its points; none where that is too little.

    Args:
        ids: instance of each point of the cloud, 0 for none.
        detections: in that cloud.
    """
    counts, found = np.bincount(ids), {}
    best = np.full(len(counts), MIN_OVERLAP)
    for detection in detections:
        shared = np.bincount(ids[detection.points], minlength=len(counts))
        iou = shared / np.maximum(counts + len(detection.points) - shared, 1)
        for instance in np.flatnonzero(iou >= best).tolist():
            best[instance] = iou[instance]
            found[instance] = detection
    return {instance: detection for instance, detection in found.items() if instance}
