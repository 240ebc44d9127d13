"""Poses of detections in a point cloud: what the detection head says of the yaw, as a `Pose`."""

import numpy as np

from ovseg3d.heads.detection import Detection
from ovseg3d.heads.pose.records import Frame, Pose, mass_near


def pose_of_detection(detection: Detection, frame: Frame = "input") -> Pose:
    """The pose of a detected object: its box's rotation, with the distribution of its yaw.

    Args:
        detection: of the detection head.
        frame: of its box.
    """
    yaw, order = np.asarray(detection.yaw_probabilities, np.float64), detection.symmetry_order
    yaw = yaw / max(float(yaw.sum()), 1e-12)
    angle = _peak(yaw)
    return Pose(detection.rotation_wxyz, order, mass_near(yaw, angle, order), "cloud", frame, {"yaw": yaw})


def _peak(yaw: np.ndarray) -> float:
    return float(yaw.argmax()) * 2 * np.pi / len(yaw)
