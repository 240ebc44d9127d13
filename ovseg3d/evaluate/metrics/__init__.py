"""Metrics of images, depth, labels, points, instances, boxes, poses, names, absence and consistency.

All functions work on arrays. Results are `Scores`, whose `as_dict` names the protocol and the aggregation.
"""

from ovseg3d.evaluate.metrics.absence import AbsenceCurve, AbsenceScores, absence_curve, measure_absence
from ovseg3d.evaluate.metrics.consistency import ConsistencyScores, measure_consistency
from ovseg3d.evaluate.metrics.depth import DepthErrors, depth_errors
from ovseg3d.evaluate.metrics.detection import (
    CalibrationBin,
    DetectionScores,
    FoundBoxes,
    TrueBoxes,
    average_precision,
    measure_detection,
)
from ovseg3d.evaluate.metrics.image import psnr, ssim
from ovseg3d.evaluate.metrics.instances import (
    FoundInstance,
    InstanceScores,
    TrueInstance,
    measure_instances,
    true_instances,
)
from ovseg3d.evaluate.metrics.labels import Confusion, LabelScores
from ovseg3d.evaluate.metrics.lerf import (
    LerfFrame,
    LerfParameters,
    LerfScene,
    LerfScores,
    LerfUnit,
    read_lerf_folder,
    read_lerf_labels,
)
from ovseg3d.evaluate.metrics.naming import (
    NamingScores,
    RetrievalScores,
    measure_names,
    measure_retrieval,
    name_ranks,
)
from ovseg3d.evaluate.metrics.ovs3d import Ovs3dScores, Ovs3dViews, read_phrase_masks
from ovseg3d.evaluate.metrics.points import PointScores, TrueCloud, measure_points
from ovseg3d.evaluate.metrics.pose import (
    PoseFigures,
    PoseScores,
    PredictedPoses,
    TruePoses,
    measure_poses,
    pose_errors_rad,
)
from ovseg3d.evaluate.metrics.relevancy import RelevancyScores, compare_relevancy
from ovseg3d.evaluate.metrics.report import Scores, mean_over_scenes
from ovseg3d.geometry.boxes import Box, box_from_record, box_iou

__all__ = [
    "AbsenceCurve",
    "AbsenceScores",
    "Box",
    "CalibrationBin",
    "Confusion",
    "ConsistencyScores",
    "DepthErrors",
    "DetectionScores",
    "FoundBoxes",
    "FoundInstance",
    "InstanceScores",
    "LabelScores",
    "LerfFrame",
    "LerfParameters",
    "LerfScene",
    "LerfScores",
    "LerfUnit",
    "NamingScores",
    "Ovs3dScores",
    "Ovs3dViews",
    "PointScores",
    "PoseFigures",
    "PoseScores",
    "PredictedPoses",
    "RelevancyScores",
    "RetrievalScores",
    "Scores",
    "TrueBoxes",
    "TrueInstance",
    "TrueCloud",
    "TruePoses",
    "absence_curve",
    "average_precision",
    "box_from_record",
    "box_iou",
    "compare_relevancy",
    "depth_errors",
    "mean_over_scenes",
    "measure_absence",
    "measure_consistency",
    "measure_detection",
    "measure_instances",
    "measure_names",
    "measure_points",
    "measure_poses",
    "measure_retrieval",
    "name_ranks",
    "pose_errors_rad",
    "psnr",
    "read_lerf_folder",
    "read_lerf_labels",
    "read_phrase_masks",
    "ssim",
    "true_instances",
]
