"""The loss curves of all trainings that may have several processes, on tiny models and data.

`torchrun --nproc-per-node 2 tests/scripts/loss_curves.py FOLDER` writes those of two processes to FOLDER/curves.json.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

import test_train_depth
import test_train_detection
import test_train_pose
import test_train_synthesis
from test_training import HashTeacher, clip_training, dino_training

from ovseg3d.encoders import load_clip
from ovseg3d.heads.naming.towers import AlignedTower
from ovseg3d.synth.kinds import KINDS
from scripts.training import train_naming
from scripts.training.clip import ImageStage, TextStage
from scripts.training.depth_stage import DepthRecipe, DepthStage
from scripts.training.detection_rooms import load_detection_room
from scripts.training.detection_stage import DetectionRecipe
from scripts.training.dino import DinoStage
from scripts.training.distributed import World, join
from scripts.training.pose_stage import PoseRecipe, PoseStage
from scripts.training.synthesis_stage import SynthesisStage

Curves = dict[str, list[dict[str, float]]]
STEPS = 4


@contextmanager
def recorded(*stages: type[Any]) -> Iterator[Curves]:
    """The figures after every step of these classes of stages, by their names."""
    curves: Curves = defaultdict(list)
    with pytest.MonkeyPatch.context() as patch:
        for kind in stages:

            def step(self: Any, number: int, progress: float, plain: Any = kind.step) -> None:
                plain(self, number, progress)
                figures = {name: value for name, value in self.measure().items() if name != "waited s"}
                curves[self.name].append(figures)

            patch.setattr(kind, "step", step)
        yield curves


def clip_curves(folder: Path, world: World, tower: str = "test_resnet", **changes: Any) -> Curves:
    """Of both towers, with the whole script; `test_resnet` has batch norms."""
    with recorded(TextStage, ImageStage) as curves:
        training = clip_training(folder, STEPS)
        recipe = replace(training.recipe, shape=replace(training.recipe.shape, tower=tower), coarse=0.5, **changes)
        assert replace(training, recipe=recipe).train(world, HashTeacher()) == 0
    return {f"{tower} {name}": curve for name, curve in curves.items()}


def dino_curves(folder: Path, world: World) -> Curves:
    """With the whole script."""
    with recorded(DinoStage) as curves:
        assert dino_training(folder, STEPS).train(world) == 0
    return dict(curves)


def detection_curves(folder: Path, world: World) -> Curves:
    """Of two rooms a step."""
    load_detection_room(folder, test_train_detection.SEED, points=30_000)
    with recorded(test_train_detection.DetectionStage) as curves:
        stage = test_train_detection.stage(folder)
        stage.world, stage.recipe = world, DetectionRecipe(batch=2)
        for step in range(3):
            stage.step(step, step / 3)
    return dict(curves)


def pose_curves(folder: Path, world: World) -> Curves:
    """With dropout."""
    crops, features = test_train_pose.some()
    with recorded(PoseStage) as curves:
        stage = PoseStage(crops, features, PoseRecipe(batch=16), test_train_pose.TINY, world)
        for step in range(STEPS):
            stage.step(step, step / STEPS)
    return dict(curves)


def synthesis_curves(folder: Path, world: World) -> Curves:
    """With dropout of channels; every process has crops of both kinds."""
    crops, features = test_train_synthesis.some()
    with recorded(SynthesisStage) as curves:
        stage = SynthesisStage(crops, features, test_train_synthesis.SHAPE, test_train_synthesis.RECIPE, world)
        for step in range(STEPS):
            stage.step(step, step / STEPS)
    return dict(curves)


def depth_curves(folder: Path, world: World) -> Curves:
    """With the encoder and the batch norms of the shipped network."""
    with pytest.MonkeyPatch.context() as patch, recorded(DepthStage) as curves:
        test_train_depth.use_planes(patch)
        stage = DepthStage(folder, [0, 1], DepthRecipe(batch=4), world)
        for step in range(3):
            stage.step(step, step / 10)
    return dict(curves)


def naming_curves(folder: Path, world: World) -> Curves:
    """Of the built-in tower on noise, five shapes a step."""
    tower = AlignedTower(load_clip("builtin"))
    random = torch.Generator().manual_seed(0)
    stem = tower.stem(torch.rand(10, 3, 64, 64, generator=random)).unflatten(0, (5, 2)).half()
    target = torch.nn.functional.normalize(torch.randn(5, 192, generator=random), dim=1)
    pairs, found, plain = train_naming.Pairs(stem, target, np.arange(5) % len(KINDS)), [], train_naming.alignment_loss

    def loss(*args: Any) -> tuple[torch.Tensor, torch.Tensor]:
        losses = plain(*args)
        found.append({name: value.item() for name, value in zip(("loss", "contrast"), losses)})
        return losses

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_naming, "alignment_loss", loss)
        train_naming.Train(folder, steps=STEPS).tune(tower, pairs, np.arange(5), world)
    return {"naming": found}


ALL = (
    clip_curves, dino_curves, detection_curves, pose_curves, synthesis_curves, depth_curves, naming_curves,
)  # fmt: skip


def main(folder: Path) -> None:
    """Write the curves of the first process, and check that the others have the same."""
    sys.modules["test_training"] = sys.modules[clip_training.__module__]
    with join() as world:
        print("the first process prints")
        curves: Curves = {}
        for number, make in enumerate(ALL):
            with world.first_goes_ahead():
                (folder / f"{number}").mkdir(parents=True, exist_ok=True)
            curves |= make(folder / f"{number}", world)
        (said,) = {json.dumps(one) for one in world.gather_list([curves])}
        if world.first:
            (folder / "curves.json").write_text(said)
    assert not dist.is_initialized()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
