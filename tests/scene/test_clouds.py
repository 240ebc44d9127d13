"""Point clouds from files."""

from pathlib import Path

import numpy as np
import pytest

from ovseg3d.datasets import read_shape
from ovseg3d.datasets.tables import read_array
from ovseg3d.errors import SceneError, ShapeError
from ovseg3d.scene import read_cloud

POINTS = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)


def write(path: Path) -> Path:
    if path.suffix == ".pcd":
        header = f"FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nPOINTS {len(POINTS)}\nDATA binary\n"
        path.write_bytes(header.encode() + POINTS.tobytes())
    elif path.suffix.lower() == ".bin":
        np.column_stack([POINTS, np.ones(len(POINTS), np.float32)]).tofile(path)
    else:
        np.savez(path, POINTS)  # under the name arr_0
    return path


@pytest.mark.parametrize("name", ["a.pcd", "a.bin", "a.BIN", "a.npz"])
def test_formats_that_name_reads_too(name: str, tmp_path: Path) -> None:
    cloud, lost = read_cloud(write(tmp_path / name))
    assert np.allclose(cloud.xyz, POINTS) and lost == 0 and cloud.rgb is None


@pytest.mark.parametrize("shift", [0, 10])
@pytest.mark.parametrize("white", [1, 255])
def test_a_bin_file_with_colours(white: int, shift: int, tmp_path: Path) -> None:
    """mmdet3d's layout of rooms; also where all coordinates are positive, as in raw scans of ScanNet."""
    rgb, xyz = np.random.default_rng(1).integers(0, 256, (50, 3)) / (255 // white), POINTS + np.float32(shift)
    np.column_stack([xyz, rgb]).astype(np.float32).tofile(tmp_path / "a.bin")
    cloud, _ = read_cloud(tmp_path / "a.bin")
    assert np.allclose(cloud.xyz, xyz) and cloud.rgb is not None and np.allclose(cloud.rgb, rgb / white)
    assert np.allclose(read_shape(tmp_path / "a.bin").points, xyz)


def test_a_bin_file_of_two_layouts_is_refused(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    unit = random.random((50, 6))
    unit[0, 0] = 1.2  # one length that is no colour
    lattice = np.column_stack([random.integers(0, 200, (60, 3)), random.integers(0, 255, 60)])
    for rows in (random.random((50, 6)), unit, lattice):
        rows.astype(np.float32).tofile(tmp_path / "a.bin")
        with pytest.raises(SceneError, match="x y z intensity or x y z r g b; save them as .npy"):
            read_cloud(tmp_path / "a.bin")


def test_an_empty_bin_file(tmp_path: Path) -> None:
    (tmp_path / "a.bin").touch()
    with pytest.raises(SceneError, match="no points"):
        read_cloud(tmp_path / "a.bin")


@pytest.mark.parametrize(("name", "words"), [("a.pcd", "cut short"), ("a.bin", "neither")])
def test_what_is_cut_short_is_said(name: str, words: str, tmp_path: Path) -> None:
    whole = write(tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[:-20])
    with pytest.raises(SceneError, match=words) as caught:
        read_cloud(tmp_path / name)
    assert caught.value.fix and caught.value.where == tmp_path / name


@pytest.mark.parametrize("suffix", [".npz", ".npy"])
@pytest.mark.parametrize("damage", ["text", "cut", "bits", "objects"])
def test_a_damaged_array_is_said_in_our_words(suffix: str, damage: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    points = np.array([{}], object) if damage == "objects" else POINTS
    if suffix == ".npz":
        np.savez(path, xyz=points)
    else:
        np.save(path, points)
    whole = path.read_bytes()
    if damage == "text":
        path.write_bytes(b"no array at all")
    elif damage == "cut":
        path.write_bytes(whole[:-200])
    elif damage == "bits":
        path.write_bytes(b"\x93NUMPX" + whole[6:] if suffix == ".npy" else whole[:200] + b"\xff" * 50 + whole[250:])
    for read, kind in ((read_cloud, SceneError), (read_shape, ShapeError), (read_array, SceneError)):
        with pytest.raises(kind, match="cannot be read") as caught:
            read(path, *(["xyz"] if read is read_array and suffix == ".npz" else []))
        assert "pickle" not in str(caught.value) and caught.value.fix and caught.value.where == path
