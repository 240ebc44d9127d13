"""The training of the network that refines boxes, and its examples."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

from ovseg3d.geometry import rotated_iou
from ovseg3d.heads.detection import load_network
from ovseg3d.heads.detection.faces import FEATURES, PLACES, load_faces, moved
from ovseg3d.heads.detection.weights import SHIPPED
from scripts.training import train_boxes
from scripts.training.box_examples import BoxExamples, box_examples, corrupted, true_faces
from scripts.training.train_boxes import BoxRecipe, TrainBoxes, fit, mirrored, overlap


def made_up(count: int = 300) -> BoxExamples:
    """Objects whose true faces are the second place; every other one is none."""
    rng = np.random.default_rng(0)
    places = rng.normal(0, 0.05, (count, 3, 2, PLACES)).astype(np.float32)
    places[..., 0] = 0
    matched = np.arange(count) % 2 == 0
    features = rng.normal(size=(count, 3, 2, FEATURES)).astype(np.float32)
    features[..., 0] = matched[:, None, None]
    boxes = np.concatenate([rng.normal(size=(count, 3)), rng.uniform(0.3, 1, (count, 3)), np.zeros((count, 1))], 1)
    return BoxExamples(
        places, features, boxes, np.full(count, 0.5), places[..., 1].copy(), matched, np.zeros(count, bool)
    )


def test_it_learns_which_place_is_right_and_what_is_no_object() -> None:
    examples = made_up()
    network, losses = fit(examples, BoxRecipe(batch=50, epochs=60, rate=0.01))
    assert losses["iou"] < 0.1
    step, change = network(torch.from_numpy(examples.features), torch.from_numpy(examples.places))
    true = torch.from_numpy(examples.true)
    assert (step - true).abs().mean() < 0.3 * true.abs().mean()
    assert change[examples.matched].min() > change[~examples.matched].max()


@pytest.mark.parametrize("turn", [0.0, np.pi / 2, np.pi, -np.pi / 2])
def test_true_faces_make_the_true_box(turn: float) -> None:
    true = np.array([0.3, -0.2, 0.5, 0.4, 0.8, 1.0, 0.7])
    box = np.array([0.2, 0.0, 0.6, 0.5, 0.5, 0.9, 0.7 + turn])
    faces = true_faces(box, true)
    assert rotated_iou(moved(box[None], faces[None]), true[None])[0, 0] == pytest.approx(1)


def test_overlap_is_the_iou_of_moved_boxes() -> None:
    rng = np.random.default_rng(0)
    boxes = np.column_stack([rng.normal(size=(20, 3)), rng.uniform(0.3, 1, (20, 3)), rng.uniform(-3, 3, 20)])
    steps = rng.normal(0, 0.05, (2, 20, 3, 2))
    found = overlap(*(torch.from_numpy(values) for values in (boxes[:, 3:6], *steps)))
    exact = rotated_iou(moved(boxes, steps[0]), moved(boxes, steps[1])).diagonal()
    np.testing.assert_allclose(found, exact, atol=1e-6)


def test_mirroring_swaps_left_and_right() -> None:
    values = torch.arange(6.0).reshape(1, 3, 2)
    assert mirrored(values).flatten().tolist() == [1, 0, 2, 3, 4, 5]


def test_corrupted_instances_are_mostly_their_own() -> None:
    rng = np.random.default_rng(0)
    xyz = np.concatenate([rng.uniform(0, 1, (3000, 3)) * [4, 4, 0.01], rng.uniform(1, 1.5, (1000, 3)) - [0, 0, 1]])
    instance = np.repeat([0, 1], [3000, 1000])
    ways = [corrupted(np.random.default_rng(seed), xyz, instance) for seed in range(12)]
    assert all(set(np.unique(found)) <= {0, 1} for found in ways)
    lost = [(found[3000:] == 0).mean() for found in ways]
    gained = [(found[:3000] == 1).mean() for found in ways]
    assert max(lost) > 0.02 and max(gained) > 0.002 and np.median(lost) < 0.5
    np.testing.assert_array_equal(instance, np.repeat([0, 1], [3000, 1000]))


def test_examples_of_a_room() -> None:
    """Its objects are there in exact and in rough clouds, and their true faces make better boxes."""
    torch.set_num_threads(1)
    found = box_examples(910_000, load_network().network)
    count = len(found.boxes)
    assert found.places.shape == (count, 3, 2, PLACES) and found.features.shape == (count, 3, 2, FEATURES)
    assert all(np.isfinite(values).all() for values in vars(found).values())
    assert found.rough.any() and not found.rough.all() and 0.3 < found.matched.mean() < 1
    assert np.median(np.abs(found.true[found.matched])) < 0.05


def test_an_interrupted_training_makes_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def examples(seed: int, network: object) -> BoxExamples:
        made.append(seed)
        return made_up(40)

    monkeypatch.setattr(train_boxes, "box_examples", examples)
    for rooms in (1, 3):
        TrainBoxes(tmp_path / "faces.safetensors", tmp_path / "work", rooms=rooms).main()
    assert made == [910_000, 910_001, 910_002]
    with safe_open(SHIPPED, "numpy") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}
        save_file(weights, tmp_path / "head.safetensors", {**file.metadata(), "other": "bits"})
    TrainBoxes(tmp_path / "b.safetensors", tmp_path / "work", rooms=1, weights=tmp_path / "head.safetensors").main()
    assert made == [910_000, 910_001, 910_002, 910_000], "another head says other things of the same rooms"
    assert load_faces(tmp_path / "faces.safetensors").width == BoxRecipe.width
    assert '"objects": 120' in (tmp_path / "faces.json").read_text()
