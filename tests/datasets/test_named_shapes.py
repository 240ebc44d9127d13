"""Public data sets of shapes come back with their names; what is not in their layouts gives a clear error."""

import gzip
import json
import sys
from pathlib import Path

import h5py
import named_shapes as copies
import numpy as np
import pytest

from ovseg3d.datasets import (
    SHAPE_PROTOCOLS,
    read_modelnet,
    read_objaverse_lvis,
    read_omniobject3d,
    read_scanobjectnn,
    shape_protocol,
)
from ovseg3d.errors import ConfigError, Ovseg3dError, ShapeError

FILES = {
    "OBJ_ONLY": "main_split_nobg/test_objectdataset.h5",
    "OBJ_BG": "main_split/test_objectdataset.h5",
    "PB_T50_RS": "main_split/test_objectdataset_augmentedrot_scale75.h5",
}


def test_modelnets_meshes(tmp_path: Path) -> None:
    """A header may share its line with the counts; the other split is not read; points are even over the surface."""
    copies.write_modelnet(tmp_path, ("bed", "night_stand"))
    copies.write_modelnet(tmp_path / "other", ("bed",), "train")
    (tmp_path / "other" / "bed" / "train").rename(tmp_path / "bed" / "train")
    found = read_modelnet(tmp_path, samples=9000)
    assert [(s.name, s.label, s.up) for s in found] == [
        ("bed/bed_0000", "bed", "z"),
        ("night_stand/night_stand_0001", "night_stand", "z"),
    ]
    points = found[1].read()
    assert points.shape == (9000, 3) and np.allclose(np.abs(points).max(0), (0.5, 0.5, 1.5), atol=0.01)
    assert (np.abs(points[:, 2]) > 1.5 - 1e-6).mean() == pytest.approx(2 / 14, abs=0.02)
    assert [s.name for s in read_modelnet(tmp_path, classes=["bed"])] == ["bed/bed_0000"]
    assert [s.name for s in read_modelnet(tmp_path, "train")] == ["bed/bed_0000"]
    with pytest.raises(ShapeError, match="'bad'") as caught:
        read_modelnet(tmp_path, classes=["bad"])
    assert "bed" in str(caught.value.fix)
    with pytest.raises(ConfigError, match="'val'"):
        read_modelnet(tmp_path, "val")


def test_modelnets_resampled_clouds(tmp_path: Path) -> None:
    copies.write_resampled(tmp_path, ("flower_pot_0002", "bed_0001"))
    found = read_modelnet(tmp_path)
    assert [(s.name, s.label, s.up) for s in found] == [
        ("bed/bed_0001", "bed", "y"),
        ("flower_pot/flower_pot_0002", "flower_pot", "y"),
    ]
    assert np.allclose(found[0].read(), copies.cloud(1), atol=1e-6)


@pytest.mark.parametrize(("variant", "file"), FILES.items())
def test_each_variant_of_scanobjectnn_is_its_own_file(variant: str, file: str, tmp_path: Path) -> None:
    copies.write_scanobjectnn(tmp_path, {name: [number, 14] for number, name in enumerate(FILES.values())})
    number = list(FILES).index(variant)
    found = read_scanobjectnn(tmp_path, variant)
    assert [s.label for s in found] == [("bag", "bin", "box")[number], "toilet"]
    assert {s.up for s in found} == {"y"}
    assert np.allclose(found[1].read(), copies.cloud(100 * number + 1), atol=1e-6)
    assert read_scanobjectnn(tmp_path / "h5_files", variant)[0].name == "test/00000"
    with pytest.raises(ShapeError, match="missing"):
        read_scanobjectnn(tmp_path, variant, "train")


def damage(file: h5py.File, how: str, folder: Path) -> None:
    data, label = file["data"][()], file["label"][()]
    if how in ("label", "float label", "shape"):
        del file["label" if "label" in how else "data"]
        file["label" if "label" in how else "data"] = {
            "label": np.array([0, 15]), "float label": label.astype(float), "shape": data[:, :, :2],
        }[how]  # fmt: skip
        return
    del file["data"]
    if how == "external link":
        with h5py.File(folder / "secret.h5", "w") as other:
            other["data"] = data
        file["data"] = h5py.ExternalLink(folder / "secret.h5", "data")
    elif how == "external storage":
        (folder / "secret").write_bytes(data.tobytes())
        file.create_dataset("data", data.shape, data.dtype, external=[(folder / "secret", 0, h5py.h5f.UNLIMITED)])
    elif how == "virtual":
        file.create_virtual_dataset("data", h5py.VirtualLayout(data.shape, data.dtype))
    elif how == "large":
        file.create_dataset("data", (10**9, 2048, 3), np.float32, chunks=(1, 2048, 3))
    elif how == "not finite":
        file["data"] = np.full_like(data, np.nan)
    elif how == "text":
        file["data"] = ["x", "y"]


@pytest.mark.parametrize(
    ("how", "words"),
    {
        "label": "0 to 14",
        "float label": "0 to 14",
        "shape": "not \\(objects",
        "external link": "of its own",
        "external storage": "no array in this file",
        "virtual": "no array in this file",
        "large": "too large",
        "not finite": "not finite",
        "text": "not of numbers",
        "missing": "of its own",
    }.items(),
)
def test_a_damaged_or_hostile_file_is_refused(how: str, words: str, tmp_path: Path) -> None:
    """Nothing is read from other files, and nothing is allocated that is too large."""
    copies.write_scanobjectnn(tmp_path, {FILES["OBJ_BG"]: [0, 1]})
    with h5py.File(tmp_path / "h5_files" / FILES["OBJ_BG"], "a") as file:
        damage(file, how, tmp_path)
    with pytest.raises(ShapeError, match=words) as caught:
        read_scanobjectnn(tmp_path, "OBJ_BG")
    assert caught.value.fix


def test_what_is_no_hdf5_file_and_no_variant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copies.write_scanobjectnn(tmp_path, {FILES["OBJ_BG"]: [0, 1]})
    (tmp_path / "h5_files" / FILES["OBJ_BG"]).write_bytes(b"nothing")
    with pytest.raises(ShapeError, match="cannot be read"):
        read_scanobjectnn(tmp_path, "OBJ_BG")
    with pytest.raises(ConfigError, match="OBJ_BGG"):
        read_scanobjectnn(tmp_path, "OBJ_BGG")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ConfigError, match="h5py") as caught:
        read_scanobjectnn(tmp_path, "OBJ_BG")
    assert "ovseg3d[h5]" in str(caught.value.fix)


def test_omniobject3d(tmp_path: Path) -> None:
    copies.write_omniobject3d(tmp_path, ("toy_car_001", "anise_002"))
    found = read_omniobject3d(tmp_path, up="y")
    assert [(s.name, s.label, s.up) for s in found] == [
        ("anise/anise_002/pcd_4096", "anise", "y"),
        ("toy_car/toy_car_001/pcd_4096", "toy_car", "y"),
    ]
    assert np.allclose(found[0].read(), copies.cloud(1), atol=1e-6)


def test_objaverse_lvis(tmp_path: Path) -> None:
    """Objects that are not there are left out; a plain list does as well as a compressed one."""
    listed = {"chair": ["b", "a"], "bow_(weapon)": ["c"]}
    copies.write_lvis(tmp_path, listed, missing=("b",))
    found = read_objaverse_lvis(tmp_path, samples=50)
    assert [(s.name, s.label, s.up) for s in found] == [
        ("bow_(weapon)/c", "bow_(weapon)", "y"),
        ("chair/a", "chair", "y"),
    ]
    assert found[0].read().shape == (50, 3)
    (tmp_path / "lvis-annotations.json").write_text(json.dumps({"cup": ["a"]}))
    assert [s.label for s in read_objaverse_lvis(tmp_path)] == ["cup"]


@pytest.mark.parametrize(
    "data", [b"nothing", gzip.compress(b"[", mtime=0), gzip.compress(b'{"chair": [1]}', mtime=0), b"\x1f\x8b"]
)
def test_a_damaged_list_is_refused(data: bytes, tmp_path: Path) -> None:
    copies.write_lvis(tmp_path, {"chair": ["a"]})
    (tmp_path / "lvis-annotations.json.gz").write_bytes(data)
    with pytest.raises(ShapeError, match="list cannot be read"):
        read_objaverse_lvis(tmp_path)


def test_a_list_that_grows_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copies.write_lvis(tmp_path, {"chair": ["a"] * 1000}, missing=("a",))
    monkeypatch.setattr("ovseg3d.datasets.named_shapes.MAX_TEXT_BYTES", 999)
    with pytest.raises(ShapeError, match="too large"):
        read_objaverse_lvis(tmp_path)


@pytest.mark.parametrize("name", ["../../bed_0001", "bed_0001\nbed_\x1b0002"])
def test_names_of_a_list_stay_in_the_folder(name: str, tmp_path: Path) -> None:
    copies.write_resampled(tmp_path / "data", ("bed_0001",))
    (tmp_path / "data" / "modelnet40_test.txt").write_text(name)
    with pytest.raises(Ovseg3dError):
        read_modelnet(tmp_path / "data")


def test_broken_clouds_and_empty_folders(tmp_path: Path) -> None:
    copies.write_resampled(tmp_path, ("bed_0001",))
    (tmp_path / "bed" / "bed_0001.txt").write_text("1,2\n")
    with pytest.raises(ShapeError, match="cannot be read"):
        read_modelnet(tmp_path)[0].read()
    (tmp_path / "empty").mkdir()
    for read in (read_modelnet, read_omniobject3d):
        with pytest.raises(ShapeError) as caught:
            read(tmp_path / "empty")
        assert caught.value.fix


def test_protocols_by_name(tmp_path: Path) -> None:
    """Each reads its own data set, and knows its classes."""
    assert len(shape_protocol("modelnet40").classes) == len(set(shape_protocol("modelnet40").classes)) == 40
    assert shape_protocol("ModelNet40").phrase("tv_stand") == "TV stand"
    assert shape_protocol("ModelNet40").phrase("glass_box") == "glass box"
    assert set(SHAPE_PROTOCOLS["ModelNet10"].classes) < set(SHAPE_PROTOCOLS["ModelNet40"].classes)
    copies.write_scanobjectnn(tmp_path, {FILES["PB_T50_RS"]: [3]})
    protocol = SHAPE_PROTOCOLS["ScanObjectNN-PB_T50_RS"]
    shapes = protocol.read(tmp_path)
    assert [s.label for s in shapes] == ["cabinet"] and len(protocol.class_list(shapes, tmp_path)) == 15
    copies.write_lvis(tmp_path / "lvis", {"chair": ["a"], "cup": ["b"]}, missing=("b",))
    lvis = SHAPE_PROTOCOLS["Objaverse-LVIS"]
    assert lvis.class_list(lvis.read(tmp_path / "lvis"), tmp_path / "lvis") == ("chair", "cup")
    with pytest.raises(ConfigError, match="ScanObject") as caught:
        shape_protocol("ScanObjectNN")
    assert "ScanObjectNN-OBJ" in str(caught.value.fix)
