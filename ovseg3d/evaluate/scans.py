"""A run against the labelled mesh of a data set's scan: ScanNet's and Replica's protocols.

The run's surface points are in the input frame, which captures of these data sets share with their meshes. Labels are
of a closed list, the protocol's classes. All vertices count, also those that no photo shows.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Int

from ovseg3d.datasets.labelled_clouds import LabelledCloud
from ovseg3d.datasets.replica_labels import read_replica_labels
from ovseg3d.datasets.scannet_labels import read_scannet_labels
from ovseg3d.datasets.segmentation_protocols import SegmentationProtocol
from ovseg3d.errors import ConfigError
from ovseg3d.evaluate.measure import instances_at, limit_of
from ovseg3d.evaluate.metrics.instance_ap import InstanceApScores, TrueMasks, measure_instance_ap
from ovseg3d.evaluate.metrics.points import TrueCloud
from ovseg3d.evaluate.metrics.vertices import VertexScores, measure_vertices
from ovseg3d.points.semantic_scene import SemanticScene

_READERS = {"scannet": read_scannet_labels, "replica": read_replica_labels}


def read_labelled_cloud(folder: Path, protocol: SegmentationProtocol, instances: bool = False) -> LabelledCloud:
    """The labelled mesh of a scan, by the reader of the protocol's data set. Raises SceneError."""
    return _READERS[protocol.dataset](folder, protocol, instances)


def measure_run_vertices(
    learnt: SemanticScene, labels: Int[np.ndarray, " points"], truth: LabelledCloud, protocol: SegmentationProtocol
) -> VertexScores:
    """Semantic protocols: classes of the vertices, each by the nearest surface point within the limit of `points`.

    Args:
        learnt: the run's surface points, input frame.
        labels: labels of these, in the order of the protocol's classes.
        truth: of the scan.
        protocol: of `truth`.

    Raises:
        ConfigError: the mesh lies elsewhere than the run.
    """
    xyz = learnt.surface.xyz.astype(np.float64)
    limit, true = limit_of(truth.xyz), TrueCloud(truth.xyz, truth.label)
    scores = measure_vertices(xyz, labels, true, truth.classes, limit=limit, splits=protocol.splits)
    _check_frame(learnt, scores.completeness > 0)
    return scores


def measure_run_scan_ap(
    learnt: SemanticScene, labels: Int[np.ndarray, " points"], truth: LabelledCloud, protocol: SegmentationProtocol
) -> InstanceApScores:
    """Instance protocols: average precision at the vertices, by the rules of protocol `instance-ap`.

    Classes without instances (wall and floor, in Replica the ceiling, too) and vertices without a label are void.

    Args:
        learnt: the run's surface points with their instances, input frame.
        labels: labels of these, in the order of the protocol's classes.
        truth: of the scan, with instances.
        protocol: of `truth`.

    Raises:
        ConfigError: the mesh lies elsewhere than the run.
    """
    assert truth.instance is not None
    things = [name for name in truth.classes if name not in protocol.stuff]
    number = {name: k for k, name in enumerate(things, start=1)}
    found, near = instances_at(learnt, labels, truth.classes, number, truth.xyz, limit_of(truth.xyz))
    _check_frame(learnt, bool(near.any()))
    true = TrueMasks(np.array([0, *(number.get(name, 0) for name in truth.classes)])[truth.label], truth.instance)
    return measure_instance_ap({"scene": found}, {"scene": true}, things)


def _check_frame(learnt: SemanticScene, near: bool) -> None:
    if len(learnt.surface) and not near:
        raise ConfigError(
            "No labelled vertex is near the run's surface",
            fix="use the labels of the same scan, and a capture in the frame of the data set's meshes",
        )
