"""Fitting the selection of nodes: what it learns, and that the package reads it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_train_merging import room_of_two

from ovseg3d.errors import ConfigError
from ovseg3d.instances import selection
from ovseg3d.instances.graph import MergeTree
from ovseg3d.instances.selection import FORM, HEAD
from scripts.training import train_selection
from scripts.training.train_selection import Nodes, TrainSelection, exact_nodes, fit, line, nodes_of


def room(seed: int, good: bool = True) -> Nodes:
    """Pairs of regions: an instance is one of two that are alike, or both if they differ; and noise."""
    random, count = np.random.default_rng(seed), 300
    features = random.normal(size=(3 * count, len(FORM) + len(HEAD)))
    tree = MergeTree(2 * count, np.arange(2 * count).reshape(-1, 2), np.ones(count), np.ones((count, 1)))
    right = (features[:, 0] * features[:, 1] > 0.5) if good else features[:, 0] > 9
    return Nodes(str(seed), tree, features, np.ones(3 * count, bool), np.where(right, 0.95, 0.1)[:, None])


def test_products_of_features_are_learnt() -> None:
    config, unseen = fit([room(1), room(2)]), room(3)
    assert config.head is not None and config.form is not None
    for model, told in ((config.head, unseen.features), (config.form, unseen.features[:, : len(FORM)])):
        assert ((model(told) > 0) == unseen.good).mean() > 0.85
        assert model.square[0, 1] > 2 * np.abs(np.delete(model.square.ravel(), 1)).max()


def test_a_row_has_recall_and_precision_of_both_models() -> None:
    config, own = fit([room(1), room(2)]), room(3)
    name, objects, most, *figures = line(own, config).strip("| ").split(" | ")
    assert (name, objects, most) == ("3", "1", "100.0%")
    assert all(figure.startswith("100.0%, ") for figure in figures)
    chosen = config.select(own.tree, own.features, own.allowed)
    assert figures[1] == f"100.0%, {own.good[chosen].mean():.1%} of {len(chosen)}"


def test_the_package_reads_what_was_fitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = room_of_two()
    monkeypatch.setattr(train_selection.TrainMerging, "made", lambda self, seed: replace(points, scene=str(seed)))
    TrainSelection(seeds=(1, 2), exact=(), output=tmp_path).main()
    monkeypatch.setattr(selection, "WEIGHTS", tmp_path / "selection.json")
    selection.shipped.cache_clear()
    try:
        rooms = [nodes for name in "12" for nodes in nodes_of(replace(points, scene=name))]
        config = fit(rooms)
        for name, model in (("form", config.form), ("head", config.head)):
            assert model is not None
            told = rooms[0].features[:, : len(model.mean)]
            assert selection.shipped(name)(told) == pytest.approx(model(told), rel=1e-2, abs=1e-2)
    finally:
        selection.shipped.cache_clear()
    assert json.loads((tmp_path / "selection.json").read_text())["rooms"] == ["1", "2"]


def test_exact_rooms_have_instances_and_three_kinds_of_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_selection, "POINTS", (4000, 6000))
    for seed in (3, 4):  # exact, and disturbed as a field is
        ways = exact_nodes(seed)
        assert len(ways) == 6 and all(own.weight < 1 and np.isfinite(own.features).all() for own in ways)
        assert ways[2].iou.max(0).mean() > 0.5 and 5 < ways[2].iou.shape[1] < 40
        assert (ways[2].quality <= 1).all() and ways[2].quality[ways[2].good].mean() > 0.1
        assert (ways[2].quality[~ways[2].good] == 0).all()
        assert [own.tree.regions for own in ways[1::2]] > [own.tree.regions for own in ways[::2]], "without a layout"


def test_rooms_are_two_and_different(tmp_path: Path) -> None:
    for seeds in ((1,), (1, 1)):
        with pytest.raises(ConfigError, match="left out"):
            TrainSelection(seeds=seeds, output=tmp_path).main()
