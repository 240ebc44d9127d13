"""The sky of an open scene: a colour without depth, in place of geometry far away."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import BOXES, SKY, small_settings, with_emptying

from ovseg3d.engine import Workers
from ovseg3d.errors import RunError
from ovseg3d.field.config import FieldConfig
from ovseg3d.field.radiance import harmonics
from ovseg3d.field.reference.rays import distortion
from ovseg3d.field.sky import first_sky, sky_color, sky_distortion
from ovseg3d.field.stage import CaptureUse, FieldStage
from ovseg3d.field.surface import SurfaceConfig, extract_surface, look
from ovseg3d.pipeline.train import train_scene
from ovseg3d.runs.fields import restore
from ovseg3d.runs.settings import make_config
from ovseg3d.scene import Scene, load_depth, load_scene

CPU = torch.device("cpu")
CONFIG = replace(FieldConfig(**with_emptying(small_settings())["field"]), occupancy_warmup=16)
STEPS, PLANNED = 160, 300


@pytest.fixture(scope="module")
def scene(tiny_scene) -> Scene:
    return load_scene(tiny_scene)


def trained(
    scene: Scene, steps: int, stage: FieldStage | None = None, first: int = 0, depth: bool = False, sky: bool = False
) -> FieldStage:
    stage = stage or FieldStage(scene, CONFIG, CPU, use=CaptureUse(depth=depth, sky=sky))
    stage.workers = Workers(stage.workers.pieces, 2)
    with stage.workers.open():
        for step in range(first, steps):
            stage.step(step, step / PLANNED)
    return stage


@pytest.fixture(scope="module")
def with_sky(scene) -> FieldStage:
    """A stage with a sky. Do not train it further."""
    return trained(scene, STEPS, depth=True, sky=True)


def test_the_sky_is_one_more_sample_of_the_distortion_loss():
    random = torch.Generator().manual_seed(0)
    counts, weights, places, both, far = [3, 0, 5], [], [], [], []
    for count in counts:
        weight, s = 0.25 * torch.rand(count, generator=random), torch.rand(count, generator=random).sort().values
        weights.append(weight)
        places.append(s)
        both.append(torch.cat([weight, 1 - weight.sum(0, keepdim=True)]))
        far.append(torch.cat([s, torch.ones(1)]))
    opacity = torch.stack([weight.sum() for weight in weights])
    ray = torch.tensor([0, 0, 0, 2, 2, 2, 2, 2])

    def reference(w: list[torch.Tensor], s: list[torch.Tensor]) -> torch.Tensor:
        offsets = torch.tensor([0, *(len(one) for one in w)]).cumsum(0).int()
        joined = torch.cat(w)
        return distortion(joined, torch.cat(s), torch.zeros_like(joined), torch.zeros_like(joined).int(), offsets)

    added = sky_distortion(torch.cat(weights), torch.cat(places), ray, opacity)
    torch.testing.assert_close(added, reference(both, far) - reference(weights, places), atol=1e-6, rtol=0)
    assert added[0] > 0.1 and added[1] == 0, "a ray without samples has nothing before the sky"


def test_light_that_nothing_stops_has_the_colour_of_the_sky():
    directions = torch.nn.functional.normalize(torch.randn(50, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    sky = first_sky(CPU)
    assert (sky_color(sky, harmonics(directions)) == 0.5).all()
    sky[2] = torch.tensor([2.0, 0.0, -2.0])  # the harmonic that grows with z
    red, green, blue = sky_color(sky, harmonics(directions)).unbind(-1)
    up = directions[:, 2] > 0
    assert ((red > 0.5) == up).all() and ((blue < 0.5) == up).all() and (green == 0.5).all()


def test_the_sky_has_a_colour_and_no_depth(scene, with_sky):
    for view in scene.test:
        frame = scene.frames[view]
        image, truth = with_sky.renderer.render(frame.camera), load_depth(frame, scene)
        is_sky = truth == 0
        assert is_sky.mean() > 0.05
        assert (image["depth_z"][is_sky] == 0).mean() > 0.9
        assert (image["depth_z"][~is_sky] > 0).mean() > 0.95
        assert np.abs(image["rgb"][is_sky] - SKY).mean() < 0.05


def test_no_surface_point_comes_from_the_sky(scene, with_sky):
    def wrong(stage: FieldStage) -> float:
        """Share of the surface points that are more than 0.3 m from all boxes."""
        config = SurfaceConfig(between=False)
        views = list(look(stage.renderer, [scene.frames[view].camera for view in scene.train], config))
        xyz = extract_surface(stage.renderer, views, np.array([0.0, 0.0, 1.0]), scene.metric, config).xyz
        apart = [np.maximum(np.maximum(np.array(low) - xyz, xyz - np.array(high)), 0) for low, high, _ in BOXES]
        return float((np.linalg.norm(apart, axis=-1).min(0) > 0.3).mean())

    assert wrong(with_sky) < 0.03 and wrong(trained(scene, STEPS, depth=True)) > 0.15


def test_a_resumed_stage_goes_on_with_its_sky(scene):
    straight = trained(scene, 30, sky=True)
    half = {name: tensor.clone() for name, tensor in trained(scene, 13, sky=True).state().items()}
    resumed = FieldStage(scene, CONFIG, CPU, use=CaptureUse(sky=True))
    resumed.load_state(half)
    again = trained(scene, 30, stage=resumed, first=13).state()
    assert all(torch.equal(tensor, again[name]) for name, tensor in straight.state().items())
    assert again["sky"].any() and "sky" not in trained(scene, 1).state()


def test_a_bounded_scene_has_no_sky(scene):
    stage = FieldStage(scene, replace(CONFIG, bounds="bounded"), CPU, use=CaptureUse(sky=True))
    assert stage.sky is None and not stage.box.open


def test_a_run_keeps_its_sky(tiny_scene, tmp_path):
    flags = small_settings(steps=40)
    flags["scene"] |= {"sky": "on"}
    run = train_scene(tiny_scene, make_config("cpu", flags=flags), output_dir=tmp_path / "run")
    capture = run.load_scene()
    renderer = restore(run, capture)
    assert renderer.sky is not None and renderer.sky.shape == (16, 3) and renderer.sky.any()
    directions = torch.nn.functional.normalize(torch.randn(64, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    origins = torch.zeros(64, 3)
    with_it, sky = renderer.rays(origins, directions), sky_color(renderer.sky, harmonics(directions))
    renderer.sky = None
    without = renderer.rays(origins, directions)
    assert with_it.opacity.min() < 0.95 and (sky - 0.5).abs().max() > 0.05
    background = (1 - with_it.opacity)[:, None] * sky
    expected = (without.rgb - 0.5 * (1 - with_it.opacity)[:, None] + background).clamp(0, 1)
    torch.testing.assert_close(with_it.rgb.clamp(0, 1), expected, atol=1e-5, rtol=0)


def test_a_damaged_sky_is_an_error(tiny_scene, tmp_path):
    from safetensors import safe_open
    from safetensors.torch import save_file

    from ovseg3d.engine import latest_checkpoint

    flags = small_settings(steps=2)
    flags["scene"] |= {"sky": "on"}
    run = train_scene(tiny_scene, make_config("cpu", flags=flags), output_dir=tmp_path / "run")
    path = latest_checkpoint(run.checkpoints)
    assert path is not None
    with safe_open(path, framework="pt") as file:
        state, described = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()
    save_file(state | {"sky": torch.zeros(4, 3)}, path, metadata=described)
    with pytest.raises(RunError, match="sky"):
        restore(run, run.load_scene())
