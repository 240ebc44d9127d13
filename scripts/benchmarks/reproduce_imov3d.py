"""ImOV3D's stages (Yang et al., NeurIPS 2024) with this package's head: 3D detection learnt from 2D images alone.

    python -m scripts.benchmarks.reproduce_imov3d lvis_v1_train.json sunrgbd_infos_val.pkl --depth MODEL
    python -m scripts.benchmarks.reproduce_imov3d ... --adapt sunrgbd_infos_train.pkl      # with clouds, without labels

1. Photos with masks and names (COCO's layout; the paper takes LVIS) are lifted, and get boxes without a 3D label.
2. The head learns from these alone.
3. With --adapt it labels the clouds of a data set by itself, whose labels are not read, and learns from them, too. The
   paper takes 2D detections of their photos instead.

After 2 and 3 it is measured by a protocol: each detection has the likeliest of the protocol's names, by its embedding.
The table has the paper's figures beside it. The paper's head also takes what a 2D detector, fine-tuned on pseudo
images, sees in them. This is not reproduced: this head takes geometry and colour. Pseudo images only name what it finds
(`ovseg3d detect`, `scripts.benchmarks.pseudo_images`), and not here. The paper's depth model is
Intel/zoedepth-nyu-kitti. Stages are kept in --work; the same command goes on from there.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table

from ovseg3d.datasets import BoxScene, DetectionProtocol, detection_protocol, read_mmdet3d
from ovseg3d.errors import MeasureError
from ovseg3d.evaluate.metrics.detection import DetectionScores, FoundBoxes, TrueBoxes, measure_detection
from ovseg3d.files import write_json
from ovseg3d.heads.detection import Detector, given_names
from ovseg3d.scene import PointCloud
from scripts.start import start
from scripts.training.detection_rooms import save_detection_room
from scripts.training.detection_stage import DetectionRecipe
from scripts.training.lifted_rooms import LiftRecipe, LiftRooms
from scripts.training.self_labels import self_labelled
from scripts.training.train_detection import TrainDetection

ALL_SCORES = 0.02
"""Least score of a detection: average precision takes them all."""
PAPER = {
    "SUN-20": {"pretrained": "12.6 / 38.8", "adapted": "22.5 / 58.0"},
    "ScanNet-20": {"pretrained": "12.6 / 54.1", "adapted": "21.5 / 67.3"},
}
"""AP25 and AR25, means over classes, of the evaluation logs in the paper's repository."""


@dataclass(frozen=True)
class ReproduceImOV3D:
    """Train, measure, print a table, and write everything as JSON."""

    photos: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="ANNOTATIONS")]
    """Instance annotations in COCO's layout, beside the photos."""
    data: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    """A pickle of mmdet3d's to measure on, with its points beside it or in --folder."""
    adapt: Path | None = None
    """A pickle of mmdet3d's whose clouds the head labels and learns from."""
    folder: Path | None = None
    """The folder of the pickles' points."""
    photo_folder: Path | None = None
    """The folder of the photos; by default that of the annotations."""
    protocol: str = "SUN-20"
    """By name, of `ovseg3d.datasets.DETECTION_PROTOCOLS`."""
    work: Path = Path("outputs/papers/imov3d")
    steps: int = 20_000
    """Of each of the two trainings."""
    limit: int | None = None
    """Measure and adapt to the first so many scenes only; such figures are no reproduction."""
    recipe: tyro.conf.OmitArgPrefixes[LiftRecipe] = field(default_factory=LiftRecipe)
    training: tyro.conf.OmitArgPrefixes[DetectionRecipe] = field(default_factory=lambda: DetectionRecipe(batch=4))

    def main(self) -> None:
        """Run the stages."""
        protocol = detection_protocol(self.protocol)
        LiftRooms(self.photos, self.work / "photos", folder=self.photo_folder, recipe=self.recipe).main()
        weights = {"pretrained": self._trained("pretrained", [self.work / "photos"], None, self.training)}
        if self.adapt is not None:
            self._label(weights["pretrained"])
            slower = replace(self.training, rate=self.training.rate / 2, adam_rate=self.training.adam_rate / 2)
            folders = [self.work / "photos", self.work / "clouds"]
            weights["adapted"] = self._trained("adapted", folders, weights["pretrained"], slower)
        scores = {
            stage: self._measured(Detector(path, min_score=ALL_SCORES), protocol) for stage, path in weights.items()
        }
        Console().print(table(protocol, scores))
        rows = {stage: own.as_dict() for stage, own in scores.items()}
        write_json(self.work / "figures.json", {"protocol": protocol.name, "rows": rows})

    def _trained(self, stage: str, rooms: list[Path], start_with: Path | None, recipe: DetectionRecipe) -> Path:
        weights = self.work / stage / "detection.safetensors"
        code = TrainDetection(
            weights, self.work / stage / "checkpoints", self.work, start_with, tuple(rooms), room_count=0,
            max_seconds=None, steps=self.steps, recipe=recipe,
        ).train()  # fmt: skip
        if code:  # interrupted: what is kept is unfinished
            raise SystemExit(code)
        return weights

    def _label(self, weights: Path) -> None:
        assert self.adapt is not None
        for scene in islice(read_mmdet3d(self.adapt, folder=self.folder), self.limit):
            path = self.work / "clouds" / f"{scene.name}.npz"
            if not path.exists():
                room = self_labelled(weights, cloud_of(scene), "head")  # scans are rough
                if room.kinds:
                    save_detection_room(path, room)

    def _measured(self, detector: Detector, protocol: DetectionProtocol) -> DetectionScores:
        named = given_names([protocol.phrase(label) for label in protocol.classes], detector.names)
        names = replace(
            named, negatives=named.negatives[:0], negative_labels=()
        )  # what is none of the classes is an error, too
        place = {label: row for row, label in enumerate(names.labels)}
        found: dict[str, FoundBoxes] = {}
        true: dict[str, TrueBoxes] = {}
        for scene in islice(self._scenes(protocol), self.limit):
            detections = detector.detect(cloud_of(scene), names=names)
            boxes = np.array([[*one.center, *one.size, one.yaw_rad or 0.0] for one in detections]).reshape(-1, 7)
            scores = np.array([one.score * one.candidates[0].score for one in detections])
            labels = tuple(protocol.classes[place[one.candidates[0].label]] for one in detections)
            found[scene.name], true[scene.name] = (
                FoundBoxes(boxes, scores, labels),
                TrueBoxes(scene.boxes, scene.labels),
            )
        if not true:
            raise MeasureError("There is no scene to measure", where=self.data, fix="check the data set's folder")
        return measure_detection(found, true)

    def _scenes(self, protocol: DetectionProtocol) -> Iterator[BoxScene]:
        return (scene.select(protocol.classes) for scene in read_mmdet3d(self.data, folder=self.folder))


def cloud_of(scene: BoxScene) -> PointCloud:
    """The points of a scene."""
    return PointCloud(scene.xyz.astype(np.float32), None, None if scene.rgb is None else scene.rgb / np.float32(255))


def table(protocol: DetectionProtocol, scores: dict[str, DetectionScores]) -> Table:
    """Rows in percent, and what the paper has."""
    one = next(iter(scores.values()))
    caption = f"{one.scenes:,} of {protocol.val_scenes:,} scenes, {one.true_boxes:,} boxes. {protocol.caution}"
    made = Table(title=f"{protocol.name}, {len(protocol.classes)} classes", caption=caption)
    made.add_column("stage")
    for heading in ("AP25", "AR25", "AP25 of boxes without names", "paper: AP25 / AR25"):
        made.add_column(heading, justify="right")
    for stage, own in scores.items():
        shares = (own.ap_25, own.recall_25, own.agnostic_ap_25)
        made.add_row(stage, *(f"{100 * x:.1f}" for x in shares), PAPER.get(protocol.name, {}).get(stage, "-"))
    return made


if __name__ == "__main__":
    torch.set_num_threads(1)
    start(ReproduceImOV3D)
