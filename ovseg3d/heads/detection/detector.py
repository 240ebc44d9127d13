"""Objects in a point cloud: `Detector.detect` takes arrays and returns `Detection` records."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial.transform import Rotation

from ovseg3d.errors import ConfigError
from ovseg3d.geometry import to_wxyz
from ovseg3d.heads.detection.align import manhattan_yaw, rotated
from ovseg3d.heads.detection.decode import Decoded, decode, decode_groups, voxel_groups
from ovseg3d.heads.detection.faces import FACES, FaceNetwork, load_faces, refine
from ovseg3d.heads.detection.names import Names
from ovseg3d.heads.detection.network import Predictions
from ovseg3d.heads.detection.normals import estimate_normals
from ovseg3d.heads.detection.passes import predict
from ovseg3d.heads.detection.records import Candidate, Detection, Segmentation
from ovseg3d.heads.detection.weights import SHIPPED, TrainedNetwork, load_network
from ovseg3d.heads.naming import ObjectNamer
from ovseg3d.scene.clouds import PointCloud

MIN_POINTS = 50
"""Of a cloud; less has no objects to find."""
UPRIGHT = 1 - 1e-6
LEAST_SCORE = 0.02
"""Of boxes that are refined before their scores count."""


@dataclass(frozen=True)
class Detector:
    """The network with the rules that turn its predictions into detections.

    Args:
        weights: a file of scripts.training.train_detection; by default the shipped one.
        min_score: least score of a detection: the IoU that is expected of its box.
        nms_iou: largest IoU of two boxes, before they are averaged and refined.
        names_objects: whether its own embedding counts among what names the objects; else only other sources do.
        faces: a file of scripts.training.train_boxes, which refines boxes of instances that are given; by default the
            shipped one, which was fitted to the shipped weights and does not count for others. None: boxes are what the
            network says of their voxels in the mean.
        exact: whether clouds are exact, such as samples of a mesh: then all boxes are refined. In a real scan, which is
            sparse, they are better without.
        passes: of `detect`, whose predictions are averaged, see `predict`; each takes the network's time anew.
    """

    weights: Path = SHIPPED
    min_score: float = 0.3
    nms_iou: float = 0.1
    passes: int = 2
    names_objects: bool = True
    faces: Path | None = FACES
    exact: bool = False

    @cached_property
    def trained(self) -> TrainedNetwork:
        """The network, read once. Raises ConfigError."""
        return load_network(self.weights)

    @cached_property
    def face_network(self) -> FaceNetwork | None:
        """What refines the boxes, read once. Raises ConfigError."""
        fits = self.faces != FACES or self.weights == SHIPPED
        return load_faces(self.faces) if self.faces is not None and fits else None

    @cached_property
    def names(self) -> Names:
        """What the network was trained on. Raises ConfigError."""
        vectors = self.trained.vectors.numpy()
        return Names(self.trained.names, vectors, vectors[:0])

    def detect(
        self,
        cloud: PointCloud,
        *,
        up: tuple[float, float, float] = (0.0, 0.0, 1.0),
        metres_per_unit: float = 1.0,
        names: Names | None = None,
        instance: Int[np.ndarray, " points"] | None = None,
        namers: Sequence[ObjectNamer] = (),
    ) -> tuple[Detection, ...]:
        """The objects of a cloud, by falling score.

        Args:
            cloud: finite points, in any unit; without normals they are estimated.
            up: unit vector against gravity.
            metres_per_unit: length of the cloud's unit.
            names: to choose from, see `given_names`; what is none of them is left out, unless `keep_unnamed`. By
                default those that the network was trained on.
            instance: the instances of the points, if they are known, 0 for none: these are the objects then, and the
                head says their boxes. `min_score` and `nms_iou` do not count.
            namers: name the objects besides, such as `PictureNamer` by rendered pictures, if the cloud has colours, and
                `ReliefNamer` by their points. What all sources say nothing of has no name.

        Raises:
            ConfigError: the cloud has too few points, or extends too far.
            EncoderError: a name is too long for the encoder of a namer.
        """
        level, names = _level(np.asarray(up, np.float64)), names or self.names
        faces = self.face_network if self.exact or instance is not None else None
        seen = self._look(cloud, level, metres_per_unit, self.passes, instance, faces)
        odds = names.log_probabilities(seen.found.embeddings) * self.names_objects
        is_known = np.full(len(odds), self.names_objects)
        for namer in namers:
            vectors = namer.embed(seen.cloud, seen.found.boxes, seen.members)
            odds = odds + namer.weight * namer.log_probabilities(vectors, names.texts)
            is_known |= vectors.any(1)
        if namers and not self.names_objects:  # weights are relative to the head's
            odds = odds / sum(namer.weight for namer in namers)
        labels = [names.candidates(row) if known else () for row, known in zip(odds, is_known)]
        rows = [row for row, found in enumerate(labels) if found or names.keep_unnamed]
        return _records(seen, rows, labels, level, metres_per_unit)

    def segment(
        self, cloud: PointCloud, *, up: tuple[float, float, float] = (0.0, 0.0, 1.0), metres_per_unit: float = 1.0
    ) -> Segmentation:
        """What the network says of the points in one pass, without boxes and names; arguments and errors as of
        `detect`."""
        level = _level(np.asarray(up, np.float64))
        # What takes it, grouping with its selection, was fitted to one pass, and finds fewer instances with two.
        seen = self._look(cloud, level, metres_per_unit, passes=1)
        said = seen.predictions
        masks = tuple(np.flatnonzero(seen.members == row) for row in range(len(seen.found.scores)))
        turn = level.inv() * Rotation.from_euler("z", -seen.yaw)
        log_sizes = said.log_size.numpy().astype(np.float64)
        return Segmentation(
            foreground=said.foreground.sigmoid().numpy()[seen.voxel],
            masks=masks,
            scores=seen.found.scores,
            voxel=seen.voxel,
            centers=turn.apply(said.center.numpy()) / metres_per_unit,
            log_sizes=np.concatenate([np.sort(log_sizes[:, :2], 1), log_sizes[:, 2:]], 1) - np.log(metres_per_unit),
            embeddings=self.trained.network.embedding(said.hidden).numpy(),
        )

    def _look(
        self,
        cloud: PointCloud,
        level: Rotation,
        metres: float,
        passes: int,
        instance: Int[np.ndarray, " points"] | None = None,
        faces: FaceNetwork | None = None,
    ) -> "_Seen":
        prepared, normal = _prepared(cloud, level, metres)
        yaw = -manhattan_yaw(normal)
        turned, _ = rotated(prepared, np.zeros((0, 7)), yaw)
        network = self.trained.network
        with torch.inference_mode():
            voxels, predictions = predict(network, turned, passes)
            voxel = voxels.point_voxel.numpy()
            if instance is None:
                # What refines boxes has the last word on their scores.
                least = self.min_score if faces is None else min(self.min_score, LEAST_SCORE)
                found = decode(network, predictions, min_score=least, nms_iou=self.nms_iou)
                members = found.voxel_box[voxel]
            else:
                group, members = voxel_groups(voxel, instance, len(voxels.xyz))
                found = decode_groups(network, predictions, torch.from_numpy(group), voxels.xyz)
        if faces is not None:
            found = refine(faces, found, predictions, voxels.xyz, turned.xyz, members)
            if instance is None:
                found = found.at_least(self.min_score)
                members = found.voxel_box[voxel]
        _, boxes = rotated(turned, found.boxes, -yaw)
        return _Seen(prepared, replace(found, boxes=boxes), members, yaw, voxel, predictions)


@dataclass(frozen=True)
class _Seen:
    """What the network makes of a cloud, turned level."""

    cloud: PointCloud
    """Level, in metres, with normals."""
    found: Decoded
    members: Int[np.ndarray, " points"]
    """Row of each point's box, -1 for none."""
    yaw: float
    """Angle by which the cloud was turned before."""
    voxel: Int[np.ndarray, " points"]
    """The finest voxel of each point."""
    predictions: Predictions
    """Of these voxels, for the turned cloud."""


def _prepared(cloud: PointCloud, level: Rotation, metres: float) -> tuple[PointCloud, Float[np.ndarray, "points 3"]]:
    """The cloud in metres and z-up, with normals; and these normals."""
    if len(cloud.xyz) < MIN_POINTS:
        raise ConfigError(
            f"The cloud has {len(cloud.xyz)} points; {MIN_POINTS} are the least that can show an object",
            fix="use a denser cloud",
        )
    xyz = _turned(cloud.xyz, level) * metres
    normal = estimate_normals(xyz) if cloud.normal is None else _turned(cloud.normal, level).astype(np.float32)
    return PointCloud(xyz.astype(np.float32), normal, cloud.rgb), normal


def _turned(rows: Float[np.ndarray, "points 3"], turn: Rotation) -> Float[np.ndarray, "points 3"]:
    """In double precision; by torch, since NumPy's matrix product keeps threads busy that the network needs."""
    return (torch.from_numpy(rows.astype(np.float64)) @ torch.from_numpy(turn.as_matrix().T)).numpy()


def _level(up: np.ndarray) -> Rotation:
    """The smallest rotation that takes `up` to +z."""
    if up[2] > UPRIGHT:
        return Rotation.identity()
    return Rotation.align_vectors([[0, 0, 1]], [up])[0]


def _records(
    seen: _Seen, rows: Sequence[int], labels: Sequence[tuple[Candidate, ...]], level: Rotation, metres: float
) -> tuple[Detection, ...]:
    """Those in `rows`, by falling score."""
    found, back = seen.found, level.inv()
    upright = bool(level.magnitude() < 1e-6)
    detections = []
    for row in sorted(rows, key=lambda row: -found.scores[row]):
        box, order = found.boxes[row], int(found.symmetry[row])
        rotation = back * Rotation.from_euler("z", box[6])
        front = rotation.apply([0.0, -1.0, 0.0])
        detections.append(
            Detection(
                center=_triple(back.apply(box[:3]) / metres),
                size=_triple(box[3:6] / metres),
                rotation_wxyz=tuple(float(v) for v in to_wxyz(rotation)),  # type: ignore[arg-type]
                yaw_rad=float(np.arctan2(np.sin(box[6]), np.cos(box[6]))) if upright else None,
                symmetry_order=order,
                symmetry_probability=float(found.symmetry_probability[row]),
                front=_triple(front) if order == 1 else None,
                score=float(found.scores[row]),
                yaw_probabilities=_shifted(found.yaw[row], -seen.yaw),
                points=np.flatnonzero(seen.members == row),
                embedding=found.embeddings[row],
                candidates=labels[row],
            )
        )
    return tuple(detections)


def _shifted(probabilities: np.ndarray, angle: float) -> np.ndarray:
    """A distribution over bins of the circle, rotated by an angle (linear interpolation)."""
    bins = len(probabilities)
    place = np.arange(bins) - angle / (2 * np.pi) * bins
    return np.interp(place % bins, np.arange(bins + 1), np.append(probabilities, probabilities[0]))


def _triple(values: np.ndarray) -> tuple[float, float, float]:
    x, y, z = (float(v) for v in values)
    return x, y, z
