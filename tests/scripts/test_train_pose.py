"""Crops and training of the photo head: exact labels, and a training that continues with the same bits."""

import numpy as np
import pytest
import torch

from ovseg3d.geometry import rotation_of_angles
from ovseg3d.heads.pose import PhotoPoser, PoseShape
from ovseg3d.heads.pose.network import BINS, PoseNetwork, pose_loss
from ovseg3d.synth.kinds import KINDS
from scripts.benchmarks.pose import decoded
from scripts.training.pose_crops import NAMES, NOVEL, CropSet, jittered, pose_crop, viewpoint_on_ray
from scripts.training.pose_stage import PoseRecipe, PoseStage

TINY = PoseShape(channels=6, grid=2, reduced=4, hidden=16, waves=4)


def some(count: int = 64) -> tuple[CropSet, torch.Tensor]:
    """Labels that can be read off the features."""
    rng = np.random.default_rng(0)
    angles = np.stack([rng.uniform(0, 6.28, count), rng.uniform(0, 1, count), rng.normal(0, 0.1, count)], 1)
    kind = rng.integers(-1, len(NAMES), count)
    seen = np.stack([np.cos(angles[:, 0]), np.sin(angles[:, 0]), angles[:, 1], angles[:, 2], kind < 0, kind < 0], 1)
    features = torch.from_numpy(seen).float()[:, :, None, None].expand(-1, -1, 2, 2)
    image = np.zeros((count, 2, 2, 3), np.uint8)
    return CropSet(
        image, kind, angles.astype(np.float32), np.ones(count, np.int64), np.zeros(count, np.int64)
    ), features


def test_crops_are_pure_functions_with_true_labels() -> None:
    index = 0  # the first blocks hold rooms, and objects alone
    crop, again = (pose_crop(1, index, room_share=0.0) for _ in range(2))
    assert np.array_equal(crop.image, again.image) and crop.kind in KINDS and crop.order in (0, 1, 2, 4)
    assert len(set(NOVEL) & set(NAMES)) >= 15 and len(set(NAMES) - set(NOVEL)) >= 20
    # In the middle of the picture, the label is the plain viewpoint.
    angles = np.array([1.0, 0.4, 0.1])
    thing = rotation_of_angles(angles).as_matrix()
    middle = viewpoint_on_ray(np.eye(3), thing, (54.0, 54.0, 74.0, 74.0), 100.0)
    assert middle == pytest.approx(angles, abs=1e-9)
    aside = viewpoint_on_ray(np.eye(3), thing, (104.0, 54.0, 124.0, 74.0), 100.0)
    assert abs(aside[0] - 1.0) > 0.2
    box = jittered(np.random.default_rng(0), (20.0, 20.0, 60.0, 40.0), 2.0)
    assert box == pytest.approx((10, 10, 30, 20), abs=3)


def test_a_training_continues_with_the_same_bits() -> None:
    crops, features = some()
    recipe = PoseRecipe(batch=16)
    whole = PoseStage(crops, features, recipe, TINY)
    for step in range(6):
        whole.step(step, step / 6)
    first = PoseStage(crops, features, recipe, TINY)
    for step in range(3):
        first.step(step, step / 6)
    second = PoseStage(crops, features, recipe, TINY)
    second.load_state({name: value.clone() for name, value in first.state().items()})
    for step in range(3, 6):
        second.step(step, step / 6)
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, second.network.state_dict()[name]), name


@pytest.mark.parametrize("terms", [4, 0])
def test_what_can_be_read_off_is_learnt(terms: int) -> None:
    crops, features = some()
    shape = PoseShape(channels=6, grid=2, reduced=8, hidden=64, waves=terms)
    stage = PoseStage(crops, features, PoseRecipe(batch=64, rate=1e-2), shape)
    for step in range(150):
        stage.step(step, step / 150)
    there = crops.kind >= 0
    with torch.no_grad():
        found = stage.network.eval()(features, stage.text[torch.from_numpy(crops.kind)])
    away = np.degrees(np.abs((decoded(found)[:, 0] - crops.angles[:, 0] + np.pi) % (2 * np.pi) - np.pi))[there]
    assert np.median(away) < 15
    assert (found.present[torch.from_numpy(there)] > 0).float().mean() > 0.9


def test_bins_are_a_baseline_of_their_own() -> None:
    network = PoseNetwork(PoseShape(channels=6, grid=2, waves=0))
    found = network(torch.randn(5, 6, 2, 2), torch.zeros(5, 192))
    assert found.bins and found.azimuth.shape == (5, BINS)
    angles, order = torch.rand(5, 3), torch.ones(5, dtype=torch.long)
    assert torch.isfinite(pose_loss(found, angles, order, torch.ones(5, dtype=torch.bool)))


def test_the_shipped_head_beats_chance_on_new_objects() -> None:
    """Ten objects that no training has seen: chance is within 45 degrees of the azimuth in one of four."""
    poser, errors = PhotoPoser(), []
    crops = [pose_crop(9, index, "new", room_share=0.0) for index in range(24)]
    facing = [crop for crop in crops if crop.order == 1]
    said = poser.look(np.stack([crop.image for crop in facing]), [crop.kind for crop in facing])
    for crop, seen in zip(facing, said):
        errors.append(abs((seen.angles[0] - crop.azimuth + np.pi) % (2 * np.pi) - np.pi))
    assert len(errors) >= 10 and np.mean(np.degrees(errors) < 45) > 0.5
    assert np.mean([seen.present > 0.5 for seen in said]) > 0.9
    nothing = poser.look(np.full((1, 96, 96, 3), 180, np.uint8))[0]
    assert nothing.present < 0.5
