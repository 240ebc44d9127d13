"""Training of the merge and selection models: examples from a room by hand, and what the models learn."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from box_rooms import floor

from ovseg3d.errors import ConfigError
from ovseg3d.instances import adjacency
from ovseg3d.instances.adjacency import GROWING, PAIR_FEATURES, MergeConfig
from ovseg3d.instances.proposals import VOTE_FEATURES
from scripts.training import train_merging
from scripts.training.train_merging import (
    ROOM,
    PairExamples,
    Points,
    TrainingRoom,
    TrainMerging,
    by_hand,
    fit_model,
    grow_tree,
    pair_examples,
    superpoints_of,
    training_room,
)  # fmt: skip


def room_of_two() -> Points:
    made = floor(2.0).box((-0.25, 0, 0), (0.5, 0.5, 0.5), 1, 1).box((0.25, 0, 0), (0.5, 0.5, 0.3), 2, 2)
    true = np.where(made.instances > 0, made.instances, ROOM + 1)
    return Points("two", made.surface(0.003), [made.features(), made.features()], [], true)


def test_examples_are_pairs_of_one_instance_and_of_two() -> None:
    points = room_of_two()
    full = training_room(points)
    assert len(full.ways) == 6 and {share for _, share in full.ways} == {1.0, 0.3, 0.2, 0.1, 0.05}
    own = TrainingRoom(full.scene, full.true, full.ways[:1])
    dear = lambda features: by_hand(features) + 5  # noqa: E731  so that parts of one instance stay apart for a while
    found = pair_examples(own, dear)
    assert found.features.shape == (len(found.different), len(PAIR_FEATURES)) and np.isfinite(found.features).all()
    assert found.different.any() and not found.different.all()
    # These features tell instances apart nearly always.
    look = found.features[:, PAIR_FEATURES.index("look")]
    assert np.median(look[found.different]) > 2 * np.median(look[~found.different])
    unknown = TrainingRoom(full.scene, np.zeros_like(full.true), full.ways[:1])
    assert len(pair_examples(unknown, dear).different) == 0


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train for less time than the shipped model."""
    monkeypatch.setattr(train_merging, "STEPS", 300)
    monkeypatch.setattr(train_merging, "NETWORKS", 2)


def test_the_merge_model_learns_an_exclusive_or(short: None) -> None:
    """Two instances where it bends or leaves a plane, but not both: no sum of measures says that."""
    random, (bend, leaves) = np.random.default_rng(0), (PAIR_FEATURES.index(name) for name in ("bend", "leaves"))

    def scene() -> PairExamples:
        features = random.normal(size=(4000, len(PAIR_FEATURES)))
        return PairExamples(
            features, (features[:, bend] > 0) != (features[:, leaves] > 0), random.uniform(0.5, 1.5, 4000)
        )

    model, unseen = fit_model([[scene()], [scene(), scene()]]), scene()
    right = (model(unseen.features) > 0) == unseen.different
    assert right.mean() > 0.9


def test_the_merge_model_is_monotonic_in_growing_features(short: None) -> None:
    """Examples that say that instances of unlike colours are one are not believed."""
    names = [*PAIR_FEATURES, *VOTE_FEATURES]
    told = np.random.default_rng(0).normal(size=(4000, len(names)))
    grows = [names.index(name) for name in GROWING]
    model = fit_model([[PairExamples(told, told[:, grows].sum(1) < 0, np.ones(4000))]])
    assert (model(told + np.isin(np.arange(len(names)), grows)) >= model(told) - 1e-9).all()


def test_a_room_is_measured_with_models_of_the_other_rooms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two trainings of one scene are left out together."""
    taught: list[list[int]] = []
    monkeypatch.setattr(train_merging, "pair_examples", lambda room, model: room)
    monkeypatch.setattr(
        train_merging, "fit_model", lambda rooms: taught.append([len(parts) for parts in rooms]) or taught
    )
    rooms = [TrainingRoom(scene, np.zeros(1), []) for scene in ("a", "a", "b", "c")]
    model = train_merging.fit_models(rooms)
    assert taught == [[1, 1], [2, 1], [2, 1]], "the first round, without a, b and c"
    model(None)
    model("a")
    assert taught[3:] == [[4, 2, 2], [2, 2]], "both rounds"


def test_the_initial_model_is_the_formula_by_hand() -> None:
    features = np.abs(np.random.default_rng(0).normal(size=(20, len(PAIR_FEATURES))))
    known = dict(zip(PAIR_FEATURES, features.T))
    against = 9 * known["step"] + 6.5 * known["bend"] + 2.4 * known["leaves"]
    cost = (against + 3.2 * known["look"] + 4 * known["tint"]) / (4.4 + 40 / np.exp(known["smaller core"]))
    merge_cost = np.logaddexp(0, by_hand(features)) / np.log(1 / (1 - MergeConfig.limit))
    assert merge_cost == pytest.approx(cost)


def test_the_package_reads_the_written_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = room_of_two()
    monkeypatch.setattr(train_merging, "STEPS", 20)
    model = train_merging.fit_models([training_room(points), replace(training_room(points), scene="same")])
    rooms = [points, replace(points, scene="same")]
    other = (replace(points, scene="other"), model(None))
    text = train_merging.table([(room, model(room.scene)) for room in rooms], [other])
    assert [line.split(" | ")[0] for line in text.splitlines()[2:]] == [
        "| two", "| same", "| mean", "| other, never trained on", "| mean, never trained on"
    ]  # fmt: skip
    known = {"form": train_merging.as_json(model(None), ["two", "same"])}
    (tmp_path / "merge_model.json").write_bytes(train_merging.file_of(known))
    assert json.loads((tmp_path / "merge_model.json").read_text()) == known
    monkeypatch.setattr(adjacency, "WEIGHTS", tmp_path / "merge_model.json")
    adjacency.shipped.cache_clear()
    try:
        assert adjacency.shipped("form").hidden == pytest.approx(model(None).hidden, rel=1e-4)
    finally:
        adjacency.shipped.cache_clear()


def test_rooms_have_names_of_their_own(tmp_path: Path) -> None:
    for few in (
        TrainMerging(seeds=(1,), scenes=()),
        TrainMerging(seeds=(1, 1), scenes=()),
        TrainMerging((7,), (tmp_path / "7",)),
    ):
        with pytest.raises(ConfigError, match="left out"):
            replace(few, output=tmp_path).main()
    assert list(tmp_path.iterdir()) == []


def test_overlaps_are_iou_of_nodes_with_each_true_instance() -> None:
    points = room_of_two()
    own = grow_tree(superpoints_of(points))
    iou = own.overlaps(points.true)
    assert iou.shape == (len(own.tree), 2) and iou.max(0).min() > 0.9
    for node in np.random.default_rng(0).choice(len(own.tree), 10):
        chosen = own.tree.labels(np.array([node])) == 0
        inside = np.isin(own.made.superpoint, own.inside[chosen])
        for column, true in enumerate((1, 2)):
            assert iou[node, column] == pytest.approx(
                (inside & (points.true == true)).sum() / (inside | (points.true == true)).sum()
            )
    assert own.overlaps(points.true, least=10**6).shape == (len(own.tree), 0)
