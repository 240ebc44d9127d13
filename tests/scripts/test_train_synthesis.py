"""Training of neural meshes: what is drawn is learnt, a training continues with the same bits, bad crops are told."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ovseg3d.errors import ConfigError
from ovseg3d.geometry import rotation_of_angles, symmetric_geodesic_rad
from ovseg3d.heads.pose import MeshesShape
from ovseg3d.heads.pose.meshes import SurfaceShape, vertex_weights
from ovseg3d.heads.pose.synthesis import pose_grid, posterior, rotations_of
from ovseg3d.heads.pose.synthesis_poser import kind_prior
from scripts.training.pose_crops import NAMES, CropSet
from scripts.training.synthesis_stage import SynthesisRecipe, SynthesisStage, mean_halves, pose_targets

KINDS = ("chair", "sofa")
SHAPE = MeshesShape(
    KINDS, ((1.0, 0.8, 0.7), (1.0, 0.4, 0.4)), channels=12, grid=4, texels=2, hidden=24, dim=12, text=192
)
RECIPE = SynthesisRecipe(kinds=2, crops=8)


def some(count: int = 96, seed: int = 0) -> tuple[CropSet, torch.Tensor]:
    """Crops whose features are drawn from meshes of random colours."""
    rng = np.random.default_rng(seed)
    angles = np.stack([rng.uniform(0, 6.28, count), rng.uniform(0, 0.8, count), rng.normal(0, 0.05, count)], 1)
    kind = np.array([NAMES.index(KINDS[k % 2]) for k in range(count)])
    colours = np.random.default_rng(1).normal(size=(2, 24, 12))
    features = torch.zeros(count, 12, 4, 4)
    for k in range(2):
        rows = np.flatnonzero(kind == NAMES.index(KINDS[k]))
        surface = SurfaceShape(SHAPE.outline, SHAPE.halves[k], SHAPE.texels)
        weights = vertex_weights(surface, rotations_of(angles[rows]), 4)
        drawn = weights @ torch.from_numpy(colours[k]).float()
        features[torch.from_numpy(rows)] = drawn.transpose(1, 2).unflatten(2, (4, 4))
    features += 0.05 * torch.from_numpy(rng.normal(size=features.shape)).float()
    none = np.zeros(count, np.int64)
    image = np.zeros((count, 2, 2, 3), np.uint8)
    return CropSet(image, kind, angles.astype(np.float32), np.ones(count, np.int64), none), features


def test_what_is_drawn_is_learnt() -> None:
    stage = SynthesisStage(*some(400), SHAPE, RECIPE)
    for step in range(80):
        stage.step(step, step / 80)
    crops, features = some(64, seed=5)
    meshes = stage.meshes.eval()
    with torch.no_grad():
        found = posterior(meshes, meshes(features), kind_prior(meshes, torch.zeros(64, 192)))
    right = (found.kinds.argmax(1).numpy() == np.arange(64) % 2).mean()
    turned = rotation_of_angles(found.best.numpy()), rotation_of_angles(crops.angles.astype(np.float64))
    errors = np.degrees(symmetric_geodesic_rad(*turned, crops.order))
    assert right > 0.9 and np.median(errors) < 15


def test_a_training_continues_with_the_same_bits() -> None:
    crops, features = some(32)
    whole, first, second = (SynthesisStage(crops, features, SHAPE, RECIPE) for _ in range(3))
    for step in range(4):
        whole.step(step, step / 4)
    for step in range(2):
        first.step(step, step / 4)
    second.load_state({name: value.clone() for name, value in first.state().items()})
    for step in range(2, 4):
        second.step(step, step / 4)
    for name, value in whole.state().items():
        assert torch.equal(value, second.state()[name]), name


@pytest.mark.parametrize("order", [1, 2, 4, 0])
def test_targets_are_the_true_pose_and_those_equal_to_it(order: int) -> None:
    angles = np.radians([[47.0, 21.0, 3.0]])
    target = pose_targets(angles, np.array([order]))[0]
    assert float(target.sum()) == pytest.approx(1, abs=1e-6) and float(target.min()) >= 0
    near = symmetric_geodesic_rad(
        rotation_of_angles(pose_grid()),
        rotation_of_angles(np.repeat(angles, len(target), 0)),
        np.full(len(target), order),
    )
    assert np.degrees(near[target.numpy() > 0]).max() < 14
    azimuth = target.view(36, -1).sum(1)
    assert int((azimuth > 0).sum()) == (36 if order == 0 else 2 * order)
    elevation = (target.view(36, 6, 3).sum((0, 2)) * torch.tensor([-5.0, 6, 17, 28, 39, 50])).sum()
    assert float(elevation) == pytest.approx(21, abs=1e-4)


def test_what_crops_say_beside_features_is_kept() -> None:
    crops, features = some(40)
    crops.order[crops.kind == NAMES.index("sofa")] = 2
    crops.angles[:, 0] = 0.1
    meshes = SynthesisStage(crops, features, SHAPE, RECIPE).meshes
    assert meshes.orders.argmax(1).tolist() == [0, 1]
    assert meshes.poses.exp().sum(1).tolist() == pytest.approx([1, 1], abs=1e-4)
    assert (meshes.poses.exp().view(2, 36, -1).sum(2)[:, :2].sum(1) > 0.3).all()
    assert meshes.texts.norm(dim=1).tolist() == pytest.approx([1, 1], abs=1e-3)


def test_crops_that_cannot_be_learnt_from_are_told() -> None:
    crops, features = some(16)
    with pytest.raises(ConfigError, match="no crop of lamp"):
        SynthesisStage(crops, features, replace(SHAPE, kinds=(*KINDS, "lamp"), halves=SHAPE.halves * 2), RECIPE)
    features[3, 2, 1, 1] = torch.nan
    with pytest.raises(ConfigError, match="not finite"):
        SynthesisStage(crops, features, SHAPE, RECIPE)


def test_proportions_are_those_of_the_kind() -> None:
    wide, deep, high = mean_halves("bookshelf")
    assert high > wide > deep > 0
