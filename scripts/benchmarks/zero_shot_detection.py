"""Zero-shot 3D detection as OpenDlign measures it: boxes without names, and names from the points inside of them.

    python -m scripts.benchmarks.zero_shot_detection scannet_infos_val.pkl                          # protocol A
    python -m scripts.benchmarks.zero_shot_detection FOLDER --votenet --protocol ScanNet-20         # protocol B
    python -m scripts.benchmarks.zero_shot_detection sunrgbd_infos_val.pkl --protocol SUN-20 --clip ViT-B-16:dfn2b

Protocol A is ScanNet-18 (Mao et al. 2024, Table 3), protocol B OV-3DET's 20 classes, ScanNet-20 (Table 9). Two things
are stricter than in the paper. Its proposals come from a 3DETR that was trained with ScanNet's boxes, and are those of
a detector of these very classes; here they are the shipped detection head's, which has seen procedural rooms alone and
whose names are not used. And its table lists 11 classes; here are all of a protocol.

Each proposal gets the likeliest of the protocol's names, by its geometry alone; the score is the proposal's times the
name's probability. Rows:

    frozen, tuned          names of the points inside the proposal's box, by CLIP's own tower and by the tuned one
    tuned, own points      names of the points that the head says are the object's
    true boxes, ...        names alone: the true boxes with a score of 1, so that errors are those of names

DATA is a pickle of mmdet3d's, with its points beside it or in --folder, or a folder in VoteNet's layout.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from jaxtyping import Float
from rich.console import Console
from rich.table import Table

from ovseg3d.datasets import BoxScene, DetectionProtocol, detection_protocol, read_mmdet3d, read_votenet
from ovseg3d.errors import MeasureError, ShapeError
from ovseg3d.evaluate.metrics.detection import DetectionScores, FoundBoxes, TrueBoxes, measure_detection
from ovseg3d.evaluate.naming import tower_vectors
from ovseg3d.files import write_json
from ovseg3d.geometry import inside_boxes
from ovseg3d.heads.detection import Detector
from ovseg3d.heads.naming import ShapeNamer, relief
from ovseg3d.heads.naming.naming import Towers, check_points
from ovseg3d.runs.devices import DeviceName, resolve_device
from ovseg3d.scene import PointCloud
from scripts.start import start

ALL_SCORES = 0.02
"""Least score of a proposal: average precision takes them all."""
PAPER = {"ScanNet-18": "50.7 / 38.0", "ScanNet-20": "19.3 / -"}
"""OpenDlign with ViT-H-14: mean AP25 / AP50, with its own proposals."""


@dataclass
class Found:
    """Boxes of all scenes, by row of the table."""

    boxes: dict[str, dict[str, FoundBoxes]] = field(default_factory=dict)
    true: dict[str, TrueBoxes] = field(default_factory=dict)

    def add(self, row: str, scene: str, boxes: np.ndarray, scores: np.ndarray, names: Sequence[str | None]) -> None:
        """One scene's boxes; those without a name are left out."""
        kept = np.array([name is not None for name in names], bool)
        labels = tuple(name for name in names if name is not None)
        self.boxes.setdefault(row, {})[scene] = FoundBoxes(boxes[kept].reshape(-1, 7), scores[kept], labels)

    def scores(self) -> dict[str, DetectionScores]:
        """Of each row."""
        return {row: measure_detection(own, self.true) for row, own in self.boxes.items()}


@dataclass(frozen=True)
class ZeroShotDetection:
    """Measure, print a table, and write everything as JSON."""

    data: Annotated[Path, tyro.conf.Positional]
    """A pickle of mmdet3d's, or a folder in VoteNet's layout."""
    votenet: bool = False
    """DATA has VoteNet's layout."""
    folder: Path | None = None
    """The folder of the pickle's points; by default beside it."""
    protocol: str = "ScanNet-18"
    """By name, of `ovseg3d.datasets.DETECTION_PROTOCOLS`."""
    clip: str = "builtin"
    weights: Path | None = None
    """Tuned weights of --clip; of the built-in one, the package's."""
    limit: int | None = None
    """Measure the first so many scenes only."""
    output: Path = Path("outputs/papers/zero_shot_detection.json")
    device: DeviceName = "auto"

    def main(self) -> None:
        """Measure."""
        protocol = detection_protocol(self.protocol)
        namer = ShapeNamer(self.clip, weights=self.weights, device=resolve_device(self.device))
        names = namer.embed_names([protocol.phrase(label) for label in protocol.classes])
        detector, found = Detector(min_score=ALL_SCORES), Found()
        for scene in islice(self._scenes(protocol), self.limit):
            measure(scene.select(protocol.classes), detector, namer, names, protocol, found)
        if not found.true:
            raise MeasureError("There is no scene to measure", where=self.data, fix="check the data set's folder")
        scores = found.scores()
        Console().print(table(protocol, scores))
        rows = {row: own.as_dict() for row, own in scores.items()}
        write_json(self.output, {"protocol": protocol.name, "clip": namer.encoder.id, "rows": rows})

    def _scenes(self, protocol: DetectionProtocol) -> Iterator[BoxScene]:
        if self.votenet:
            return read_votenet(self.data, protocol)
        return read_mmdet3d(self.data, folder=self.folder)


def measure(
    scene: BoxScene,
    detector: Detector,
    namer: ShapeNamer,
    names: Float[np.ndarray, "classes dim"],
    protocol: DetectionProtocol,
    found: Found,
) -> None:
    """Name a scene's proposals and its true boxes, and add them to `found`."""
    rgb = None if scene.rgb is None else scene.rgb.astype(np.float32) / 255
    proposals = detector.detect(PointCloud(scene.xyz.astype(np.float32), None, rgb))
    boxes = np.array([[*one.center, *one.size, one.yaw_rad or 0.0] for one in proposals], float).reshape(-1, 7)
    score = np.array([one.score for one in proposals])
    found.true[scene.name] = TrueBoxes(scene.boxes, scene.labels)
    clouds = {"": cropped(scene.xyz, boxes), ", own points": [scene.xyz[one.points] for one in proposals]}
    clouds["true boxes"] = cropped(scene.xyz, scene.boxes)
    for where, points in clouds.items():
        named = named_by_tower(namer, points, names, protocol.classes)
        for tower, (labels, sure) in named.items():
            if where == "true boxes":
                found.add(f"{where}, {tower}", scene.name, scene.boxes, np.ones(len(points)), labels)
            elif tower == "tuned" or not where:
                found.add(tower + where, scene.name, boxes, score * sure, labels)


def cropped(xyz: Float[np.ndarray, "points 3"], boxes: Float[np.ndarray, "n 7"]) -> list[np.ndarray]:
    """The points inside each box."""
    return [xyz[inside] for inside in inside_boxes(xyz, boxes)]


def named_by_tower(
    namer: ShapeNamer, clouds: Sequence[np.ndarray], names: Float[np.ndarray, "classes dim"], classes: Sequence[str]
) -> dict[str, tuple[list[str | None], np.ndarray]]:
    """Names (None: too few points) and their probabilities, by tower; z is up."""
    towers: tuple[Towers, ...] = ("frozen",) if namer.tower is None else ("frozen", "tuned")
    found: dict[str, tuple[list[str | None], np.ndarray]] = {
        tower: ([None] * len(clouds), np.zeros(len(clouds))) for tower in towers
    }
    for row, points in enumerate(clouds):
        try:
            vectors = tower_vectors(namer, relief(check_points(points)))
        except ShapeError:
            continue
        for tower in towers:
            labels, sure = found[tower]
            cosines = names @ (vectors[tower] / np.linalg.norm(vectors[tower]))
            logits = namer.encoder.logit_scale * cosines - namer.log_prior(names, tower)
            odds = np.exp(logits - logits.max())
            labels[row], sure[row] = classes[int(odds.argmax())], odds.max() / odds.sum()
    return found


def table(protocol: DetectionProtocol, scores: dict[str, DetectionScores]) -> Table:
    """Rows in percent, and what the paper has."""
    one = next(iter(scores.values()))
    caption = f"{one.scenes:,} of {protocol.val_scenes:,} scenes, {one.true_boxes:,} boxes. {protocol.caution}"
    made = Table(title=f"{protocol.name}, {len(protocol.classes)} classes", caption=caption)
    made.add_column("names by")
    for heading in ("AP25", "AP50", "AP25 of boxes without names"):
        made.add_column(heading, justify="right")
    for row, own in scores.items():
        made.add_row(row, *(f"{100 * x:.1f}" for x in (own.ap_25, own.ap_50, own.agnostic_ap_25)))
    if protocol.name in PAPER:
        made.add_section()
        made.add_row("paper, proposals trained on ScanNet", *PAPER[protocol.name].split(" / "), "-")
    return made


if __name__ == "__main__":
    torch.set_num_threads(1)
    start(ZeroShotDetection)
