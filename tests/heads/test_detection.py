"""The detection head: its parts against references, what it learns, and what it returns."""

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from scipy.spatial.transform import Rotation

from ovseg3d.cli.detect_inputs import in_cloud
from ovseg3d.errors import ConfigError
from ovseg3d.geometry import from_wxyz, rotated_iou
from ovseg3d.heads.detection import (
    Detection,
    DetectionNetwork,
    DetectionShape,
    Detector,
    Names,
    TrainedNetwork,
    detect_scene,
    given_names,
    guess_frame,
    load_network,
    save_network,
)
from ovseg3d.heads.detection.align import manhattan_yaw, rotated
from ovseg3d.heads.detection.decode import decode, decode_groups
from ovseg3d.heads.detection.losses import IGNORE, Targets, assign, detection_losses
from ovseg3d.heads.detection.network import YAW_BINS, Predictions
from ovseg3d.heads.detection.normals import estimate_normals
from ovseg3d.heads.detection.sparse import SparseConv
from ovseg3d.heads.detection.voxels import VOXEL, voxelize
from ovseg3d.heads.detection.yaw import decode_yaw, yaw_labels
from ovseg3d.scene import PointCloud

TINY = DetectionShape(stem=16, widths=(16, 24, 24, 24), head=32, embedding=8)
BOXES = np.array([[0.6, 0.1, 0.4, 0.9, 0.5, 0.8, 0.0], [-0.7, -0.2, 0.25, 0.5, 0.5, 0.5, 0.6]])


def box_surface(rng: np.random.Generator, box: np.ndarray, points: int) -> np.ndarray:
    """Points on the five sides of a box that are not its bottom."""
    local = rng.uniform(-0.5, 0.5, (points, 3))
    side = rng.integers(5, size=points)
    axis, end = np.array([0, 0, 1, 1, 2])[side], np.array([-0.5, 0.5, -0.5, 0.5, 0.5])[side]
    local[np.arange(points), axis] = end
    turn = Rotation.from_euler("z", box[6]).as_matrix()
    return (local * box[3:6]) @ turn.T + box[:3]


def scene_of(boxes: np.ndarray, points: int = 1000) -> tuple[PointCloud, np.ndarray]:
    """A floor with boxes, and 1 + the row of each point's box."""
    rng = np.random.default_rng(0)
    floor = np.column_stack([rng.uniform(-1.5, 1.5, (3000, 2)), np.zeros(3000)])
    parts = [floor, *(box_surface(rng, box, points) for box in boxes)]
    instance = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return PointCloud(np.concatenate(parts)), instance


@pytest.fixture(scope="module")
def room() -> PointCloud:
    """A room with a bed-sized block, a table and walls."""
    return room_cloud()


def room_cloud() -> PointCloud:
    rng = np.random.default_rng(1)
    walls = [
        np.column_stack([rng.uniform(-2, 2, 9000), np.full(9000, y), rng.uniform(0, 2.5, 9000)]) for y in (-1.8, 1.8)
    ]
    floor = np.column_stack([rng.uniform(-2, 2, 20_000), rng.uniform(-1.8, 1.8, 20_000), np.zeros(20_000)])
    boxes = np.array([[1.2, 1.3, 0.45, 1.2, 0.45, 0.9, 0.0], [-0.6, -0.3, 0.25, 0.5, 0.4, 0.5, 0.4]])
    return PointCloud(np.concatenate([floor, *walls, *(box_surface(rng, box, 4000) for box in boxes)]))


def rows(detections: tuple[Detection, ...]) -> np.ndarray:
    return np.array([[*d.center, *d.size, d.yaw_rad] for d in detections], np.float64).reshape(-1, 7)


# Parts


def test_a_sparse_convolution_is_a_dense_one_at_occupied_voxels() -> None:
    torch.manual_seed(0)
    side, inputs, outputs = 8, 3, 5
    cells = torch.rand(side, side, side) < 0.3
    corners = torch.nonzero(cells)
    xyz = 0.1 * corners.double() + 0.02 * (corners > 0)  # clear of the borders of cells
    voxels = voxelize(PointCloud(xyz.numpy()), voxel=0.05)
    level = voxels.levels[1]
    conv = SparseConv(inputs, outputs)
    place = torch.full((level.size,), -1)
    for parent, child in level_pairs(voxels.levels[0].up.pairs):
        place[parent] = child  # each cell holds one point, hence one fine voxel
    x = torch.randn(level.size, inputs)
    grid = torch.zeros(1, inputs, side + 1, side + 1, side + 1)
    at = torch.floor((voxels.xyz[place] - voxels.xyz.min(0).values) / 0.1 + 0.5).long()
    grid[0, :, at[:, 0], at[:, 1], at[:, 2]] = x.T
    kernel = conv.weight.view(27, inputs, outputs).permute(2, 1, 0).reshape(outputs, inputs, 3, 3, 3)
    dense = F.conv3d(grid, kernel, padding=1)[0, :, at[:, 0], at[:, 1], at[:, 2]].T
    torch.testing.assert_close(conv(x, level.around), dense, atol=1e-4, rtol=1e-4)


def level_pairs(taps: list[tuple[torch.Tensor, torch.Tensor]]) -> list[tuple[int, int]]:
    return [(int(o), int(i)) for out, inp in taps for o, i in zip(out, inp)]


def test_gradients_of_a_sparse_convolution() -> None:
    voxels = voxelize(scene_of(BOXES, 20)[0])
    level = voxels.levels[4]
    conv = SparseConv(2, 2).double()
    x = torch.randn(level.size, 2, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: conv(x, level.around), (x,))
    total = conv(x, level.around).square().sum()
    (found,) = torch.autograd.grad(total, conv.weight)
    step = torch.zeros_like(conv.weight)
    step[26, 1] = 1e-5
    with torch.no_grad():
        conv.weight += step
        higher = conv(x, level.around).square().sum()
        conv.weight -= 2 * step
        lower = conv(x, level.around).square().sum()
    assert float((higher - lower) / 2e-5) == pytest.approx(float(found[26, 1]), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("yaw", [0.0, 0.05, 1.3, -2.9, math.pi])
def test_yaw_survives_its_bins(yaw: float) -> None:
    labels = yaw_labels(torch.tensor([yaw]), torch.tensor([1]), YAW_BINS)
    found = float(decode_yaw(labels.clamp(min=1e-9).log())[0])
    assert abs(math.remainder(found - yaw, 2 * math.pi)) < math.radians(1)


def test_symmetric_objects_have_as_many_yaws_as_their_order() -> None:
    labels = yaw_labels(torch.full((4,), 0.3), torch.tensor([1, 2, 4, 0]), YAW_BINS)
    torch.testing.assert_close(labels.sum(1), torch.ones(4))
    for row, order in zip(labels[:3], (1, 2, 4)):
        torch.testing.assert_close(row, row.roll(YAW_BINS // order))
        peaks = (row > row.roll(1)) & (row > row.roll(-1))
        assert int(peaks.sum()) == order
    assert labels[3].std() < 1e-6


def test_normals_of_a_floor_and_a_wall() -> None:
    rng = np.random.default_rng(0)
    floor = np.column_stack([rng.uniform(0, 2, (2000, 2)), np.zeros(2000)])
    wall = np.column_stack([np.full(2000, 5.0), rng.uniform(0, 2, (2000, 2))])
    normal = estimate_normals(np.concatenate([floor, wall]))
    assert np.abs(normal[:2000, 2]).min() > 0.99 and np.abs(normal[2000:, 0]).min() > 0.99


def test_walls_tell_the_yaw_of_a_room() -> None:
    angles = np.repeat([0.0, 0.5, 1.0, 1.5], 50) * np.pi + 0.2
    normal = np.column_stack([np.cos(angles), np.sin(angles), np.zeros(200)])
    assert manhattan_yaw(normal) == pytest.approx(0.2)
    assert manhattan_yaw(np.tile([0.0, 0.0, 1.0], (10, 1))) == 0.0


def test_voxels_belong_to_the_object_of_their_points() -> None:
    point_voxel = torch.tensor([0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 3])
    instance = torch.tensor([1, 1, 0, 0, 0, 0, 0, 1, 1, 2, 3])
    box = assign(point_voxel, instance, 4, 3)
    assert box[0] == 0 and box[1] == -1, "most of the second voxel's points are the room's"
    assert box[3] == IGNORE, "one voxel is too little of an object"


# Decoding


def perfect(boxes: np.ndarray, instance: torch.Tensor, orders: list[int]) -> Predictions:
    """What a perfect network says about voxels of known objects (0: none)."""
    row = (instance - 1).clamp(min=0)
    known = torch.from_numpy(boxes).float()[row]
    yaw = yaw_labels(known[:, 6], torch.tensor(orders)[row], YAW_BINS).clamp(min=1e-6).log()
    sure = torch.where(instance > 0, 4.0, -6.0)
    order = F.one_hot(torch.tensor([[1, 2, 4, 0].index(o) for o in orders])[row], 4) * 9.0
    return Predictions(sure, sure, known[:, :3], known[:, 3:6].log(), yaw, order.float(), torch.ones(len(row), 32))


def test_decoding_finds_each_object_once() -> None:
    instance = torch.tensor([0] * 50 + [1] * 40 + [2] * 9)
    with torch.no_grad():
        found = decode(DetectionNetwork(TINY), perfect(BOXES, instance, [1, 4]), min_score=0.3, nms_iou=0.25)
    assert len(found.boxes) == 2 and sorted(found.symmetry.tolist()) == [1, 4]
    assert rotated_iou(found.boxes, BOXES).max(0).min() > 0.97
    assert np.bincount(found.voxel_box + 1).tolist()[0] == 50, "the room's voxels belong to no box"


def test_decoding_against_its_definition() -> None:
    """By loops over voxels: the best of each cell, less those that a better one overlaps, and what agrees with them."""
    rng, instance = torch.Generator().manual_seed(3), torch.tensor([0] * 50 + [1] * 200 + [2] * 200)
    said = replace(perfect(BOXES, instance, [1, 2]), quality=2 * torch.randn(450, generator=rng))
    for values, noise in ((said.center, 0.15), (said.log_size, 0.3), (said.yaw, 1.0)):
        values += noise * torch.randn(values.shape, generator=rng)
    with torch.no_grad():
        found = decode(DetectionNetwork(TINY), said, min_score=0.5, nms_iou=0.3)
    score, yaw, size = said.quality.sigmoid(), decode_yaw(said.yaw), said.log_size.exp()
    best: dict[tuple[float, ...], int] = {}
    for row in score.argsort(descending=True).tolist():
        if said.foreground[row] > 0 and score[row] >= 0.5:
            octave = torch.round(said.log_size[row].mean() / math.log(2))
            best.setdefault((*torch.floor(said.center[row] / (0.5 * 2**octave)).tolist(), float(octave)), row)
    boxes = torch.cat([said.center, size, yaw[:, None]], 1).numpy().astype(np.float64)
    kept: list[int] = []
    for row in best.values():
        if not kept or rotated_iou(boxes[[row]], boxes[kept]).max() <= 0.3:
            kept.append(row)
    assert 5 < len(kept) < len(best)
    np.testing.assert_allclose(found.scores, score[kept], rtol=1e-6)
    lengths = torch.cat([said.log_size[:, :2].sort(1).values, said.log_size[:, 2:]], 1)
    for voxel in range(len(instance)):
        apart = []
        for row in kept:
            offset = Rotation.from_euler("z", boxes[row, 6]).inv().apply(boxes[voxel, :3] - boxes[row, :3])
            shift = float((np.abs(offset) / np.maximum(boxes[row, 3:6] / 2, 0.05)).max())
            differs = float((lengths[voxel] - lengths[row]).abs().mean())
            apart.append(shift / 0.5 + differs / 0.7 if shift < 0.5 and differs < 0.7 else math.inf)
        nearest = int(np.argmin(apart)) if min(apart) < math.inf and instance[voxel] > 0 else -1
        assert found.voxel_box[voxel] == (kept.index(voxel) if voxel in kept else nearest)


def test_the_box_of_a_group_is_what_its_own_voxels_agree_on() -> None:
    """Some voxels of the second group say the first one's box, which is nearly the same; others say one elsewhere."""
    boxes = np.array([BOXES[0], BOXES[0] + [0.04, 0, 0, 0.06, 0, 0, 0], BOXES[1]])
    said = perfect(boxes, torch.tensor([1] * 40 + [2] * 30 + [1] * 10 + [3] * 6 + [0] * 9), [1, 1, 1])
    said.quality[70:86] = 0.0  # less sure
    group = torch.tensor([0] * 40 + [1] * 46 + [-1] * 9)
    with torch.no_grad():
        found = decode_groups(DetectionNetwork(TINY), said, group, corners(boxes[[0, 1, 1]], group))
    assert found.voxel_box.tolist() == [0] * 40 + [1] * 40 + [-1] * 15
    np.testing.assert_allclose(found.boxes[:, :6], boxes[:2, :6], atol=0.01)


def test_the_box_of_a_group_is_not_that_of_what_carries_it() -> None:
    """Most voxels of a bowl say the table's box, and are surer of it."""
    table, bowl = [0.0, 0.0, 0.4, 1.2, 0.8, 0.8, 0.3], [0.2, 0.1, 0.85, 0.2, 0.2, 0.1, 0.3]
    said = perfect(np.array([table, bowl]), torch.tensor([1] * 40 + [1] * 8 + [2] * 4), [2, 2])
    said.quality[48:] = 1.0  # the table's have 4
    group = torch.tensor([0] * 40 + [1] * 12)
    with torch.no_grad():
        found = decode_groups(DetectionNetwork(TINY), said, group, corners(np.array([table, bowl]), group))
    np.testing.assert_allclose(found.boxes[:, :6], [table[:6], bowl[:6]], atol=0.01)


def test_the_box_of_a_group_is_not_elsewhere() -> None:
    """All voxels of a rug say the table that stands on it."""
    rug, table = [0.0, 0.0, 0.01, 2.0, 1.4, 0.02, 0.3], [0.1, 0.0, 0.4, 0.8, 0.6, 0.7, 0.3]
    said = perfect(np.array([rug, table]), torch.tensor([2] * 40), [2, 2])
    group = torch.zeros(40, dtype=torch.long)
    with torch.no_grad():
        found = decode_groups(DetectionNetwork(TINY), said, group, corners(np.array([rug]), group))
    np.testing.assert_allclose(found.boxes[0], [*rug[:3], *np.add(rug[3:6], VOXEL), rug[6]], atol=0.02)


def test_no_groups_have_no_boxes() -> None:
    with torch.no_grad():
        said, group = perfect(BOXES, torch.zeros(9, dtype=torch.long), [1, 1]), torch.full((9,), -1)
        found = decode_groups(DetectionNetwork(TINY), said, group, torch.zeros(9, 3))
    assert found.boxes.shape == (0, 7) and (found.voxel_box == -1).all()


def corners(boxes: np.ndarray, group: torch.Tensor) -> torch.Tensor:
    """Places for voxels: in turn the corners of their group's box."""
    signs = np.array(list(itertools.product([-0.5, 0.5], repeat=3)))[np.arange(len(group)) % 8]
    own = boxes[group.numpy()]
    offset = Rotation.from_euler("z", own[:, 6:7]).apply(signs * own[:, 3:6])
    return torch.from_numpy(own[:, :3] + offset).float()


def test_decoding_turns_with_the_boxes() -> None:
    instance = torch.tensor([1] * 40 + [2] * 30)
    network = DetectionNetwork(TINY)
    _, turned = rotated(PointCloud(np.zeros((1, 3))), BOXES, 0.7)
    with torch.no_grad():
        there = decode(network, perfect(turned, instance, [1, 1]), min_score=0.3, nms_iou=0.25)
    assert rotated_iou(there.boxes, turned).max(0).min() > 0.95
    error = np.abs(np.sort(there.boxes[:, 6]) - np.sort(turned[:, 6]))
    assert error.max() < math.radians(1.5)


def test_nothing_is_found_where_nothing_is() -> None:
    with torch.no_grad():
        found = decode(
            DetectionNetwork(TINY),
            perfect(BOXES, torch.zeros(30, dtype=torch.long), [1, 1]),
            min_score=0.3,
            nms_iou=0.25,
        )
    assert found.boxes.shape == (0, 7) and (found.voxel_box == -1).all()


# Learning


def test_a_tiny_network_learns_two_boxes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    true = BOXES * [1, 1, 1, 1, 1, 1, 0]  # parallel, so that the detector does not turn the cloud
    cloud, instance = scene_of(true)
    cloud = PointCloud(cloud.xyz, estimate_normals(cloud.xyz))
    voxels, network = voxelize(cloud), DetectionNetwork(TINY)
    boxes, names = torch.from_numpy(true).float(), F.normalize(torch.randn(2, 8), dim=1)
    of_voxel = assign(voxels.point_voxel, torch.from_numpy(instance), len(voxels.xyz), 2)
    targets = Targets(of_voxel, boxes, torch.tensor([1, 4]), torch.tensor([0, 1]))
    optimizer = torch.optim.Adam(network.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, total_iters=100)
    for _ in range(100):
        loss = torch.stack(list(detection_losses(network, network(voxels), targets, names).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    save_network(tmp_path / "tiny.safetensors", TrainedNetwork(network, ("cupboard", "crate"), names))
    detector = Detector(tmp_path / "tiny.safetensors", min_score=0.2)
    found = detector.detect(cloud)
    overlaps = rotated_iou(rows(found), true)
    assert overlaps.max(0).min() > 0.5
    best = [found[i] for i in overlaps.argmax(0)]
    assert [d.label for d in best] == ["cupboard", "crate"]
    assert best[0].front is not None and best[0].front[1] < -0.9
    own = instance[best[0].points]
    assert (own == 1).mean() > 0.9 and len(own) > 100


# The shipped detector


def test_the_shipped_head_finds_a_block_at_a_wall(room: PointCloud) -> None:
    found = Detector(min_score=0.1).detect(room)
    truth = np.array([[1.2, 1.3, 0.45, 1.2, 0.45, 0.9, 0.0]])
    assert rotated_iou(rows(found), truth).max() > 0.25
    assert [d.score for d in found] == sorted((d.score for d in found), reverse=True)
    assert all(0 <= d.score <= 1 and min(d.size) > 0 for d in found)


def test_boxes_follow_unit_and_up_axis(room: PointCloud) -> None:
    plain = Detector(min_score=0.1).detect(room)
    turn = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # z to y: y is up
    other = PointCloud(100 * room.xyz @ turn.T)
    found = Detector(min_score=0.1).detect(other, up=(0.0, 1.0, 0.0), metres_per_unit=0.01)
    assert len(found) == len(plain) and found[0].yaw_rad is None
    for one, two in zip(plain, found):
        np.testing.assert_allclose(two.center, 100 * turn @ one.center, atol=2)
        np.testing.assert_allclose(two.size, 100 * np.array(one.size), rtol=0.05)
        up = from_wxyz(two.rotation_wxyz).apply([0, 0, 1])
        np.testing.assert_allclose(up, [0, 1, 0], atol=1e-6)


def test_segmentation_is_that_of_the_detections_of_one_pass(room: PointCloud) -> None:
    detector = Detector(min_score=0.1, passes=1)
    found, said = detector.detect(room), detector.segment(room)
    assert said.foreground.shape == (len(room.xyz),) and len(said.masks) == len(said.scores) >= len(found) > 0
    masks = {mask.tobytes(): score for mask, score in zip(said.masks, said.scores)}
    assert all(masks[one.points.tobytes()] == pytest.approx(one.score) for one in found)
    # A box is of foreground.
    assert said.foreground[found[0].points].min() >= 0.5 > said.foreground.min()


def test_points_vote_for_the_centre_and_the_size_of_their_object(room: PointCloud) -> None:
    detector = Detector(min_score=0.1)
    found, said = detector.detect(room), detector.segment(room)
    turn = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # z to y: y is up
    other = PointCloud(100 * room.xyz @ turn.T)
    large = detector.segment(other, up=(0.0, 1.0, 0.0), metres_per_unit=0.01)
    level = Rotation.from_euler("z", 0.4).as_matrix()
    turned = detector.segment(PointCloud(room.xyz @ level.T))
    for one in found[:2]:
        same = turned.centers[turned.voxel[one.points]]
        np.testing.assert_allclose(np.median(same, 0), level @ one.center, atol=0.15)
        centers, sizes = (values[said.voxel[one.points]] for values in (said.centers, said.log_sizes))
        np.testing.assert_allclose(np.median(centers, 0), one.center, atol=0.1)
        np.testing.assert_allclose(np.exp(np.median(sizes, 0)), [*sorted(one.size[:2]), one.size[2]], rtol=0.25)
        same = large.centers[large.voxel[one.points]]
        np.testing.assert_allclose(np.median(same, 0), 100 * turn @ one.center, atol=10)
        same = large.log_sizes[large.voxel[one.points]] - np.log(100)
        np.testing.assert_allclose(np.median(same, 0), np.median(sizes, 0), atol=0.1)


def test_known_instances_are_the_objects_and_the_head_says_their_boxes(room: PointCloud) -> None:
    found = Detector(min_score=0.1, exact=True).detect(room)
    ids = np.zeros(len(room.xyz), np.int64)
    for number, one in zip((2, 5), found, strict=False):
        ids[one.points] = number
    ids[np.flatnonzero(ids == 0)[:3]] = 7  # three points of a wall
    told = {ids[one.points[0]]: one for one in Detector(min_score=0.99).detect(room, instance=ids)}
    assert set(told) == {2, 5, 7}, "however low the score"
    for number, one in zip((2, 5), found, strict=False):
        same = told[number]
        assert (same.points == np.flatnonzero(ids == number)).all()
        np.testing.assert_allclose(same.center, one.center, atol=0.05)
        np.testing.assert_allclose(same.size, one.size, rtol=0.15)
        assert same.score == pytest.approx(one.score, abs=0.1) and same.symmetry_order == one.symmetry_order
    small = ids.copy()
    small[np.flatnonzero(ids == 2)[0]] = 9  # one point in a voxel of another instance
    assert {small[one.points[0]] for one in Detector().detect(room, instance=small)} == {2, 5, 7, 9}
    assert told[7].score < min(one.score for one in found[:2])
    assert not Detector().detect(room, instance=np.zeros(len(room.xyz), np.int64))


def test_points_of_an_object_are_described_as_their_detection_is(room: PointCloud) -> None:
    detector = Detector(min_score=0.1)
    found, said = detector.detect(room), detector.segment(room)
    ids = np.zeros(len(room.xyz), np.int64)
    for number, one in zip((1, 3), found, strict=False):
        ids[one.points] = number  # nothing has the id 2
    described = said.describe(ids)
    assert described.shape == (4, len(found[0].embedding)) and not described[2].any()
    np.testing.assert_allclose(np.linalg.norm(described[[0, 1, 3]], axis=1), 1, atol=1e-5)
    for row, one in zip((1, 3), found, strict=False):
        assert described[row] @ one.embedding > 0.9
    half = (ids == 1) & (room.xyz[:, 2] > np.median(room.xyz[ids == 1, 2]))
    foreground, voxel, twice = (np.concatenate([each, each[half]]) for each in (said.foreground, said.voxel, ids))
    again = replace(said, foreground=foreground, voxel=voxel).describe(twice)  # points that share a voxel count once
    np.testing.assert_allclose(again, described, atol=1e-5)


def test_a_record_is_json(room: PointCloud) -> None:
    detection = Detector(min_score=0.1).detect(room)[0]
    record = json.loads(json.dumps(detection.record()))
    assert set(record) == {
        "label", "score", "center", "size", "rotation_wxyz", "yaw_rad", "front", "symmetry_order", "candidates",
        "n_points", "id",
    }  # fmt: skip
    assert record["id"] is None, "a cloud has no instances"
    assert record["label"] == record["candidates"][0]["label"] and record["n_points"] == len(detection.points)
    assert detection.yaw_probabilities.sum() == pytest.approx(1, abs=1e-3)
    if detection.front is not None:
        ahead = from_wxyz(detection.rotation_wxyz).apply([0, -1, 0])
        np.testing.assert_allclose(ahead, detection.front, atol=1e-6)


def test_too_few_points_and_too_wide_clouds() -> None:
    with pytest.raises(ConfigError, match="10 points"):
        Detector().detect(PointCloud(np.zeros((10, 3))))
    wide = np.random.default_rng(0).uniform(0, 5e4, (1000, 3))
    with pytest.raises(ConfigError, match="too far"):
        Detector().detect(PointCloud(wide, np.tile([0.0, 0.0, 1.0], (1000, 1)).astype(np.float32)))


# Names


def test_synonyms_are_no_negatives() -> None:
    detector = Detector()
    names = given_names(["couch", "fridge"], detector.names)
    trained = list(detector.names.labels)
    assert len(names.negatives) < len(trained)
    sofa = detector.names.vectors[trained.index("sofa")]
    assert [c.label for c in names.candidates(names.log_probabilities(sofa[None])[0])][:1] == ["couch"]
    bicycle = detector.names.vectors[trained.index("bicycle")]
    assert names.candidates(names.log_probabilities(bicycle[None])[0]) == ()
    assert names.texts == ("couch", "fridge", *names.negative_labels) and "bicycle" in names.negative_labels
    assert len(names.negative_labels) == len(names.negatives) and "sofa" not in names.negative_labels


def test_candidates_are_sorted() -> None:
    names = Names(("a", "b", "c"), np.eye(3, dtype=np.float32), np.zeros((0, 3), np.float32))
    found = names.candidates(names.log_probabilities(np.array([[0.0, 0.8, 0.6]], np.float32))[0])
    assert [c.label for c in found] == ["b", "c", "a"] and sum(c.score for c in found) == pytest.approx(1)


# Frames


def test_frames_that_are_evident(room: PointCloud) -> None:
    assert guess_frame(room.xyz).warnings == () and guess_frame(room.xyz).up == (0, 0, 1)
    lying = guess_frame(room.xyz[:, [0, 2, 1]])
    assert lying.up == (0, 1, 0) and "y" in lying.warnings[0]
    fallen = guess_frame(room.xyz * [1, -1, -1])
    assert fallen.up == (0, 0, -1) and "top" in fallen.warnings[0]
    for factor, unit in ((100, "centimetres"), (1000, "millimetres")):
        large = guess_frame(room.xyz * factor)
        assert large.metres_per_unit == pytest.approx(1 / factor) and unit in large.warnings[0]
        assert ("--scale 0.0254 for inches" in large.warnings[0]) == (unit == "centimetres")
    assert "0.391 m" in guess_frame(room.xyz / 10).warnings[0]


@pytest.mark.filterwarnings("error")
def test_a_cloud_without_thickness_has_no_objects(room: PointCloud) -> None:
    tilt = Rotation.from_euler("xyz", [0.4, 0.7, 0.2]).as_matrix()
    clouds = {"plane": room.xyz * [1, 1, 0.001], "line": room.xyz * [1, 0, 0], "place": room.xyz * 0 + 3.0}
    for word, xyz in clouds.items():
        for turn in (np.eye(3), tilt):
            found = detect_scene(PointCloud(xyz @ turn.T))
            assert not found.detections and f"The cloud is one {word}: no object" in found.frame.warnings[-1]
    for xyz in (room.xyz[:1], room.xyz[:2]):
        with pytest.raises(ConfigError, match=r"50 are the least"):
            detect_scene(PointCloud(xyz))


def test_an_object_on_a_wide_floor_stands_out() -> None:
    rng = np.random.default_rng(0)
    floor = rng.uniform([-5, -5, 0], [5, 5, 0], (20_000, 3))
    box = rng.uniform([0, 0, 0], [0.5, 0.5, 1.0], (180, 3))  # less than a percent of the points
    guess = guess_frame(np.concatenate([floor, box]))
    assert guess.up == (0, 0, 1) and guess.warnings == () and not guess.is_flat


def test_a_single_small_object_is_no_room(room: PointCloud, tmp_path: Path) -> None:
    np.save(tmp_path / "mug.npy", room.xyz * 0.025)  # of 10 cm
    detector = Detector()
    said = {m: in_cloud(tmp_path / "mug.npy", detector, None, None, m).found.frame.warnings for m in (None, 1.0, 40.0)}
    assert ["ovseg3d name" in " ".join(warnings) for warnings in said.values()] == [True, True, False]
    assert not said[40.0], "a room in another unit"


def test_a_guessed_unit_is_not_known(room: PointCloud) -> None:
    detector = Detector()
    guessed, stated = (detect_scene(PointCloud(room.xyz * 100), detector, metres_per_unit=m) for m in (None, 0.01))
    assert guessed.metres_per_unit is None and stated.metres_per_unit == 0.01
    assert guessed.frame.metres_per_unit == 0.01 and len(guessed.detections) == len(stated.detections)
    assert detect_scene(room, detector).metres_per_unit == 1.0, "taken for granted"


def test_an_array_is_a_cloud(room: PointCloud) -> None:
    plain, rgb = room.xyz[::4], np.random.default_rng(0).random(room.xyz[::4].shape, np.float32)
    coloured = np.hstack([plain, rgb * 255])
    for array, cloud in ((plain, PointCloud(plain)), (coloured, PointCloud(plain, rgb=rgb))):
        found, expected = (detect_scene(points, Detector(min_score=0.1)).detections for points in (array, cloud))
        assert expected and [one.score for one in found] == pytest.approx([one.score for one in expected], abs=1e-3)
    broken = plain.copy()
    broken[0, 0] = np.nan
    for wrong, found in ((plain[:, :2], f"{len(plain)}x2"), (broken, f"{len(plain)}x3")):
        with pytest.raises(ConfigError, match=f"x y z or x y z r g b, .*not {found}") as told:
            detect_scene(wrong)
        assert "read_cloud" in str(told.value.fix)
    normals = np.hstack([plain, np.random.default_rng(0).normal(size=plain.shape)])
    for wrong, words in ((plain[:0], "no points"), (plain * 1e12, "too far"), (normals, "no colours")):
        with pytest.raises(ConfigError, match=words):
            detect_scene(wrong)


def test_a_stated_frame_needs_no_warning(room: PointCloud) -> None:
    found = detect_scene(PointCloud(room.xyz * 100), metres_per_unit=0.01)
    assert found.frame.warnings == () and found.unit == "units" and found.metres_per_unit == 0.01


# Weights


def test_broken_weights(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no file of a detection network"):
        load_network(tmp_path / "none.safetensors")
    save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ConfigError, match="no file of a detection network"):
        load_network(tmp_path / "other.safetensors")


def test_the_shipped_weights_are_small() -> None:
    trained = load_network()
    assert 0.5e6 < sum(p.numel() for p in trained.network.parameters()) < 2e6
    assert Detector().weights.stat().st_size < 8 * 2**20
    assert (Detector().weights.parent / "card.json").is_file()


def test_a_cloud_with_a_point_far_away_is_refused_with_and_without_normals(room: PointCloud) -> None:
    xyz, near = room.xyz.copy(), estimate_normals(room.xyz)
    for far in (1e7, -1e7):
        xyz[0] = far
        assert np.abs((estimate_normals(xyz) * near).sum(1))[1:].mean() > 0.95, "the others keep their normals"
        for normal in (None, near):
            with pytest.raises(ConfigError, match="too far for one pass"):
                Detector().detect(PointCloud(xyz, normal))
