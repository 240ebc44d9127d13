"""Boxes around the points of detections, for clouds that are exact: nearly free of noise, and of holes.

The network predicts a box that may go on beyond the points, and takes the mean of what voxels of 5 cm say. Where a
cloud shows where its objects end, their points say it more exactly. Where both boxes differ, one of them is wrong, and
so is often the object. On rough clouds (surfaces of runs, real scans) the network's own boxes are better. For the
shipped head, `faces` does better in exact clouds, and for the instances of runs.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from ovseg3d.geometry import rotated_iou, rotated_nms
from ovseg3d.heads.detection.records import Detection

FEWEST_POINTS = 5
"""Around fewer points there is no box, and the network's own counts."""
MIN_SIDE = 0.01
"""Metres."""
MAX_OVERLAP = 0.1
"""Largest IoU of two boxes, as of `Detector.nms_iou`."""


def boxes_around_points(found: Sequence[Detection], xyz: Float[np.ndarray, "points 3"]) -> tuple[Detection, ...]:
    """Detections with the boxes around their own points, of the same yaw, by falling score.

    Scores are multiplied by the root of the IoU of both boxes, so they are lower than the IoU that is to be expected.

    Args:
        found: with upright boxes; also those of a low score, since others may turn out to be worse.
        xyz: the cloud that they were found in, metres, z up.
    """
    fitted = [_fitted(one, xyz) for one in found]
    scores = np.array([one.score for one in fitted])
    return tuple(fitted[row] for row in rotated_nms(_rows(fitted), scores, MAX_OVERLAP))


def _fitted(one: Detection, xyz: Float[np.ndarray, "points 3"]) -> Detection:
    if len(one.points) < FEWEST_POINTS:
        return one
    turn = Rotation.from_euler("z", one.yaw_rad or 0.0)
    local = turn.inv().apply(xyz[one.points])
    low, high = local.min(0), local.max(0)
    x, y, z = (float(v) for v in turn.apply((low + high) / 2))
    length, width, height = (float(v) for v in np.maximum(high - low, MIN_SIDE))
    fitted = replace(one, center=(x, y, z), size=(length, width, height))
    agreement = float(rotated_iou(_rows([one]), _rows([fitted]))[0, 0])
    return replace(fitted, score=one.score * agreement**0.5)


def _rows(found: Sequence[Detection]) -> Float[np.ndarray, "boxes 7"]:
    return np.array([[*one.center, *one.size, one.yaw_rad or 0.0] for one in found], np.float64).reshape(-1, 7)
