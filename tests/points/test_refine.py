"""Training along rays of the tiny scene: three objects, separated by photos whose features are a vector for each."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import small_settings

from ovseg3d.engine import Stage, Workers
from ovseg3d.features.maps import Dense, Level, PhotoFeatures, Pyramid
from ovseg3d.features.projection import fit_projection
from ovseg3d.field.config import FieldConfig
from ovseg3d.field.stage import CaptureUse, FieldStage
from ovseg3d.points.basis import Basis
from ovseg3d.points.feature_field import FeatureField, FeatureFieldConfig, FieldShape
from ovseg3d.points.gather import GatherConfig, TrainingPhotos, full_dino, gather_rays
from ovseg3d.points.refine import RefineConfig, RefineStage
from ovseg3d.scene import Cameras, load_depth, load_photo, load_scene

CPU = torch.device("cpu")
FIELD = FeatureFieldConfig(levels=6, features=2, log2_table=12, max_resolution=64, hidden=32)
GATHER = GatherConfig(rays=3000, side=6)
CONFIG = RefineConfig(batch=1024)
WORDS = np.linalg.qr(np.random.default_rng(0).normal(size=(16, 16)))[0][:4].astype(np.float32)
"""Unit vectors of red, blue, ground and, never seen, an elephant."""
BASIS = Basis(np.linalg.qr(np.concatenate([WORDS, np.eye(16)[:2]]).T)[0].astype(np.float32), 0.0)
PHRASES = torch.from_numpy(BASIS.reduce(WORDS))
STEPS = 150


@pytest.fixture(scope="module")
def scene(tiny_scene):
    return load_scene(tiny_scene)


@pytest.fixture(scope="module")
def renderer(scene):
    settings = small_settings()["field"] | {"max_resolution": 96}
    stage = FieldStage(scene, FieldConfig(**settings), CPU, use=CaptureUse(depth=True))
    with stage.workers.open():
        for step in range(240):
            stage.step(step, step / 240)
    stage.close()
    return stage.renderer


def instances(frame) -> np.ndarray:
    """0 red, 1 blue, 2 ground, -1 sky, for each pixel."""
    rgb = np.asarray(load_photo(frame)).astype(float)[..., :3]
    found = np.full(rgb.shape[:2], 2)
    found[rgb[..., 0] > 2.5 * rgb[..., 1]] = 0
    found[rgb[..., 2] > 2.0 * rgb[..., 0]] = 1
    return found


def said(scene, noise: float = 0.0, seed: int = 0) -> list[PhotoFeatures]:
    """What the training photos say; DINO says the same as CLIP."""
    photos = []
    for view in scene.train:
        labels = instances(scene.frames[view])
        grid = WORDS[labels] + noise * np.random.default_rng((seed, view)).normal(size=(*labels.shape, 16)) / 4
        photos.append(PhotoFeatures(Dense(grid.astype(np.float16)), Dense(WORDS[labels][..., :8], unit=False)))
    return photos


def gathered(scene, renderer, photos=None, config=GATHER, **keywords):
    frames = [scene.frames[view] for view in scene.train]
    return gather_rays(renderer, TrainingPhotos(frames, photos or said(scene), BASIS), config, **keywords)


@pytest.fixture(scope="module")
def rays(scene, renderer):
    return gathered(scene, renderer)


def trained(rays, steps=STEPS, stage=None, first=0, threads=2, shape=None, phrases=None, seed=0, config=CONFIG):
    if stage is None:
        field = FeatureField(FIELD, shape or FieldShape(BASIS.axes.shape[1], 8), CPU)
        stage = RefineStage(field, rays, phrases, 30.0, config, seed)
    stage.workers = stage.field.workers = Workers(2, threads)
    with stage.workers.open():
        for step in range(first, steps):
            stage.step(step, step / STEPS)
    return stage


def same(a, b) -> bool:
    one, other = a.state(), b.state()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def accuracy(scene, renderer, field) -> float:
    """Share of all pixels of training views, where something is, whose rendered feature is nearest to the right word.

    Six photos this small give no geometry that would hold for other views.
    """
    right, count = 0, 0
    for view in scene.train:
        frame = scene.frames[view]
        origins, directions, _ = Cameras.from_cameras([frame.camera], renderer.box.field_from_input).grid(0)
        stops = renderer.stops(origins, directions)
        rendered = torch.zeros(len(origins), field.shape.clip).index_add_(
            0, stops.ray, field.at(stops.x) * stops.weight[:, None]
        )
        found = (rendered @ PHRASES.T).argmax(1).numpy()
        there = load_depth(frame, scene).ravel() > 0
        right += (found == instances(frame).ravel())[there].sum()
        count += there.sum()
    return right / count


# -- where light stops


def test_stops_have_the_opacity_and_the_depth_that_is_rendered(scene, renderer):
    camera = scene.frames[scene.test[0]].camera
    origins, directions, _ = Cameras.from_cameras([camera], renderer.box.field_from_input).grid(0)
    shown = renderer.rays(origins, directions)
    for quota, most in ((0.0, None), (0.2, 5.5)):
        stops = renderer.stops(origins, directions, quota)
        counts = stops.offsets.diff()
        assert int(stops.offsets[-1]) == len(stops.x) == len(stops.weight)
        assert torch.equal(stops.ray.long(), torch.repeat_interleave(torch.arange(len(origins)), counts))
        opacity = torch.zeros(len(origins)).index_add_(0, stops.ray, stops.weight)
        assert torch.allclose(opacity, shown.opacity, atol=1e-4)
        # Places lie on their rays: half of the light stops before the rendered distance.
        x = renderer.box.along(origins, directions, stops.ray, shown.distance.index_select(0, stops.ray))
        gap = torch.zeros(len(origins)).index_add_(0, stops.ray, stops.weight * (stops.x - x).norm(dim=1))
        assert gap[shown.opacity > 0.9].median() < 0.05
        assert most is None or counts.max() <= most
    assert len(stops.x) < len(renderer.stops(origins, directions, 0.0).x) / 2


def test_stops_do_not_depend_on_which_rays_come_together(scene, renderer):
    camera = scene.frames[scene.test[0]].camera.scaled(48, 48)
    origins, directions, _ = Cameras.from_cameras([camera], renderer.box.field_from_input).grid(0)
    # More rays than are rendered at once, and the last ones by themselves.
    whole, end = renderer.stops(origins, directions), renderer.stops(origins[-300:], directions[-300:])
    first = int(whole.offsets[-301])
    assert torch.equal(whole.x[first:], end.x) and torch.equal(whole.weight[first:], end.weight)
    assert torch.equal(whole.ray[first:] - (len(origins) - 300), end.ray)


# -- gathering


def test_gathering_repeats_itself(scene, renderer, rays):
    again, other = gathered(scene, renderer), gathered(scene, renderer, seed=1)
    for name in ("x", "weight", "clip", "dino", "dino_full", "patches"):
        assert torch.equal(getattr(rays, name), getattr(again, name)), name
    assert not torch.equal(rays.x, other.x)


def test_rays_that_a_mask_hides_teach_nothing(scene, renderer, rays, tmp_path):
    """The left half of the second photo is hidden; all else is as without it, to the bit."""
    Image.fromarray(np.repeat(np.uint8([[0, 255]]), 16, axis=1)).save(tmp_path / "mask.png")
    frames = list(scene.frames)
    frames[scene.train[1]] = replace(frames[scene.train[1]], mask_path=tmp_path / "mask.png")
    masked = gathered(replace(scene, frames=tuple(frames)), renderer)
    each = len(rays) // len(scene.train)
    hidden = (rays.hit & ~masked.hit)[each : 2 * each]
    assert 0.3 * each < hidden.sum() < 0.7 * each and not (masked.hit & ~rays.hit).any()
    assert torch.equal(masked.weight[masked.hit], rays.weight[masked.hit]) and torch.equal(masked.x, rays.x)
    rest = torch.ones(len(rays), dtype=torch.bool)
    rest[each : 2 * each] = False
    assert torch.equal(masked.hit[rest], rays.hit[rest])


def test_rays_know_their_photos_word_and_their_place(scene, renderer, rays):
    assert len(rays) == pytest.approx(GATHER.rays, rel=0.1)
    assert torch.allclose(rays.clip.norm(dim=-1), torch.ones(len(rays), 1), atol=1e-5)
    assert (rays.weight[:, 1:] <= rays.weight[:, :-1]).all() and rays.weight.sum(1).max() <= 1 + 1e-5
    # What calls itself red lies at the red box: x and y from -0.5 to 0.1, and up to 0.3.
    box = renderer.box
    u = rays.x[:, 0] * 2 - 1 if not box.open else (rays.x[:, 0] - 0.5) * 4
    place = u.numpy() @ np.asarray(box.rotation) * box.radius + np.asarray(box.center)
    red = ((rays.clip[:, 0] @ PHRASES[0]) > 0.99).numpy() & rays.hit.numpy()
    assert red.sum() > 100
    inside = ((place > [-0.6, -0.6, -0.6]) & (place < [0.2, 0.2, 0.4])).all(1)
    assert inside[red].mean() > 0.9  # the field is a rough one, and other processors make another one


def test_a_rays_span_is_what_its_photos_height_shows_there(scene, renderer, rays):
    camera, box = scene.frames[scene.train[0]].camera, renderer.box
    first = len(rays) // len(scene.train)
    places = box.uncontract(rays.x[:first, 0]).numpy() @ np.asarray(box.rotation) * box.radius + np.asarray(box.center)
    z = (places - camera.position) @ camera.forward
    met = rays.hit[:first].numpy()
    np.testing.assert_allclose(rays.span[:first, 0].numpy()[met] * box.radius, (z * 32 / 30)[met], rtol=1e-3)


def test_no_more_rays_than_pixels(scene, renderer):
    assert len(gathered(scene, renderer, config=replace(GATHER, rays=10**6))) <= 6 * 32 * 32


def test_patches_are_squares_of_one_photo(scene, renderer):
    rays = gathered(scene, renderer)
    assert rays.patches.shape[1] == 36 and len(rays.patches) % len(scene.train) == 0
    assert len(rays.patches.unique()) == rays.patches.numel()
    # Another view's rays all lie elsewhere, so a patch that ran over the end of its view would be wide.
    x = rays.x[rays.patches][:, :, 0]
    steps = (x[:, 1:] - x[:, :-1]).norm(dim=-1).view(-1)
    assert steps.median() < 0.1 * (x.amax((0, 1)) - x.amin((0, 1))).norm()
    alone = gathered(scene, renderer, config=replace(GATHER, side=1))
    assert alone.patches.numel() == 0 and len(alone) == pytest.approx(GATHER.rays, rel=0.1)


def test_of_many_photos_some_have_a_patch_and_rays_stay_as_many(scene, renderer):
    few, photos = [scene.frames[view] for view in scene.train], said(scene)
    many = gather_rays(renderer, TrainingPhotos(few * 10, photos * 10, BASIS), replace(GATHER, rays=700))
    assert 600 <= len(many) <= 700 and many.patches.shape == (10, 36), "half of the rays"
    single = (len(many) - many.patches.numel()) // 60
    starts = many.patches[:, 0].tolist()
    assert np.diff(starts).tolist() == [6 * single + 36] * 9, "one in every sixth photo"
    assert len(many.patches.unique()) == many.patches.numel() and int(many.patches.max()) < len(many)


def test_correlations_are_those_of_dinos_own_vectors():
    random = np.random.default_rng(0)
    # Five numbers say it all, and a mean lies partly outside of them.
    vectors = (random.normal(size=(20, 30, 5)) @ random.normal(size=(5, 40)) + 3 * random.normal(size=40)).astype(
        np.float32
    )
    projection = fit_projection([vectors], 5)
    reduced = torch.from_numpy(projection.reduce(vectors).reshape(-1, 5))
    own = torch.nn.functional.normalize(torch.from_numpy(vectors.reshape(-1, 40)), dim=1)
    seen = full_dino(reduced, projection)
    assert torch.allclose(seen @ seen.T, own @ own.T, atol=1e-4)
    centred = full_dino(reduced, None)
    assert (centred @ centred.T - own @ own.T).abs().max() > 0.5


def test_views_and_cameras_must_match(scene, renderer):
    with pytest.raises(ValueError, match="each with its camera"):
        TrainingPhotos([], [], BASIS)
    with pytest.raises(ValueError, match="each with its camera"):
        gathered(scene, renderer, said(scene)[:2])


# -- training


def test_the_features_teach_a_new_field(scene, renderer, rays):
    stage = trained(rays, 0)
    assert isinstance(stage, Stage)
    assert accuracy(scene, renderer, stage.field) < 0.9
    trained(rays, 5, stage)
    early = stage.measure()
    trained(rays, STEPS, stage, first=5)
    late = stage.measure()
    assert set(late) == {"feature", "dino"}
    assert late["feature"] < 0.6 * early["feature"] and late["dino"] < 0.6 * early["dino"]
    assert accuracy(scene, renderer, stage.field) > 0.95


def test_phrases_bring_the_alignments_and_do_no_harm(scene, renderer, rays):
    stage = trained(rays, 120, phrases=PHRASES)
    figures = stage.measure()
    assert set(figures) == {"feature", "dino", "relevancy", "pull", "push"}
    assert all(0 <= value < 0.7 for value in figures.values())
    assert accuracy(scene, renderer, stage.field) > 0.95


def test_one_thread_and_two_give_the_same_bits(rays):
    assert same(trained(rays, 8, threads=1, phrases=PHRASES), trained(rays, 8, threads=2, phrases=PHRASES))


def test_a_resumed_training_goes_on_to_the_same_bits(rays):
    straight = trained(rays, 9, seed=2, phrases=PHRASES)
    half = {name: tensor.clone() for name, tensor in trained(rays, 4, seed=2, phrases=PHRASES).state().items()}
    field = FeatureField(FIELD, FieldShape(BASIS.axes.shape[1], 8), CPU, seed=8)
    resumed = RefineStage(field, rays, PHRASES, 30.0, CONFIG, seed=2)
    resumed.load_state(half)
    assert same(straight, trained(rays, 9, resumed, first=4))
    assert not same(straight, trained(rays, 9, seed=3, phrases=PHRASES))


def test_a_pyramids_scales_are_chosen_by_the_field(scene, renderer):
    """The small crops separate objects, the large ones say noise that changes from photo to photo."""
    photos = []
    for number, photo in enumerate(said(scene)):
        noise = np.random.default_rng(number).normal(size=(4, 4, 16)).astype(np.float16)
        h, w = photo.clip.grid.shape[:2]
        small = Level(photo.clip.grid, 0.1, (0.5 / w, 0.5 / h), (1 / w, 1 / h))
        large = Level(noise, 0.5, (0.125, 0.125), (0.25, 0.25))
        photos.append(PhotoFeatures(Pyramid((small, large)), None))
    rays = gathered(scene, renderer, photos)
    assert rays.clip.shape[1] == 2 and rays.dino is None
    stage = trained(rays, shape=FieldShape(BASIS.axes.shape[1], 0, 2), phrases=PHRASES)
    assert set(stage.measure()) == {"feature", "relevancy"}
    weights = torch.softmax(stage.field.at(rays.x[rays.hit][:, 0], "scales"), 1).mean(0)
    assert weights[0] > 0.65, "of two scales none can have more than 0.73"
    assert accuracy(scene, renderer, stage.field) > 0.9


@pytest.mark.parametrize("phrases", [None, torch.zeros(0, 6)])
def test_without_phrases_or_dino_there_is_the_feature_loss(scene, renderer, phrases):
    photos = [replace(photo, dino=None) for photo in said(scene)]
    rays = gathered(scene, renderer, photos, replace(GATHER, side=1))
    assert rays.patches.numel() == 0
    stage = trained(rays, 3, phrases=phrases)
    assert set(stage.measure()) == {"feature"}


def test_no_loss_passes_its_bound(rays):
    """Whatever the field says: features 2, relevancy ln 2, pairs less."""
    stage = trained(rays, 0, phrases=PHRASES)
    stage.field.network.mul_(50)
    stage.field.table.normal_(generator=torch.Generator().manual_seed(0))
    stage = trained(rays, 2, stage)
    figures = stage.measure()
    assert figures["feature"] <= 2 and figures["dino"] <= 2 and figures["relevancy"] <= 0.6932
    assert figures["pull"] <= 0.3 * 0.6932 and figures["push"] <= 1.7 * 0.6932
