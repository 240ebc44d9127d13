"""Predictions that are averaged over turned grids."""

import math
import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from heads.test_detection import BOXES, TINY, perfect, room_cloud, scene_of
from scipy.spatial.transform import Rotation

from ovseg3d.heads.detection import DetectionNetwork, Detector
from ovseg3d.heads.detection.align import rotated
from ovseg3d.heads.detection.network import YAW_BINS, Predictions
from ovseg3d.heads.detection.passes import predict, turned_back
from ovseg3d.heads.detection.voxels import Voxels, voxelize
from ovseg3d.heads.detection.yaw import decode_yaw, yaw_labels
from ovseg3d.scene import PointCloud


class Compass(DetectionNetwork):
    """Says the place of each voxel, and the yaw from the middle of the cloud to it: both turn with the cloud."""

    def forward(self, voxels: Voxels) -> Predictions:
        x, y, _ = (voxels.xyz - voxels.xyz.mean(0)).T
        yaw = yaw_labels(torch.atan2(y, x), torch.ones(len(x), dtype=torch.long), YAW_BINS).clamp(min=1e-6).log()
        same = torch.ones(len(x), 4)
        return Predictions(same[:, 0], same[:, 0], voxels.xyz, same[:, :3], yaw, same, same)


class Meeting(DetectionNetwork):
    """Waits until two passes are in it at once."""

    meet = threading.Barrier(2, timeout=10)

    def forward(self, voxels: Voxels) -> Predictions:
        self.meet.wait()
        return super().forward(voxels)


class Broken(DetectionNetwork):
    def forward(self, voxels: Voxels) -> Predictions:
        raise RuntimeError("a pass fails")


@pytest.fixture(autouse=True)
def _torch_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def network_of(seed: int) -> DetectionNetwork:
    torch.manual_seed(seed)
    return DetectionNetwork(TINY).eval().requires_grad_(False)


def test_one_pass_is_the_networks_own_output() -> None:
    cloud, network = scene_of(BOXES)[0], network_of(0)
    voxels, found = predict(network, cloud, 1)
    torch.testing.assert_close(voxels.xyz, voxelize(cloud).xyz, atol=0, rtol=0)
    for name, values in vars(network(voxelize(cloud))).items():
        torch.testing.assert_close(getattr(found, name), values, atol=0, rtol=0)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_boxes_of_a_turned_cloud_are_turned_back(quarters: int) -> None:
    instance = torch.tensor([1] * 3 + [2] * 2)
    _, turned = rotated(PointCloud(np.zeros((1, 3))), BOXES, quarters * math.pi / 2)
    true, found = (perfect(boxes, instance, [1, 1]) for boxes in (BOXES, turned))
    back = turned_back(found, quarters)
    torch.testing.assert_close(back.center, true.center, atol=1e-6, rtol=0)
    torch.testing.assert_close(decode_yaw(back.yaw), decode_yaw(true.yaw), atol=1e-5, rtol=0)
    assert (decode_yaw(found.yaw) - decode_yaw(true.yaw)).abs().min() > 1, "they were turned"


def test_what_turns_with_the_cloud_is_the_same_in_each_pass() -> None:
    cloud = scene_of(BOXES)[0]
    with torch.no_grad():
        (voxels, one), (_, two) = (predict(Compass(TINY), cloud, passes) for passes in (1, 2))
    assert (one.center - two.center).abs().max() < 0.05, "half a voxel of 5 cm, and what its points are apart"
    far = (voxels.xyz - voxels.xyz.mean(0))[:, :2].norm(dim=1) > 0.5
    apart = decode_yaw(one.yaw)[far] - decode_yaw(two.yaw)[far]
    assert torch.atan2(apart.sin(), apart.cos()).abs().max() < math.radians(8)


def test_two_passes_are_the_mean_of_both() -> None:
    """The same by loops over voxels and bins."""
    cloud, network = scene_of(BOXES, 200)[0], network_of(1)
    voxels, found = predict(network, cloud, 2)
    turn = Rotation.from_euler("z", 90, degrees=True)
    other = voxelize(PointCloud(turn.apply(cloud.xyz).astype(np.float32)), shift=(0.5, 0.5, 0.5))
    first, second = network(voxels), network(other)
    center = torch.from_numpy(turn.inv().apply(second.center.numpy())).float()
    yaw = torch.stack([second.yaw[:, (k + YAW_BINS // 4) % YAW_BINS] for k in range(YAW_BINS)], 1)
    for row in range(0, len(voxels.xyz), 7):
        own = other.point_voxel[voxels.point_voxel == row]
        for name, values in vars(second).items():
            values = {"center": center, "yaw": yaw}.get(name, values)
            mean = (getattr(first, name)[row] + values[own].mean(0)) / 2
            torch.testing.assert_close(getattr(found, name)[row], mean, atol=1e-4, rtol=1e-4)


def test_passes_beside_each_other_are_those_one_after_the_other() -> None:
    cloud, network = scene_of(BOXES)[0], network_of(2)
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(predict(network, cloud, 2)[1])
    for name, values in vars(found[0]).items():
        torch.testing.assert_close(getattr(found[1], name), values, atol=0, rtol=0)


def test_passes_run_at_once() -> None:
    torch.set_num_threads(2)
    predict(Meeting(TINY), scene_of(BOXES)[0], 2)


@pytest.mark.parametrize("threads", [1, 2])
def test_torch_keeps_its_threads(threads: int) -> None:
    torch.set_num_threads(threads)
    predict(network_of(0), scene_of(BOXES)[0], 2)
    assert torch.get_num_threads() == threads
    with pytest.raises(RuntimeError, match="a pass fails"):
        predict(Broken(TINY), scene_of(BOXES)[0], 2)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("threads", [1, 2])
def test_passes_take_no_more_threads_than_torch_has(threads: int) -> None:
    torch.set_num_threads(threads)
    used = set()

    class Noting(DetectionNetwork):
        def forward(self, voxels: Voxels) -> Predictions:
            used.add(threading.current_thread() is threading.main_thread())
            return super().forward(voxels)

    predict(Noting(TINY), scene_of(BOXES)[0], 2)
    assert used == {threads == 1}


def test_two_passes_depend_less_on_how_the_cloud_lies() -> None:
    """The shipped network on a room, and on the same room after a turn."""
    cloud, network = room_cloud(), Detector().trained.network
    turned, _ = rotated(cloud, np.zeros((0, 7)), math.pi / 2)
    changes = []
    for passes in (1, 2):
        (voxels, there), (others, found) = (predict(network, each, passes) for each in (cloud, turned))
        back, object_ = turned_back(found, 1), there.foreground[voxels.point_voxel] > 0
        one, two = there.center[voxels.point_voxel][object_], back.center[others.point_voxel][object_]
        changes.append(float((one - two).norm(dim=1).mean()))
    assert changes[1] < 0.8 * changes[0]


def test_boxes_are_of_two_passes_and_segments_of_one() -> None:
    room, one, two = room_cloud(), Detector(min_score=0.1, passes=1), Detector(min_score=0.1)
    assert two.passes == 2 and two.detect(room)[0].score != one.detect(room)[0].score
    for name, values in vars(one.segment(room)).items():
        for a, b in zip(values, getattr(two.segment(room), name), strict=True):
            np.testing.assert_array_equal(a, b)
