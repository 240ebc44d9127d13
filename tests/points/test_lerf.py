"""LERF's scale-dependent field on rays by hand: small crops name objects, large ones their surroundings."""

import numpy as np
import pytest
import torch

from ovseg3d.engine import Stage, Workers
from ovseg3d.points.feature_field import FeatureField, FeatureFieldConfig, FieldShape
from ovseg3d.points.gather import Rays
from ovseg3d.points.lerf import COUNT, LerfStage, Sized
from ovseg3d.points.refine import RefineConfig

CPU = torch.device("cpu")
FIELD = FeatureFieldConfig(levels=6, features=2, log2_table=12, max_resolution=64, hidden=32)
CONFIG = RefineConfig(batch=1024, learning_rate=2e-2, network_learning_rate=5e-3, feature_kind="huber")
LEFT, RIGHT, ROOM, OTHER = range(4)
SCALES = (0.1, 0.8)


def rays(count: int = 4000) -> Rays:
    """Half of the places are LEFT, half RIGHT, for small crops; for large ones all is ROOM."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(count, 1, 3, generator=generator)
    small = torch.where(x[:, 0, 0] < 0.5, LEFT, RIGHT)
    clip = torch.nn.functional.one_hot(torch.stack([small, torch.full_like(small, ROOM)], 1), 4).float()
    span = 0.5 + 1.5 * torch.rand(count, 1, generator=generator)
    ones = torch.ones(count, 1)
    return Rays(x, ones, span, clip, None, None, torch.empty(0, 0, dtype=torch.int64))


def taught(steps: int = 100, stage: LerfStage | None = None, first: int = 0, threads: int = 2, seed: int = 0):
    if stage is None:
        stage = LerfStage(FeatureField(FIELD, FieldShape(4, sized=True), CPU), rays(), SCALES, CONFIG, seed)
    stage.workers = stage.field.workers = Workers(2, threads)
    with stage.workers.open():
        for step in range(first, steps):
            stage.step(step, step / 100)
    return stage


def same(a: LerfStage, b: LerfStage) -> bool:
    one, other = a.state(), b.state()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def sized() -> Sized:
    stage = taught()
    assert isinstance(stage, Stage) and set(stage.measure()) == {"feature"}
    places = torch.tensor([[0.25, 0.4, 0.6], [0.3, 0.8, 0.2], [0.75, 0.4, 0.6], [0.8, 0.1, 0.9]])
    return stage.sized(places, np.eye(4, dtype=np.float32)[[OTHER]], 3.0)


def test_a_place_means_one_thing_small_and_another_large(sized: Sized) -> None:
    assert sized.at(0.0).argmax(1).tolist() == [LEFT, LEFT, RIGHT, RIGHT]
    assert sized.at(1.0).argmax(1).tolist() == [ROOM] * 4
    # Spans lie between 0.5 and 2 field units, which are 3 input units each.
    assert sized.smallest == pytest.approx(3 * 0.1 * 0.5, rel=0.1)
    assert sized.largest == pytest.approx(3 * 0.8 * 2.0, rel=0.1)


def test_each_phrase_is_looked_for_at_its_own_size(sized: Sized) -> None:
    found, sizes = sized.margins(np.eye(4, dtype=np.float32)[[LEFT, ROOM, RIGHT]], sized.canonical)
    assert sizes[0] < 0.9 and sizes[2] < 0.9 and sizes[1] > 1.0
    assert (found[:2, 0] > 0.5).all() and (found[2:, 0] < 0.45).all() and (found[:, 1] > 0.8).all()
    again, _ = sized.margins(np.eye(4, dtype=np.float32)[[LEFT, ROOM, RIGHT]], np.zeros((0, 4), np.float32))
    np.testing.assert_array_equal(found, again)


def test_the_size_is_that_of_the_highest_margin() -> None:
    """Against one size, one phrase and one point at a time."""
    random = np.random.default_rng(0)
    layers = tuple(random.normal(size=shape).astype(np.float32) for shape in ((10, 16), (16, 16), (16, 5)))
    encoded = random.normal(size=(40, 8)).astype(np.float16)
    known = Sized(encoded, layers, random.normal(size=5).astype(np.float32), np.eye(5, dtype=np.float32)[:2], 0.1, 6.4)
    phrases = random.normal(size=(12, 5)).astype(np.float32)
    others = random.normal(size=(3, 5)).astype(np.float32)
    found, sizes = known.margins(phrases, others)
    for number, phrase in enumerate(phrases):
        best, at, kept = -np.inf, None, None
        for step in range(COUNT):
            place = step / (COUNT - 1)
            margins = []
            for point in encoded.astype(float):
                hidden = np.concatenate([point, [place, 1 - place]])
                for layer in layers[:-1]:
                    hidden = np.maximum(hidden @ layer, 0)
                vector = hidden @ layers[-1] + known.mean
                vector /= np.linalg.norm(vector)
                margins.append(vector @ phrase - max(vector @ other for other in others))
            if max(margins) > best:
                best, at, kept = max(margins), 0.1 * 64**place, margins
        np.testing.assert_allclose(found[:, number], kept, atol=1e-2)
        assert sizes[number] == pytest.approx(at)
    assert len(np.unique(sizes)) > 2, "or nothing was chosen"


def test_it_comes_back_from_its_arrays(sized: Sized) -> None:
    arrays = sized.arrays()
    again = Sized.from_arrays(arrays)
    np.testing.assert_array_equal(again.at(0.3), sized.at(0.3))
    assert (again.smallest, again.largest) == (sized.smallest, sized.largest)
    wrongs = (
        {"sized.layer.1": arrays["sized.layer.1"][1:]},
        {"sized.mean": arrays["sized.mean"][1:]},
        {"sized.canonical": arrays["sized.canonical"][:0]},
        {"sized.canonical": arrays["sized.canonical"] * np.nan},
        {"sized.range": np.array([0.0, 1.0])},
        {"sized.range": np.array([2.0, 1.0])},
    )
    for wrong in wrongs:
        with pytest.raises(ValueError, match="belong together|not usable"):
            Sized.from_arrays(arrays | wrong)


def test_a_resumed_stage_goes_on_to_the_same_bits_on_one_thread_or_two() -> None:
    straight = taught(9, seed=2)
    half = {name: tensor.clone() for name, tensor in taught(4, seed=2).state().items()}
    stage = LerfStage(FeatureField(FIELD, FieldShape(4, sized=True), CPU, seed=8), rays(), SCALES, CONFIG, 2)
    stage.load_state(half)
    assert same(straight, taught(9, stage, first=4, threads=1))
    assert not same(straight, taught(9, seed=3))
