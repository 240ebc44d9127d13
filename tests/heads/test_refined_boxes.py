"""Boxes whose faces are moved to where points and predictions say that they are."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from heads.test_detection import BOXES, TINY, perfect, room_cloud, scene_of
from scipy.spatial.transform import Rotation

from ovseg3d.errors import ConfigError
from ovseg3d.geometry import rotated_iou
from ovseg3d.heads.detection import DetectionNetwork, Detector
from ovseg3d.heads.detection.align import rotated
from ovseg3d.heads.detection.decode import Decoded, decode
from ovseg3d.heads.detection.faces import FACES, FaceNetwork, load_faces, moved, refine, save_faces
from ovseg3d.heads.detection.network import Predictions
from ovseg3d.heads.detection.passes import turned_back
from ovseg3d.heads.detection.voxels import voxelize
from ovseg3d.heads.detection.weights import SHIPPED
from ovseg3d.scene import PointCloud

OFF = np.array([[0.04, -0.03, 0.02, 0.08, -0.06, 0.05, 0.0], [-0.03, 0.03, 0.03, 0.06, 0.06, -0.05, 0.0]])
"""What the head's boxes are off."""


def told(cloud: PointCloud, instance: np.ndarray, boxes: np.ndarray) -> tuple[Decoded, Predictions, torch.Tensor]:
    """The objects of a head that says these boxes, its predictions, and its voxels."""
    voxels = voxelize(cloud)
    of_voxel = np.zeros(len(voxels.xyz), np.int64)
    of_voxel[voxels.point_voxel.numpy()] = instance
    said = perfect(boxes, torch.from_numpy(of_voxel), [1, 1])
    with torch.no_grad():
        found = decode(DetectionNetwork(TINY), said, min_score=0.3, nms_iou=0.25)
    assert len(found.boxes) == len(boxes)
    return found, said, voxels.xyz


def refined(cloud: PointCloud, instance: np.ndarray, boxes: np.ndarray) -> Decoded:
    found, said, voxels = told(cloud, instance, boxes)
    # Boxes of equal scores have any order.
    row = rotated_iou(found.boxes, boxes).argmax(1)
    members = np.append(-1, np.argsort(row))[instance]
    return refine(load_faces(), found, said, voxels, cloud.xyz, members)


def test_boxes_of_an_exact_cloud_become_exact() -> None:
    cloud, instance = scene_of(BOXES, 4000)
    wrong = BOXES + OFF
    found = refined(cloud, instance, wrong)
    before, after = rotated_iou(wrong, BOXES).diagonal(), rotated_iou(found.boxes, BOXES).max(0)
    assert before.max() < 0.8 < 0.85 < after.min()


def test_refined_boxes_turn_and_move_with_the_cloud() -> None:
    cloud, instance = scene_of(BOXES, 4000)
    here = refined(cloud, instance, BOXES + OFF)
    turned, wrong = rotated(cloud, BOXES + OFF, 0.8)
    shift = np.array([3.0, -2.0, 0.0])
    there = refined(replace(turned, xyz=turned.xyz + shift), instance, wrong + np.append(shift, np.zeros(4)))
    _, back = rotated(turned, there.boxes - np.append(shift, np.zeros(4)), -0.8)
    assert rotated_iou(here.boxes, back).max(1).min() > 0.96
    np.testing.assert_allclose(np.sort(here.scores), np.sort(there.scores), atol=0.03)


def test_a_box_that_is_turned_by_a_quarter_is_refined_alike() -> None:
    """Its sides, and those of the votes, have other names."""
    cloud, instance = scene_of(BOXES[:1], 4000)
    found, said, voxels = told(cloud, instance, BOXES[:1] + OFF[:1])
    quarter = replace(said, log_size=said.log_size[:, [1, 0, 2]], yaw=turned_back(said, -1).yaw)
    ways = [refine(load_faces(), found, votes, voxels, cloud.xyz, instance - 1) for votes in (said, quarter)]
    np.testing.assert_allclose(ways[0].boxes, ways[1].boxes, atol=2e-3)


def test_objects_without_points_keep_finite_boxes() -> None:
    cloud, instance = scene_of(BOXES)
    found, said, voxels = told(cloud, instance, BOXES)
    bare = refine(load_faces(), found, said, voxels, cloud.xyz, np.full(len(cloud), -1))
    assert np.isfinite(bare.boxes).all() and rotated_iou(bare.boxes, found.boxes).diagonal().min() > 0.5
    nothing = replace(found, **{k: v[:0] for k, v in vars(found).items() if k != "voxel_box"})
    assert refine(load_faces(), nothing, said, voxels, cloud.xyz, np.full(len(cloud), -1)) is nothing


def test_faces_move_outwards_along_the_axes_of_the_box() -> None:
    box = np.array([[1.0, 2.0, 0.5, 0.4, 0.6, 1.0, np.pi / 2]])
    step = np.zeros((1, 3, 2))
    step[0, 0, 1], step[0, 2, 0] = 0.2, 0.1  # its x points along y
    np.testing.assert_allclose(moved(box, step), [[1.0, 2.1, 0.45, 0.6, 0.6, 1.1, np.pi / 2]])
    assert moved(box, np.full((1, 3, 2), -1.0))[0, 3:6].min() > 0, "no side is turned inside out"


def test_a_fresh_network_weighs_all_places_alike() -> None:
    places = torch.rand(4, 3, 2, 13)
    step, change = FaceNetwork()(torch.rand(4, 3, 2, 28), places)
    torch.testing.assert_close(step, places.mean(-1))
    assert not change.any()


def test_scores_are_those_of_the_refined_boxes() -> None:
    """None is below the least score, and the head's own boxes are to be had."""
    room = room_cloud()
    own, found = Detector().detect(room), Detector(exact=True).detect(room)
    assert own and found
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    assert min(one.score for one in found) >= 0.3
    few = Detector(min_score=found[0].score, exact=True).detect(room)
    assert [one.score for one in few] == [found[0].score]
    assert all(a.center != b.center for a in own for b in found)
    owned = [one.points for one in found]
    assert len(np.concatenate(owned)) == len(np.unique(np.concatenate(owned))), "no point has two boxes"


def test_boxes_of_instances_are_refined() -> None:
    room, true = room_cloud(), np.array([1.2, 1.3, 0.45, 1.2, 0.45, 0.9, 0.0])
    instance = np.zeros(len(room), np.int64)
    instance[-8000:-4000], instance[-4000:] = 1, 2
    overlaps = []
    for faces in (None, FACES):
        found = Detector(faces=faces).detect(room, instance=instance)
        assert len(found) == 2
        boxes = np.array([[*one.center, *one.size, one.yaw_rad or 0.0] for one in found])
        overlaps.append(rotated_iou(boxes, true[None]).max())
    assert overlaps[0] < 0.7 < 0.85 < overlaps[1]


def test_other_weights_of_the_head_have_no_shipped_faces(tmp_path: Path) -> None:
    other = Path(shutil.copy(SHIPPED, tmp_path / "other.safetensors"))
    assert Detector().face_network is not None and Detector(other).face_network is None
    assert Detector(other, faces=Path(shutil.copy(FACES, tmp_path))).face_network is not None, "it was asked for"


def test_faces_of_another_version_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "faces.safetensors"
    save_faces(path, load_faces())
    torch.testing.assert_close(load_faces(path).state_dict(), load_faces().state_dict())
    older = FaceNetwork()
    older.mean = older.mean[:-1]
    save_faces(path, older)
    for wrong in (path, SHIPPED, tmp_path / "nothing"):
        with pytest.raises(ConfigError, match="no file of a network of faces") as refused:
            Detector(faces=wrong, exact=True).detect(room_cloud())
        assert "train_boxes" in str(refused.value.fix)


def test_the_level_of_a_cloud_does_not_matter() -> None:
    """A cloud whose y is up has the same boxes."""
    cloud = room_cloud()
    turn = Rotation.from_euler("x", -90, degrees=True)
    lying = PointCloud(turn.apply(cloud.xyz).astype(np.float32))
    detector = Detector(exact=True)
    here, there = detector.detect(cloud), detector.detect(lying, up=(0.0, 1.0, 0.0))
    sizes = [sorted(tuple(np.round(one.size, 1)) for one in found) for found in (here, there)]
    assert sizes[0] and sizes[0] == sizes[1]
