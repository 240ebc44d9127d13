"""Label the surfaces of trained runs with boxes of their own instances: rooms for the detection head without 3D labels.

    python -m scripts.training.field_labels outputs/taught/rooms                       # of runs that are made here
    python -m scripts.training.field_labels outputs/taught/own --runs RUN RUN...       # of runs of your own
    python -m scripts.training.train_detection --room-count 0 --surfaces outputs/taught/own --start WEIGHTS \\
        --rate 0.005 --adam-rate 0.002 --output FILE --work FOLDER

A run's surface points are grouped into instances anew, without the detection head's say: it shall not learn what it
says itself. Each instance takes the phrase of the run that its features are most like, and a box
(`scripts.training.run_boxes`). Points of an instance without a good box, and those that grouping leaves without a
group, are ignored; the layout is background. A run's photos are encoded again if their features are not in the cache.

No label is read, and no exact box. But grouping is not free of 3D labels: its merge and selection models, and the
built-in encoders, were trained on labelled procedural rooms.

Without --runs, procedural rooms are rendered and trained into --work, with few photos and steps: teachers need not be
perfect. Their seeds are for this training alone. Where a run's capture has an objects.json, the boxes are compared with
these, which labels never use: the table is of the runs that were labelled in this command.
"""

import hashlib
import shutil
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro

from ovseg3d.errors import ConfigError, Ovseg3dError, RunError
from ovseg3d.files import read_json, write_json
from ovseg3d.geometry import rotated_iou
from ovseg3d.pipeline.train import train_scene
from ovseg3d.runs.folder import RunFolder
from ovseg3d.runs.settings import make_config
from ovseg3d.session import load
from ovseg3d.synth.write import Views, write_room
from scripts import ROOT
from scripts.start import start
from scripts.training.depth_rooms import LIGHT
from scripts.training.detection_rooms import DetectionRoom, furnished, save_detection_room
from scripts.training.run_boxes import BoxRecipe, TrueObjects, fit_boxes, group_run, true_boxes

FIRST_SEED = 852_000
"""Of the rooms; no other training and no benchmark uses these."""
ENOUGH = 0.25
"""Least IoU of a box with an object that it is of, when labels are measured."""


@dataclass(frozen=True)
class RoomRecipe:
    """How procedural rooms become runs."""

    steps: int = 700
    """Of a field; a run on a CPU has 2,000 by default."""
    photos: int = 40
    """Of the training; `ovseg3d synth` makes 64."""


@dataclass
class TeacherQuality:
    """How good the boxes of instances are, against those of synthetic rooms."""

    runs: int = 0
    found: list[bool] = field(default_factory=list)
    """Whether a box overlaps each object enough."""
    iou: list[float] = field(default_factory=list)
    """Of each box with the object that it overlaps most."""
    quality: list[float] = field(default_factory=list)
    named: list[bool] = field(default_factory=list)
    """Whether those that overlap an object enough have its name."""

    def add(self, room: DetectionRoom, true: TrueObjects) -> None:
        """Count a run, if its true boxes are known."""
        assert room.quality is not None
        if not true.kinds:
            return
        iou = rotated_iou(room.boxes.astype(np.float64), true.boxes)
        self.runs += 1
        self.found += (iou.max(0) >= ENOUGH).tolist()
        self.iou += iou.max(1).tolist()
        self.quality += room.quality.tolist()
        pairs = zip(room.kinds, iou.argmax(1), iou.max(1), strict=True)
        self.named += [kind == true.kinds[row] for kind, row, best in pairs if best >= ENOUGH]

    def __str__(self) -> str:
        iou, quality = np.array(self.iou), np.array(self.quality)
        better, found, named = iou[quality >= np.median(quality)], np.mean(self.found), np.mean(self.named)
        return (
            "| runs | objects | with a box | boxes | mean IoU | at least 0.25 | at least 0.5 | mean IoU, better half |"
            f" right names |\n|{' --- |' * 9}\n"
            f"| {self.runs} | {len(self.found)} | {found:.0%} | {len(iou)} | {iou.mean():.3f} |"
            f" {(iou >= 0.25).mean():.1%} | {(iou >= 0.5).mean():.1%} | {better.mean():.3f} | {named:.0%} |"
        )


@dataclass(frozen=True)
class MakeFieldLabels:
    """Label runs."""

    output: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """Where the labelled surfaces go, a file for each run with a box."""
    runs: tuple[Path, ...] = ()
    """Runs to label; by default those of procedural rooms, which are made."""
    work: Path = ROOT / "outputs/taught/runs"
    """Where rooms and their runs go."""
    first: int = FIRST_SEED
    """Seed of the first room."""
    count: int = 24
    """How many rooms."""
    threads: int = 1
    """Threads on the CPU."""
    rooms: tyro.conf.OmitArgPrefixes[RoomRecipe] = field(default_factory=RoomRecipe)
    boxes: tyro.conf.OmitArgPrefixes[BoxRecipe] = field(default_factory=BoxRecipe)

    def main(self) -> None:
        """Make and label what is missing, and measure.

        Raises:
            ConfigError: the folder has labels by another recipe, or no run can be labelled.
        """
        torch.set_num_threads(self.threads)
        self._check_recipe(self.output, asdict(self.boxes))
        if not self.runs:
            self._check_recipe(self.work, asdict(self.rooms))
        count = len(self.runs) or self.count
        measured = TeacherQuality()
        for number in range(count):
            try:
                run = load(self.runs[number]) if self.runs else self._made(self.first + number)
                folder = run.folder.resolve()
                key = hashlib.sha256(str(folder).encode()).hexdigest()[:8]
                path = self.output / f"{folder.parent.name}-{folder.name}-{key}.npz"
                if not path.exists():
                    grouped = group_run(run)
                    room = fit_boxes(grouped, self.boxes)
                    if not room.kinds:
                        raise RunError("No instance has a good box", where=folder, fix="train the run for longer")
                    save_detection_room(path, room)
                    measured.add(room, true_boxes(grouped, run.load_scene()))
            except Ovseg3dError as error:
                print(f"left out: {error}", flush=True)
            print(f"run {number + 1} of {count}", flush=True)
        if not any(self.output.glob("*.npz")):
            raise ConfigError("No run has an instance with a good box", where=self.output, fix="see the lines above")
        if measured.iou:
            print(measured)

    def _check_recipe(self, folder: Path, recipe: dict[str, object]) -> None:
        path = folder / "recipe.json"
        if path.exists() and read_json(path) != recipe:
            raise ConfigError("The folder was made by another recipe", where=path, fix="choose another folder")
        write_json(path, recipe)

    def _made(self, seed: int) -> RunFolder:
        """The run of a procedural room, which is made or continued if it is not done."""
        scene, folder = self.work / str(seed) / "scene", self.work / str(seed) / "run"
        if not scene.exists():
            # The scene's synth.json is not read: it could not describe a room of limited looks.
            origin, views = {"room": None, "seed": seed}, Views(train=self.rooms.photos, test=2, depth="none")
            write_room(furnished(seed), scene, origin, views=views, detail=LIGHT, seed=seed)
        run = load(folder) if (folder / "status.json").exists() else None
        if run is not None and run.status()["status"] == "done":
            return run
        if run is None:
            shutil.rmtree(folder, ignore_errors=True)
        train = {"steps": self.rooms.steps, "max_seconds": None, "device": "cpu", "seed": seed}
        config = replace(make_config("cpu", flags={"train": train}), only="field,features")
        return train_scene(scene, config, output_dir=folder, resume=run)


if __name__ == "__main__":
    start(MakeFieldLabels)
