"""Training of the detection head: rooms, augmentation, and a training that continues with the same bits."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree  # pyright: ignore[reportAttributeAccessIssue] - not in SciPy's list of names

from ovseg3d.field.surface import Surface
from ovseg3d.geometry import rotated_iou
from ovseg3d.heads.detection import DetectionShape, load_network
from ovseg3d.heads.detection.network import DetectionNetwork
from ovseg3d.synth.kinds import KINDS
from scripts.training.detection_rooms import (
    IGNORED,
    DetectionRoom,
    load_detection_room,
    save_detection_room,
    without,
)
from scripts.training.detection_stage import SURFACES, DetectionRecipe, DetectionStage, augmented
from scripts.training.field_like import field_like
from scripts.training.field_surfaces import labelled
from scripts.training.polar_muon import polar

TINY = DetectionShape(stem=8, widths=(8, 8, 8, 8), head=16, embedding=4)
SEED = 500_004


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rooms")
    load_detection_room(folder, SEED, points=30_000)
    return folder


@pytest.fixture(scope="module")
def room(rooms: Path) -> DetectionRoom:
    return load_detection_room(rooms, SEED)


def inside(room: DetectionRoom, grown: float) -> np.ndarray:
    """For each point of an object, whether it is in its own box, enlarged by some metres."""
    own = room.instance > 0
    box = room.boxes[room.instance[own] - 1].astype(np.float64)
    cos, sin = np.cos(box[:, 6]), np.sin(box[:, 6])
    x, y, z = (room.xyz[own] - box[:, :3]).T
    local = np.stack([cos * x + sin * y, cos * y - sin * x, z], 1)
    return (np.abs(local) <= box[:, 3:6] / 2 + grown).all(1)


def test_a_kept_room_is_the_room(rooms: Path, room: DetectionRoom) -> None:
    again = load_detection_room(rooms, SEED)
    assert again.kinds == room.kinds and np.array_equal(again.xyz, room.xyz)
    assert len(room.boxes) == len(room.kinds) == len(room.symmetry) and len(room.xyz) == 30_000
    assert inside(room, 0.01).all()
    by_kind = dict(zip(room.kinds, room.symmetry.tolist()))
    assert by_kind["sofa"] == 1 and by_kind["rug"] == 2 and by_kind["plate"] == 0


def test_boxes_stay_around_their_points(room: DetectionRoom) -> None:
    kept = []
    for seed in range(8):
        cloud, moved = augmented(np.random.default_rng(seed), room)
        # Some clouds are warped by 8 cm (one deviation).
        assert inside(moved, 0.06).mean() > 0.8 and inside(moved, 0.5).all()
        assert len(cloud.xyz) == len(moved.instance)
        assert cloud.normal is None or np.allclose(np.linalg.norm(cloud.normal, axis=1), 1, atol=1e-4)
        kept.append(len(cloud.xyz))
    assert min(kept) < 0.7 * len(room.xyz), "cameras do not see everything"
    assert rotated_iou(room.boxes.astype(float), moved.boxes.astype(float)).max() < 0.99


def test_kinds_that_are_held_out_have_no_label_and_are_no_background(room: DetectionRoom) -> None:
    gone = {room.kinds[0], "nothing"}
    fewer = without(room, gone)
    assert room.kinds[0] not in fewer.kinds and len(fewer.boxes) == len(fewer.kinds) == len(fewer.symmetry)
    for row, kind in enumerate(room.kinds):
        own = fewer.instance[room.instance == row + 1]
        if kind in gone:
            assert (own == IGNORED).all()
        else:
            assert len(set(own.tolist())) == 1 and np.array_equal(fewer.boxes[own[0] - 1], room.boxes[row])
            assert fewer.kinds[own[0] - 1] == kind
    assert np.array_equal(fewer.instance == 0, room.instance == 0)
    assert without(room, {"nothing"}) is room


def test_a_field_like_cloud_bends_walls(room: DetectionRoom) -> None:
    normal, rgb = room.normal / np.linalg.norm(room.normal, axis=1, keepdims=True), room.rgb.astype(np.float32) / 255
    xyz, tilted, shaded, instance = field_like(np.random.default_rng(0), room.xyz, normal, rgb, room.instance)
    offset = ((xyz - room.xyz) * normal).sum(1)
    assert np.allclose(xyz - room.xyz, offset[:, None] * normal, atol=1e-3), "along the normal"
    far = np.abs(offset) > 0.08
    assert far.any() and not instance[far].any() and np.array_equal(instance[~far], room.instance[~far])
    low, middle, high = np.quantile(offset, [0.05, 0.5, 0.95])
    assert -0.1 < low < -0.01 and abs(middle) < 0.01 and -low < high < 0.2, "objects swell rather than shrink"
    near = cKDTree(room.xyz).query(room.xyz, k=2)[1][:, 1]
    plane = (normal * normal[near]).sum(1) > 0.99
    assert np.corrcoef(offset[plane], offset[near][plane])[0, 1] > 0.5, "neighbours move together"
    assert np.allclose(np.linalg.norm(tilted, axis=1), 1, atol=1e-3)
    wall, flat = room.instance == 0, np.abs(offset) < 0.005
    assert np.median((tilted * normal).sum(1)[wall & flat]) > np.median((tilted * normal).sum(1)[wall & far])
    assert 0.6 < shaded.mean() / rgb.mean() < 1.0


def test_points_of_a_field_take_the_object_that_they_are_near(room: DetectionRoom) -> None:
    moved = room.xyz + np.float32([0, 0, 0.02])
    moved[:100] += 3  # floaters
    surface = Surface(
        moved, room.normal.astype(np.float32) / 127, room.rgb, np.ones(len(moved), np.float32),
        np.full(len(moved), 0.02, np.float32), np.float32([0, 0, 1]), True,
    )  # fmt: skip
    taught = labelled(surface, room)
    assert not taught.instance[:100].any() and taught.boxes is room.boxes
    objects = np.flatnonzero(room.instance[100:] > 0) + 100
    assert (taught.instance[objects] == room.instance[objects]).mean() > 0.8


def test_surfaces_are_trained_on(rooms: Path, room: DetectionRoom, tmp_path: Path) -> None:
    save_detection_room(tmp_path / "1.npz", room)
    with_surfaces = stage(rooms)
    with_surfaces.surfaces = (tmp_path / "1.npz",)
    (rooms / f"{SEED}.npz").rename(tmp_path / "away.npz")
    steps = [step for step in range(8) if np.random.default_rng([0, step]).random() < SURFACES]
    try:
        for step in steps:
            with_surfaces.step(step, step / 8)
    finally:
        (tmp_path / "away.npz").rename(rooms / f"{SEED}.npz")
    assert steps and not (rooms / f"{SEED + 1}.npz").exists()
    assert all(np.isfinite(value) for value in with_surfaces.measure().values())


def test_polar_factor() -> None:
    torch.manual_seed(0)
    for shape in ((20, 6), (6, 20)):
        matrix = torch.randn(shape)
        u, _, v = torch.linalg.svd(matrix, full_matrices=False)
        torch.testing.assert_close(polar(matrix), u @ v, atol=1e-3, rtol=1e-3)
    assert torch.isfinite(polar(torch.zeros(5, 3))).all()


def stage(rooms: Path) -> DetectionStage:
    vectors = torch.nn.functional.normalize(
        torch.randn(len(KINDS), 4, generator=torch.Generator().manual_seed(0)), dim=1
    )
    torch.manual_seed(0)
    return DetectionStage(
        rooms, range(SEED, SEED + 1), tuple(KINDS), vectors, DetectionRecipe(), DetectionNetwork(TINY)
    )


def test_a_training_continues_with_the_same_bits(rooms: Path) -> None:
    whole, first, second = stage(rooms), stage(rooms), stage(rooms)
    for step in range(4):
        whole.step(step, step / 4)
    for step in range(2):
        first.step(step, step / 4)
    second.load_state({name: value.clone() for name, value in first.state().items()})
    for step in range(2, 4):
        second.step(step, step / 4)
    for one, two in zip(whole.network.parameters(), second.network.parameters()):
        assert torch.equal(one, two)
    assert all(np.isfinite(value) for value in whole.measure().values())


def test_the_script(rooms: Path, tmp_path: Path) -> None:
    # Its first room is made: another one than that of the fixture.
    command = [
        sys.executable, "-m", "scripts.training.train_detection", "--output", tmp_path / "out/net.safetensors",
        "--work", tmp_path / "work", "--rooms", tmp_path / "rooms", "--room-count", "1", "--steps", "2",
        "--max-seconds", "None", "--stem", "8", "--widths", "8", "8", "8", "8", "--head", "16",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    trained = load_network(tmp_path / "out/net.safetensors")
    assert trained.names == tuple(KINDS) and trained.network.shape.widths == (8, 8, 8, 8)
    card = json.loads((tmp_path / "out/card.json").read_text())
    assert card["recipe"]["steps"] == 2 and "1 procedural rooms" in card["data"]["clouds"]
