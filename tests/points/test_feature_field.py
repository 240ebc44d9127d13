"""The feature field: it fits its targets, is small, and its stages are reproducible to the bit."""

import pytest
import torch

from ovseg3d.engine import Stage, Start, Workers, run_stage
from ovseg3d.points.feature_field import FeatureField, FeatureFieldConfig, FieldShape, FitStage

CPU = torch.device("cpu")
CONFIG = FeatureFieldConfig(levels=6, features=2, log2_table=12, max_resolution=64, hidden=32, fit_points=1024)


def points(count: int = 4000, kept: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """Points on a plane whose two halves mean different things, with a large part in common."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(count, 3, generator=generator) * 0.8 + 0.1
    x[:, 2] = 0.5
    vectors = torch.zeros(count, kept)
    vectors[:, 0] = 0.9
    vectors[x[:, 0] < 0.5, 1] = 0.3
    vectors[x[:, 0] >= 0.5, 2] = 0.3
    return x, vectors


def fitted(steps: int = 120, stage: FitStage | None = None, first: int = 0, threads: int = 2, **keywords) -> FitStage:
    if stage is None:
        field = FeatureField(CONFIG, FieldShape(8), CPU, **keywords)
        stage = FitStage(field, *points(), seed=keywords.get("seed", 0))
    stage.workers = stage.field.workers = Workers(2, threads)
    with stage.workers.open():
        for step in range(first, steps):
            stage.step(step, step / 120)
    return stage


def same(a: FitStage, b: FitStage) -> bool:
    one, other = a.state(), b.state()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("backend", ["warp", "torch"])
def test_a_fit_answers_at_places_that_it_was_not_shown(backend):
    field = fitted(backend=backend).field
    left, right = field.at(torch.tensor([[0.3, 0.41, 0.5], [0.7, 0.59, 0.5]]))
    assert left[:3].tolist() == pytest.approx([0.9, 0.3, 0.0], abs=0.05)
    assert right[:3].tolist() == pytest.approx([0.9, 0.0, 0.3], abs=0.05)


def test_the_fit_is_a_stage_whose_error_falls():
    x, vectors = points()
    stage = FitStage(FeatureField(CONFIG, FieldShape(8), CPU), x, vectors)
    assert isinstance(stage, Stage)
    stage.step(0, 0.0)
    # A new field knows the mean alone, which explains nothing.
    assert stage.measure()["unexplained"] == pytest.approx(1.0, abs=0.05)
    run_stage(stage, steps=120, start=Start(1))
    assert stage.measure()["unexplained"] < 0.08


def test_the_error_does_not_depend_on_the_encoders_scale():
    x, vectors = points()
    unexplained = []
    for factor in (1.0, 1 / 64):
        stage = FitStage(FeatureField(CONFIG, FieldShape(8), CPU), x, vectors * factor)
        stage.step(0, 0.0)
        unexplained.append(stage.measure()["unexplained"])
    assert unexplained[0] == pytest.approx(unexplained[1], rel=0.01)


def test_one_thread_and_two_give_the_same_bits():
    assert same(fitted(20, threads=1), fitted(20, threads=2))


def test_a_resumed_fit_goes_on_to_the_same_bits():
    half = {name: tensor.clone() for name, tensor in fitted(9, seed=3).state().items()}
    resumed = FitStage(FeatureField(CONFIG, FieldShape(8), CPU, seed=5), *points(), seed=3)
    resumed.load_state(half)
    straight = fitted(20, seed=3)
    assert same(straight, fitted(20, stage=resumed, first=9))
    assert not same(straight, fitted(20, seed=4))


def test_an_untaught_field_says_the_scenes_mean():
    field = FeatureField(CONFIG, FieldShape(8), CPU)
    field.mean.copy_(torch.arange(8.0))
    assert (field.at(torch.rand(10, 3)) - torch.arange(8.0)).abs().max() < 1e-2


def test_each_head_has_its_own_width():
    field = FeatureField(CONFIG, FieldShape(8, 5, 3), CPU)
    x = torch.rand(7, 3)
    assert [field.at(x, head).shape for head in ("clip", "dino", "scales")] == [(7, 8), (7, 5), (7, 3)]
