"""Objectron: round trips, a sequence by hand against the released formulas, and damage."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from ovseg3d.datasets import PosedObject, read_objectron, write_imagenet3d, write_objectron
from ovseg3d.datasets.protobuf import Message, encoded
from ovseg3d.errors import SceneError
from ovseg3d.geometry import Viewpoint

VIDEO = "chair/batch-1/30"
WIDTH, HEIGHT = 1440, 1920
"""Of the upright photo."""


@pytest.fixture(scope="module")
def chairs(tmp_path_factory: pytest.TempPathFactory) -> list[PosedObject]:
    """Two chairs of one frame, and one of another, off the middle."""
    photo = tmp_path_factory.mktemp("photos") / "a.jpg"
    Image.new("RGB", (WIDTH // 10, HEIGHT // 10)).save(photo)
    one = PosedObject(
        photo=photo, name=f"{VIDEO}/0", number=0, category="chair", viewpoint=Viewpoint(1.25, 0.5, 0.25, 1.5),
        center_px=(400.0, 1100.0), bbox=(0.0, 0.0, 0.0, 0.0), focal_px=1500.0, size=(WIDTH, HEIGHT),
        box_size=(0.4, 0.5, 0.9),
    )  # fmt: skip
    return [
        one,
        replace(one, number=1, center_px=(900.0, 700.0), viewpoint=Viewpoint(4.0, -0.25, -2.0, 3.0)),
        replace(one, name=f"{VIDEO}/12", box_size=(0.2, 0.2, 0.3)),
    ]


def test_there_and_back(chairs: list[PosedObject], tmp_path: Path) -> None:
    write_objectron(tmp_path, chairs, "train")
    found = list(read_objectron(tmp_path, "chair", "train"))
    assert [one.key for one in found] == [one.key for one in chairs]
    for one, other in zip(found, chairs):
        assert one.photo.read_bytes() == other.photo.read_bytes()
        assert vars(one.viewpoint) == pytest.approx(vars(other.viewpoint), abs=1e-5)
        assert one.center_px == pytest.approx(other.center_px, abs=1e-2)
        assert one.focal_px == pytest.approx(other.focal_px) and one.size == other.size
        assert one.box_size == pytest.approx(other.box_size) and one.category == "chair"
        assert one.bbox[0] < one.center_px[0] < one.bbox[2] and one.bbox[1] < one.center_px[1] < one.bbox[3]
    write_imagenet3d(tmp_path / "again", [replace(one, name=f"chair/{k}", number=0) for k, one in enumerate(found)])
    with pytest.raises(SceneError, match="missing"):
        list(read_objectron(tmp_path, "chair", "test"))
    with pytest.raises(SceneError, match="no box"):
        write_objectron(tmp_path / "other", [replace(chairs[0], box_size=None)])
    with pytest.raises(SceneError, match="focal length"):
        write_objectron(tmp_path / "other", [replace(chairs[0], focal_px=0.0)])
    for name in ("chair/30/a", f"{VIDEO}/007"):
        with pytest.raises(SceneError, match="CATEGORY/batch-I/J/FRAME"):
            write_objectron(tmp_path / "other", [replace(chairs[0], name=name)])
    assert not (tmp_path / "other").exists()


def sequence(folder: Path, **changed: Any) -> np.ndarray:
    """Write a sequence by hand: a cup whose front (+z) looks along the world's +x, 2 m before a phone that is turned.

    Returns the pixels that the released code projects its box to, in its order: the middle first.
    """
    turn, place = Rotation.from_euler("y", 90, degrees=True).as_matrix(), np.array([1.0, 0.5, -2.0])
    scale = np.array([0.1, 0.2, 0.3])
    camera = np.eye(4)
    camera[:3, :3] = Rotation.from_euler("YXZ", [60, -20, -85], degrees=True).as_matrix()
    camera[:3, 3] = place - 2.0 * camera[:3, :3] @ [0.05, 0.1, -1.0]
    view, projection = np.linalg.inv(camera), np.zeros((4, 4))
    projection[0, 0], projection[0, 2] = 2 * 1500 / HEIGHT, 0.02
    projection[1, 1], projection[1, 2] = 2 * 1500 / WIDTH, -0.01
    projection[2, 2:], projection[3, 2] = (-1, -0.002), -1
    facts = {"rotation": turn.ravel(), "scale": scale, "view": view.ravel(), "visibility": 0.9, "id": 7} | changed
    box = (4, facts["rotation"]), (5, place), (6, facts["scale"])
    image = (5, HEIGHT), (6, WIDTH)  # of the sensor, which lies on its side
    matrices = (8, projection.ravel()), (9, facts["view"])
    told = encoded((1, facts["id"]), (3, facts["visibility"]))
    frame = encoded((1, 3), (2, told), (3, encoded((1, 3), *image, *matrices)), (4, b""))
    empty = encoded((1, 4), (3, encoded(*image)))
    path = folder / "annotations" / f"{VIDEO}.pbdata"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded((1, encoded((1, 7), (2, "cup, blue"), *box)), (2, frame), (2, empty)))
    (folder / "index").mkdir(exist_ok=True)
    (folder / "index" / "chair_annotations_test").write_text(f"{VIDEO}\n")
    # Objectron's geometry tutorial: x of the photo is the second coordinate of the clipped point, and y the first.
    signs = [[0, 0, 0], *([x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1))]
    corners = (turn @ (np.array(signs) * scale / 2).T).T + place
    clip = projection @ view @ np.c_[corners, np.ones(9)].T
    return np.stack([(1 + clip[1] / clip[3]) / 2 * WIDTH, (1 + clip[0] / clip[3]) / 2 * HEIGHT], 1)


def test_a_sequence_by_hand(tmp_path: Path) -> None:
    pixels = sequence(tmp_path)
    (one,) = read_objectron(tmp_path, "chair")
    assert one.photo == tmp_path / "videos" / VIDEO / "3.jpg" and one.key == f"{VIDEO}/3/0" and one.category == "chair"
    assert one.size == (WIDTH, HEIGHT) and one.focal_px == pytest.approx(1500) and one.box_size is not None
    assert one.box_size == pytest.approx((0.1, 0.3, 0.2)), "left, back, up"
    assert one.center_px == pytest.approx(pixels[0], abs=0.05)
    assert one.bbox == pytest.approx([*pixels.min(0), *pixels.max(0)], abs=0.05)
    # Where the phone stands, along the cup's front (the world's +x), its left (-z) and up (+y).
    ahead, up, away = 2.0 * Rotation.from_euler("YXZ", [60, -20, -85], degrees=True).apply([-0.05, -0.1, 1.0])
    seen, distance = one.viewpoint, np.linalg.norm([ahead, away, up])
    assert seen.distance == pytest.approx(distance, abs=1e-4)
    assert seen.azimuth_rad == pytest.approx(np.arctan2(-away, ahead) % (2 * np.pi), abs=1e-4)
    assert seen.elevation_rad == pytest.approx(np.arcsin(up / distance), abs=1e-4)
    x, y = pixels[[3, 4, 7, 8]].mean(0) - pixels[[1, 2, 5, 6]].mean(0)  # from the bottom to the top
    assert seen.theta_rad == pytest.approx(np.arctan2(-x, -y), abs=0.05)


def test_objects_that_are_not_seen_do_not_count(tmp_path: Path) -> None:
    sequence(tmp_path, visibility=0.05)
    assert not list(read_objectron(tmp_path, "chair"))
    assert len(list(read_objectron(tmp_path, "chair", visible=False))) == 1
    aside = np.eye(4)
    aside[0, 3] = 1  # the cup is below the photo
    sequence(tmp_path, view=aside.ravel())
    assert not list(read_objectron(tmp_path, "chair"))
    sequence(tmp_path, view=np.diag([-1.0, 1, -1, 1]).ravel())  # it is behind
    assert not list(read_objectron(tmp_path, "chair", visible=False))


@pytest.mark.parametrize(
    "changed",
    [
        {"rotation": np.full(9, np.nan)}, {"rotation": -np.eye(3).ravel()}, {"rotation": np.ones(8)},
        {"scale": np.zeros(3)}, {"id": 8}, {"view": 2 * np.eye(4).ravel()},
    ],
)  # fmt: skip
def test_what_is_no_pose_is_refused(tmp_path: Path, changed: dict) -> None:
    sequence(tmp_path, **changed)
    with pytest.raises(SceneError, match="annotation cannot be read"):
        list(read_objectron(tmp_path, "chair"))


def test_damage_is_an_error_of_the_user(chairs: list[PosedObject], tmp_path: Path) -> None:
    write_objectron(tmp_path, chairs)
    path = tmp_path / "annotations" / f"{VIDEO}.pbdata"
    data, rng, refused = path.read_bytes(), np.random.default_rng(0), 0
    for _ in range(150):
        damaged = bytearray(data)
        for place in rng.integers(0, len(data), 4):
            damaged[place] = rng.integers(0, 256)
        path.write_bytes(bytes(damaged[: len(data) if rng.random() < 0.8 else rng.integers(1, len(data))]))
        try:
            list(read_objectron(tmp_path, "chair"))
        except SceneError:
            refused += 1
    assert refused > 20
    (tmp_path / "index/chair_annotations_test").write_text("../../chair\n")
    with pytest.raises(SceneError, match="no name of a category"):
        list(read_objectron(tmp_path, "chair"))


def test_messages_as_others_write_them() -> None:
    """Bytes of the encoding's own guide, floats that are not packed, and fields that are not known."""
    assert encoded((1, 150)) == bytes.fromhex("089601") and encoded((2, "testing")) == b"\x12\x07testing"
    single = bytes.fromhex("25 0000803f 25 00000040") + bytes.fromhex("09 0000000000000000")
    assert Message(single).floats(4).tolist() == [1.0, 2.0]
    assert Message(encoded((4, [1.0, 2.0]))).floats(4).tolist() == [1.0, 2.0]
    assert Message(b"").integer(1) == 0 and Message(encoded((3, b""))).messages(3)[0].integer(1) == 0
    for cut in (b"\x08", b"\x08\xff", b"\x12\x07test", b"\x0b"):
        with pytest.raises(ValueError):
            Message(cut)
