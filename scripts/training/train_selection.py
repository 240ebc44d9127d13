"""Fit which nodes of the merge tree are instances (`ovseg3d/instances/selection.py`).

    python -m scripts.training.train_selection
    python -m scripts.training.train_selection --tests outputs/playroom/latest      # measured as well

Rooms are furnished at random; the field of each is trained once, with all defaults, as in `train_merging`, whose
folder of rooms may be shared. The nodes of their merge trees, by the shipped merge model, are the examples: a node is
an instance if it has an IoU of at least 0.5 with a true one. The models are logistic regressions with weight decay, on
features and their products; one with the detection head's proposals, one without. The result, OUTPUT/selection.json,
replaces the package's file.

The table: recall and precision of instances at point IoU 0.5, without and with the head's proposals, and the recall of
the best choice of nodes; in rooms of the training by models that the room was left out of, and in test rooms, which are
never trained on.
"""

import json
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import PolynomialFeatures

from ovseg3d.errors import ConfigError
from ovseg3d.files import write_atomic
from ovseg3d.instances.graph import MergeTree
from ovseg3d.instances.grouping import InstanceConfig
from ovseg3d.instances.selection import FORM, HEAD, SelectionConfig, SelectionModel, node_features
from ovseg3d.pipeline.semantics import propose
from ovseg3d.session import load
from scripts.start import start
from scripts.training.train_merging import Points, Teach, grown, points_of

DECAY = 100.0
"""Weight decay: the inverse of the weights' variance, for standardised features."""
GOOD = 0.5
"""IoU with a true instance from which a node is an instance."""


@dataclass(frozen=True)
class Nodes:
    """The merge tree of a room."""

    room: str
    tree: MergeTree
    features: np.ndarray
    """Of each node, with those of the head."""
    allowed: np.ndarray
    """Which nodes have enough points."""
    iou: np.ndarray
    """Of each node with each true instance."""

    @property
    def good(self) -> np.ndarray:
        """Which are instances."""
        return self.iou.max(1, initial=0) >= GOOD


@dataclass(frozen=True)
class TrainSelection:
    """Fit the models, and write selection.json and a table."""

    seeds: tuple[int, ...] = (3041, 3042, 3043, 3044, 3045)
    """Rooms furnished at random."""
    tests: tuple[Path, ...] = ()
    """Runs on other synthetic rooms to measure the models on."""
    output: Annotated[Path, tyro.conf.arg(metavar="FOLDER")] = Path("outputs/merging")

    def main(self) -> None:
        """Prepare missing rooms, fit, and measure."""
        if len(set(self.seeds)) < max(2, len(self.seeds)):
            raise ConfigError("Each room is left out once: there have to be two, all different", where="--seeds")
        make = Teach(self.seeds, (), (), self.output)
        rooms = [nodes_of(make.made(seed)) for seed in self.seeds]
        config = fit(rooms)
        kept = {"rooms": [room.room for room in rooms], "features": [*FORM, *HEAD]}
        kept |= {"form": _numbers(config.form), "head": _numbers(config.head)}
        write_atomic(self.output / "selection.json", (json.dumps(kept) + "\n").encode())
        print("| room | objects | nodes | without the head | with it |\n| --- | --- | --- | --- | --- |")
        for left_out in rooms:
            print(line(left_out, fit([room for room in rooms if room is not left_out])), flush=True)
        for run in self.tests:
            folder = load(run)
            path = self.output / "tests" / f"{folder.load_scene().path.name}.pkl"
            if not path.is_file():
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(path, pickle.dumps(points_of(folder, folder.load_scene().path.name)))
            print(line(nodes_of(pickle.loads(path.read_bytes())), config), flush=True)


def nodes_of(room: Points) -> Nodes:
    """The merge tree of a room by the shipped merge model."""
    own = grown(room)
    proposals = propose(room.surface, 1.0)
    assert proposals is not None, "synthetic rooms are metric, and have points"
    features = node_features(own.tree, own.inside, own.made, own.layout, proposals)
    allowed = own.sums(np.arange(len(room.true))) >= InstanceConfig.least
    return Nodes(room.scene, own.tree, features, allowed, own.overlaps(room.true))


def fit(rooms: Sequence[Nodes]) -> SelectionConfig:
    """Logistic regressions on the nodes of rooms."""
    features, good = (np.concatenate([getattr(r, n)[r.allowed] for r in rooms]) for n in ("features", "good"))
    return SelectionConfig(form=_fitted(features[:, : len(FORM)], good), head=_fitted(features, good))


def _fitted(features: np.ndarray, good: np.ndarray) -> SelectionModel:
    count = features.shape[1]
    model = SelectionModel(features.mean(0), features.std(0) + 1e-6, np.zeros(count), np.zeros((count, count)), 0.0)
    products = PolynomialFeatures(2, include_bias=False).fit_transform(model.scaled(features))
    fitted = LogisticRegression(C=1 / DECAY, max_iter=1000).fit(products, good)
    linear, upper = np.split(fitted.coef_[0], [count])
    square = np.zeros((count, count))
    square[np.triu_indices(count)] = upper
    return replace(model, linear=linear, square=square, offset=float(fitted.intercept_[0]))


def _numbers(model: SelectionModel) -> dict[str, Any]:
    """Weights as JSON, rounded."""
    rounded: Callable[[Any], Any] = np.vectorize(lambda value: float(f"{value:.5g}"))
    return {name: rounded(value).tolist() for name, value in vars(model).items()}


def line(room: Nodes, config: SelectionConfig) -> str:
    """Recall and precision of a room, as a row of the table."""

    def figures(features: np.ndarray) -> str:
        chosen = config.select(room.tree, features, room.allowed)
        recall = (room.iou[chosen].max(0, initial=0) >= GOOD).mean()
        return f"{recall:.1%}, {room.good[chosen].mean():.1%} of {len(chosen)}"

    most = (room.iou.max(0) >= GOOD).mean()
    without, with_head = figures(room.features[:, : len(FORM)]), figures(room.features)
    return f"| {room.room} | {room.iou.shape[1]} | {most:.1%} | {without} | {with_head} |"


if __name__ == "__main__":
    start(TrainSelection)
