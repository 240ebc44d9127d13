"""Labels of ScanNet's scans and Replica's rooms: tiny copies of each layout, class lists, missing and damaged files."""

import json
from pathlib import Path

import numpy as np
import pytest
from scans import SCAN, write_ply, write_replica_labels, write_scannet_labels

from ovseg3d.datasets import (
    SEGMENTATION_PROTOCOLS,
    read_replica_labels,
    read_scannet_labels,
    segmentation_protocol,
)
from ovseg3d.errors import ConfigError, SceneError

XYZ = np.array([[x, y, 0.25] for x in range(5) for y in range(4)], float)
# NYU40: wall, floor, chair, table, other furniture, other prop.
NYU40 = np.array([1] * 4 + [2] * 4 + [5] * 4 + [7] * 4 + [39, 39, 40, 0])


def among(*places: int) -> np.ndarray:
    return np.isin(np.arange(20), places)


OBJECTS = {
    "wall": [among(0, 1, 2, 3)], "floor": [among(4, 5, 6, 7)], "chair": [among(8, 9), among(10, 11)],
    "table": [among(12, 13, 14, 15, 16)], "mattress": [among(16, 17)], "bag of flour": [among(18)], "dodo": [among(19)],
}  # fmt: skip


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    return write_scannet_labels(tmp_path / "data" / "scans" / SCAN, XYZ, NYU40, OBJECTS)


def names(cloud) -> list[str]:  # noqa: ANN001
    return np.array(["", *cloud.classes])[cloud.label].tolist()


def test_a_scan_has_nyu40_classes(scan: Path) -> None:
    cloud = read_scannet_labels(scan, "scannet-20")
    assert np.allclose(cloud.xyz, XYZ) and cloud.instance is None and len(cloud.classes) == 20
    kinds = ["wall"] * 4 + ["floor"] * 4 + ["chair"] * 4 + ["table"] * 4
    assert names(cloud) == [*kinds, "otherfurniture", "otherfurniture", "", ""]
    assert names(read_scannet_labels(scan, "scannet-19")) == [*kinds, "", "", "", ""]
    for path in scan.iterdir():
        if not path.name.endswith("labels.ply"):
            path.unlink()
    assert names(read_scannet_labels(scan, "scannet-20")) == names(cloud), "classes need one file"


def test_a_scan_has_instances_and_200_classes(tmp_path: Path) -> None:
    scan = write_scannet_labels(tmp_path / "data" / "scans" / SCAN, XYZ, NYU40, OBJECTS, above=True)
    cloud = read_scannet_labels(scan, "scannet-200", instances=True)
    kinds = ["wall"] * 4 + ["floor"] * 4 + ["chair"] * 4 + ["table"] * 4 + ["mattress"] * 2
    assert len(cloud.classes) == 200 and names(cloud) == [*kinds, "", ""], "one is none of the 200, one in no table"
    assert cloud.instance is not None
    groups = [1] * 4 + [2] * 4 + [3, 3, 4, 4] + [5] * 4 + [6, 6, 7, 8]
    assert cloud.instance.tolist() == groups, "what two objects claim belongs to the later one"
    twenty = read_scannet_labels(scan, "scannet-20", instances=True)
    assert twenty.instance is not None and twenty.instance.tolist() == groups
    (scan / f"{SCAN}_vh_clean_2.labels.ply").unlink()
    again = read_scannet_labels(scan, "scannet-200")
    assert names(again) == names(cloud) and again.instance is None, "the mesh without labels will do"


def test_a_scan_whose_folder_was_renamed_is_read(scan: Path) -> None:
    moved = scan.rename(scan.parent / "kitchen")
    assert names(read_scannet_labels(moved, "scannet-20"))[:1] == ["wall"]
    (moved / "scene0001_00_vh_clean_2.labels.ply").write_bytes(b"")
    with pytest.raises(SceneError, match="There are 2 files") as caught:
        read_scannet_labels(moved, "scannet-20")
    assert "folder of its own" in (caught.value.fix or "")


FILES = {
    f"{SCAN}_vh_clean_2.labels.ply": "scannet-20",
    f"{SCAN}_vh_clean_2.0.010000.segs.json": "scannet-20",
    f"{SCAN}.aggregation.json": "scannet-20",
    "scannetv2-labels.combined.tsv": "scannet-200",
}


@pytest.mark.parametrize("name", FILES)
def test_each_missing_file_of_a_scan_is_named(scan: Path, name: str) -> None:
    (scan / name).unlink()
    with pytest.raises(SceneError) as caught:
        read_scannet_labels(scan, FILES[name], instances=True)
    told = f"{caught.value.what} {caught.value.where}"
    assert name.removeprefix(SCAN) in told and str(scan) in told and caught.value.fix


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        (f"{SCAN}_vh_clean_2.labels.ply", b"plie", "no PLY file"),
        (f"{SCAN}_vh_clean_2.0.010000.segs.json", b"{", "not valid JSON"),
        (f"{SCAN}_vh_clean_2.0.010000.segs.json", b"{}", "'segIndices' is no list of whole numbers"),
        (f"{SCAN}_vh_clean_2.0.010000.segs.json", b'{"segIndices": [1, 2.5]}', "'segIndices' is no list"),
        (f"{SCAN}_vh_clean_2.0.010000.segs.json", b'{"segIndices": [1e99]}', "'segIndices' is no list"),
        (f"{SCAN}_vh_clean_2.0.010000.segs.json", b'{"segIndices": [%d]}' % 10**30, "'segIndices' is no list"),
        (f"{SCAN}_vh_clean_2.0.010000.segs.json", b'{"segIndices": [1, 2]}', "segments of 2 vertices, but .* has 20"),
        (f"{SCAN}.aggregation.json", b'{"segGroups": 3}', "'segGroups' is no list"),
        (f"{SCAN}.aggregation.json", b'{"segGroups": [{"segments": []}]}', "'segGroups' is no list .* label"),
        (f"{SCAN}.aggregation.json", b'{"segGroups": [{"label": "a", "segments": ["x"]}]}', "'segments' is no list"),
        ("scannetv2-labels.combined.tsv", b"id\tname\n1\tx\n", "line 2 has no raw_category and id"),
        ("scannetv2-labels.combined.tsv", b"id\traw_category\n1\tx\none\ty\n", "line 3 has no"),
        ("scannetv2-labels.combined.tsv", b"id\traw_category\n%d\tx\n" % 10**30, "line 2 has no"),
        ("scannetv2-labels.combined.tsv", b"\xff\xfe\n", "UTF-8"),
    ],
)
def test_each_damaged_file_of_a_scan_is_reported(scan: Path, name: str, data: bytes, told: str) -> None:
    (scan / name).write_bytes(data)
    with pytest.raises(SceneError, match=told) as caught:
        read_scannet_labels(scan, "scannet-200", instances=True)
    assert str(scan) in str(caught.value.where)


def test_meshes_without_labels_or_with_broken_vertices_are_reported(scan: Path) -> None:
    path = scan / f"{SCAN}_vh_clean_2.labels.ply"
    for xyz, more, told in (
        (XYZ, [], "no 'label'"),
        (XYZ, [("label", "ushort", np.zeros(20, "<u2"))], "No vertex has one of the 20 classes"),
        (np.where(XYZ == 3, np.nan, XYZ), [("label", "ushort", NYU40.astype("<u2"))], "not finite"),
    ):
        write_ply(path, xyz, more)
        with pytest.raises(SceneError, match=told) as caught:
            read_scannet_labels(scan, "scannet-20")
        assert caught.value.where == path and caught.value.fix


QUADS = np.array([93, 93, 20, 20, 47])
"""Classes of five quads: wall, wall, two chairs, a lamp."""


@pytest.fixture
def room(tmp_path: Path) -> Path:
    classes = {4: 93, 7: 20, 8: 20, 2: -1}
    return write_replica_labels(tmp_path / "room_0", XYZ, np.array([4, 7, 8, 0, 2]), classes, [47, 99, 93])


def test_a_room_has_classes_and_instances_of_its_faces(room: Path) -> None:
    for folder in (room, room / "habitat"):
        cloud = read_replica_labels(folder, instances=True)
        assert np.allclose(cloud.xyz, XYZ) and len(cloud.classes) == 51
        assert names(cloud) == ["wall"] * 4 + ["chair"] * 8 + ["lamp"] * 4 + [""] * 4, "0 is in id_to_label alone"
        assert cloud.instance is not None and cloud.instance.tolist() == [5] * 4 + [8] * 4 + [9] * 4 + [1] * 4 + [3] * 4
    assert read_replica_labels(room).instance is None


def test_a_vertex_belongs_to_its_last_face_or_to_none(room: Path) -> None:
    corners = np.array([[0, 1, 2, 3], [3, 4, 5, 6], [0, 8, 9, 10]])
    write_ply(room / "habitat" / "mesh_semantic.ply", XYZ, [], corners, np.array([4, 7, -1]))
    cloud = read_replica_labels(room, instances=True)
    assert cloud.instance is not None and cloud.instance.tolist()[:11] == [0, 5, 5, 8, 8, 8, 8, 0, 0, 0, 0]
    assert names(cloud)[:8] == ["", "wall", "wall", "chair", "chair", "chair", "chair", ""]


@pytest.mark.parametrize("name", ["mesh_semantic.ply", "info_semantic.json"])
def test_each_missing_file_of_a_room_is_named(room: Path, name: str) -> None:
    (room / "habitat" / name).unlink()
    with pytest.raises(SceneError, match=f"There is no {name}") as caught:
        read_replica_labels(room)
    assert caught.value.where == room / "habitat" / name and "--labels" in (caught.value.fix or "")


@pytest.mark.parametrize(
    ("info", "told"),
    [
        ({}, "'objects' is no list"),
        ({"objects": [{"id": 1}]}, "class_id"),
        ({"objects": [{"id": 1, "class_id": True}]}, "class_id"),
        ({"objects": [{"id": 1, "class_id": 10**30}]}, "'class_id' is no list"),
        ({"objects": [], "id_to_label": ["a"]}, "'id_to_label' is no list"),
        ({"objects": [{"id": 4, "class_id": -1}]}, "No vertex has one of the 51 classes"),
    ],
)
def test_each_damaged_list_of_objects_is_reported(room: Path, info: dict, told: str) -> None:
    (room / "habitat" / "info_semantic.json").write_text(json.dumps(info))
    with pytest.raises(SceneError, match=told):
        read_replica_labels(room)


def test_damaged_semantic_meshes_are_reported(room: Path) -> None:
    path = room / "habitat" / "mesh_semantic.ply"
    write_ply(path, XYZ, [])
    with pytest.raises(SceneError, match="no element 'face'"):
        read_replica_labels(room)
    write_ply(path, XYZ, [], np.array([[0, 1, 2, 20]]), np.array([4]))
    with pytest.raises(SceneError, match="none of the 20"):
        read_replica_labels(room)


def test_class_lists() -> None:
    counts = {name: len(protocol.classes) for name, protocol in SEGMENTATION_PROTOCOLS.items()}
    assert counts == {"scannet-20": 20, "scannet-19": 19, "scannet-200": 200, "replica": 51}
    for protocol in SEGMENTATION_PROTOCOLS.values():
        assert len(set(protocol.classes)) == len(protocol.classes) and set(protocol.stuff) < set(protocol.classes)
        split = [name for group in protocol.splits.values() for name in group]
        assert not split or sorted(split) == sorted(protocol.classes)
    large = SEGMENTATION_PROTOCOLS["scannet-200"]
    assert [len(group) for group in large.splits.values()] == [66, 68, 66]
    some = {1: "wall", 55: "shower curtain", 331: "guitar case", 488: "water pitcher", 1191: "mattress"}
    assert some.items() <= large.numbers.items()
    assert [len(group) for group in SEGMENTATION_PROTOCOLS["replica"].splits.values()] == [17, 17, 17]
    assert segmentation_protocol("ScanNet-20").phrase("otherfurniture") == "other furniture"
    assert SEGMENTATION_PROTOCOLS["replica"].phrase("tv-screen") == "tv screen"
    assert large.labels(np.array([0, 1, 2, 3, 12, 1191, 1192, 65535])).tolist() == [0, 1, 2, 3, 0, 200, 0, 0]
    with pytest.raises(ConfigError, match="no protocol of segmentation 'scannet-21'") as caught:
        segmentation_protocol("scannet-21")
    assert "scannet-20?" in (caught.value.fix or "")
