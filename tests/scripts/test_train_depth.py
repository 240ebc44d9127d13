"""Photos and training of the depth network: exact labels, and a training that continues with the same bits."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ovseg3d.encoders.depth_network import load_network, save_network
from ovseg3d.synth.render import DRAFT
from scripts.training import depth_rooms, depth_stage
from scripts.training.depth_rooms import DTYPE, SIDE, make_photos
from scripts.training.depth_stage import DepthRecipe, DepthStage, cut, disturb
from scripts.training.distributed import BatchRandom


def slanted(count: int = 6) -> np.ndarray:
    """Photos of planes whose colour tells their depth."""
    rng = np.random.default_rng(0)
    photos = np.zeros(count, DTYPE)
    photos["focal"] = rng.uniform(100, 180, count)
    for photo in photos:
        normal = np.array([*rng.uniform(-0.4, 0.4, 2), -1.0])
        line = (np.arange(SIDE) + 0.5 - SIDE / 2) / photo["focal"]
        rays = np.stack([*np.meshgrid(line, line), np.ones((SIDE, SIDE))], -1)
        depth = -rng.uniform(1, 3) / (rays @ normal)
        photo["log_depth"] = np.log(depth)
        photo["normal"] = np.round(127 * normal / np.linalg.norm(normal))
        photo["rgb"] = np.clip(60 * depth, 0, 255)[..., None]
    return photos


def use_planes(patch: pytest.MonkeyPatch) -> None:
    """Train on them, in small batches."""
    patch.setattr(depth_stage, "load_photos", lambda *_: slanted())
    patch.setattr(depth_stage, "PHOTOS", 6)
    patch.setattr(depth_stage, "WARM_STEPS", 5)
    patch.setattr(depth_stage, "SMALL", ((48, 32), (32, 32)))


@pytest.fixture
def planes(monkeypatch: pytest.MonkeyPatch) -> None:
    use_planes(monkeypatch)


def test_photos_are_a_pure_function_and_their_normals_are_those_of_their_depth(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(depth_rooms, "LIGHT", DRAFT)
    photos, again = make_photos(3, 3), make_photos(3, 3)
    assert np.array_equal(photos, again)
    for photo in photos:
        line = (np.arange(SIDE) + 0.25 - SIDE / 2) / photo["focal"]  # where the sample of a pixel lies
        rays = np.stack([*np.meshgrid(line, line), np.ones((SIDE, SIDE))], -1)
        points = rays * np.exp(photo["log_depth"].astype(np.float64))[..., None]
        normal = np.cross(points[:-1, 1:] - points[:-1, :-1], points[1:, :-1] - points[:-1, :-1])
        normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
        stated = photo["normal"][:-1, :-1] / 127
        assert np.nanmedian(np.abs((normal * stated).sum(-1))) > 0.98
        assert ((stated * rays[:-1, :-1]).sum(-1) < 0.02).all()


def test_crops_keep_geometry() -> None:
    photos = slanted()
    batch = cut(photos, (64, 48), BatchRandom(torch.Generator().manual_seed(3), len(photos)))
    rays = F.interpolate(batch.rays, scale_factor=0.5, mode="area")
    points = torch.cat([rays, torch.ones_like(rays[:, :1])], 1) * batch.log_depth.exp()[:, None]
    # All points of a plane are as far along its normal, mirrored or not.
    along = (points * batch.normal).sum(1).flatten(1)
    assert (along.std(1) / along.mean(1).abs()).max() < 0.03 and batch.known.all()
    assert (batch.rgb.shape, batch.normal.shape) == ((6, 3, 48, 64), (6, 3, 24, 32))
    whole = cut(photos, (64, 48), None)
    assert whole.focal.numpy() == pytest.approx(photos["focal"] * 64 / SIDE)
    changed = disturb(whole.rgb, BatchRandom(torch.Generator().manual_seed(0), 6), np.random.default_rng(0))
    assert changed.min() >= 0 and changed.max() <= 1 and (changed - whole.rgb).abs().mean() > 0.01


def test_a_training_continues_with_the_same_bits(planes: None, tmp_path: Path) -> None:
    recipe = DepthRecipe(batch=2)
    whole = DepthStage(tmp_path, [0, 1], recipe)
    for step in range(4):
        whole.step(step, step / 10)
    first = DepthStage(tmp_path, [0, 1], recipe)
    for step in range(2):
        first.step(step, step / 10)
    second = DepthStage(tmp_path, [0, 1], recipe)
    second.load_state({name: value.clone() for name, value in first.state().items()})
    for step in range(2, 4):
        second.step(step, step / 10)
    for name, value in whole.state().items():
        assert torch.equal(value, second.state()[name]), name


def test_a_training_learns_and_its_file_brings_it_back(planes: None, tmp_path: Path) -> None:
    stage = DepthStage(tmp_path, [0], DepthRecipe(batch=4, rate=5e-3))
    losses = []
    for step in range(40):
        stage.figures.clear()
        stage.step(step, step / 100)
        losses.append(stage.figures["metric"])
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    network = stage.averaged_network()
    save_network(tmp_path / "model.safetensors", network)
    batch = cut(slanted(), (64, 48), None)
    with torch.no_grad():
        kept = load_network(tmp_path / "model.safetensors")(batch.rgb, batch.rays, batch.focal)
        made = network(batch.rgb, batch.rays, batch.focal)
    assert torch.allclose(kept.log_depth, made.log_depth, atol=0.02)
    assert torch.allclose(kept.normal.norm(dim=1), torch.ones(6, 24, 32))
