"""Fit which nodes of the merge tree are instances (`ovseg3d/instances/selection.py`).

    python -m scripts.training.train_selection
    python -m scripts.training.train_selection --tests outputs/playroom/latest      # measured as well

The examples are the nodes of merge trees, by the shipped merge model, in rooms furnished at random: 31 whose fields
are trained once, with the defaults of a CPU (as in `train_merging`, whose folder of rooms may be shared), and more
exact rooms, of which two in three are disturbed as fields are, with 15,000 to 150,000 points. Exact rooms have no
features, clear ones, or mostly wrong ones, so that the models know more than the shipped encoders and settings. All are
shown once more without a layout, since captures of other places have none.

What is learnt of a node is the share of IoU thresholds from 0.5 to 0.95 that it meets with a true instance. The models
are logistic regressions with weight decay, on features and their products; one with the detection head's proposals and
one without, each of the trees that grow with or without them. The result, OUTPUT/selection.json, replaces the package's
file.

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
from ovseg3d.field.surface import Surface
from ovseg3d.files import write_atomic
from ovseg3d.instances.graph import MergeTree, spacing
from ovseg3d.instances.grouping import InstanceConfig
from ovseg3d.instances.proposals import Proposals
from ovseg3d.instances.selection import FORM, HEAD, SelectionConfig, SelectionModel, node_features
from ovseg3d.instances.superpoints import Superpoints
from ovseg3d.session import load
from scripts.start import start
from scripts.training.detection_rooms import make_detection_room
from scripts.training.field_like import field_like
from scripts.training.train_merging import (
    HEAD_SEEDS,
    ROOM,
    Points,
    TrainMerging,
    blotched_features,
    clear_features,
    grow_tree,
    points_of,
    proposed,
    superpoints_of,
)  # fmt: skip

DECAY = 100.0
"""Weight decay: the inverse of the weights' variance, for standardised features."""
THRESHOLDS = 0.5, 0.95
"""Least and greatest threshold of IoU with a true instance."""
HEAD_ALONE = frozenset(str(seed) for seed in range(3201, 3227))
"""Rooms that the model without the head does not learn from: fitted to them, it cuts corners off plain boxes in the
tests' rooms."""
EXACT = 0.3
"""Weight of nodes of exact rooms; there are more of them."""
POINTS = 15_000, 150_000
"""Fewest and most points of an exact room."""


@dataclass(frozen=True)
class Nodes:
    """A merge tree of a room."""

    room: str
    tree: MergeTree
    features: np.ndarray
    """Of each node; with those of the head, if the tree grew with its votes."""
    allowed: np.ndarray
    """Which nodes have enough points."""
    iou: np.ndarray
    """Of each node with each true instance."""

    weight: float = 1.0
    """Of its nodes in training."""

    @property
    def head(self) -> bool:
        """Whether the head has a say."""
        return self.features.shape[1] > len(FORM)

    @property
    def good(self) -> np.ndarray:
        """Which nodes are instances at the least threshold."""
        return self.iou.max(1, initial=0) >= THRESHOLDS[0]

    @property
    def quality(self) -> np.ndarray:
        """Share of the thresholds that each node meets."""
        low, high = THRESHOLDS
        return ((self.iou.max(1, initial=0) - low) / (high - low)).clip(0, 1)


@dataclass(frozen=True)
class TrainSelection:
    """Fit the models, and write selection.json and a table."""

    seeds: tuple[int, ...] = HEAD_SEEDS
    """Rooms furnished at random, whose fields are trained."""
    exact: tuple[int, ...] = tuple(range(880_000, 880_012))
    """Exact rooms."""
    tests: tuple[Path, ...] = ()
    """Runs on other synthetic rooms to measure the models on."""
    output: Annotated[Path, tyro.conf.arg(metavar="FOLDER")] = Path("outputs/merging")

    def main(self) -> None:
        """Prepare missing rooms, fit, and measure."""
        if len(set(self.seeds)) < max(2, len(self.seeds)):
            raise ConfigError("Each room is left out once: there have to be two, all different", where="--seeds")
        make = TrainMerging(self.seeds, (), (), self.output)
        rooms = [nodes_of(make.made(seed)) for seed in self.seeds]
        exact = [nodes for seed in self.exact for nodes in exact_nodes(seed)]
        config = fit([*(nodes for room in rooms for nodes in room), *exact])
        kept = {"rooms": [room[0].room for room in rooms], "features": [*FORM, *HEAD]}
        kept |= {"form": _numbers(config.form), "head": _numbers(config.head)}
        write_atomic(self.output / "selection.json", (json.dumps(kept) + "\n").encode())
        print("| room | objects | nodes | by form alone | nodes | with the head |")
        print("| --- | --- | --- | --- | --- | --- |")
        for left_out in rooms:
            rest = [nodes for room in rooms if room is not left_out for nodes in room]
            print(line(left_out, fit([*rest, *exact])), flush=True)
        for run in self.tests:
            folder = load(run)
            path = self.output / "tests" / f"{folder.load_scene().path.name}.pkl"
            if not path.is_file():
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(path, pickle.dumps(points_of(folder, folder.load_scene().path.name)))
            print(line(nodes_of(pickle.loads(path.read_bytes())), config), flush=True)


def nodes_of(room: Points, weight: float = 1.0) -> list[Nodes]:
    """The merge trees of a room by the shipped merge models, without the head and with it: with the room's layout, then
    without one."""
    made, proposals = superpoints_of(room), proposed(room)
    nothing = np.zeros(len(made.weight), np.int64)
    bare = replace(made, plane=nothing, kind=nothing)
    return [
        _nodes(room, superpoints, said, share)
        for superpoints, share in ((made, weight), (bare, EXACT))
        for said in (None, proposals)
    ]


def _nodes(room: Points, made: Superpoints, proposals: Proposals | None, weight: float) -> Nodes:
    own = grow_tree(made, proposals=proposals)
    features = node_features(own.tree, own.inside, own.made, own.layout, proposals)
    allowed = own.sums(np.arange(len(room.true))) >= InstanceConfig.least
    return Nodes(room.scene, own.tree, features, allowed, own.overlaps(room.true), weight)


def exact_nodes(seed: int) -> list[Nodes]:
    """The merge trees of an exact room without features, with clear ones, and with mostly wrong ones."""
    rng = np.random.default_rng(seed)
    room = make_detection_room(seed, int(np.exp(rng.uniform(*np.log(POINTS)))))
    points = room.xyz, room.normal / np.float32(127), room.rgb / np.float32(255), room.instance.astype(np.int64)
    xyz, normal, rgb, instance = field_like(rng, *points) if rng.integers(3) else points
    surface = Surface(
        xyz=xyz,
        normal=(normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)).astype(np.float32),
        rgb=np.round(255 * rgb).astype(np.uint8),
        confidence=np.full(len(xyz), 0.75, np.float32),
        cell=np.full(len(xyz), 0.75 * np.median(spacing(xyz.astype(np.float64))), np.float32),
        up=np.array([0.0, 0.0, 1.0]),
        metric=True,
    )
    true = np.where(instance > 0, instance, ROOM + 1)
    clear = clear_features(true)
    wrong = blotched_features(xyz, clear)
    ways = [], [clear], [wrong, wrong]
    rooms = [Points(str(seed), surface, features, [], true) for features in ways]
    return [nodes for room in rooms for nodes in nodes_of(room, EXACT)]


def fit(rooms: Sequence[Nodes]) -> SelectionConfig:
    """Logistic regressions on the nodes of rooms."""
    return SelectionConfig(
        form=_fitted([room for room in rooms if not room.head and room.room not in HEAD_ALONE]),
        head=_fitted([room for room in rooms if room.head]),
    )


def _fitted(rooms: Sequence[Nodes]) -> SelectionModel:
    features, quality = (np.concatenate([getattr(r, n)[r.allowed] for r in rooms]) for n in ("features", "quality"))
    weight = np.concatenate([np.full(room.allowed.sum(), room.weight) for room in rooms])
    count = features.shape[1]
    mean = np.average(features, axis=0, weights=weight)
    deviation = np.sqrt(np.average((features - mean) ** 2, axis=0, weights=weight)) + 1e-6
    model = SelectionModel(mean, deviation, np.zeros(count), np.zeros((count, count)), 0.0)
    products = PolynomialFeatures(2, include_bias=False).fit_transform(model.scaled(features))
    # An example of some quality is one that is good, and one that is not, with that share of its weight.
    good, bad = quality > 0, quality < 1
    fitted = LogisticRegression(C=1 / DECAY, max_iter=300, solver="newton-cholesky").fit(
        np.concatenate([products[good], products[bad]]),
        np.repeat([True, False], [good.sum(), bad.sum()]),
        np.concatenate([(weight * quality)[good], (weight * (1 - quality))[bad]]),
    )
    linear, upper = np.split(fitted.coef_[0], [count])
    square = np.zeros((count, count))
    square[np.triu_indices(count)] = upper
    return replace(model, linear=linear, square=square, offset=float(fitted.intercept_[0]))


def _numbers(model: SelectionModel | None) -> dict[str, Any]:
    """Weights as JSON, rounded."""
    assert model is not None, "both are fitted"
    rounded: Callable[[Any], Any] = np.vectorize(lambda value: float(f"{value:.5g}"))
    return {name: rounded(value).tolist() for name, value in vars(model).items()}


def line(room: Sequence[Nodes], config: SelectionConfig) -> str:
    """Best choice of nodes, recall and precision of a room without the head and with it, as a row of the table."""
    cells = [room[0].room, str(room[0].iou.shape[1])]
    for own in room[:2]:
        chosen = config.select(own.tree, own.features, own.allowed)
        recall = (own.iou[chosen].max(0, initial=0) >= THRESHOLDS[0]).mean()
        most = (own.iou.max(0) >= THRESHOLDS[0]).mean()
        cells += [f"{most:.1%}", f"{recall:.1%}, {own.good[chosen].mean():.1%} of {len(chosen)}"]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    start(TrainSelection)
