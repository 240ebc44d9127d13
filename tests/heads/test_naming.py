"""Names of shapes: depth views, towers, prompts, the up axis, few shots, and the index."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from tiny_models import add_architecture, clip_config, random_clip, save_clip_folder

from ovseg3d.encoders import load_clip
from ovseg3d.errors import CacheError, ConfigError, EncoderError, ShapeError
from ovseg3d.heads.naming import (
    Entry,
    ShapeIndex,
    ShapeNamer,
    contour_aware,
    depth_templates,
    load_index,
    orbit,
    pointclip_v2,
    relief,
)
from ovseg3d.heads.naming.background import background_file, log_prior, save_background
from ovseg3d.heads.naming.contour import SliceProjection, gaussian
from ovseg3d.heads.naming.few_shots import cached, fit_logistic
from ovseg3d.heads.naming.naming import BUILTIN_WEIGHTS, MIN_UP_PROBABILITY
from ovseg3d.heads.naming.prompts import check_classes, class_vectors
from ovseg3d.heads.naming.towers import AlignedTower
from ovseg3d.heads.naming.upright import (
    AXES,
    candidates,
    find_up,
    nearest_axis,
    prior,
    turn_up,
    up_odds,
    upright_features,
)
from ovseg3d.heads.naming.views import Y_UP, look_at
from ovseg3d.synth.kinds import KINDS
from ovseg3d.synth.kinds.base import Look
from ovseg3d.synth.materials import paint


@pytest.fixture(scope="module")
def namer() -> ShapeNamer:
    return ShapeNamer(views=4)


def thing(kind: str, count: int = 2048, seed: int = 0) -> np.ndarray:
    """Points of a procedural object of the first style, z up."""
    known, rng = KINDS[kind], np.random.default_rng(seed)
    size = tuple(sum(span) / 2 for span in known.sizes)
    parts = known.make(size, known.styles[0], Look(paint("#888888")))
    corners = np.concatenate([part.soup.points for part in parts])
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    root, along = np.sqrt(rng.random(count)), rng.random(count)
    weights = np.stack([1 - root, root * (1 - along), root * along], 1)
    return np.einsum("pk,pkj->pj", weights, corners[rng.choice(len(area), count, p=area / area.sum())])


def box_points(size: tuple[float, float, float], count: int = 3000) -> np.ndarray:
    """The surface of a closed box."""
    rng = np.random.default_rng(0)
    points = rng.uniform(-0.5, 0.5, (count, 3))
    points[np.arange(count), rng.integers(3, size=count)] = rng.choice([-0.5, 0.5], count)
    return points * size


def sphere(count: int) -> np.ndarray:
    points = np.random.default_rng(0).normal(size=(count, 3))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


# Projections


def paper_view(point: np.ndarray, orbit_deg: float, tilt_deg: float, pole: int = 0) -> tuple[float, float, float]:
    """A point with y up in a view of the papers: about z by a quarter turn, about x (or, at a pole, about y by a
    quarter turn), then tilted about y. Written out, so that nothing is taken from the code."""
    x, y, z = point
    theta, tilt = np.radians(orbit_deg), np.radians(tilt_deg)
    a, b, c = -y, x, z
    if pole:
        a, c = pole * c, -pole * a
    b, c = b * np.cos(theta) - c * np.sin(theta), b * np.sin(theta) + c * np.cos(theta)
    return a * np.cos(tilt) + c * np.sin(tilt), b, -a * np.sin(tilt) + c * np.cos(tilt)


CONTOUR_VIEWS = [
    *((30, 20), (60, 20), (90, 20), (120, 20), (150, 20)),
    *((180, 20), (210, 20), (240, 20), (270, 20), (300, 12)),
]
"""Degrees around the up axis, and of the tilt: OpenDlign's range ends before 330."""
POINTCLIP_VIEWS = [
    *((45, 20), (135, 20), (225, 20), (315, 20)),
    *((0, 20), (90, 20), (180, 20), (270, 20)),
    *((0, 20, -1), (0, 12, 1)),
]
"""Four diagonals, four along axes, and two poles."""


def slow_bilateral(pooled: np.ndarray) -> np.ndarray:
    """Round neighbourhoods of five pixels; both sigmas are 2.823."""
    size, smooth = len(pooled), np.zeros_like(pooled)
    reflected = np.pad(pooled, 2, mode="reflect")
    for i in range(size):
        for j in range(size):
            total = weight = 0.0
            for a in range(-2, 3):
                for b in range(-2, 3):
                    if a * a + b * b <= 4:
                        other = reflected[i + 2 + a, j + 2 + b]
                        near = np.exp(-(a * a + b * b) / (2 * 2.823**2))
                        alike = np.exp(-((other - pooled[i, j]) ** 2) / (2 * 2.823**2))
                        total, weight = total + near * alike * other, weight + near * alike
            smooth[i, j] = total / weight
    return smooth


def slow_gaussian(pooled: np.ndarray) -> np.ndarray:
    """Three by three pixels, sigma 3; outside is nothing."""
    size, smooth = len(pooled), np.zeros_like(pooled)
    kernel = {(a, b): np.exp(-(a * a + b * b) / (2 * 3.0**2)) for a in (-1, 0, 1) for b in (-1, 0, 1)}
    for i in range(size):
        for j in range(size):
            for (a, b), weight in kernel.items():
                if 0 <= i + a < size and 0 <= j + b < size:
                    smooth[i, j] += weight / sum(kernel.values()) * pooled[i + a, j + b]
    return smooth


def slow_slices(moved: np.ndarray, size: int, ratio: float, border: int, smooth) -> np.ndarray:
    """The projection as the papers' constants say, pixel by pixel."""
    low, high = np.min(moved, axis=0), np.max(moved, axis=0)
    stack = np.zeros((8, size, size))
    for point in moved:
        q = 2 * (point - (low + high) / 2) / max(high - low)
        u, v = (int(np.ceil((q[k] * ratio + 1) / 2 * size)) for k in (0, 1))
        u, v = min(max(u, border), size - 1 - border), min(max(v, border), size - 1 - border)
        zeta = ((q[2] + 1) / 2 + 0.2) / 1.2 * 6
        place = int(np.ceil(zeta))
        stack[place, u, v] = max(stack[place, u, v], zeta)
    front = np.zeros((size, size))
    for part in stack:
        pooled = np.zeros((size, size))
        for i in range(size):
            for j in range(size):
                pooled[i, j] = part[max(i - 3, 0) : i + 4, max(j - 3, 0) : j + 4].max()
        front = np.maximum(front, smooth(pooled))
    return 1 - front / front.max()


@pytest.mark.parametrize(
    ("projection", "views", "border", "slow"),
    [(contour_aware, CONTOUR_VIEWS, 1, slow_bilateral), (pointclip_v2, POINTCLIP_VIEWS, 2, slow_gaussian)],
    ids=["contour-aware", "PointCLIP V2"],
)
def test_projections_are_as_the_papers_say(projection: SliceProjection, views, border: int, slow) -> None:
    """In a small picture; first, last, and all that differ in more than the angle about the up axis."""
    ratio = 0.9 if projection is contour_aware else 0.8
    assert (projection.size, projection.ratio, projection.border) == ((224, 112)[border - 1], ratio, border)
    for turn, view in zip(projection.views(), views, strict=True):
        assert np.allclose(turn, np.transpose([paper_view(axis, *view) for axis in np.eye(3)]))
    points = np.random.default_rng(1).normal(size=(150, 3)) * (1.0, 2.0, 0.5)
    made = replace(projection, size=40)(points)
    for k in (0, 8, 9):
        moved = np.array([paper_view(point, *views[k]) for point in points])
        assert np.allclose(made[k], slow_slices(moved, 40, ratio, border, slow), atol=1e-9)


def test_contour_aware_sees_any_view() -> None:
    """Of points with z up, as relief does: the same side, upright."""
    chair, turns = thing("chair", 5000), orbit(3)
    for ours, theirs in zip(relief(chair, turns), contour_aware.seen_from(turns)(chair)):
        shown = ours < 0.99, theirs < 0.99
        assert np.logical_and(*shown).sum() > 0.5 * np.logical_or(*shown).sum()
        assert np.logical_and(shown[0], shown[1][:, ::-1]).sum() < np.logical_and(*shown).sum()


def test_contour_aware_has_the_papers_size_and_values() -> None:
    made = contour_aware(thing("chair") @ Y_UP.T)
    assert made.shape == (10, 224, 224)
    assert np.array_equal(made, contour_aware(thing("chair") @ Y_UP.T))
    assert made.min() == 0.0
    assert np.allclose(made[:, 0], 1.0)  # background is white


@pytest.mark.parametrize("see", [lambda p: contour_aware(p @ Y_UP.T), lambda p: pointclip_v2(p @ Y_UP.T), relief])
def test_up_is_up_in_all_views_around(see) -> None:
    """A wide thing at the lower end of a stick."""
    stick = np.random.default_rng(0).uniform((-0.02, -0.02, 0), (0.02, 0.02, 1), (800, 3))
    foot = np.random.default_rng(1).uniform((-0.3, -0.3, 0), (0.3, 0.3, 0.05), (800, 3))
    for view in see(np.concatenate([stick, foot]))[:8]:
        shown = view < 0.99
        half = len(view) // 2
        assert shown[half:].sum() > shown[:half].sum()


@pytest.mark.parametrize(("few", "many", "same", "apart"), [(2_000, 20_000, 0.85, 0.03), (1_000, 50_000, 0.8, 0.04)])
def test_relief_shows_the_same_at_any_density(few: int, many: int, same: float, apart: float) -> None:
    # Larger discs make a larger outline.
    thin, dense = (relief(sphere(count), orbit(2)) for count in (few, many))
    assert np.logical_and(thin < 1, dense < 1).sum() / np.logical_or(thin < 1, dense < 1).sum() > same
    both = (thin < 1) & (dense < 1)
    assert np.abs(thin - dense)[both].mean() < apart
    assert (thin < 1)[:, 60:164, 60:164].mean() > 0.995 and (dense < 1)[:, 60:164, 60:164].all()  # hardly a hole


def test_relief_hides_what_is_behind() -> None:
    """A wall with something behind it looks as the wall alone, from the front."""
    rng = np.random.default_rng(0)
    wall = np.stack([rng.uniform(-1, 1, 4000), np.full(4000, -0.3), rng.uniform(-1, 1, 4000)], 1)
    behind = rng.uniform((-0.4, 0.1, -0.4), (0.4, 0.3, 0.4), (1000, 3))
    turn = look_at(0.0, 0.0)[None]
    middle = slice(60, 164)
    with_it, alone = (relief(points, turn)[0, middle, middle] for points in (np.concatenate([wall, behind]), wall))
    assert (np.abs(with_it - alone) > 0.02).mean() < 0.01


def test_views_are_rotations_with_z_upwards() -> None:
    for turn in orbit(7):
        assert np.allclose(turn @ turn.T, np.eye(3))
        assert np.linalg.det(turn) == pytest.approx(1)
        assert (turn @ [0, 0, 1.0])[1] < 0  # y of a view points down
    assert np.allclose(look_at(0.0, 0.0) @ [0, -1.0, 0], [0, 0, -1.0])  # the front faces the viewer


# Towers


def test_the_doubled_tower_starts_as_clips_own() -> None:
    images = torch.rand(3, 3, 50, 70, generator=torch.Generator().manual_seed(0))
    before = load_clip("builtin").encode_image(images)
    tower = AlignedTower(load_clip("builtin"))
    assert torch.allclose(tower.encode(images), before, atol=1e-5)
    assert torch.allclose(tower.finish(tower.stem(images)), before, atol=1e-5)
    with torch.no_grad():
        for parameter in tower.trained().values():
            parameter.mul_(1.1)
    assert torch.allclose(tower.encode(images, 0.0), before, atol=1e-5)
    assert not torch.allclose(tower.encode(images), before, atol=1e-3)


@pytest.mark.parametrize("vision", [{}, {"pool_type": "avg"}])
def test_of_a_vit_only_attention_is_tuned(tmp_path: Path, vision: dict) -> None:
    config = clip_config(**vision)
    add_architecture(tmp_path, "tiny-naming", config)
    encoder = load_clip(f"local-dir:{save_clip_folder(tmp_path / 'clip', config, random_clip('tiny-naming'))}")
    images = torch.rand(2, 3, 64, 64)
    before = encoder.encode_image(images)
    tower = AlignedTower(encoder)
    assert tower.trained()
    assert all("attn" in name for name in tower.trained())
    assert torch.allclose(tower.encode(images), before, atol=1e-5)
    assert torch.allclose(tower.finish(tower.stem(images)), before, atol=1e-5)


def test_tuned_weights_are_interpolated() -> None:
    tower = AlignedTower(load_clip("builtin"))
    frozen = {name: value.detach().clone() for name, value in tower.trained().items()}
    other = {name: value + 1 for name, value in frozen.items()}
    tower.load(other, strength=0.25)
    assert all(torch.allclose(value, frozen[name] + 0.25, atol=1e-6) for name, value in tower.trained().items())
    with pytest.raises(EncoderError, match="another tower"):
        tower.load({"a": torch.zeros(1)})


def test_a_namer_takes_the_tuned_weights_partly(tmp_path: Path, namer: ShapeNamer) -> None:
    chair, names = thing("chair"), namer.embed_names(("mug", "chair"))
    none, half = (ShapeNamer(views=4, strength=strength) for strength in (0.0, 0.5))
    frozen = ShapeNamer(views=4, towers="frozen")
    assert np.allclose(none.embed(chair), frozen.embed(chair), atol=1e-5)
    assert np.allclose(none.log_prior(names), frozen.log_prior(names), atol=1e-5)
    whole = namer.embed(chair)
    assert none.embed(chair) @ whole < half.embed(chair) @ whole < 0.999
    assert not np.allclose(half.log_prior(names), namer.log_prior(names), atol=1e-3)
    # An index of other weights is refused.
    assert len({one.id for one in (none, half, namer)}) == 3
    ShapeIndex(half.id, (Entry("a.ply", (0, 0)),), half.embed(chair)[None]).save(tmp_path / "index.safetensors")
    with pytest.raises(CacheError, match="made by"):
        load_index(tmp_path / "index.safetensors", namer.id)
    with pytest.raises(ConfigError, match="strength"):
        ShapeNamer(strength=1.5)


# Prompts


def test_templates_differ_and_have_the_right_article() -> None:
    templates = depth_templates()
    assert len(set(templates)) == len(templates) > 5
    assert all(template.count("{}") == 1 for template in templates)


def test_names_are_put_into_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    encoder = load_clip("builtin")
    monkeypatch.setattr(encoder, "encode_text", lambda phrases: said.extend(phrases) or torch.eye(2))
    class_vectors(encoder, ["oven", "mouse (a computer part)"], ["a {} here"])
    assert said == ["an oven here", "a mouse, a computer part here"]


@pytest.mark.parametrize(
    ("classes", "words"), [([], "No class"), (["chair", " "], "no name"), (["mug", "lamp", "Mug"], "twice")]
)
def test_wrong_classes_are_refused(classes: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_classes(classes)


# Up


@pytest.mark.parametrize("axis", list(AXES))
def test_up_is_turned_to_z(axis: str) -> None:
    turn = turn_up(np.array(AXES[axis]))
    assert np.allclose(turn @ AXES[axis], [0, 0, 1])
    assert np.allclose(turn @ turn.T, np.eye(3))
    assert np.linalg.det(turn) == pytest.approx(1)
    assert nearest_axis(np.array(AXES[axis])) == axis


def test_a_turned_box_offers_its_own_axes() -> None:
    points = box_points((1.0, 0.6, 0.3))
    assert np.allclose(candidates(points), np.concatenate([np.eye(3), -np.eye(3)]))
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    found = candidates(points @ turn.T)
    assert found.shape == (6, 3)
    assert np.allclose(np.abs(found @ turn).max(1), 1, atol=0.01)


def test_what_is_turned_about_z_may_stand_on_z() -> None:
    """A slanted thing, whose tightest box may lie aslant, keeps the file's z among its candidates."""
    points = box_points((1.0, 0.5, 0.8))
    points[:, 0] += 0.05 * points[:, 2]
    turn = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1.0]])
    found = candidates(points @ turn.T)
    assert np.abs(found @ [0, 0, 1.0]).max() == pytest.approx(1)


def test_cues_do_not_depend_on_which_way_a_shape_faces() -> None:
    points, turn = thing("chair"), np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1.0]])
    assert np.allclose(upright_features(points), upright_features(3 * points @ turn.T + 5), atol=1e-6)
    assert not np.allclose(upright_features(points), upright_features(-points), atol=0.1)


def test_what_can_only_stand_one_way_is_found_however_it_is_turned() -> None:
    """A wide plate with a pole on it, turned so that no side is near an axis that files prefer."""
    rng = np.random.default_rng(0)
    plate = rng.uniform((-0.5, -0.5, 0), (0.5, 0.5, 0.04), (2000, 3))
    pole = rng.uniform((-0.03, -0.03, 0), (0.03, 0.03, 0.8), (500, 3))
    points = np.concatenate([plate, pole])
    for vector in ((0.6, 0.5, 0.4), (-0.9, 0.4, 0.5)):
        turn = Rotation.from_rotvec(vector).as_matrix()
        assert find_up(points @ turn.T) @ (turn @ [0, 0, 1.0]) > 0.99


def test_files_habits_are_preferred() -> None:
    odds = dict(zip(AXES, prior(np.array(list(AXES.values())), None)))
    assert odds["z"] > odds["y"] > odds["x"] == odds["-z"]
    gltf = dict(zip(AXES, prior(np.array(list(AXES.values())), "y")))
    assert gltf["y"] > gltf["z"]


# Names


def test_shapes_are_named(namer: ShapeNamer) -> None:
    classes = ("mug", "chair", "bicycle", "bottle")
    for kind in classes:
        found = namer.name(thing(kind), classes, up="z")
        assert found.label == kind
        assert sum(one.score for one in found.candidates) == pytest.approx(1)
        assert found.up_axis == "z"
    assert len(namer.name(thing("chair"), classes, up="z", top=2).candidates) == 2


def test_names_are_told_from_all_likely_axes(namer: ShapeNamer) -> None:
    """An independent mean over the axes of a shape whose box lies along them."""
    classes, mug = ("mug", "chair", "bottle"), thing("mug") @ Y_UP.T
    directions, odds = up_odds(mug, "y")
    expected, total = dict.fromkeys(classes, 0.0), 0.0
    for direction, weight in zip(directions, np.exp(odds)):
        axis = next(name for name, vector in AXES.items() if np.allclose(vector, direction))
        if weight > MIN_UP_PROBABILITY:
            total += weight
            for one in namer.name(mug, classes, up=axis).candidates:
                expected[one.label] += weight * one.score
    found = namer.name(mug, classes, stated_up="y")
    scores = {one.label: one.score * total for one in found.candidates}
    assert scores == pytest.approx(expected, rel=1e-4)
    assert found.up_axis == "y" and found.label == "mug"
    assert np.exp(odds).sum() == pytest.approx(1) and MIN_UP_PROBABILITY < np.exp(odds).max() < 1 - MIN_UP_PROBABILITY


def test_shapes_are_named_however_they_are_turned(namer: ShapeNamer) -> None:
    classes = ("mug", "chair", "bicycle", "bottle")
    turns = Rotation.random(3, rng=np.random.default_rng(0)).as_matrix()
    found = [namer.name(thing(kind) @ turn.T, classes).label == kind for kind in classes for turn in turns]
    assert sum(found) >= 10


def test_the_given_axis_is_used(namer: ShapeNamer) -> None:
    chair = thing("chair")
    assert np.allclose(namer.embed(chair @ Y_UP.T, "y"), namer.embed(chair), atol=0.05)


def test_up_is_found_where_files_keep_it(namer: ShapeNamer) -> None:
    for stated, turn in (("z", np.eye(3)), ("y", Y_UP)):
        kinds = ("chair", "toilet", "table")
        found = [namer.name(thing(kind) @ turn.T, [kind], stated_up=stated).up_axis for kind in kinds]
        assert found.count(stated) >= 2


@pytest.mark.parametrize(
    ("points", "words"),
    [
        (np.eye(3), "at least"),
        (np.full((100, 3), np.nan), "at least"),
        (np.linspace(0, 1, 100)[:, None] * [1.0, 2.0, 3.0], "one line"),
        (np.zeros((100, 3)), "one line"),
    ],
)
def test_what_is_no_shape_is_refused(namer: ShapeNamer, points: np.ndarray, words: str) -> None:
    with pytest.raises(ShapeError, match=words):
        namer.name(points, ["chair"])


def test_odd_shapes_are_named(namer: ShapeNamer) -> None:
    flat = np.random.default_rng(0).uniform(size=(200, 3)) * (1, 1, 0)
    broken = np.concatenate([thing("mug", 500), np.full((5, 3), np.nan)])
    for points in (box_points((1, 1, 1)), flat, broken):
        for up in ("z", "auto"):
            assert namer.name(points, ["box", "rug"], up=up).candidates


def test_foreign_encoders_have_no_tuned_tower() -> None:
    with pytest.raises(EncoderError, match="no tuned weights"):
        ShapeNamer("imagenet", towers="both")


# Priors


def test_a_name_that_anything_gets_counts_less() -> None:
    """The first name is near all of the background, so a shape between the names is called the second."""
    names, background = np.eye(3), np.array([[0.9, 0.3, 0.3], [0.9, 0.1, 0.4]])
    prior = log_prior(background, names, 10.0)
    assert np.allclose(np.exp(prior).sum(), 1, atol=1e-4)
    odds = np.exp(10 * background @ names.T)
    assert np.allclose(np.exp(prior), (odds / odds.sum(1, keepdims=True)).mean(0), atol=1e-5)
    shape = np.array([0.7, 0.69, 0.0])
    assert (shape @ names).argmax() == 0 and (10 * shape @ names - prior).argmax() == 1


def test_a_namer_takes_the_priors_of_its_towers_off(namer: ShapeNamer) -> None:
    names, vector = namer.embed_names(("mug", "chair", "vase")), namer.embed(thing("chair"))
    prior = namer.log_prior(names)
    assert prior.max() < 0 and not np.allclose(prior, namer.log_prior(names, "frozen"))
    plain = namer.encoder.logit_scale * names @ vector
    assert np.allclose(namer.logits(vector[None], names)[0], plain - prior)
    assert np.allclose(np.log(namer.probabilities(vector, names)) + np.log(np.exp(plain - prior).sum()), plain - prior)


def test_without_a_background_there_are_no_priors(tmp_path: Path) -> None:
    shutil.copy(BUILTIN_WEIGHTS, tmp_path / "tuned.safetensors")
    alone = ShapeNamer(weights=tmp_path / "tuned.safetensors")
    assert not alone.log_prior(alone.embed_names(("mug", "chair"))).any() and alone.scored_by == alone.id
    beside = background_file(tmp_path / "tuned.safetensors")
    beside.write_bytes(b"no tensors")
    with pytest.raises(EncoderError, match="cannot be read"):
        ShapeNamer(weights=tmp_path / "tuned.safetensors")
    save_background(beside, np.ones((1, 2, alone.encoder.dim), np.float32), "of another CLIP")
    with pytest.raises(EncoderError, match="another encoder"):
        ShapeNamer(weights=tmp_path / "tuned.safetensors")


# Few shots


def test_the_regression_is_scikit_learns() -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 5)), rng.integers(3, size=60)
    weights, _ = fit_logistic(x, y, 3)
    theirs = linear.LogisticRegression(C=1.0, tol=1e-8, max_iter=1000).fit(x, y)
    assert np.allclose(weights, theirs.coef_, atol=1e-3)


def test_the_cache_helps_and_ignores_what_misleads() -> None:
    rng = np.random.default_rng(0)
    centres = np.eye(4)
    labels = np.repeat(np.arange(4), 3)
    near = centres[labels] + rng.normal(0, 0.1, (12, 4))
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    blind = np.zeros((12, 4))
    assert (cached(blind, near, labels, near, blind).argmax(1) == labels).all()
    noise = rng.normal(size=(12, 4))
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    sure = 10.0 * np.eye(4)[labels]
    assert (cached(sure, noise, labels, noise[::-1], sure).argmax(1) == labels).all()


# The index


def index() -> ShapeIndex:
    vectors = np.array([[1, 0], [0.6, 0.8], [0, 1]], np.float32)
    return ShapeIndex("some", tuple(Entry(f"{k}.ply", (k, 10**18 + k)) for k in range(3)), vectors)


def test_an_index_comes_back_and_is_searched(tmp_path: Path) -> None:
    index().save(tmp_path / "index.safetensors")
    found = load_index(tmp_path / "index.safetensors", "some")
    assert found.entries == index().entries
    assert [hit.file for hit in found.search(np.array([0.0, 1.0]), 2)] == ["2.ply", "1.ply"]


def test_other_indices_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "index.safetensors"
    index().save(path)
    with pytest.raises(CacheError, match="made by"):
        load_index(path, "another")
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(CacheError):
        load_index(path, "some")


def test_gaussian_keeps_a_constant_inside() -> None:
    assert np.allclose(gaussian(np.ones((9, 9)))[2:-2, 2:-2], 1)
