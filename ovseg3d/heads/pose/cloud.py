"""Poses of detections in a point cloud: what the detection head says of the yaw, as a `Pose`."""

import numpy as np

from ovseg3d.heads.detection import Detection
from ovseg3d.heads.pose.records import MIN_FRONT_PROBABILITY, Frame, Pose, mass_near


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


def likely_front(detection: Detection) -> tuple[float, float, float] | None:
    """The front of a detection if it is likelier right than wrong: that it has one, and that it is within 30 degrees.

    The head gives a ball a front, too, but believes neither.
    """
    chance = detection.symmetry_probability * pose_of_detection(detection).score
    return detection.front if chance > MIN_FRONT_PROBABILITY else None


def _peak(yaw: np.ndarray) -> float:
    return float(yaw.argmax()) * 2 * np.pi / len(yaw)
