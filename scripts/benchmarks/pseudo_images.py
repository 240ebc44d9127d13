"""Names of objects in coloured clouds without photos: by the detection head, by shape, and by pseudo images.

    python -m scripts.benchmarks.pseudo_images --first 870000 --rooms 6
    python -m scripts.benchmarks.pseudo_images --rooms 0 --scan infos.pkl --scan-folder FOLDER --clip imagenet
    python -m scripts.benchmarks.pseudo_images --first 600000 --rooms 1 --sheet pseudo_images.jpg

Exact clouds of procedural rooms, with normals and colours, as in `scripts.benchmarks.detection`; seeds from 600,000 are
development, and others are none that a choice was made on. *True boxes* are named by the points of each object, so that
errors are those of names alone. *Named AP25* is that of the head's boxes of all scores above 0.02, whose scores stay as
they are. Sources are added as logarithms of probabilities: *head* is its embedding, *shape* the reliefs of
`ovseg3d name`, *pictures* pseudo images; with `head, pictures` as `detect` fuses them. The scan's names are the 18 of
ScanNet's detection benchmark.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image

from ovseg3d.datasets import detection_protocol, read_mmdet3d
from ovseg3d.evaluate.metrics.detection import FoundBoxes, TrueBoxes, measure_detection
from ovseg3d.files import write_json
from ovseg3d.geometry import inside_boxes
from ovseg3d.heads.detection import Detection, Detector, Names, given_names
from ovseg3d.heads.detection.normals import estimate_normals
from ovseg3d.heads.naming import ObjectNamer, PictureNamer, ReliefNamer
from ovseg3d.heads.naming.pictures import VIEWS
from ovseg3d.heads.naming.pseudo_images import coloured_surfels, lit, render
from ovseg3d.heads.naming.viewpoints import choose_viewpoints
from ovseg3d.scene import PointCloud
from ovseg3d.synth.holdout import ALL
from scripts.benchmarks.detection import ALL_SCORES, FIRST_SEED, found_boxes
from scripts.start import start
from scripts.training.detection_rooms import make_detection_room

SHAPE_WEIGHT, PICTURE_WEIGHT = ReliefNamer.weight, PictureNamer.weight
ROWS: dict[str, dict[str, float]] = {
    "head": {"head": 1.0},
    "shape": {"shape": 1.0},
    "pictures": {"pictures": 1.0},
    "head, shape": {"head": 1.0, "shape": SHAPE_WEIGHT},
    "head, pictures": {"head": 1.0, "pictures": PICTURE_WEIGHT},
    "all": {"head": 1.0, "shape": SHAPE_WEIGHT, "pictures": PICTURE_WEIGHT},
}
"""Weights of sources."""
SHEET_SIDE, SHEET_ROWS, SHEET_COLUMNS = 128, 4, 8


@dataclass(frozen=True)
class LabelledCloud:
    """A cloud, z up, with its true objects."""

    name: str
    cloud: PointCloud
    instance: Int[np.ndarray, " points"]
    """1 + the row of its object, 0 for none."""
    boxes: Float[np.ndarray, "boxes 7"]
    labels: Sequence[str]


@dataclass
class Tally:
    """What each row of the table says."""

    right: dict[str, list[bool]] = field(default_factory=lambda: {row: [] for row in ROWS})
    found: dict[str, dict[str, FoundBoxes]] = field(default_factory=lambda: {row: {} for row in ROWS})
    true: dict[str, TrueBoxes] = field(default_factory=dict)
    seconds: list[dict[str, float]] = field(default_factory=list)
    """Of each cloud's detections by namer, processor time."""


@dataclass(frozen=True)
class PseudoImages:
    """Measure, print a markdown table, and write it as JSON."""

    rooms: int = 6
    """Rooms with exact clouds."""
    first: int = FIRST_SEED
    """Seed of the first of them."""
    points: int = 150_000
    """Points of each."""
    scan: Path | None = None
    """A pickle of mmdet3d's, such as scannet_infos.pkl."""
    scan_folder: Path | None = None
    """The folder of its points; by default beside the pickle."""
    clip: str = "builtin"
    """What sees pictures and shapes."""
    views: int = VIEWS
    """Pictures of each object."""
    boxes: bool = True
    """Also name the head's boxes; without, the true ones alone."""
    sheet: Path | None = None
    """Only draw pseudo images of a room's objects into this picture."""
    output: Path = Path("outputs/pseudo_images.json")

    def main(self) -> None:
        """Measure, or draw."""
        if self.sheet is not None:
            draw_sheet(self.sheet, next(self._rooms()))
            return
        detector, pictures = Detector(min_score=ALL_SCORES, faces=None), PictureNamer(self.clip, views=self.views)
        namers, figures = {"shape": ReliefNamer(self.clip), "pictures": pictures}, {}
        for where, clouds, names in (
            ("rooms", self._rooms(), detector.names),
            ("scan", self._scans(), scan_names(detector.names)),
        ):
            tally = Tally()
            for one in clouds:
                self._measure(one, detector, names, namers, tally)
                print(f"{one.name}: {len(tally.right['head'])} objects so far", flush=True)
            if tally.true:
                figures[where] = self._report(where, tally)
        write_json(self.output, {"clip": pictures.encoder.id, "views": self.views, **figures})

    def _rooms(self) -> Iterator[LabelledCloud]:
        for seed in range(self.first, self.first + 2 * self.rooms, 2):
            room = make_detection_room(seed, self.points, ALL, typed=True)
            cloud = PointCloud(room.xyz, room.normal.astype(np.float32) / 127, room.rgb.astype(np.float32) / 255)
            yield LabelledCloud(str(seed), cloud, room.instance.astype(np.int64), room.boxes.astype(float), room.kinds)

    def _scans(self) -> Iterator[LabelledCloud]:
        for scene in [] if self.scan is None else read_mmdet3d(self.scan, folder=self.scan_folder):
            assert scene.rgb is not None
            xyz = scene.xyz.astype(np.float64)
            instance = np.zeros(len(xyz), np.int64)
            # Of boxes that overlap, the smaller one has the points.
            order = np.argsort(-scene.boxes[:, 3:6].prod(1), kind="stable")
            for row, inside in zip(order, inside_boxes(xyz, scene.boxes[order])):
                instance[inside] = row + 1
            cloud = PointCloud(xyz, estimate_normals(xyz), scene.rgb.astype(np.float32) / 255)
            yield LabelledCloud(scene.name, cloud, instance, scene.boxes, scene.labels)

    def _measure(
        self, one: LabelledCloud, detector: Detector, names: Names, namers: Mapping[str, ObjectNamer], to: Tally
    ) -> None:
        known = detector.detect(one.cloud, instance=one.instance)
        embeddings = np.zeros((len(one.boxes), names.vectors.shape[1]))
        for detection in known:
            embeddings[np.bincount(one.instance[detection.points])[1:].argmax()] = detection.embedding
        said, _ = evidence(one.cloud, one.boxes, one.instance - 1, embeddings, names, namers)
        for row, labels in named(said, names).items():
            to.right[row] += [label == true for label, true in zip(labels, one.labels)]
        to.true[one.name] = TrueBoxes(one.boxes, tuple(one.labels))
        if not self.boxes:
            return
        detections = detector.detect(one.cloud)
        boxes, member = found_boxes(detections), members(detections, len(one.cloud))
        embeddings = np.array([detection.embedding for detection in detections])
        said, seconds = evidence(one.cloud, boxes.boxes, member, embeddings, names, namers)
        to.seconds.append(seconds)
        for row, labels in named(said, names).items():
            to.found[row][one.name] = replace(boxes, labels=tuple(labels))

    def _report(self, where: str, tally: Tally) -> dict[str, dict[str, float]]:
        print(
            f"\n{where}, {len(tally.right['head'])} true boxes\n\n| names by | true boxes | named AP25 |\n|---|---|---|"
        )
        rows = {}
        for row, right in tally.right.items():
            rows[row] = {"true_boxes": float(np.mean(right)), "named_ap_25": float("nan")}
            if tally.seconds:
                rows[row]["named_ap_25"] = measure_detection(tally.found[row], tally.true).ap_25
            print(f"| {row} | {100 * rows[row]['true_boxes']:.1f} % | {100 * rows[row]['named_ap_25']:.1f} % |")
        if tally.seconds:
            for source in tally.seconds[0]:
                rows[source]["seconds"] = float(np.median([one[source] for one in tally.seconds]))
                print(f"\n{source} of a cloud's boxes: {rows[source]['seconds']:.1f} s of a processor (median)")
        return rows


def scan_names(trained: Names) -> Names:
    """ScanNet-18; what is none of these classes is an error, too."""
    protocol = detection_protocol("ScanNet-18")
    named = given_names([protocol.phrase(label) for label in protocol.classes], trained)
    return replace(named, negatives=named.negatives[:0], negative_labels=())


def evidence(
    cloud: PointCloud,
    boxes: Float[np.ndarray, "boxes 7"],
    member: Int[np.ndarray, " points"],
    embeddings: Float[np.ndarray, "boxes text"],
    names: Names,
    namers: Mapping[str, ObjectNamer],
) -> tuple[dict[str, Float[np.ndarray, "boxes names"]], dict[str, float]]:
    """Logarithms of probabilities by source, and the processor time of each namer."""
    said, seconds = {"head": names.log_probabilities(embeddings)}, {}
    for source, namer in namers.items():
        began = time.process_time()
        said[source] = namer.log_probabilities(namer.embed(cloud, boxes, member), names.texts)
        seconds[source] = time.process_time() - began
    return said, seconds


def named(said: dict[str, Float[np.ndarray, "boxes names"]], names: Names) -> dict[str, list[str]]:
    """The likeliest name of each box, by row of the table."""
    odds = {row: sum(weight * said[source] for source, weight in sources.items()) for row, sources in ROWS.items()}
    return {row: [names.labels[k] for k in np.asarray(own).argmax(1)] for row, own in odds.items()}


def members(detections: Sequence[Detection], count: int) -> Int[np.ndarray, " points"]:
    """Row of each point's detection, -1 for none."""
    member = np.full(count, -1)
    for row, detection in enumerate(detections):
        member[detection.points] = row
    return member


def draw_sheet(path: Path, one: LabelledCloud) -> None:
    """The two best views of each object, as a grid; the first objects only."""
    surfels, tiles = coloured_surfels(one.cloud), []
    for row, box in enumerate(one.boxes):
        own = np.flatnonzero(one.instance == row + 1)
        for view in choose_viewpoints(surfels.xyz, own, box, count=2, side=SHEET_SIDE):
            tiles.append(render(lit(surfels, view.camera), view.camera, view.near).rgb)
    tiles = tiles[: SHEET_ROWS * SHEET_COLUMNS]
    rows = [np.concatenate(tiles[k : k + SHEET_COLUMNS], 1) for k in range(0, len(tiles), SHEET_COLUMNS)]
    Image.fromarray((np.concatenate(rows) * 255).round().astype(np.uint8)).save(path, quality=85)


if __name__ == "__main__":
    torch.set_num_threads(1)
    start(PseudoImages)
