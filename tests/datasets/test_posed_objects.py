"""ImageNet3D and PASCAL3D+: round trips, files by hand, both test sets, damage, centred photos."""

import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from ovseg3d.datasets import (
    PosedObject,
    centered_photo,
    read_imagenet3d,
    read_meta_classes,
    read_pascal3d,
    read_plain_objects,
    write_imagenet3d,
    write_pascal3d,
)
from ovseg3d.errors import ConfigError, SceneError
from ovseg3d.geometry import Viewpoint


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> list[PosedObject]:
    """Two photos: a chair and a bad chair; tables: to be ignored, without a distance, without a status."""
    folder = tmp_path_factory.mktemp("photos")
    photos = [folder / "a.jpg", folder / "b.jpg"]
    for photo in photos:
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(photo)
    chair = PosedObject(
        photo=photos[0], name="chair/n01_2", number=0, category="chair",
        viewpoint=Viewpoint(1.25, -0.25, 0.5, 6.5), center_px=(22.0, 14.5), bbox=(10.5, 4.0, 30.0, 26.25),
        focal_px=2000.0, size=(40, 30), status="status_good", dense=False, cad_index=3,
    )  # fmt: skip
    table = replace(chair, photo=photos[1], name="table/n07_1", category="table", status=None, dense=None)
    return [
        chair,
        replace(chair, number=1, status="status_bad", dense=True, bbox=(1.0, 2.0, 9.0, 12.0)),
        replace(table, ignore=True, status="status_partially"),
        replace(table, number=1, viewpoint=Viewpoint(0.0, 0.0, 0.0, 0.0), cad_index=None),
        replace(table, number=2),
    ]


def same(found: PosedObject, one: PosedObject) -> bool:
    assert found.photo.read_bytes() == one.photo.read_bytes()
    assert vars(found.viewpoint) == pytest.approx(vars(one.viewpoint), abs=1e-12)
    assert found.bbox == pytest.approx(one.bbox) and found.center_px == pytest.approx(one.center_px)
    numbers = {"photo": one.photo, "viewpoint": one.viewpoint, "bbox": one.bbox, "center_px": one.center_px}
    return replace(found, **numbers) == one


def test_imagenet3d_there_and_back(objects: list[PosedObject], tmp_path: Path) -> None:
    write_imagenet3d(tmp_path, objects, "train")
    found = list(read_imagenet3d(tmp_path, "train", test_set=None))
    assert len(found) == 5 and all(map(same, found, objects))
    assert [one.key for one in read_imagenet3d(tmp_path, "train", test_set=None, categories=["table"])] == [
        "table/n07_1/0",
        "table/n07_1/1",
        "table/n07_1/2",
    ]
    (tmp_path / "meta.json").write_text('{"Furniture": ["chair", "table"]}')
    assert read_meta_classes(tmp_path / "meta.json") == {"Furniture": ["chair", "table"]}


def test_two_test_sets(objects: list[PosedObject], tmp_path: Path) -> None:
    """The data repository drops what is to be ignored, the experiments bad and missing statuses; both, no distance."""
    write_imagenet3d(tmp_path, objects)
    assert [one.key for one in read_imagenet3d(tmp_path)] == ["chair/n01_2/0", "chair/n01_2/1", "table/n07_1/2"]
    assert [one.key for one in read_imagenet3d(tmp_path, test_set="experiments")] == ["chair/n01_2/0", "table/n07_1/0"]
    with pytest.raises(ConfigError, match=r"no category 'chiar'.*\n.*chair\?"):
        list(read_imagenet3d(tmp_path, categories=["chiar"]))


def test_an_annotation_as_documented(tmp_path: Path) -> None:
    """Types as the readme of ImageNet3D lists them, and angles from 0 to 2 pi, elevations included."""
    for part in ("images/bed", "annotations/bed", "lists"):
        (tmp_path / part).mkdir(parents=True)
    record = {
        "azimuth": 6.0, "elevation": 2 * math.pi - 0.25, "theta": np.float64(6.2), "cad_index": 4, "distance": 5.5,
        "focal": 1, "viewport": 2000, "height": np.uint16(375), "width": np.uint16(500), "bbox": np.array([1, 2, 3, 4]),
        "class": "bed", "px": 250.5, "py": 180.25, "principal": np.array([250.5, 180.25]), "ignore": False,
        "object_status": "status_barely", "dense": "dense_yes",
    }  # fmt: skip
    np.savez(tmp_path / "annotations/bed/n02818832_13.npz", annotations=[record])  # type: ignore[arg-type]
    (tmp_path / "lists/bed_imagenet_val.txt").write_text("n02818832_13")
    (one,) = read_imagenet3d(tmp_path)
    assert vars(one.viewpoint) == pytest.approx(
        {"azimuth_rad": 6.0, "elevation_rad": -0.25, "theta_rad": 6.2 - 2 * math.pi, "distance": 5.5}
    )
    assert (one.size, one.focal_px, one.dense, one.status) == ((500, 375), 2000, True, "status_barely")
    for key, value, words in (
        ("azimuth", math.nan, "'azimuth' is not finite"),
        ("distance", "far", "'distance' is str"),
        ("bbox", [1, 2, 3], "'bbox' is no row of 4"),
        ("class", "../bed", "no name of a category"),
    ):
        np.savez(tmp_path / "annotations/bed/n02818832_13.npz", annotations=[record | {key: value}])  # type: ignore[arg-type]
        with pytest.raises(SceneError, match=words):
            list(read_imagenet3d(tmp_path))


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):  # noqa: ANN204
        return os.mkdir, (str(self.mark),)


def test_an_annotation_runs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, annotations=np.array([{"azimuth": Evil(tmp_path / "ran")}], dtype=object))
    with pytest.raises(SceneError, match=r"names 'posix.mkdir'"):
        read_plain_objects(path, "annotations")
    assert not (tmp_path / "ran").exists()
    np.load(path, allow_pickle=True)["annotations"]
    assert (tmp_path / "ran").exists(), "NumPy does run it"
    for wrong in ({"annotations": np.arange(3)}, {"other": np.arange(3)}, {"annotations": np.array({"a": 1})}):
        np.savez(path, **wrong)  # pyright: ignore[reportArgumentType]
        with pytest.raises(SceneError, match="no list"):
            read_plain_objects(path, "annotations")
    np.savez(path, annotations=[{"a": np.array([[1, None]], dtype=object)}])  # type: ignore[arg-type]
    with pytest.raises(SceneError, match="array of objects"):
        read_plain_objects(path, "annotations")
    path.write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises(SceneError, match="no list"):
        read_plain_objects(path, "annotations")


def test_pascal3d_there_and_back(objects: list[PosedObject], tmp_path: Path) -> None:
    plain = {"status": None, "dense": None}
    cars = [replace(one, name="car_imagenet/n02_9", category="car", **plain) for one in objects[:2]]
    cars[1] = replace(cars[1], ignore=True)
    write_pascal3d(tmp_path, [*cars, replace(cars[0], number=2, category="bus")])
    found = list(read_pascal3d(tmp_path, "car"))
    assert len(found) == 2 and all(map(same, found, cars))
    with pytest.raises(SceneError, match="missing"):
        list(read_pascal3d(tmp_path, "car", "train"))


def test_a_record_of_matlab(tmp_path: Path) -> None:
    """One struct instead of an array, degrees, and objects that are coarse, occluded or without a viewpoint."""
    for part in ("Images", "Annotations"):
        (tmp_path / part / "car_pascal").mkdir(parents=True)
    seen = {"azimuth": 350.0, "elevation": -5.0, "theta": 2.0, "distance": 4.5, "focal": 1, "px": 20, "py": 15,
            "viewport": 3000}  # fmt: skip
    car = {"class": "car", "bbox": [1, 2, 30, 20], "difficult": 0, "truncated": 0, "occluded": 1, "viewpoint": seen}
    path = tmp_path / "Annotations/car_pascal/2008_000007.mat"
    savemat(path, {"record": {"imgsize": [40, 30, 3], "objects": car}})
    assert list(read_pascal3d(tmp_path, "car", source="pascal")) == []
    (one,) = read_pascal3d(tmp_path, "car", source="pascal", whole=False)
    assert np.degrees([one.viewpoint.azimuth_rad, one.viewpoint.elevation_rad]) == pytest.approx([350, -5])
    assert (one.size, one.focal_px, one.photo.name) == ((40, 30), 3000, "2008_000007.jpg")
    for viewpoint in ({"azimuth_coarse": 350}, np.zeros((0, 0))):
        savemat(path, {"record": {"imgsize": [40, 30, 3], "objects": car | {"viewpoint": viewpoint}}})
        assert list(read_pascal3d(tmp_path, "car", source="pascal", whole=False)) == []
    path.write_bytes(b"no matrix")
    with pytest.raises(SceneError, match="cannot be read"):
        list(read_pascal3d(tmp_path, "car", source="pascal"))


@pytest.mark.parametrize("center", [(8.0, 4.0), (30.0, 25.0)])
def test_a_centred_photo_keeps_the_object_in_its_box(objects: list[PosedObject], center: tuple[float, float]) -> None:
    """A red object stays in its box, padded at the top or at the bottom; the released code loses it at one of them."""
    image = Image.new("RGB", (40, 30))
    x, y = center
    bbox = (x - 4, y - 3, x + 4, y + 3)
    image.paste((255, 0, 0), (int(x - 4), int(y - 3), int(x + 4), int(y + 3)))
    one = replace(objects[0], center_px=center, bbox=bbox, viewpoint=Viewpoint(0.0, 0.0, 0.0, 8.0))
    canvas, moved = centered_photo(image, one, (80, 64))
    assert canvas.size == moved.size == (80, 64) and moved.center_px == (40, 32) and moved.viewpoint.distance == 4
    assert moved.bbox == (32, 26, 48, 38), "twice as large, as it comes from 8 to 4"
    rows, columns = np.nonzero(np.asarray(canvas)[..., 0] > 127)
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == moved.bbox
    with pytest.raises(SceneError, match="no usable distance"):
        centered_photo(image, objects[3], (80, 64))


@pytest.mark.parametrize("layout", ["imagenet3d", "pascal3d"])
def test_damage_is_an_error_of_the_user(objects: list[PosedObject], tmp_path: Path, layout: str) -> None:
    """Whatever is wrong in a file, the reader says so, or reads what is left."""
    named = [replace(one, name="car_imagenet/n1", category="car") for one in objects[:2]]
    if layout == "imagenet3d":
        write_imagenet3d(tmp_path, named)
    else:
        write_pascal3d(tmp_path, named)
    (path,) = tmp_path.glob("[aA]nnotations/*/n1.*")
    data, rng, refused = path.read_bytes(), np.random.default_rng(0), 0
    for _ in range(150):
        damaged = bytearray(data)
        for place in rng.integers(0, len(data), 4):
            damaged[place] = rng.integers(0, 256)
        path.write_bytes(bytes(damaged[: len(data) if rng.random() < 0.8 else rng.integers(1, len(data))]))
        try:
            list(read_imagenet3d(tmp_path) if layout == "imagenet3d" else read_pascal3d(tmp_path, "car"))
        except SceneError:
            refused += 1
    assert refused > 50
