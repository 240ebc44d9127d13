"""Measures of what a run got right: pictures, depth, labels, points, instances, absence, agreement.

Everything works on arrays; what it makes of them is a `Scores`, whose `as_dict` names the protocol and how it was
averaged.
"""

from ovseg3d.metrics.absence import AbsenceCurve, AbsenceScores, absence_curve, measure_absence
from ovseg3d.metrics.boxes import Box, box_from_record, box_iou
from ovseg3d.metrics.consistency import ConsistencyScores, measure_consistency
from ovseg3d.metrics.depth import DepthErrors, depth_errors
from ovseg3d.metrics.image import psnr, ssim
from ovseg3d.metrics.instances import FoundInstance, InstanceScores, TrueInstance, measure_instances, true_instances
from ovseg3d.metrics.labels import Confusion, LabelScores
from ovseg3d.metrics.lerf import (
    LerfFrame,
    LerfParameters,
    LerfScene,
    LerfScores,
    LerfUnit,
    read_lerf_folder,
    read_lerf_labels,
)
from ovseg3d.metrics.ovs3d import Ovs3dScores, Ovs3dViews, read_phrase_masks
from ovseg3d.metrics.points import PointScores, measure_points
from ovseg3d.metrics.relevancy import RelevancyScores, compare_relevancy
from ovseg3d.metrics.report import STRUCTURAL, Scores, mean_over_scenes

__all__ = [
    "AbsenceCurve",
    "AbsenceScores",
    "Box",
    "Confusion",
    "ConsistencyScores",
    "DepthErrors",
    "FoundInstance",
    "InstanceScores",
    "LabelScores",
    "LerfFrame",
    "LerfParameters",
    "LerfScene",
    "LerfScores",
    "LerfUnit",
    "Ovs3dScores",
    "Ovs3dViews",
    "PointScores",
    "RelevancyScores",
    "STRUCTURAL",
    "Scores",
    "TrueInstance",
    "absence_curve",
    "box_from_record",
    "box_iou",
    "compare_relevancy",
    "depth_errors",
    "mean_over_scenes",
    "measure_absence",
    "measure_consistency",
    "measure_instances",
    "measure_points",
    "psnr",
    "read_lerf_folder",
    "read_lerf_labels",
    "read_phrase_masks",
    "ssim",
    "true_instances",
]
