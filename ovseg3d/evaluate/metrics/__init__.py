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
from ovseg3d.evaluate.metrics.instance_ap import (
    FoundMasks,
    InstanceApScores,
    TrueMasks,
    average_precision_scannet,
    measure_instance_ap,
)
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
from ovseg3d.evaluate.metrics.phrases import (
    LerfSelectionScores,
    PhraseScores,
    SelectionScores,
    lerf_selection_scores,
    overlap,
    phrase_scores,
    relevant_pixels,
    selection_scores,
)
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
from ovseg3d.evaluate.metrics.vertices import VertexScores, measure_vertices
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
    "FoundMasks",
    "InstanceApScores",
    "InstanceScores",
    "LabelScores",
    "LerfFrame",
    "LerfParameters",
    "LerfScene",
    "LerfScores",
    "LerfSelectionScores",
    "LerfUnit",
    "NamingScores",
    "Ovs3dScores",
    "Ovs3dViews",
    "PhraseScores",
    "PointScores",
    "PoseFigures",
    "PoseScores",
    "PredictedPoses",
    "RelevancyScores",
    "RetrievalScores",
    "Scores",
    "SelectionScores",
    "TrueBoxes",
    "TrueCloud",
    "TrueInstance",
    "TrueMasks",
    "TruePoses",
    "VertexScores",
    "absence_curve",
    "average_precision",
    "average_precision_scannet",
    "box_from_record",
    "box_iou",
    "compare_relevancy",
    "depth_errors",
    "lerf_selection_scores",
    "mean_over_scenes",
    "measure_absence",
    "measure_consistency",
    "measure_detection",
    "measure_instance_ap",
    "measure_instances",
    "measure_names",
    "measure_points",
    "measure_poses",
    "measure_retrieval",
    "measure_vertices",
    "name_ranks",
    "overlap",
    "phrase_scores",
    "pose_errors_rad",
    "psnr",
    "read_lerf_folder",
    "read_lerf_labels",
    "read_phrase_masks",
    "relevant_pixels",
    "selection_scores",
    "ssim",
    "true_instances",
]
