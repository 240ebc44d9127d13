"""Train the merge model (`ovseg3d/instances/adjacency.py`): do two surface regions belong to one instance?

    python -m scripts.training.train_merging                                 # rooms of 21 seeds, and desk
    python -m scripts.training.train_merging --tests outputs/playroom/latest # measured as well, on runs of other rooms
    python -m scripts.training.train_merging --head                          # the model with the detection head's votes

Rooms are furnished at random. The field of each is trained once, with all defaults, into OUTPUT/<seed>. Surface points
with lifted features are kept in OUTPUT/<seed>/points.pkl, so that an interrupted command can be continued. They are not
checked: remove OUTPUT after a change of the encoders.

Superpoints are merged step by step, first by a hand-made formula, then by a network trained on these steps. Each pair
of regions on the way is a training example, if both are mostly of one true instance each. To cover other runs and
encoders, some examples lack features or photo regions, some have features that separate instances more clearly than
the built-in encoders', and some have mostly wrong features. The result, OUTPUT/merge_model.json, is the package's file
with the trained model in it, and replaces that file; then `train_selection` has to be run.

The model with votes learns from other rooms, which the detection head has never seen. `train_selection` takes the same.

The table is of rooms that were not trained on: each is left out once (in the second round, pairs in the other rooms
were chosen by networks that had seen it), and tests are never trained on. IoU: mean over true instances of that with
the best node of the merge tree; recall: share with 0.5; by hand: with the formula.
"""

import json
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from scipy.spatial import cKDTree
from scipy.special import logit

from ovseg3d.cli.console import get_console
from ovseg3d.cli.progress import Progress
from ovseg3d.errors import ConfigError
from ovseg3d.evaluate.measure import exact_cloud, limit_of, read_objects
from ovseg3d.features.encode import encode_scene
from ovseg3d.field.surface import Surface, Visibility
from ovseg3d.files import read_json, write_atomic
from ovseg3d.instances.adjacency import GROWING, PAIR_FEATURES, WEIGHTS, MergeConfig, MergeCost, MergeModel
from ovseg3d.instances.graph import MergeTree, add_up, agglomerate
from ovseg3d.instances.grouping import InstanceConfig, grow, region_means
from ovseg3d.instances.proposals import VOTE_FEATURES, Proposals
from ovseg3d.instances.superpoints import Superpoints, find_superpoints
from ovseg3d.pipeline.semantics import appearances, lift_photos, proposals_of, segment, survey
from ovseg3d.pipeline.train import train_scene
from ovseg3d.runs.devices import resolve_device
from ovseg3d.runs.fields import restore
from ovseg3d.runs.folder import RunFolder, open_scene
from ovseg3d.runs.settings import make_config
from ovseg3d.session import load
from ovseg3d.synth import synthesise
from scripts import ROOT
from scripts.start import start

STAGES = (0.1, 0.2, 0.35, 0.5, 0.7, 0.85, 1.0)
"""Merge costs up to which superpoints are merged before the remaining pairs are examples."""
LIMIT = 0.15
"""See `MergeConfig`, while examples are gathered."""
PURE = 0.7
"""Least share of a region's points of one instance for it to be an example."""
SIZE = 0.9
"""Examples are weighted by this power of the points of the smaller region."""
LACKING, CLEARER, ALONE, BLOTCHED = 0.3, 0.2, 0.05, 0.1
"""Weights of examples with missing features, with clearer ones, with nothing but these, and with mostly wrong ones."""
CLEAN = 16
"""Dimension of the simulated clear features."""
BLOTCH, WRONG = 0.15, 1.5
"""Size of wrong regions, as a share of the room's diagonal, and strength relative to the right features."""
FORM_SEEDS = (3002, 3003, *range(3010, 3020), *range(3022, 3031))
"""Rooms furnished at random, for the model without votes..."""
HEAD_SEEDS = (*range(3041, 3046), *range(3201, 3227))
"""...and for the one with votes."""
HIDDEN, NETWORKS, STEPS, BATCH, RATE, DECAY = 32, 6, 600, 2048, 1e-2, 1e-2


@dataclass(frozen=True)
class Points:
    """A room's surface points with features and ground truth."""

    scene: str
    surface: Surface
    appearance: list[np.ndarray]
    visibilities: list[Visibility]
    true: np.ndarray
    """The instance of each point, from 1; kinds of the room from ROOM on; 0: unknown."""


ROOM = 1_000_000


@dataclass(frozen=True)
class TrainMerging:
    """Train on rooms, and write merge_model.json and a table."""

    seeds: tuple[int, ...] | None = None
    """Rooms furnished at random; None: those that the shipped model learnt from."""
    scenes: tuple[Path, ...] | None = None
    """Existing rooms; None: the desk, for the model without votes. Playroom is excluded, since results are reported on
    it."""
    tests: tuple[Path, ...] = ()
    """Runs on other synthetic rooms to measure the trained models on."""
    output: Annotated[Path, tyro.conf.arg(metavar="FOLDER")] = Path("outputs/merging")
    head: bool = False
    """Train the model with the detection head's votes."""

    def main(self) -> None:
        """Prepare missing rooms, train, and measure."""
        seeds, scenes = self.seeds, self.scenes
        if seeds is None:
            seeds = HEAD_SEEDS if self.head else FORM_SEEDS
        if scenes is None:
            scenes = () if self.head else (ROOT / "scenes/desk",)
        names = [*(str(seed) for seed in seeds), *(scene.resolve().name for scene in scenes)]
        if len(set(names)) < max(2, len(names)):
            raise ConfigError(
                "Each room is left out once: there have to be two, with names of their own", where="--seeds"
            )
        tests = [load(run) for run in self.tests]
        rooms = [self.made(seed) for seed in seeds]
        rooms += [self._of(scene.resolve().name, scene) for scene in scenes]
        model_without = fit_models([training_room(room, self.head) for room in rooms])
        full_model = model_without(None)
        models = {**read_json(WEIGHTS), "head" if self.head else "form": as_json(full_model, names)}
        write_atomic(self.output / "merge_model.json", file_of(models))
        print(f"wrote {self.output / 'merge_model.json'}", flush=True)
        rest = [points_of(run, run.load_scene().path.name) for run in tests]
        text = table(
            [(room, model_without(room.scene)) for room in rooms], [(room, full_model) for room in rest], self.head
        )
        write_atomic(self.output / "table.md", text.encode())
        print(f"\n{text}")

    def made(self, seed: int) -> Points:
        """The points of a room, which is made and trained if that was not done before."""
        place = self.output / str(seed)
        if not (place / "points.pkl").exists() and not (place / "room/transforms.json").exists():
            synthesise(place / "room", seed=seed)
        return self._of(str(seed), place / "room")

    def _of(self, name: str, scene: Path) -> Points:
        path = self.output / name / "points.pkl"
        if not path.exists():
            write_atomic(path, pickle.dumps(points_of(self._run(scene, self.output / name / "run"), name)))
        return pickle.loads(path.read_bytes())

    def _run(self, scene: Path, folder: Path) -> RunFolder:
        # A field as a CPU trains it, wherever it is trained.
        train = {"device": resolve_device("auto")}
        config = replace(make_config("cpu", flags={"train": train}), only="field,features")
        run = load(folder) if (folder / "config.json").exists() else None
        if run is not None and run.status()["status"] == "done":
            return run
        with Progress(get_console(True)) as progress:
            return train_scene(open_scene(scene, config), config, output_dir=folder, report=progress, resume=run)


def points_of(run: RunFolder, name: str) -> Points:
    """A run's surface as the stage `semantics` has it before grouping."""
    scene = run.load_scene()
    features = encode_scene(scene, run.config.encode)
    renderer = restore(run, scene)
    found = survey(scene, renderer)
    assert features is not None and found is not None, "nobody stops it"
    surface, visibilities = found
    vectors = lift_photos(scene, surface, visibilities, features, run.config.train.seed)[2]
    appearance = appearances(scene, surface, vectors, features, visibilities)
    truth = exact_cloud(scene)
    far, nearest = cKDTree(truth.xyz).query(surface.xyz.astype(np.float64))
    true = np.where(truth.instance[nearest] > 0, truth.instance[nearest], ROOM + truth.label[nearest].astype(np.int64))
    instances = {int(instance["id"]) for instance in read_objects(scene)}
    true[(far > limit_of(truth)) | ~(np.isin(true, list(instances)) | (true > ROOM))] = 0
    return Points(name, surface, appearance, visibilities, true)


def by_hand(features: np.ndarray, limit: float = MergeConfig.limit) -> np.ndarray:
    """Log odds of two instances before any training, such that merge costs follow a hand-made formula."""
    known = dict(zip(PAIR_FEATURES, features.T))
    against = 9 * known["step"] + 6.5 * known["bend"] + 2.4 * known["leaves"]
    cost = (against + 3.2 * known["look"] + 4 * known["tint"]) / (4.4 + 40 / np.exp(known["smaller core"]))
    cost = np.maximum(cost, 1e-9) * np.logaddexp(0, logit(limit))
    return cost + np.log(-np.expm1(-cost))


@dataclass(frozen=True)
class PairExamples:
    """Training examples: pairs of regions."""

    features: np.ndarray
    """Edge features, see `pair_features`: (pairs, features)."""
    different: np.ndarray
    """Whether the regions are of different instances: (pairs,)."""
    weight: np.ndarray


@dataclass(frozen=True)
class TrainingRoom:
    """A room's superpoints, with all features and with fewer or simulated ones."""

    scene: str
    true: np.ndarray
    ways: list[tuple[Superpoints, float]]
    """With the weight of their examples."""
    proposals: Proposals | None = None


def proposed(points: Points) -> Proposals:
    """What the detection head says of a room, in metres."""
    said = segment(points.surface, 1.0)
    assert said is not None, "synthetic rooms are metric, and have points"
    return proposals_of(said)


def training_room(points: Points, head: bool = False) -> TrainingRoom:
    """Superpoints of a room, and what the head says of it."""
    clean = clear_features(points.true)
    clearer = [np.concatenate([_unit(features), clean], 1) for features in points.appearance]
    ways = [
        (points.appearance, 1.0),
        (points.appearance[:1], LACKING),
        ([], LACKING),
        (clearer, CLEARER),
        ([clean], ALONE),
        ([blotched_features(points.surface.xyz, features) for features in points.appearance], BLOTCHED),
    ]
    made = [(find_superpoints(points.surface, features), share) for features, share in ways]
    return TrainingRoom(points.scene, points.true, made, proposed(points) if head else None)


def clear_features(true: np.ndarray) -> np.ndarray:
    """Features of a simulated encoder that separates all instances: a vector for each, and noise."""
    random = np.random.default_rng(0)
    names, number = np.unique(true, return_inverse=True)
    said = random.normal(size=(len(names), CLEAN)).astype(np.float32)[number]
    return _unit(said + 0.3 * random.normal(size=said.shape))


def blotched_features(xyz: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Features of a simulated encoder that is mostly wrong, in cells as large as furniture."""
    low, high = np.percentile(xyz, (5, 95), axis=0)
    cell = np.floor((xyz - low) / (BLOTCH * np.linalg.norm(high - low))).astype(np.int64)
    _, number = np.unique(cell, axis=0, return_inverse=True)
    said = np.random.default_rng(0).normal(size=(number.max() + 1, features.shape[1]))
    return _unit(_unit(features) + WRONG * _unit(said)[number.ravel()]).astype(np.float32)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def pair_examples(room: TrainingRoom, model: Callable[[np.ndarray], np.ndarray]) -> PairExamples:
    """The pairs of regions that occur while a room's superpoints are merged by a model."""
    config, head = MergeConfig(LIMIT, model, model), room.proposals
    return _together([
        _steps(room.true, made, MergeCost(config, made.first, head is not None), share, head)
        for made, share in room.ways
    ])  # fmt: skip


def _steps(true: np.ndarray, made: Superpoints, cost: MergeCost, share: float, head: Proposals | None) -> PairExamples:
    names, number = np.unique(true, return_inverse=True)
    known = np.zeros((len(made.weight), len(names)))
    np.add.at(known, (made.superpoint, number), 1)
    contacts, weight, means, found = made.contacts, made.weight, region_means(made, head), []
    for stage in STAGES:
        group = agglomerate(contacts, weight, means, cost, stage)
        count = int(group.max()) + 1
        known, size = add_up(known, group, count), np.bincount(group, weight, count)
        means = add_up(means * weight[:, None], group, count) / size[:, None]
        contacts, weight = contacts.merged(group, count), size
        usual, pure = known.argmax(1), known.max(1) / known.sum(1)
        good = ((pure > PURE) & (names[usual] > 0))[contacts.pair].all(1)
        a, b = contacts.pair[good].T
        features = cost.inputs(contacts, weight, means)[good]
        found.append(PairExamples(features, usual[a] != usual[b], share * np.minimum(weight[a], weight[b]) ** SIZE))
    return _together(found)


def _together(parts: Sequence[PairExamples]) -> PairExamples:
    return PairExamples(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ("features", "different", "weight"))
    )


def fit_model(rooms: Sequence[Sequence[PairExamples]]) -> MergeModel:
    """Train a merge model; each scene has the same weight."""
    scenes = [_together(parts) for parts in rooms]
    every = _together([replace(one, weight=one.weight / one.weight.sum()) for one in scenes])
    mean, deviation = every.features.mean(0), every.features.std(0) + 1e-6
    scaled = ((every.features - mean) / deviation).astype(np.float32)
    chance, hidden, output, offset, direct = every.weight / every.weight.sum(), [], [], 0.0, np.zeros(len(mean))
    for seed in range(NETWORKS):
        torch.manual_seed(seed)
        rows = np.random.default_rng(seed).choice(len(scaled), (STEPS, BATCH), p=chance)
        hidden_layer, output_layer = torch.nn.Linear(scaled.shape[1], HIDDEN), torch.nn.Linear(HIDDEN, 1)
        direct_way = torch.nn.Linear(scaled.shape[1], 1, bias=False)
        parameters = [*hidden_layer.parameters(), *output_layer.parameters(), *direct_way.parameters()]
        optimiser = torch.optim.AdamW(parameters, lr=RATE, weight_decay=DECAY)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
        grows = torch.tensor([name in GROWING for name in names_of(scaled)])
        for own in rows:
            x = torch.from_numpy(scaled[own])
            said = (output_layer(torch.tanh(hidden_layer(x))) + direct_way(x))[:, 0]
            different = torch.from_numpy(every.different[own].astype(np.float32))
            loss = torch.nn.functional.binary_cross_entropy_with_logits(said, different)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            with torch.no_grad():  # weights above 0 keep the output monotonic in the growing features
                output_layer.weight.clamp_(min=0)
                for layer in (hidden_layer, direct_way):
                    layer.weight[:, grows] = layer.weight[:, grows].clamp(min=0)
        into, before, out, after, past = (value.detach().numpy().astype(np.float64) for value in parameters)
        hidden.append(np.concatenate([into.T, before[None]]))
        output.append(out[0] / NETWORKS)
        offset += float(after[0]) / NETWORKS
        direct += past[0] / NETWORKS
    return MergeModel(mean, deviation, np.concatenate(hidden, 1), np.append(np.concatenate(output), offset), direct)


def names_of(features: np.ndarray) -> list[str]:
    """Names of the columns, with votes or without."""
    return [*PAIR_FEATURES, *VOTE_FEATURES][: features.shape[1]]


def fit_models(rooms: Sequence[TrainingRoom]) -> Callable[[str | None], MergeModel]:
    """Train in two rounds; returns a function from a left-out scene (or None) to its merge model."""
    names = list(dict.fromkeys(room.scene for room in rooms))
    rounds = [[pair_examples(room, partial(by_hand, limit=LIMIT)) for room in rooms]]

    def model_without(left_out: str | None) -> MergeModel:
        return fit_model([
            [one[k] for one in rounds for k, room in enumerate(rooms) if room.scene == name]
            for name in names if name != left_out
        ])  # fmt: skip

    first = {name: model_without(name) for name in names}
    rounds.append([pair_examples(room, first[room.scene]) for room in rooms])
    return model_without


@dataclass(frozen=True)
class GrownTree:
    """The merge tree of a room."""

    made: Superpoints
    layout: np.ndarray
    inside: np.ndarray
    """The tree's superpoints."""
    tree: MergeTree

    def sums(self, points: np.ndarray) -> np.ndarray:
        """How many of some points each node has."""
        own = np.bincount(self.made.superpoint[points], minlength=len(self.layout))
        return self.tree.sums(own[self.inside, None].astype(np.float64))[:, 0]

    def overlaps(self, true: np.ndarray, least: int = InstanceConfig.least) -> np.ndarray:
        """IoU of each node with each true instance of at least `least` points."""
        there, count = np.unique(true[(true > 0) & (true < ROOM)], return_counts=True)
        size, found = self.sums(np.arange(len(true))), []
        for instance, total in zip(there[count >= least], count[count >= least], strict=True):
            common = self.sums(np.flatnonzero(true == instance))
            found.append(common / (size + total - common))
        return np.stack(found, 1) if found else np.zeros((len(size), 0))


def superpoints_of(room: Points) -> Superpoints:
    """Superpoints of a room, with all that is known of it."""
    return find_superpoints(room.surface, room.appearance)


def grow_tree(
    made: Superpoints,
    model: Callable[[np.ndarray], np.ndarray] | None = None,
    proposals: Proposals | None = None,
) -> GrownTree:
    """The merge tree of superpoints by a merge model, by default the shipped one."""
    merge = MergeConfig(form=model, head=model)
    return GrownTree(made, *grow(made, InstanceConfig(merge=merge), proposals))


def as_json(learnt: MergeModel, rooms: Sequence[str]) -> dict[str, Any]:
    """The content of the package's file."""
    rounded = np.vectorize(lambda value: float(f"{value:.5g}"))
    weights = {name: rounded(value).tolist() for name, value in vars(learnt).items()}
    return {"features": names_of(learnt.mean[None]), "rooms": list(rooms), **weights}


def file_of(models: dict[str, dict[str, Any]]) -> bytes:
    """The package's file: a line for each array."""
    parts = []
    for name, model in models.items():
        lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in model.items()]
        parts.append(f"{json.dumps(name)}: {{\n" + ",\n".join(lines) + "\n}")
    return ("{\n" + ",\n".join(parts) + "\n}\n").encode()


Measured = Sequence[tuple[Points, Callable[[np.ndarray], np.ndarray]]]
"""Rooms, each with the merge model to measure on it."""


def table(rooms: Measured, tests: Measured, head: bool = False) -> str:
    """Quality of the merge trees of left-out rooms and of test rooms, as a markdown table."""
    titles = ["room", "instances", "IoU by hand", "learnt", "recall by hand", "learnt"]
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for kind, group in (("", rooms), (", never trained on", tests)):
        scores = []
        for room, model in group:
            made, proposals = superpoints_of(room), proposed(room) if head else None
            hand = grow_tree(made, by_hand).overlaps(room.true).max(0)
            best = grow_tree(made, model, proposals).overlaps(room.true).max(0)
            scores.append([len(best), hand.mean(), best.mean(), (hand > 0.5).mean(), (best > 0.5).mean()])
            lines.append(_line(f"{room.scene}{kind}", scores[-1]))
            print(lines[-1], flush=True)
        if scores:
            lines.append(_line(f"mean{kind}", np.mean(scores, 0)))
    return "\n".join([*lines, ""])


def _line(name: str, scores: Sequence[float]) -> str:
    shapes = (".0f", ".3f", ".3f", ".0%", ".0%")
    return f"| {name} | {' | '.join(format(score, shape) for score, shape in zip(scores, shapes, strict=True))} |"


if __name__ == "__main__":
    start(TrainMerging)
