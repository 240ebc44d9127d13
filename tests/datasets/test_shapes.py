"""Shapes come back from every format; what is none gives a clear error."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import trimesh

from ovseg3d.datasets import SHAPE_SUFFIXES, find_shapes, read_shape
from ovseg3d.errors import ShapeError

POINTS = np.random.default_rng(0).uniform(-1, 1, (200, 3)).astype(np.float32)


def write_pcd(path: Path, how: str) -> None:
    header = (
        f"# .PCD v0.7\nVERSION 0.7\nFIELDS rgb x y z\nSIZE 4 4 4 4\nTYPE U F F F\nCOUNT 1 1 1 1\nWIDTH {len(POINTS)}\n"
    )
    header += f"HEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {len(POINTS)}\nDATA {how}\n"
    rows = np.zeros(len(POINTS), [("rgb", "<u4"), ("xyz", "<f4", 3)])
    rows["xyz"] = POINTS
    text = "".join("7 {:.9g} {:.9g} {:.9g}\n".format(*point) for point in POINTS).encode()
    path.write_bytes(header.encode() + (text if how == "ascii" else rows.tobytes()))


def write_scanobjectnn(path: Path) -> None:
    rows = np.zeros((len(POINTS), 11), "<f4")
    rows[:, :3] = POINTS
    path.write_bytes(np.float32(len(POINTS)).tobytes() + rows.tobytes())


CLOUDS: dict[str, Callable[[Path], object]] = {
    "a.ply": lambda path: trimesh.PointCloud(POINTS).export(path),
    "a.npy": lambda path: np.save(path, POINTS),
    "one.npz": lambda path: np.savez(path, anything=POINTS),
    "a.npz": lambda path: np.savez(path, points=POINTS, label=np.zeros(3)),
    "text.pcd": lambda path: write_pcd(path, "ascii"),
    "a.pcd": lambda path: write_pcd(path, "binary"),
    "kitti.bin": lambda path: path.write_bytes(np.c_[POINTS, np.abs(POINTS[:, :1])].astype("<f4").tobytes()),
    "a.bin": write_scanobjectnn,
    "a.obj": lambda path: path.write_text("".join("v {} {} {}\n".format(*point) for point in POINTS)),
}


@pytest.mark.parametrize("name", list(CLOUDS))
def test_clouds_come_back(name: str, tmp_path: Path) -> None:
    CLOUDS[name](tmp_path / name)
    assert np.allclose(read_shape(tmp_path / name).points, POINTS, atol=1e-6)


@pytest.mark.parametrize("suffix", [".ply", ".obj", ".off", ".stl", ".glb"])
def test_meshes_are_sampled_evenly(suffix: str, tmp_path: Path) -> None:
    """A long box: each side gets points by its area."""
    path = tmp_path / f"a{suffix}"
    trimesh.creation.box((4.0, 1.0, 1.0)).export(path)
    shape = read_shape(path, 9000)
    assert len(shape.points) == 9000
    assert np.allclose(np.abs(shape.points).max(0), (2, 0.5, 0.5), atol=1e-3)
    assert (np.abs(shape.points[:, 0]) > 2 - 1e-6).mean() == pytest.approx(2 / 18, abs=0.02)
    assert np.array_equal(shape.points, read_shape(path, 9000).points)
    assert shape.up == ("y" if suffix == ".glb" else None)


def test_a_million_faces_are_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    vertices, faces = rng.normal(size=(3000, 3)), rng.integers(3000, size=(1_000_000, 3))
    trimesh.Trimesh(vertices, faces, process=False).export(tmp_path / "many.ply")
    assert len(read_shape(tmp_path / "many.ply").points) == 10_000


def test_unknown_points_are_left_out(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.concatenate([POINTS, np.full((3, 3), np.nan), np.full((3, 3), 1e30)]))
    assert len(read_shape(tmp_path / "a.npy").points) == len(POINTS)


WRONG: dict[str, tuple[bytes, str]] = {
    "a.xyzw": (b"", "cannot be read from .xyzw"),
    "a.ply": (b"ply\nformat ascii 1.0\nelement vertex 9\n", "cannot be read"),
    "a.obj": (b"", "cannot be read"),
    "a.stl": (b"solid", "cannot be read"),
    "a.npz": (b"PK", "cannot be read"),
    "a.bin": (b"\0" * 20, "neither"),
    "a.pcd": (b"FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nPOINTS 9\nDATA binary\n", "cut short"),
    "b.pcd": (b"FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nPOINTS 9\nDATA binary_compressed\n", "save it as"),
    "c.pcd": (b"nothing\n", "header"),
}


@pytest.mark.parametrize("name", list(WRONG))
def test_what_cannot_be_read_is_said(name: str, tmp_path: Path) -> None:
    data, words = WRONG[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ShapeError, match=words) as caught:
        read_shape(tmp_path / name)
    assert caught.value.fix


@pytest.mark.parametrize("array", [np.full((9, 3), np.nan), np.zeros((0, 3)), np.zeros((9, 2)), np.zeros(9)])
def test_arrays_without_points_are_refused(array: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(ShapeError):
        read_shape(tmp_path / "a.npy")


def test_positions_under_the_names_that_clouds_have(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", xyz=POINTS, rgb=POINTS)
    assert np.allclose(read_shape(tmp_path / "a.npz").points, POINTS)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match="missing"):
        read_shape(tmp_path / "no.ply")


def test_shapes_are_found_in_subfolders(tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match="No shape"):
        find_shapes(tmp_path)
    (tmp_path / "below").mkdir()
    for name in ("below/a.ply", "b.OBJ", "notes.txt"):
        (tmp_path / name).write_text("")
    assert [path.name for path in find_shapes(tmp_path)] == ["b.OBJ", "a.ply"]
    with pytest.raises(ShapeError, match="no such folder"):
        find_shapes(tmp_path / "other")
    assert ".glb" in SHAPE_SUFFIXES
