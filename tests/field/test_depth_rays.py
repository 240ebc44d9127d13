"""Targets of the depth loss, and the loss itself."""

import dataclasses
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import small_settings

from ovseg3d.field.config import FieldConfig
from ovseg3d.field.depth_rays import DepthRays
from ovseg3d.field.stage import CaptureUse, FieldStage, _bend
from ovseg3d.scene import PixelBatch, Scene, load_scene
from ovseg3d.scene.completion import CELL
from ovseg3d.scene.sparse import SparseDepth

ROWS, COLUMNS = 6, 8


def made(**changed) -> SparseDepth:
    """Two photos; disparity 0.2 + 0.01 column + 0.02 row; three points in the second photo."""
    row, column = np.mgrid[:ROWS, :COLUMNS].astype(np.float32)
    disparity = np.stack([0.2 + 0.01 * column + 0.02 * row] * 2)
    sparse = SparseDepth(
        view=np.ones(3, np.int64),
        xy=np.array([[3.0, 4.0], [10.0, 12.0], [20.0, 8.0]]),
        depth_z=np.array([1.0, 2.0, 3.0]),
        sigma=np.array([0.0, 0.01, 0.06]),
        disparity=disparity,
        disparity_sigma=np.full_like(disparity, 0.02),
        cell=np.full(2, CELL),
        points=np.zeros((3, 3)),
        c2w=np.tile(np.eye(4), (2, 1, 1)),
        focal_ratio=np.ones((2, 2)),
        errors_px=np.zeros(2),
    )
    return replace(sparse, **changed)


def batch(xy: torch.Tensor, **changed: torch.Tensor) -> PixelBatch:
    count = len(xy)
    ones, zeros = torch.ones(count), torch.zeros(count)
    found = PixelBatch(
        view=torch.zeros(count, dtype=torch.int64),
        xy=xy,
        rgb=torch.zeros(count, 3),
        alpha=ones,
        depth_z=zeros,
        depth_weight=zeros,
        valid=torch.ones(count, dtype=torch.bool),
        flatness=zeros,
    )
    return replace(found, **changed)


def test_completed_depth_is_interpolated_in_disparity():
    xy = torch.rand(50, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([24.0, 16.0]) + 4.0
    filled = DepthRays(made(), weight=0.3, seed=0).fill(batch(xy))
    true = 0.2 + 0.01 * (xy[:, 0] / CELL - 0.5) + 0.02 * (xy[:, 1] / CELL - 0.5)
    torch.testing.assert_close(filled.depth_z, 1.0 / true, rtol=1e-4, atol=0)
    torch.testing.assert_close(filled.depth_weight, torch.full((50,), 0.15))


@pytest.mark.parametrize(("sigma", "share"), [(0.0, 1.0), (0.02, 0.5), (0.04, 0.2), (np.inf, 0.0)])
def test_completed_depth_counts_less_by_the_square_of_its_deviation(sigma, share):
    sparse = made(disparity_sigma=np.full((2, ROWS, COLUMNS), sigma, np.float32))
    filled = DepthRays(sparse, weight=0.3, seed=0).fill(batch(torch.tensor([[6.0, 6.0]])))
    assert filled.depth_weight.item() == pytest.approx(0.3 * share)


def test_measured_depth_comes_first_and_hidden_pixels_have_none():
    xy = torch.tensor([[6.0, 6.0], [6.0, 6.0], [6.0, 6.0]])
    given = batch(
        xy,
        depth_z=torch.tensor([7.0, 0.0, 0.0]),
        depth_weight=torch.tensor([1.0, 0.0, 0.0]),
        valid=torch.tensor([True, True, False]),
    )
    filled = DepthRays(made(), weight=0.3, seed=0).fill(given)
    assert filled.depth_z[0] == 7.0 and filled.depth_weight.tolist() == pytest.approx([1.0, 0.15, 0.0])


def test_photos_without_points_have_no_target():
    sigma = np.full((2, ROWS, COLUMNS), np.inf, np.float32)
    filled = DepthRays(made(disparity_sigma=sigma), weight=0.3, seed=0).fill(batch(torch.tensor([[6.0, 6.0]])))
    assert filled.depth_weight.tolist() == [0.0]


@pytest.mark.parametrize("device", [None, torch.device("cpu")])
def test_points_are_drawn_by_their_confidence(device):
    drawn = DepthRays(made(), weight=0.3, seed=1, device=device).draw(step=3, count=5000)
    assert not drawn.valid.any() and (drawn.depth_weight == 1).all() and (drawn.view == 1).all()
    share = [(drawn.depth_z == z).float().mean().item() for z in (1.0, 2.0, 3.0)]
    assert share == pytest.approx([0.8, 0.2, 0.0], abs=0.03)  # 1 : 1/4 : none
    again = DepthRays(made(), weight=0.3, seed=1, device=device).draw(step=3, count=5000)
    assert all(torch.equal(getattr(drawn, f.name), getattr(again, f.name)) for f in dataclasses.fields(PixelBatch))


@pytest.mark.parametrize("device", [None, torch.device("cpu")])
def test_no_certain_point_is_no_ray(device):
    rays = DepthRays(made(sigma=np.full(3, 0.2)), weight=0.3, seed=0, device=device)
    assert len(rays.draw(0, 64).view) == 0


def test_a_plane_has_no_bend_and_a_crease_has():
    """z of a plane n.x = 1 along a line of the image, for rays that are not of equal length."""
    x = torch.tensor([-0.4, 0.1, 0.6])
    z_per_distance = 1.0 / torch.sqrt(1.0 + x * x)
    z = 1.0 / (0.3 * x + 0.5)
    flat = torch.ones(3)
    assert _bend(z / z_per_distance, z_per_distance, flat).item() < 1e-4
    bent = z * torch.tensor([1.0, 1.1, 1.0])
    assert _bend(bent / z_per_distance, z_per_distance, flat).item() > 0.1
    assert _bend(bent / z_per_distance, z_per_distance, torch.tensor([1.0, 0.0, 1.0])).item() == 0.0


def one_metre(scene: Scene) -> SparseDepth:
    """One point, and a completed depth of 1 everywhere."""
    views, camera = len(scene.train), scene.frames[scene.train[0]].camera
    shape = (views, camera.height // CELL, camera.width // CELL)
    return SparseDepth(
        view=np.zeros(1, np.int64), xy=np.array([[2.0, 2.0]]), depth_z=np.array([1.0]), sigma=np.array([0.01]),
        disparity=np.full(shape, 1.0, np.float32), disparity_sigma=np.zeros(shape, np.float32),
        cell=np.full(views, CELL),
        points=np.zeros((1, 3)), c2w=np.stack([scene.frames[v].camera.c2w for v in scene.train]),
        focal_ratio=np.ones((views, 2)), errors_px=np.zeros(2),
    )  # fmt: skip


def test_planes_are_held_from_the_first_step(tiny_scene):
    """Once cells are emptied, a surface in the wrong place cannot cross them any more."""
    scene = load_scene(tiny_scene)

    def network_after_a_step(planarity: float) -> torch.Tensor:
        config = replace(FieldConfig(**small_settings()["field"]), planarity=planarity)
        stage = FieldStage(scene, config, torch.device("cpu"), use=CaptureUse(sparse=one_metre(scene)))
        with stage.workers.open():
            stage.step(0, 0.0)
        return stage.field.network.detach().clone()

    assert torch.equal(network_after_a_step(0.5), network_after_a_step(0.5))
    assert not torch.equal(network_after_a_step(0.5), network_after_a_step(50.0))


def test_depth_is_learned_from_points_alone_and_opacity_is_not_lowered_by_it(tiny_scene):
    """The loss on a sum that is not normalised had its minimum at no opacity."""
    scene = load_scene(tiny_scene)
    config = replace(FieldConfig(**small_settings()["field"]), depth_weight=10.0, completion_weight=1.0, planarity=0.0)
    camera = scene.frames[scene.train[0]].camera
    near = one_metre(scene)
    stage = FieldStage(scene, config, torch.device("cpu"), use=CaptureUse(sparse=near))
    with stage.workers.open():
        for step in range(150):
            stage.step(step, step / 150)
    shown = stage.renderer.render(camera)
    assert np.median(shown["opacity"]) > 0.9
    assert np.median(np.abs(shown["depth_z"] - 1.0)) < 0.1
