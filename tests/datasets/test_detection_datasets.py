"""SUN RGB-D and ScanNet in three layouts: round trips of tiny copies, files written by hand, real samples, damage."""

import math
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from ovseg3d.datasets import (
    BoxScene,
    detection_protocol,
    read_mmdet3d,
    read_sunrgbd,
    read_votenet,
    write_mmdet3d,
    write_sunrgbd,
    write_votenet,
)
from ovseg3d.errors import ConfigError, SceneError
from ovseg3d.geometry import inside_boxes
from ovseg3d.scene.cameras import Camera

SUN, SCANNET = detection_protocol("sun-10"), detection_protocol("ScanNet-18")


@pytest.fixture
def frame(tmp_path: Path) -> BoxScene:
    """Like a frame of SUN RGB-D: a tilted camera, a photo and two turned boxes."""
    rng = np.random.default_rng(0)
    photo = tmp_path / "photo.jpg"
    Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).save(photo)
    dip = math.radians(12)
    depth_to_upright = np.array([[1, 0, 0], [0, math.cos(dip), math.sin(dip)], [0, -math.sin(dip), math.cos(dip)]])
    c2w = np.eye(4)
    c2w[:3, :3] = depth_to_upright @ np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]])
    boxes = np.array([[0.1, 2.5, -0.4, 2.0, 1.5, 0.6, -1.1], [-1.0, 3.0, -0.5, 0.5, 0.4, 0.7, 0.3]])
    return BoxScene(
        name="000007",
        xyz=rng.uniform([-2, 1, -1], [2, 4, 1], (300, 3)).astype(np.float32).astype(np.float64),
        rgb=rng.integers(0, 256, (300, 3), dtype=np.uint8),
        boxes=boxes,
        labels=("bed", "night_stand"),
        boxes_2d=np.array([[1.0, 2, 5, 6], [0, 1, 3, 5]]),
        camera=Camera(8, 6, 7.5, 7.25, 4.0, 3.0, c2w),
        photo=photo,
    )


@pytest.fixture
def scan() -> BoxScene:
    """Like a scan of ScanNet: boxes parallel to the axes, labels of points, and an alignment."""
    rng = np.random.default_rng(1)
    cos, sin = math.cos(0.3), math.sin(0.3)
    instance = rng.integers(0, 3, 200)
    return BoxScene(
        name="scene0001_00",
        xyz=rng.uniform(0, 4, (200, 3)).astype(np.float32).astype(np.float64),
        rgb=rng.integers(0, 256, (200, 3), dtype=np.uint8),
        boxes=np.array([[1.0, 2, 0.5, 1, 1.5, 1, 0], [3, 3, 1, 0.5, 0.4, 2, 0]]),
        labels=("sofa", "garbagebin"),
        semantic=np.array([0, 6, 39])[instance],
        instance=instance,
        axis_align=np.array([[cos, -sin, 0, 1], [sin, cos, 0, -2], [0, 0, 1, 0.1], [0, 0, 0, 1]]),
    )


def assert_same(found: BoxScene, scene: BoxScene) -> None:
    assert (found.name, found.labels) == (scene.name, scene.labels)
    assert np.allclose(found.xyz, scene.xyz, atol=1e-6)
    assert np.array_equal(found.rgb, scene.rgb)
    assert np.allclose(found.boxes, scene.boxes, atol=1e-12)


def assert_same_view(found: BoxScene, scene: BoxScene) -> None:
    assert found.photo is not None and scene.photo is not None and found.camera is not None and scene.camera is not None
    assert found.photo.read_bytes() == scene.photo.read_bytes()
    assert np.allclose(found.boxes_2d, scene.boxes_2d)
    one, other = found.camera, scene.camera
    assert (one.width, one.height) == (other.width, other.height)
    assert np.allclose([one.fx, one.fy, one.cx, one.cy], [other.fx, other.fy, other.cx, other.cy])
    assert np.allclose(one.c2w, other.c2w)


# Round trips


def test_a_frame_through_the_toolbox_layout(frame: BoxScene, tmp_path: Path) -> None:
    other = replace(frame, name="000008", labels=("garbage bin", "chair"))
    write_sunrgbd(tmp_path / "out", [frame, other])
    found = list(read_sunrgbd(tmp_path / "out"))
    assert len(found) == 2
    for one, scene in zip(found, (frame, other)):
        assert_same(one, scene)
        assert_same_view(one, scene)
    assert [one.name for one in read_sunrgbd(tmp_path / "out", ["000008"])] == ["000008"]


def test_a_frame_through_mmdet3d(frame: BoxScene, tmp_path: Path) -> None:
    write_mmdet3d(tmp_path / "out", [frame], SUN, "sunrgbd_infos_val.pkl")
    (found,) = read_mmdet3d(tmp_path / "out" / "sunrgbd_infos_val.pkl")
    assert_same(found, frame)
    assert_same_view(found, frame)


def test_a_frame_through_votenet(frame: BoxScene, tmp_path: Path) -> None:
    write_votenet(tmp_path / "out", [frame], SUN)
    (found,) = read_votenet(tmp_path / "out", SUN)
    assert_same(found, frame)


def test_a_scan_through_mmdet3d(scan: BoxScene, tmp_path: Path) -> None:
    bare = replace(scan, name="scene0002_00", semantic=None, instance=None, axis_align=None, rgb=None)
    write_mmdet3d(tmp_path / "out", [scan, bare], SCANNET, "scannet_infos_val.pkl")
    found, other = read_mmdet3d(tmp_path / "out" / "scannet_infos_val.pkl")
    assert_same(found, scan)
    assert np.array_equal(found.semantic, scan.semantic) and np.array_equal(found.instance, scan.instance)
    assert np.allclose(found.axis_align, scan.axis_align)
    assert other.semantic is None and np.allclose(other.axis_align, np.eye(4)) and not other.rgb.any()
    raw = np.fromfile(tmp_path / "out" / "points" / "scene0001_00.bin", np.float32).reshape(-1, 6)
    assert not np.allclose(raw[:, :3], scan.xyz, atol=0.1), "the file is in the raw frame"
    assert np.array_equal(raw[:, 3:], scan.rgb)


def test_a_scan_through_votenet(scan: BoxScene, tmp_path: Path) -> None:
    write_votenet(tmp_path / "out", [scan], SCANNET)
    (found,) = read_votenet(tmp_path / "out", SCANNET)
    assert_same(found, scan)
    assert np.array_equal(found.semantic, scan.semantic) and np.array_equal(found.instance, scan.instance)
    assert np.load(tmp_path / "out" / "scene0001_00_bbox.npy")[:, 6].tolist() == [6, 39]


def test_scenes_without_boxes(frame: BoxScene, scan: BoxScene, tmp_path: Path) -> None:
    frame, scan = frame.select(()), scan.select(())
    write_votenet(tmp_path / "a", [frame], SUN)
    write_votenet(tmp_path / "b", [scan], SCANNET)
    write_mmdet3d(tmp_path / "c", [frame], SUN, "list.pkl")
    write_mmdet3d(tmp_path / "d", [scan], SCANNET, "list.pkl")
    write_sunrgbd(tmp_path / "e", [frame])
    for scenes in (
        read_votenet(tmp_path / "a", SUN),
        read_votenet(tmp_path / "b", SCANNET),
        read_mmdet3d(tmp_path / "c" / "list.pkl"),
        read_mmdet3d(tmp_path / "d" / "list.pkl"),
        read_sunrgbd(tmp_path / "e"),
    ):
        (found,) = scenes
        assert found.boxes.shape == (0, 7) and found.labels == ()


def test_other_classes_are_left_out(frame: BoxScene, tmp_path: Path) -> None:
    other = replace(frame, labels=("chair", "garbage bin"))
    write_votenet(tmp_path / "out", [other], SUN)
    (found,) = read_votenet(tmp_path / "out", SUN)
    assert found.labels == ("chair",) and np.allclose(found.boxes, frame.boxes[:1])


# Files by hand, as the data sets' own tools write them


def test_the_toolbox_layout_by_hand(tmp_path: Path) -> None:
    """A bed whose x axis points along -y: its length, the second size, is along y. K and Rtilt go column by column."""
    for part in ("calib", "depth", "image", "label_v1"):
        (tmp_path / part).mkdir()
    (tmp_path / "calib" / "000001.txt").write_text("1 0 0 0 0.8 -0.6 0 0.6 0.8\n500 0 0 0 510 0 320 240 1\n")
    (tmp_path / "label_v1" / "000001.txt").write_text("bed 10 20 100 50 0.5 3 -0.4 0.7 1.0 0.3 0 -1\n")
    savemat(tmp_path / "depth" / "000001.mat", {"instance": np.array([[0.0, 2, 0, 1, 0.2, 0], [0, 3, 0.5, 0, 0, 1]])})
    Image.new("RGB", (640, 480)).save(tmp_path / "image" / "000001.jpg")
    (scene,) = read_sunrgbd(tmp_path)
    assert scene.boxes[0].tolist() == pytest.approx([0.5, 3, -0.4, 2.0, 1.4, 0.6, -math.pi / 2])
    assert scene.boxes_2d is not None and scene.boxes_2d[0].tolist() == [10, 20, 110, 70]
    assert scene.rgb is not None and scene.rgb.tolist() == [[255, 51, 0], [0, 0, 255]]
    camera = scene.camera
    assert camera is not None and (camera.fx, camera.fy, camera.cx, camera.cy) == (500, 510, 320, 240)
    # The pixel by SUN RGB-D's rule: flip(Rtilt^T x), with flip(x, y, z) = (x, -z, y), then K.
    tilt = np.array([[1, 0, 0], [0, 0.8, 0.6], [0, -0.6, 0.8]])
    point = np.array([0.3, 2.0, 0.1])
    x, y, z = tilt.T @ point
    expected = np.array([500 * x / y + 320, 510 * -z / y + 240])
    u, v, w = np.linalg.inv(camera.c2w)[:3, :3] @ point
    assert [500 * u / w + 320, 510 * v / w + 240] == pytest.approx(expected.tolist())


def test_votenets_frames_by_hand(tmp_path: Path) -> None:
    np.savez(tmp_path / "000003_pc.npz", pc=np.array([[0.0, 1, 2, 0, 0.2, 1], [0, 1.1, 2, 0, 0, 0]]))
    np.save(tmp_path / "000003_bbox.npy", np.array([[0.0, 1, 2, 1.0, 0.5, 0.25, 0.3, 7]]))
    (scene,) = read_votenet(tmp_path, SUN)
    assert scene.boxes[0].tolist() == pytest.approx([0, 1, 2, 2, 1, 0.5, -0.3]) and scene.labels == ("night_stand",)


def test_votenets_scans_drop_other_classes_and_empty_rows(scan: BoxScene, tmp_path: Path) -> None:
    write_votenet(tmp_path, [scan], SCANNET)
    path = tmp_path / "scene0001_00_bbox.npy"
    rows = np.load(path)
    wall = [0, 0, 0, 1, 1, 1, 1]
    np.save(path, np.vstack([wall, rows, np.zeros((1, 7))]))
    (found,) = read_votenet(tmp_path, SCANNET)
    assert_same(found, scan)


def test_votes_point_to_centres(frame: BoxScene, tmp_path: Path) -> None:
    boxes = np.vstack([frame.boxes[:1], frame.boxes[:1] + [0.1, 0, 0, 0, 0, 0, 0.2], frame.boxes[1:]])
    scene = replace(frame, boxes=boxes, labels=("bed", "bed", "night_stand"), boxes_2d=None)
    write_votenet(tmp_path / "out", [scene], SUN)
    with np.load(tmp_path / "out" / "000007_votes.npz") as archive:
        votes = archive["point_votes"]
    holds = inside_boxes(scene.xyz, boxes)
    assert np.array_equal(votes[:, 0] == 1, holds.any(axis=0))
    kinds = set()
    for k, vote in enumerate(votes):
        centres = boxes[holds[:, k], :3]
        kinds.add(len(centres))
        targets = vote[1:].reshape(3, 3) + scene.xyz[k]
        if len(centres) == 1:
            assert np.allclose(targets, centres[0], atol=1e-5)
        if len(centres) == 2:
            assert np.allclose(targets, centres[[0, 1, 0]], atol=1e-5)
        if not len(centres):
            assert not vote.any()
    assert kinds >= {0, 1, 2}


# Real samples


@pytest.fixture
def samples(data_dir: Path) -> Path:
    folder = data_dir / "mmdet3d_indoor"
    if not folder.is_dir():
        pytest.skip("needs mmdet3d_indoor among the development captures")
    return folder


def test_a_real_frame(samples: Path) -> None:
    (scene,) = read_mmdet3d(samples / "demo/data/sunrgbd/sunrgbd_000017_infos.pkl")
    assert (scene.name, scene.labels, len(scene.xyz)) == ("000017", ("night_stand", "bed"), 50_000)
    bed = scene.boxes[1]
    assert inside_boxes(scene.xyz, bed[None]).sum() == pytest.approx(18_117, abs=50), "the yaw has the right sign"
    camera = scene.camera
    assert camera is not None and (camera.width, camera.height) == (730, 530)
    assert camera.fx == pytest.approx(529.5, abs=0.1) and camera.cx == pytest.approx(365, abs=0.1)
    # The cloud was lifted from this photo: its points have the colours of their pixels.
    x, y, z = np.linalg.inv(camera.c2w)[:3, :3] @ scene.xyz.T
    column, row = (camera.fx * x / z + camera.cx).astype(int), (camera.fy * y / z + camera.cy).astype(int)
    seen = (z > 0) & (column >= 0) & (column < 730) & (row >= 0) & (row < 530)
    assert seen.mean() > 0.95
    with Image.open(scene.photo) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert np.median(np.abs(pixels[row[seen], column[seen]] - scene.rgb[seen].astype(int))) < 12


def test_a_real_scan(samples: Path, tmp_path: Path) -> None:
    infos = samples / "tests/data/scannet/scannet_infos.pkl"
    (scene,) = read_mmdet3d(infos, folder=samples / "demo/data/scannet")
    assert (scene.name, len(scene.boxes), len(scene.xyz)) == ("scene0000_00", 27, 40_684)
    assert inside_boxes(scene.xyz, scene.boxes).sum(axis=1).min() > 100
    write_mmdet3d(tmp_path, [scene], SCANNET, "scannet_infos_val.pkl")
    (found,) = read_mmdet3d(tmp_path / "scannet_infos_val.pkl")
    assert_same(found, scene)
    original = (samples / "demo/data/scannet/scene0000_00.bin").read_bytes()
    again = (tmp_path / "points" / "scene0000_00.bin").read_bytes()
    difference = np.frombuffer(again, np.float32) - np.frombuffer(original, np.float32)
    assert np.abs(difference).max() < 1e-6


# Damage


def test_protocols() -> None:
    assert [len(detection_protocol(name).classes) for name in ("SUN-10", "SUN-20", "ScanNet-18", "ScanNet-20")] == [
        10, 20, 18, 20,
    ]  # fmt: skip
    assert len(set(SCANNET.nyu40)) == 18 and "Leak" in detection_protocol("scannet-20").caution
    assert (SUN.phrase("night_stand"), SCANNET.phrase("garbagebin")) == ("night stand", "garbage bin")
    with pytest.raises(ConfigError, match="SUN-10"):
        detection_protocol("SUN-11")


def test_damaged_mmdet3d(frame: BoxScene, tmp_path: Path) -> None:
    infos = tmp_path / "list.pkl"
    write_mmdet3d(tmp_path, [frame], SUN, "list.pkl")
    good = pickle.loads(infos.read_bytes())
    entry = good["data_list"][0]
    for change, message in (
        ([], "1.1 or later"),
        ({**good, "metainfo": {"dataset": "kitti"}}, "SUNRGBD or SCANNET"),
        *(
            ({**good, "data_list": [{**entry, key: value}]}, message)
            for key, value, message in (
                ("instances", [{"bbox_3d": [1, 2]}], "layout"),
                ("images", {}, "layout"),
                ("lidar_points", {"num_pts_feats": 0, "lidar_path": "000007.bin"}, "layout"),
                ("lidar_points", {"num_pts_feats": 6, "lidar_path": "../../x"}, "outside"),
                ("lidar_points", {"num_pts_feats": 6, "lidar_path": "y.bin"}, "missing"),
            )
        ),
    ):
        infos.write_bytes(pickle.dumps(change))
        with pytest.raises(SceneError, match=message):
            list(read_mmdet3d(infos))


def test_damaged_votenet(frame: BoxScene, scan: BoxScene, tmp_path: Path) -> None:
    with pytest.raises(SceneError, match="holds no"):
        list(read_votenet(tmp_path, SUN))
    with pytest.raises(SceneError, match="missing"):
        list(read_votenet(tmp_path, SUN, ["000001"]))
    write_votenet(tmp_path, [frame], SUN)
    with pytest.raises(SceneError):
        list(read_votenet(tmp_path, SCANNET))
    path = tmp_path / "000007_bbox.npy"
    np.save(path, np.array([[0.0, 0, 0, 1, 1, 1, 0, 99]]))
    with pytest.raises(SceneError, match="class number"):
        list(read_votenet(tmp_path, SUN))
    np.save(path, np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(SceneError, match="cannot be read"):
        list(read_votenet(tmp_path, SUN))
    with pytest.raises(SceneError, match="NYU40"):
        write_votenet(tmp_path / "x", [scan.select(())], detection_protocol("ScanNet-20"))


def test_damaged_toolbox_files(frame: BoxScene, tmp_path: Path) -> None:
    write_sunrgbd(tmp_path, [frame])
    for part, content, message in (
        ("label_v1/000007.txt", "bed 1 2 3\n", "twelve numbers"),
        ("calib/000007.txt", "1 2 3\n", "nine numbers"),
        ("calib/000007.txt", "2 0 0 0 1 0 0 0 1\n1 0 0 0 1 0 0 0 1\n", "no rotation"),
        ("depth/000007.mat", "text", "cannot be read"),
        ("image/000007.jpg", "text", "photo cannot be read"),
    ):
        path = tmp_path / part
        before = path.read_bytes()
        path.write_text(content)
        with pytest.raises(SceneError, match=message):
            list(read_sunrgbd(tmp_path))
        path.write_bytes(before)
    assert list(read_sunrgbd(tmp_path))


def test_what_a_layout_cannot_hold_is_refused_and_nothing_is_written(
    frame: BoxScene, scan: BoxScene, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    turned = replace(scan, name="scene0002_00", boxes=scan.boxes + [0, 0, 0, 0, 0, 0, 0.1])
    for write, message in (
        (lambda: write_votenet(out, [scan, turned], SCANNET), "parallel"),
        (lambda: write_mmdet3d(out, [scan, turned], SCANNET, "list.pkl"), "parallel"),
        (lambda: write_sunrgbd(out, [frame, scan]), "camera"),
        (lambda: write_mmdet3d(out, [frame, scan], SUN, "list.pkl"), "camera"),
        (lambda: write_votenet(out, [frame, frame], SUN), "two such"),
        (lambda: write_votenet(out, [replace(frame, name="../x")], SUN), "no file name"),
    ):
        with pytest.raises(SceneError, match=message):
            write()
        assert not list(out.iterdir())
