"""Fit what the detection head's proposals say of groups (`ovseg3d/instances/proposals.py`).

    python -m scripts.training.train_proposals
    python -m scripts.training.train_proposals --tests outputs/playroom/latest      # measured as well

Rooms are furnished at random; the field of each is trained once, with all defaults, as in `train_merging`, whose
folder of rooms may be shared. Their groups, by the shipped merge and objectness models, are the examples: a group is an
instance if it has an IoU of at least 0.5 with a true one. The model is a logistic regression with weight decay; the
result, OUTPUT/proposals.json, replaces the package's file.

The table: recall and precision of groups at point IoU 0.5, without and with the head's proposals; in rooms of the
training by a model that the room was left out of, and in test rooms, which are never trained on.
"""

import json
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from ovseg3d.errors import ConfigError
from ovseg3d.files import write_atomic
from ovseg3d.instances.grouping import InstanceConfig, find_instances
from ovseg3d.instances.objectness import ObjectnessConfig, shipped
from ovseg3d.instances.proposals import FEATURES, ProposalConfig, ProposalModel, group_features
from ovseg3d.pipeline.semantics import propose
from ovseg3d.session import load
from scripts.start import start
from scripts.training.train_merging import Points, Teach, overlaps, points_of

DECAY = 3.0
"""Inverse of the weight decay's variance, for standardised features."""
GOOD = 0.5
"""IoU with a true instance from which a group is an instance."""


@dataclass(frozen=True)
class Groups:
    """The groups of a room."""

    room: str
    told: np.ndarray
    """Features of each."""
    iou: np.ndarray
    """Of each with each true instance."""

    @property
    def good(self) -> np.ndarray:
        """Which are instances."""
        return self.iou.max(1, initial=0) >= GOOD


@dataclass(frozen=True)
class TrainProposals:
    """Fit the model, and write proposals.json and a table."""

    seeds: tuple[int, ...] = (3041, 3042, 3043, 3044, 3045)
    """Rooms furnished at random."""
    tests: tuple[Path, ...] = ()
    """Runs on other synthetic rooms to measure the model on."""
    output: Annotated[Path, tyro.conf.arg(metavar="FOLDER")] = Path("outputs/merging")

    def main(self) -> None:
        """Prepare missing rooms, fit, and measure."""
        if len(set(self.seeds)) < max(2, len(self.seeds)):
            raise ConfigError("Each room is left out once: there have to be two, all different", where="--seeds")
        make = Teach(self.seeds, (), (), self.output)
        rooms = [groups_of(make.made(seed)) for seed in self.seeds]
        model = fit(rooms)
        kept = {"features": list(FEATURES), "rooms": [room.room for room in rooms]}
        kept |= {name: np.round(getattr(model, name), 5).tolist() for name in ("mean", "deviation", "linear", "offset")}
        lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in kept.items()]
        write_atomic(self.output / "proposals.json", ("{\n" + ",\n".join(lines) + "\n}\n").encode())
        print("| room | objects | recall, precision | with proposals |\n| --- | --- | --- | --- |")
        for left_out in rooms:
            print(line(left_out, fit([room for room in rooms if room is not left_out])), flush=True)
        for run in self.tests:
            folder = load(run)
            path = self.output / "tests" / f"{folder.load_scene().path.name}.pkl"
            if not path.is_file():
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(path, pickle.dumps(points_of(folder, folder.load_scene().path.name)))
            print(line(groups_of(pickle.loads(path.read_bytes())), model), flush=True)


def groups_of(room: Points) -> Groups:
    """The groups of a room by the shipped models, none of them rejected."""
    told: list[np.ndarray] = []

    def all_of_them(features: np.ndarray) -> np.ndarray:
        told.append(features)
        return np.full(len(features), np.inf)

    config = InstanceConfig(objectness=ObjectnessConfig(evaluator=all_of_them))
    found = find_instances(
        room.surface, room.appearance, visibilities=room.visibilities, regions=room.regions, config=config
    )
    proposals = propose(room.surface, 1.0)
    assert proposals is not None, "synthetic rooms are metric, and have points"
    features = group_features(found.ids, shipped()(told[0]), proposals)
    return Groups(room.scene, features, overlaps(found.ids, room.true))


def fit(rooms: Sequence[Groups]) -> ProposalModel:
    """Logistic regression on the groups of rooms."""
    told, good = np.concatenate([room.told for room in rooms]), np.concatenate([room.good for room in rooms])
    mean, deviation = told.mean(0), told.std(0) + 1e-6
    fitted = LogisticRegression(C=1 / DECAY).fit((told - mean) / deviation, good)
    return ProposalModel(mean, deviation, fitted.coef_[0], float(fitted.intercept_[0]))


def line(room: Groups, model: ProposalModel) -> str:
    """Recall and precision without and with proposals, as a row of the table."""

    def figures(instance: np.ndarray) -> str:
        recall = (room.iou[instance].max(0, initial=0) >= GOOD).mean()
        return f"{recall:.1%}, {room.good[instance].mean():.1%} of {instance.sum()}"

    before = expit(room.told[:, 0]) >= ObjectnessConfig().least
    after = ProposalConfig(model=model).instances(room.told)
    return f"| {room.room} | {room.iou.shape[1]} | {figures(before)} | {figures(after)} |"


if __name__ == "__main__":
    start(TrainProposals)
