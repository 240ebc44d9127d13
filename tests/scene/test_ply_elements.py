"""Properties of any element of a PLY file: labels of vertices, faces with lists, in binary and in text."""

from pathlib import Path

import numpy as np
import pytest

from ovseg3d.errors import SceneError
from ovseg3d.scene.readers.ply import read_element, read_ply

HEADER = """ply
format {} 1.0
comment a quad mesh
element vertex 4
property float x
property float y
property float z
property ushort label
element face 2
property list uchar int vertex_indices
property int object_id
end_header
"""
VERTICES = [(0, 0, 0, 7), (1, 0, 0, 9), (1, 1, 0, 300), (0, 1, 0.5, 0)]
FACES = [((0, 1, 2, 3), 5), ((3, 2, 1, 0), 70000)]


def mesh(path: Path, kind: str = "binary_little_endian", faces: list[tuple[tuple[int, ...], int]] = FACES) -> Path:
    order = ">" if "big" in kind else "<"
    if kind == "ascii":
        rows = [" ".join(map(str, row)) for row in VERTICES]
        rows += [" ".join(map(str, (len(corners), *corners, number))) for corners, number in faces]
        body = "".join(f"{row}\n" for row in rows).encode()
    else:
        body = b"".join(np.array(row[:3], order + "f4").tobytes() + np.array(row[3], order + "u2").tobytes()
                        for row in VERTICES)  # fmt: skip
        for corners, number in faces:
            body += bytes([len(corners)]) + np.array([*corners, number], order + "i4").tobytes()
    path.write_bytes(HEADER.format(kind).encode() + body)
    return path


@pytest.mark.parametrize("kind", ["binary_little_endian", "binary_big_endian", "ascii"])
def test_labels_and_faces_are_read(kind: str, tmp_path: Path) -> None:
    path = mesh(tmp_path / "mesh.ply", kind)
    vertices = read_element(path, "vertex", ["label", "z"])
    assert vertices["label"].tolist() == [7, 9, 300, 0] and vertices["z"].tolist() == [0, 0, 0, 0.5]
    faces = read_element(path, "face", ["vertex_indices", "object_id"])
    assert faces["vertex_indices"].tolist() == [list(corners) for corners, _ in FACES]
    assert faces["object_id"].tolist() == [5, 70000]
    assert read_ply(path)[0].tolist() == [list(row[:3]) for row in VERTICES]


@pytest.mark.parametrize("kind", ["binary_little_endian", "ascii"])
def test_what_cannot_be_read_is_reported(kind: str, tmp_path: Path) -> None:
    path = mesh(tmp_path / "mesh.ply", kind)
    whole = path.read_bytes()
    for data, element, key, told in (
        (whole[:-12], "face", "object_id", "holds|short"),
        (whole.replace(b"face 2", b"face 9"), "face", "object_id", "more than the file holds"),
        (whole.replace(b"face 2", b"face 99999999999"), "face", "object_id", "more than the file holds"),
        (whole, "face", "label", "'face' has no 'label'"),
        (whole, "edge", "label", "has lists"),
        (whole.replace(b"list uchar", b"list brick"), "face", "object_id", "brick"),
    ):
        path.write_bytes(data)
        with pytest.raises(SceneError, match=told) as caught:
            read_element(path, element, [key], "mesh")
        assert caught.value.where == path and caught.value.fix
    with pytest.raises(SceneError, match="file of mesh is missing"):
        read_element(tmp_path / "none.ply", "face", ["object_id"], "mesh")


@pytest.mark.parametrize("kind", ["binary_little_endian", "ascii"])
def test_faces_of_different_sizes_are_refused(kind: str, tmp_path: Path) -> None:
    for faces in ([((0, 1, 2), 5), ((3, 2, 1, 0), 6)], [((0, 1, 2, 3), 5), ((2, 1, 0), 6)]):
        with pytest.raises(SceneError, match="cannot be read"):
            read_element(mesh(tmp_path / "mesh.ply", kind, faces), "face", ["object_id"])
