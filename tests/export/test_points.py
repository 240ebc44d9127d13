"""Files of clouds: independent programs read what was written."""

import errno
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from plyfile import PlyData
from shapes import COLOURS, PHRASES, in_world, sphere_cloud

from ovseg3d.errors import ConfigError, OutputError
from ovseg3d.export.points import save_cloud
from ovseg3d.export.records import describe, instance_records

NAMES = ("x", "y", "z", "nx", "ny", "nz", "red", "green", "blue", "label", "instance", "confidence")


def test_a_ply_read_by_plyfile_is_the_cloud(tmp_path: Path) -> None:
    cloud = sphere_cloud()
    files = save_cloud(tmp_path, cloud)
    assert [file.name for file in files] == ["cloud.ply", "cloud_labels.ply", "cloud.npz", "labels.json"]
    ply = PlyData.read(str(files[0]))
    assert not ply.text and ply.byte_order == "<" and "Frame: input" in ply.comments and "Unit: m" in ply.comments
    rows = ply["vertex"].data
    assert rows.dtype.names == NAMES
    np.testing.assert_array_equal(np.stack([rows[name] for name in NAMES[:3]], 1), cloud.surface.xyz)
    np.testing.assert_array_equal(np.stack([rows[name] for name in NAMES[3:6]], 1), cloud.surface.normal)
    np.testing.assert_array_equal(np.stack([rows[name] for name in NAMES[6:9]], 1), cloud.surface.rgb)
    np.testing.assert_array_equal(rows["label"], cloud.label)
    np.testing.assert_array_equal(rows["instance"], cloud.instance)
    np.testing.assert_array_equal(rows["confidence"], cloud.surface.confidence)
    twin = PlyData.read(str(files[1]))["vertex"].data
    np.testing.assert_array_equal(np.stack([twin[name] for name in NAMES[6:9]], 1), COLOURS[cloud.label])
    np.testing.assert_array_equal(twin["x"], rows["x"])


def test_a_crash_leaves_no_labels_beside_another_cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_cloud(tmp_path, sphere_cloud())
    replaced = os.replace

    def fail(source: Path, target: Path) -> None:
        if target == tmp_path / "cloud_labels.ply":
            raise OSError(errno.EIO, "broken on purpose")
        replaced(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OutputError):
        save_cloud(tmp_path, sphere_cloud(phrases=()))
    assert not (tmp_path / "labels.json").exists()


def test_a_ply_read_by_trimesh_is_the_cloud(tmp_path: Path) -> None:
    trimesh = pytest.importorskip("trimesh")
    cloud = sphere_cloud()
    save_cloud(tmp_path, cloud)
    read = trimesh.load(tmp_path / "cloud.ply")
    np.testing.assert_array_equal(read.vertices, cloud.surface.xyz)
    np.testing.assert_array_equal(read.colors[:, :3], cloud.surface.rgb)


def test_a_ply_read_by_open3d_is_the_cloud(tmp_path: Path) -> None:
    open3d = pytest.importorskip("open3d", exc_type=ImportError)  # its wheel needs libraries of the system
    cloud = sphere_cloud()
    save_cloud(tmp_path, cloud)
    read = open3d.io.read_point_cloud(str(tmp_path / "cloud.ply"))
    np.testing.assert_array_equal(np.asarray(read.points), cloud.surface.xyz)
    np.testing.assert_allclose(np.asarray(read.normals), cloud.surface.normal, atol=1e-6)
    np.testing.assert_array_equal(np.rint(np.asarray(read.colors) * 255), cloud.surface.rgb)
    tensors = open3d.t.io.read_point_cloud(str(tmp_path / "cloud.ply"))
    np.testing.assert_array_equal(tensors.point["label"].numpy().ravel(), cloud.label)
    np.testing.assert_array_equal(tensors.point["instance"].numpy().ravel(), cloud.instance)
    np.testing.assert_array_equal(tensors.point["confidence"].numpy().ravel(), cloud.surface.confidence)


def test_an_npz_holds_everything_and_needs_no_pickle(tmp_path: Path) -> None:
    cloud = in_world(sphere_cloud())
    save_cloud(tmp_path, cloud)
    with np.load(tmp_path / "cloud.npz", allow_pickle=False) as read:
        for name in ("xyz", "normal", "rgb", "confidence", "cell", "up"):
            np.testing.assert_array_equal(read[name], getattr(cloud.surface, name))
        assert tuple(read["phrases"].tolist()) == PHRASES and str(read["frame"]) == "world" and bool(read["metric"])
        np.testing.assert_array_equal(read["label"], cloud.label)
        np.testing.assert_array_equal(read["vectors"], cloud.columns["vectors"])
        assert str(read["encoder"]) == "none" and float(read["metres_per_unit"]) == cloud.metres_per_unit
        known = float(read["metres_per_unit"])
    save_cloud(tmp_path, replace(cloud, metres_per_unit=None))
    with np.load(tmp_path / "cloud.npz", allow_pickle=False) as read:
        assert known > 0 and np.isnan(read["metres_per_unit"])


def test_las_is_the_cloud(tmp_path: Path) -> None:
    laspy = pytest.importorskip("laspy")
    cloud = sphere_cloud()
    files = save_cloud(tmp_path, cloud, las=True)
    assert files[-2].name == "cloud.las"
    read = laspy.read(files[-2])
    np.testing.assert_allclose(np.stack([read.x, read.y, read.z], 1), cloud.surface.xyz, atol=1e-7)
    np.testing.assert_array_equal(np.asarray(read.red) // 257, cloud.surface.rgb[:, 0])
    for name, values in (
        ("label", cloud.label),
        ("instance", cloud.instance),
        ("confidence", cloud.surface.confidence),
    ):
        np.testing.assert_array_equal(np.asarray(read[name]), values)
    np.testing.assert_array_equal(np.asarray(read["nz"]), cloud.surface.normal[:, 2])
    assert read.header.global_encoding.wkt
    save_cloud(tmp_path / "empty", cloud.take(cloud.label == 2), las=True)
    assert len(laspy.read(tmp_path / "empty" / "cloud.las").points) == 0


def test_las_of_a_small_cloud_away_from_whole_numbers(tmp_path: Path) -> None:
    laspy = pytest.importorskip("laspy")
    cloud = sphere_cloud(radius=0.02)
    cloud = replace(cloud, surface=replace(cloud.surface, xyz=cloud.surface.xyz + np.float32(0.7)))
    save_cloud(tmp_path, cloud, las=True)
    read = laspy.read(tmp_path / "cloud.las")
    np.testing.assert_allclose(np.stack([read.x, read.y, read.z], 1), cloud.surface.xyz, atol=1e-9)


def test_without_laspy_las_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "laspy", None)
    with pytest.raises(ConfigError, match="laspy") as caught:
        save_cloud(tmp_path / "out", sphere_cloud(), las=True)
    assert caught.value.fix == "pip install laspy" and not (tmp_path / "out").exists()


def test_labels_say_what_they_are(tmp_path: Path) -> None:
    cloud = sphere_cloud()
    save_cloud(tmp_path, cloud)
    told = json.loads((tmp_path / "labels.json").read_text(encoding="utf-8"))
    assert told == json.loads(json.dumps(told)) and (told["frame"], told["unit"], told["metric"]) == (
        "input",
        "m",
        True,
    )
    assert [label["id"] for label in told["labels"]] == [0, 1, 2, 3]
    assert [label["phrase"] for label in told["labels"]] == [None, *PHRASES]
    assert [label["points"] for label in told["labels"]] == [0, 2000, 0, 2000]
    assert [label["colour"] for label in told["labels"]] == COLOURS.tolist()
    ball = told["labels"][1]
    assert ball["instances"] == [4] and not told["labels"][3]["instances"]
    # The upper half of a sphere of radius 0.5 around (1, 2, 3).
    np.testing.assert_allclose(ball["boxes"][0]["center"], [1, 2, 3.25], atol=0.02)
    np.testing.assert_allclose(ball["boxes"][0]["size"], [1, 1, 0.5], atol=0.05)


def test_another_frame_is_entered_once(tmp_path: Path) -> None:
    """Twice as large, y became z, moved by (10, 20, 30): the sphere's middle (1, 2, 3) is at (12, 14, 34)."""
    cloud, world = sphere_cloud(), in_world(sphere_cloud())
    save_cloud(tmp_path, world)
    rows = PlyData.read(str(tmp_path / "cloud.ply"))["vertex"].data
    xyz, normal = (np.stack([rows[name] for name in names], 1) for names in (("x", "y", "z"), ("nx", "ny", "nz")))
    np.testing.assert_allclose(xyz.mean(0), [12, 14, 34], atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(xyz - [12, 14, 34], axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(normal, xyz - [12, 14, 34], atol=1e-5)
    np.testing.assert_allclose(world.surface.cell, 2 * cloud.surface.cell)
    np.testing.assert_allclose(world.surface.up, [0, -1, 0], atol=1e-12)
    told = json.loads((tmp_path / "labels.json").read_text(encoding="utf-8"))
    box = told["labels"][1]["boxes"][0]
    np.testing.assert_allclose(box["center"], [12, 13.5, 34], atol=0.04)
    assert box["yaw_rad"] is None and told["frame"] == "world"
    back = np.linalg.inv(np.array(told["frame_from_input"]))
    np.testing.assert_allclose(xyz @ back[:3, :3].T + back[:3, 3], cloud.surface.xyz, atol=1e-5)


def test_nothing_and_no_phrases_are_clouds_too(tmp_path: Path) -> None:
    cloud = sphere_cloud()
    files = save_cloud(tmp_path / "nothing", cloud.take(cloud.label == 2))
    assert len(PlyData.read(str(files[0]))["vertex"].data) == 0
    assert np.load(files[2])["xyz"].shape == (0, 3)
    told = json.loads(files[3].read_text(encoding="utf-8"))
    assert told["points"] == 0 and [label["points"] for label in told["labels"]] == [0] * 4
    plain = sphere_cloud(phrases=())
    files = save_cloud(tmp_path / "plain", plain)
    assert not PlyData.read(str(files[0]))["vertex"]["label"].any()
    assert np.load(files[2], allow_pickle=False)["phrases"].shape == (0,)
    told = json.loads(files[3].read_text(encoding="utf-8"))
    assert [label["phrase"] for label in told["labels"]] == [None] and told["labels"][0]["instances"] == [4]


def test_the_unit_is_metres_only_where_it_is() -> None:
    cloud = sphere_cloud()
    assert cloud.unit == "m"
    assert replace(cloud, metres_per_unit=None).unit == "units" == replace(cloud, metres_per_unit=0.25).unit
    assert describe(replace(cloud, metres_per_unit=0.25))["metres_per_unit"] == 0.25


def test_a_cloud_is_thinned_evenly() -> None:
    cloud = sphere_cloud(20_000)
    few = cloud.thinned(points=1000)
    assert 950 <= len(few) <= 1000
    rows = {tuple(row): k for k, row in enumerate(cloud.surface.xyz.tolist())}
    origin = [rows[tuple(row)] for row in few.surface.xyz.tolist()]
    assert (np.diff(origin) > 0).all(), "the points themselves, in their order"
    np.testing.assert_array_equal(few.label, cloud.label[origin])
    np.testing.assert_array_equal(few.columns["vectors"], cloud.columns["vectors"][origin])
    from scipy.spatial import cKDTree

    gap = cKDTree(few.surface.xyz).query(cloud.surface.xyz)[0]
    assert gap.max() < 3 * np.median(gap), "no holes"
    spaced = cloud.thinned(spacing=0.1)
    place = np.floor((spaced.surface.xyz.astype(np.float64) - cloud.surface.xyz.min(0)) / 0.1).astype(int)
    assert len(np.unique(place, axis=0)) == len(spaced)
    everywhere = np.floor((cloud.surface.xyz.astype(np.float64) - cloud.surface.xyz.min(0)) / 0.1).astype(int)
    assert len(np.unique(everywhere, axis=0)) == len(spaced)
    assert (spaced.surface.cell == np.float32(0.1)).all() and (few.surface.cell > cloud.surface.cell[0]).all()
    assert len(cloud.thinned(points=10**6)) == len(cloud) and len(cloud.thinned(points=1)) == 1
    for wrong in ({"points": 0}, {"spacing": -1.0}):
        with pytest.raises(ConfigError, match="above 0"):
            cloud.thinned(**wrong)


def test_instances_say_what_they_score_and_mean() -> None:
    cloud = sphere_cloud()
    scores = np.where(cloud.label[:, None] == [1, 2, 3], 0.75, 0.25)
    vectors = np.zeros((len(cloud), 3), np.float32)
    vectors[cloud.instance == 4] = (0, 3, 4)
    (record,) = instance_records(cloud, scores, vectors)
    assert (record["id"], record["label"], record["label_id"], record["n_points"]) == (4, "a red ball", 1, 2000)
    assert record["phrase_scores"] == {PHRASES[0]: 0.75, PHRASES[1]: 0.25, PHRASES[2]: 0.25}
    np.testing.assert_allclose(record["embedding"], [0, 0.6, 0.8])
    assert "embedding" not in instance_records(cloud)[0] and "phrase_scores" not in instance_records(cloud)[0]


def test_a_place_that_cannot_be_written_to_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        save_cloud(tmp_path / "file" / "cloud", sphere_cloud())
