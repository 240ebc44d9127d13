"""The stage `field` on the tiny scene: it learns, is deterministic, and finds the right box."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import small_settings

from ovseg3d.engine import Workers
from ovseg3d.field.backends import make_backend
from ovseg3d.field.box import FieldBox
from ovseg3d.field.config import FieldConfig
from ovseg3d.field.corrections import PhotoCorrections, corrected
from ovseg3d.field.levels import grid_levels
from ovseg3d.field.occupancy import DECAY, OccupancyGrid, cell_at
from ovseg3d.field.radiance import RadianceField, harmonics, trunc_exp
from ovseg3d.field.reference.rays import transmittance
from ovseg3d.field.renderer import Renderer
from ovseg3d.field.samples import RaySamples
from ovseg3d.field.scene_bounds import find_box, seen_cells
from ovseg3d.field.stage import CaptureUse, FieldStage
from ovseg3d.scene import Cameras, load_scene

CPU = torch.device("cpu")
CONFIG = FieldConfig(**small_settings()["field"])
STEPS = 240


@pytest.fixture(scope="module")
def scene(tiny_scene):
    return load_scene(tiny_scene)


@pytest.fixture(scope="module")
def with_depth(scene):
    """A stage trained on the scene with depth. Do not train it further."""
    return trained(scene, STEPS, use=CaptureUse(depth=True))


def trained(scene, steps: int, threads: int = 2, stage: FieldStage | None = None, first: int = 0, **keywords):
    stage = stage or FieldStage(scene, keywords.pop("config", CONFIG), CPU, **keywords)
    stage.workers = Workers(stage.workers.pieces, threads)
    with stage.workers.open():
        for step in range(first, steps):
            stage.step(step, step / STEPS)
    return stage


def same(a: FieldStage, b: FieldStage) -> bool:
    left, right = a.state(), b.state()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_one_thread_and_two_give_the_same_bits(scene):
    assert same(trained(scene, 30, threads=1), trained(scene, 30, threads=2))


def test_a_resumed_stage_goes_on_to_the_same_bits(scene):
    straight = trained(scene, 40, seed=3)
    half = {name: tensor.clone() for name, tensor in trained(scene, 17, seed=3).state().items()}
    resumed = FieldStage(scene, CONFIG, CPU, seed=3)
    resumed.load_state(half)
    assert same(straight, trained(scene, 40, stage=resumed, first=17))
    assert not same(straight, trained(scene, 40, seed=4))


def test_training_lowers_the_error(scene):
    stage = trained(scene, 5)
    early = stage.measure()["psnr"]
    trained(scene, 120, stage=stage, first=5)
    stage.measure()
    trained(scene, 130, stage=stage, first=120)
    assert stage.measure()["psnr"] > early + 6


def test_warp_and_torch_train_alike(scene):
    config = replace(CONFIG, samples=2048, max_rays=512)
    figures = {}
    for backend in ("warp", "torch"):
        stage = trained(scene, 25, config=config, backend=backend)
        figures[backend] = stage.measure()["psnr"]
    assert figures["warp"] == pytest.approx(figures["torch"], abs=0.3)


def test_depth_supervision_brings_the_surface_nearer(scene, with_depth):
    def error(stage):
        from ovseg3d.scene import load_depth

        frame = scene.frames[scene.train[0]]
        truth, found = load_depth(frame, scene), stage.renderer.render(frame.camera)["depth_z"]
        return np.median(np.abs(found - truth)[truth > 0] / truth[truth > 0])

    # Six photos of 32 x 32 hardly constrain depth.
    assert error(with_depth) < 0.05 < error(trained(scene, STEPS))


def test_refinement_recovers_a_shaken_camera(scene):
    """One camera is moved by 6 cm; its learned correction must point back and undo a good part of that."""
    shaken = scene.train[2]
    shift = np.array([0.06, 0.0, 0.0])
    frames = list(scene.frames)
    camera = frames[shaken].camera
    moved = camera.c2w.copy()
    moved[:3, 3] += shift
    frames[shaken] = replace(frames[shaken], camera=replace(camera, c2w=moved))
    config = replace(CONFIG, photo_learning_rate=2e-3, occupancy_warmup=32)
    stage = trained(
        replace(scene, frames=tuple(frames)), 300, config=config, use=CaptureUse(depth=True, refine_poses=True)
    )
    found = stage.photos.values[:, 9:].numpy() * stage.box.radius
    assert len(found) == len(scene.train), "held-out photos must not be read"
    assert (found[2] - np.delete(found, 2, 0).mean(0)) @ -shift > 0.25 * shift @ shift
    given = [frames[view].camera for view in scene.train]
    moved = corrected(given, stage.photos.values, stage.box)
    drift = np.mean([one.position - other.position for one, other in zip(moved, given) if one is not moved[2]], 0)
    assert np.linalg.norm(moved[2].position - drift - camera.position) < 0.8 * np.linalg.norm(shift)


def test_gradients_near_a_camera_fall_with_the_square_of_the_distance(scene):
    def gradient(near: float) -> torch.Tensor:
        stage = FieldStage(scene, replace(CONFIG, near_gradient=near, samples=2048), CPU)
        batch, *_ = stage._draw(0)
        return stage._piece(batch, 4.0, len(batch.view), stage._generator(0, 0)).grad_features

    assert torch.equal(gradient(0.0), gradient(1e-9)), "what is farther away is not scaled"
    torch.testing.assert_close(gradient(100.0), 4 * gradient(200.0), rtol=1e-4, atol=0)


def test_exposure_learns_the_gain_of_a_dark_photo():
    photos = PhotoCorrections(3, exposure=True, refine=False, device=CPU)
    values = photos.leaf()
    rgb, view = torch.rand(50, 3), torch.full((50,), 1)
    assert torch.equal(photos.expose(rgb, view, values), rgb)
    loss = (photos.expose(rgb, view, values) - 0.5 * rgb).square().sum()
    (grad,) = torch.autograd.grad(loss, values)
    # Darker photo: the gain must go down, and only that photo's.
    assert (grad[1, :3] > 0).all() and not grad[[0, 2]].any() and not grad[1, 6:].any()


def test_corrections_are_pulled_back_to_none():
    for exposure, refine in ((True, False), (False, True)):
        photos = PhotoCorrections(2, exposure, refine, CPU)
        photos.values += 0.1
        values = photos.leaf()
        (grad,) = torch.autograd.grad(photos.penalty(values, torch.tensor([0, 0, 1])), values)
        assert (grad > 0).all()
    assert PhotoCorrections(2, False, False, CPU).penalty(values, torch.tensor([0])) == 0.0


def test_poses_rotate_about_the_camera():
    photos = PhotoCorrections(1, exposure=False, refine=True, device=CPU)
    values = torch.zeros(1, 12)
    values[0, 8], values[0, 9] = np.pi / 2, 0.5  # A quarter turn about z, and half a unit along x.
    c2w = torch.eye(4)[None].clone()
    c2w[0, :3, 3] = torch.tensor([1.0, 2.0, 3.0])
    (pose,) = photos.poses(c2w, values)
    torch.testing.assert_close(pose[:3, 3], torch.tensor([1.5, 2.0, 3.0]))
    torch.testing.assert_close(pose[:3, 0], torch.tensor([0.0, 1.0, 0.0]), atol=1e-6, rtol=0)


def test_corrected_cameras_are_those_that_the_field_was_taught_from(scene):
    turned = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    box = FieldBox((0.3, -1.0, 2.0), 2.5, True, 4, 0.05, tuple(map(tuple, (turned * np.linalg.det(turned)).tolist())))
    photos = PhotoCorrections(len(scene.frames), exposure=True, refine=True, device=CPU)
    photos.values += 0.1 * torch.randn(photos.values.shape, generator=torch.Generator().manual_seed(0))
    cameras = [frame.camera for frame in scene.frames]
    moved = corrected(cameras, photos.values, box)
    before, after = (Cameras.from_cameras(some, box.field_from_input).c2w for some in (cameras, moved))
    torch.testing.assert_close(after, photos.poses(before, photos.values), atol=1e-5, rtol=0)
    assert (after - before).abs().max() > 0.1


def test_box_from_cameras_holds_what_they_look_at(scene):
    box = find_box(scene, FieldConfig())
    # The boxes stand at the origin; cameras go round it at 2.2 m.
    assert np.linalg.norm(box.center) < 0.5 and 1.0 < box.radius < 4.0 and box.open


def test_buildings_on_the_horizon_do_not_make_the_box_larger(scene):
    """Bounded by what is near, wherever the far points are; they are still within the cascades."""
    rng = np.random.default_rng(0)
    near = rng.uniform(-0.6, 0.6, (900, 3))
    angle = rng.uniform(0, 2 * np.pi, 200)
    far = np.stack([60 * np.cos(angle), 60 * np.sin(angle), rng.uniform(0, 5, 200)], -1)
    alone, both = (find_box(replace(scene, points=points), FieldConfig()) for points in (near, np.r_[near, far]))
    assert both.radius < 1.5 * alone.radius
    assert both.radius * 2 ** (both.cascades - 1) > 55 > alone.radius * 2 ** (alone.cascades - 1)
    none_seen = find_box(replace(scene, points=near + [0, 0, 500]), FieldConfig())
    assert np.isfinite(none_seen.radius)


def test_box_from_depth_is_tighter_about_the_content(scene):
    box = find_box(scene, FieldConfig(), use_depth=True)
    corner = box.field_from_input @ np.array([0.6, 0.5, 0.0, 1.0])
    assert np.abs(corner[:3]).max() < 1.0


def test_contraction_is_continuous_and_stays_in_the_unit_cube():
    box = FieldBox((0.0, 0.0, 0.0), 1.0, True, 4, 0.05)
    u = torch.tensor([[0.5, -0.25, 1.0], [1.0 + 1e-4, 0.3, 0.0], [1e6, -2e6, 3.0], [0.0, 0.0, 0.0]])
    x = box.contract(u)
    torch.testing.assert_close(x[0], (u[0] + 2) / 4)
    torch.testing.assert_close(x[1], torch.tensor([0.75, 0.575, 0.5]), atol=1e-4, rtol=0)
    assert (x >= 0).all() and (x <= 1).all()
    torch.testing.assert_close(x[2, 1], torch.tensor(0.0), atol=1e-5, rtol=0)


@pytest.mark.parametrize("open_", [True, False])
def test_places_come_back_from_the_unit_cube(open_):
    box = FieldBox((0.0, 0.0, 0.0), 1.0, open_, 4, 0.05)
    u = torch.randn(500, 3, generator=torch.Generator().manual_seed(0)) * (4 if open_ else 0.3)
    torch.testing.assert_close(box.uncontract(box.contract(u)), u, atol=1e-4, rtol=1e-3)
    far = box.uncontract(torch.tensor([[1.0, 0.5, 0.5]]))
    assert far.isfinite().all(), "the end of the world is far, and not nowhere"


def test_normalized_distance_is_linear_in_the_box_and_in_disparity_beyond():
    open_, bounded = (FieldBox((0.0, 0.0, 0.0), 1.0, is_open, 4, 0.05) for is_open in (True, False))
    near, far = torch.tensor([0.0, 0.5, 2.0]), torch.tensor([2.0, 4.0, 8.0, 1e9])
    torch.testing.assert_close(open_.normalized(near), near / 4)
    torch.testing.assert_close(open_.normalized(far), 1 - 1 / far)
    torch.testing.assert_close(bounded.normalized(far), far / 4)


def test_distortion_is_measured_in_normalised_distance(scene, monkeypatch):
    stage = FieldStage(scene, replace(CONFIG, occupancy_warmup=1), CPU)
    given, distortion = [], stage.backend.distortion
    monkeypatch.setattr(stage.backend, "distortion", lambda *a: given.append(a[1:3]) or distortion(*a))
    trained(scene, 5, stage=stage)
    for s, extent in given:
        assert 0.6 < s.max() < 1 and (s > 0).all(), "the sky is further than the box is wide"
        assert (extent > 0).all() and (extent < 1).all()
    assert given and stage.box.open


def test_spans_against_a_brute_force_walk():
    box = FieldBox((0.0, 0.0, 0.0), 1.0, True, 2, 0.1)
    generator = torch.Generator().manual_seed(0)
    origins = torch.randn(200, 3, generator=generator) * 3
    directions = torch.nn.functional.normalize(torch.randn(200, 3, generator=generator), dim=-1)
    spans = box.spans(origins, directions)
    t = torch.linspace(0.1, 20, 4000)
    inside = ((origins[:, None] + directions[:, None] * t[:, None]).abs() < 2.0).all(-1)
    for hit, span in zip(inside, spans):
        if hit.any():
            torch.testing.assert_close(span, torch.stack([t[hit].min(), t[hit].max()]), atol=0.02, rtol=0)
        else:
            assert span[1] - span[0] < 0.02


def test_cells_that_no_camera_sees_start_empty(scene):
    box = find_box(scene, FieldConfig())
    config = FieldConfig(occupancy_resolution=32)
    seen = seen_cells(scene, box, config)
    middle = seen[0, 12:20, 12:20, 12:20]
    assert middle.all() and 0.05 < seen.float().mean() < 0.95


def test_cells_at_the_edge_of_a_wide_lens_are_seen(scene):
    """A lens that compresses the edges of its image shows more than a pinhole of the same focal length."""
    frame = scene.frames[scene.train[0]]
    camera = replace(frame.camera, fx=frame.camera.width / 2, fy=frame.camera.width / 2, distortion=(-0.3, 0.08))
    alone = replace(scene, frames=(replace(frame, camera=camera),), train=(0,), test=())
    box, config = find_box(scene, FieldConfig()), FieldConfig(occupancy_resolution=128)
    seen = seen_cells(alone, box, config)
    origins, directions, _ = Cameras.from_cameras([camera], box.field_from_input).grid(0)
    assert directions[0] @ directions[-1] < np.cos(np.radians(115)), "from corner to corner"
    for distance in torch.linspace(0.3, 6.0, 20):
        points = origins + directions * distance
        cell, _ = cell_at(points[points.abs().amax(1) < box.reach], box.cascades, config.occupancy_resolution)
        assert seen.view(-1)[cell].all()


def test_only_training_cameras_see_cells(scene):
    box, config = find_box(scene, FieldConfig()), FieldConfig(occupancy_resolution=32)
    seen = seen_cells(replace(scene, train=(2,), test=(0, 4)), box, config)
    alone = seen_cells(replace(scene, frames=scene.frames[2:3], train=(0,), test=()), box, config)
    assert torch.equal(seen, alone) and not torch.equal(seen, seen_cells(scene, box, config))


def test_occupancy_forgets_what_carries_no_weight_and_keeps_what_does():
    grid = OccupancyGrid(torch.ones(1, 8, 8, 8, dtype=torch.bool), threshold=0.01)
    grid.seen[0, 0] = False
    grid.forget()
    generator = torch.Generator().manual_seed(0)
    for _ in range(30):
        grid.value[0, 4, 4, 4] = 0.5
        grid.update(generator, keep_all=False)
    assert grid.occupied[0, 4, 4, 4] == 1
    # Other cells are only on trial, and none where no camera looks.
    assert grid.share < 0.1 and not grid.occupied[0, 0].any()


def test_rays_march_through_what_is_occupied():
    """Also after an update, and after occupancy was loaded."""
    seen = torch.ones(2, 8, 8, 8, dtype=torch.bool)
    grid, loaded = OccupancyGrid(seen, threshold=0.01), OccupancyGrid(seen, threshold=0.01)
    assert grid.bits.unpack().all()
    grid.value.zero_()[1, 2, 3, 4] = 0.5
    grid.update(torch.Generator().manual_seed(0), keep_all=False)
    assert torch.equal(grid.bits.unpack(), grid.occupied.bool()) and 0 < grid.share < 0.1
    loaded.load_state(grid.state())
    assert torch.equal(loaded.bits.unpack(), grid.occupied.bool())


def test_trials_reach_the_neighbours_along_every_axis():
    """With 8 cells a side no cell is drawn to be tried wherever it is."""
    generator = torch.Generator().manual_seed(0)
    grid, tried = OccupancyGrid(torch.ones(1, 8, 8, 8, dtype=torch.bool), threshold=0.01), set()
    for _ in range(1000):
        grid.value.zero_()[0, 4, 3, 5] = 0.5
        grid.occupied.zero_()[0, 4, 3, 5] = 1
        grid.update(generator, keep_all=False)
        tried |= {tuple(cell) for cell in grid.occupied[0].nonzero().tolist()}
    assert tried == {(4, 3, 5), (3, 3, 5), (5, 3, 5), (4, 2, 5), (4, 4, 5), (4, 3, 4), (4, 3, 6)}


def test_occupancy_keeps_what_the_photos_in_memory_cannot_see():
    """Values decay by their share, but for cells that rays pass through; trials end as always."""
    grid = OccupancyGrid(torch.ones(1, 8, 8, 8, dtype=torch.bool), threshold=0.01)
    grid.forget()
    grid.value[0, 4, 4, :6] = 0.5
    cell = ((4 * 8 + 4) * 8 + torch.tensor([0, 1, 2, 2])).int()
    for _ in range(100):
        # Light reaches 0 and 2, not 1; two rays pass through 2.
        grid.passed(cell, torch.tensor([0.9, 0.1, 0.9, 0.3]), share=1.0)
        grid.update(torch.Generator().manual_seed(0), keep_all=False, share=0.1)
    assert grid.value[0, 4, 4, 1].item() == pytest.approx(0.5 * DECAY**10, rel=1e-4)
    assert torch.equal(grid.value[0, 4, 4, 1], grid.value[0, 4, 4, 5])
    assert grid.occupied[0, 4, 4, [1, 3, 4, 5]].all() and not grid.occupied[0, 0].all()
    assert (grid.value[0, 4, 4, [0, 2]] < 2 * grid.trial).all()


def test_transmittance_of_samples_is_that_of_the_reference(with_depth):
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(64, 3, generator=generator), dim=-1)
    met = with_depth.renderer.sampler.sample(torch.zeros(64, 3), directions, 0.0, 100_000)
    expected = transmittance(met.density, met.samples.step, met.samples.offsets)
    assert len(expected) > 500
    torch.testing.assert_close(met.transmittance, expected, atol=1e-4, rtol=0)


def test_cells_along_a_ray_are_tried_up_to_its_end(scene):
    stage = FieldStage(scene, CONFIG, CPU)
    grid = stage.occupancy
    grid.seen[:] = True
    grid.seen[0, 16, 16, 20] = False
    grid.value[:] = 0.0
    origins, directions = torch.tensor([[0.01, 0.01, 0.01]]).repeat(2, 1), torch.eye(3)[:2]
    stage.renderer.sampler.try_cells(origins, directions, torch.tensor([0.5, 0.0]), 1000)
    tried = grid.value.nonzero().tolist()
    near = round(16 * stage.box.near)
    assert tried == [[0, 16, 16, x] for x in range(16 + near, 24) if x != 20] and grid.value.max() == grid.trial


def test_occupancy_is_left_alone_during_the_warm_up():
    grid = OccupancyGrid(torch.ones(1, 4, 4, 4, dtype=torch.bool), threshold=0.9)
    for _ in range(50):
        grid.update(torch.Generator(), keep_all=True)
    assert grid.occupied.all()


def test_trials_do_not_depend_on_threads():
    """At the size of a real grid torch would use all of its threads."""
    grids = []
    for threads in (1, 2):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            grids.append(OccupancyGrid(torch.ones(2, 96, 96, 96, dtype=torch.bool), threshold=0.01))
            grids[-1].forget()
            for _ in range(7):
                grids[-1].update(torch.Generator().manual_seed(1), keep_all=False)
        finally:
            torch.set_num_threads(before)
    assert torch.equal(grids[0].value, grids[1].value) and grids[0].occupied.any()


def test_photos_without_transparency_carve_nothing(tmp_path):
    """A capture may mix RGBA and RGB photos."""
    import json

    from PIL import Image
    from tiny import FOCAL, camera_to_world

    frames = []
    for index in range(8):
        alpha = np.zeros((32, 32), np.uint8)
        alpha[10:22, 10:22] = 255
        image = np.dstack([np.full((32, 32, 3), 200, np.uint8), alpha])
        Image.fromarray(image if index != 3 else image[..., :3]).save(tmp_path / f"{index}.png")
        pose = camera_to_world(index) @ np.diag([1.0, -1.0, -1.0, 1.0])
        frames.append({"file_path": f"{index}.png", "transform_matrix": pose.tolist()})
    lens = {"fl_x": FOCAL, "fl_y": FOCAL, "cx": 16, "cy": 16, "w": 32, "h": 32}
    (tmp_path / "transforms.json").write_text(json.dumps({**lens, "frames": frames}))
    mixed = load_scene(tmp_path)
    box = find_box(mixed, FieldConfig())
    # The opaque squares subtend 12 of 30 pixels at about 2.4 m.
    assert not box.open and 0.3 < box.radius < 1.2
    assert 0 < seen_cells(mixed, box, FieldConfig(occupancy_resolution=32)).float().mean() < 0.9


def test_density_stays_within_its_limits_and_leads_back():
    x = torch.tensor([-1e9, -20.0, -4.9, -3.0, 0.0, 5.0, 15.9, 40.0, 1e9], dtype=torch.float64, requires_grad=True)
    expected = np.exp(np.clip(x.detach().numpy() - 1, -6, 15))
    density = trunc_exp(x)
    np.testing.assert_allclose(density.detach(), expected, rtol=1e-12)
    (less,) = torch.autograd.grad(density.sum(), x, retain_graph=True)  # a step against it lowers density
    np.testing.assert_allclose(less, expected * (x.detach().numpy() > -5), rtol=1e-12)
    (more,) = torch.autograd.grad(-density.sum(), x)
    np.testing.assert_allclose(more, -expected * (x.detach().numpy() < 16), rtol=1e-12)


def test_emptied_space_is_filled_again():
    """Adam takes the log density far down while light passes, and up again once content is there."""
    x = torch.zeros(1, requires_grad=True)
    adam = torch.optim.Adam([x], lr=0.5, betas=(0.9, 0.99), eps=1e-15)
    opacity = torch.zeros(1)
    for step in range(600):
        opacity = 1 - torch.exp(-trunc_exp(x))
        adam.zero_grad()
        (opacity if step < 500 else 1 - opacity).sum().backward()
        adam.step()
    assert opacity > 0.9


@pytest.mark.parametrize("backend", ["warp", "torch"])
def test_a_field_that_ran_away_is_opaque_and_has_finite_gradients(backend):
    made = make_backend(backend, grid_levels(CONFIG), CPU)
    field = RadianceField(CONFIG, CPU)
    features = 1e6 * torch.randn(64, field.levels.width, generator=torch.Generator().manual_seed(0))
    layers = [layer.requires_grad_() for layer in field.layers(field.network)]
    density = field.density(features, layers)
    assert density.max() > 1e6
    t, offsets = torch.arange(64) / 64, torch.tensor([0, 32, 64], dtype=torch.int32)
    samples = RaySamples(t, t + 0.01, (torch.arange(64) // 32).int(), torch.zeros(64).int(), offsets)
    _, index, step, offsets = made.merge(density.detach(), samples, torch.full((64,), 0.5), 1e-3, 0.06, 64)
    _, _, opacity, distance = made.composite(density[index], density[index, None], t[index], step, offsets)
    torch.testing.assert_close(opacity, torch.ones(2))
    for grad in torch.autograd.grad((opacity + distance).sum(), layers[:2]):
        assert grad.isfinite().all()


def test_harmonics_are_orthonormal_over_the_sphere():
    d = torch.nn.functional.normalize(
        torch.randn(200_000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64), dim=-1
    )
    y = harmonics(d)
    gram = y.T @ y * (4 * np.pi / len(d))
    torch.testing.assert_close(gram, torch.eye(16, dtype=torch.float64), atol=0.03, rtol=0)


def test_normals_of_the_floor_point_up(scene, with_depth):
    frame = scene.frames[scene.train[0]]
    images = with_depth.renderer.render(frame.camera, normals=True)
    _, directions = frame.camera.rays(frame.camera.pixel_centres())
    points = (
        frame.camera.position
        + directions * (images["depth_z"].reshape(-1) / (directions @ frame.camera.forward))[:, None]
    )
    floor = (np.abs(points[:, 2] + 0.5) < 0.05) & (np.abs(points[:, :2]).max(1) > 0.8)
    assert floor.sum() > 50
    assert np.median(images["normal"].reshape(-1, 3)[floor, 2]) > 0.75


def test_normals_are_those_of_the_density_in_field_units():
    """Far outside the inner box too, where contraction turns gradients; against finite differences."""
    config = replace(CONFIG, base_resolution=8, max_resolution=16, levels=2)
    backend = make_backend("torch", grid_levels(config), CPU)
    field = RadianceField(config, CPU)
    # In double precision, so that differences are precise within the cells of the grid.
    generator = torch.Generator().manual_seed(0)
    field.table = torch.randn(field.table.shape, generator=generator, dtype=torch.float64)
    field.network = 2.0 * field.network.double()
    box = FieldBox((0.0, 0.0, 0.0), 1.0, True, 3, 0.05)
    occupancy = OccupancyGrid(torch.ones(3, 8, 8, 8, dtype=torch.bool), 0.02)
    renderer = Renderer(field, backend, box, occupancy, config, Workers(1), white=False)
    directions = torch.nn.functional.normalize(torch.randn(40, 3, generator=generator, dtype=torch.float64), dim=-1)
    origins = 1.8 * directions
    found = renderer.rays(origins, directions, normals=True).normal
    stops = renderer.stops(origins, directions, quota=1e-3)  # the samples that `rays` renders
    at, small = box.uncontract(stops.x), 1e-6

    def density(u):
        return field.density(backend.encode(box.contract(u), field.table), field.layers(field.network))

    slope = torch.stack([density(at + small * axis) - density(at - small * axis) for axis in torch.eye(3)], -1)
    normals = -torch.nn.functional.normalize(slope, dim=-1) * stops.weight[:, None]
    expected = torch.nn.functional.normalize(torch.zeros_like(found).index_add(0, stops.ray, normals), dim=-1)
    assert (at.abs().amax(-1) > 1).all()
    assert ((found * expected).sum(-1) > 0.999).all()


@pytest.mark.parametrize("size", [0.0, 0.0099, 0.0101, 0.3, 3.0])
def test_rotation_vectors_are_matrix_exponentials(size: float) -> None:
    """Values and gradients, also at 0, where training starts, and on both sides of the series' border."""
    draws = torch.Generator().manual_seed(0)
    turn = size * torch.nn.functional.normalize(torch.randn(5, 3, generator=draws, dtype=torch.float64), dim=-1)
    c2w = torch.eye(4, dtype=torch.float64).repeat(5, 1, 1)
    weights = torch.randn(5, 3, 3, generator=draws, dtype=torch.float64)
    found = []
    for rotate in (_by_corrections(c2w), _by_exponential):
        leaf = turn.clone().requires_grad_()
        rotation = rotate(leaf)
        found.append((rotation.detach(), *torch.autograd.grad((rotation * weights).sum(), leaf)))
    for mine, reference in zip(*found):
        torch.testing.assert_close(mine, reference, atol=1e-8, rtol=1e-7)


def _by_corrections(c2w: torch.Tensor):
    photos = PhotoCorrections(len(c2w), exposure=False, refine=True, device=torch.device("cpu"))

    def rotate(turn: torch.Tensor) -> torch.Tensor:
        values = torch.nn.functional.pad(turn, (6, 3))
        moved = photos.poses(c2w, values)
        assert moved is not None
        return moved[:, :3, :3]

    return rotate


def _by_exponential(turn: torch.Tensor) -> torch.Tensor:
    x, y, z = turn.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.linalg.matrix_exp(torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).view(-1, 3, 3))
