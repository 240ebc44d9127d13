"""Measure the shipped detection head on exact clouds of new rooms, on a real scan, and for speed.

    python -m scripts.benchmarks.detection
    python -m scripts.benchmarks.detection --scan infos.pkl --scan-folder FOLDER   # a scan in mmdet3d's layout
    python -m scripts.benchmarks.detection --rooms 0 --runs outputs/room/run       # runs of synthetic rooms
    python -m scripts.benchmarks.detection --rooms 0 --surfaces FOLDER             # see scripts.training.field_surfaces

Rooms are of seeds that no training and no choice of a setting has used, with all looks, also those held out of
training. Boxes are class-agnostic, but for `named_ap_25`. Recall and precision are those of the shipped least score;
average precision takes all detections above 0.02. The front is that of the true objects with one that were found at an
IoU of 0.25. The mean IoU is that of each true box with the detection that overlaps it most. Points of a detection are
compared with those of the cloud that lie on the object. The scan's boxes are parallel to its axes, and its classes are
18 kinds only, so that right boxes of other things count as errors in its precision. In runs the head's boxes stand
beside those around the instances that grouping found; true are the objects that two photos see, with their whole
extent. *Novel* kinds are the ten that `train_detection --hold-out` gives no label; the shipped head knows them all.
"""

import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool

from ovseg3d.datasets import read_mmdet3d
from ovseg3d.evaluate.metrics.detection import DetectionScores, FoundBoxes, TrueBoxes, measure_detection
from ovseg3d.field.surface import Surface
from ovseg3d.files import read_json, write_json
from ovseg3d.geometry import rotated_iou
from ovseg3d.heads.detection import Detection, Detector, boxes_around_points
from ovseg3d.heads.detection.weights import SHIPPED
from ovseg3d.instances.records import InstancePoints
from ovseg3d.query.engine import QueryEngine
from ovseg3d.scene import PointCloud
from ovseg3d.session import load
from ovseg3d.synth import surface_cloud
from ovseg3d.synth.holdout import ALL
from ovseg3d.synth.make import make_room
from scripts.start import start
from scripts.training.detection_rooms import (
    NOVEL,
    DetectionRoom,
    labelled_room,
    make_detection_room,
    read_detection_room,
)
from scripts.training.field_surfaces import EXACT_POINTS, labelled

FIRST_SEED = 830_000
"""Of the rooms; trainings use 500,000 and on, development 600,000 and on; 820,000 and on were opened before."""
ALL_SCORES = 0.02
MIN_SHOWN = 20
"""Objects with fewer points on a kept surface need not be found."""


@dataclass
class Tally:
    """Detections and truth of several clouds."""

    min_score: float
    """Of recall, precision, fronts, names and points; average precision takes all detections."""
    found: dict[str, FoundBoxes] = field(default_factory=dict)
    true: dict[str, TrueBoxes] = field(default_factory=dict)
    errors: list[float] = field(default_factory=list)
    """Of the front of found objects with one, degrees; 180 where the detection has none."""
    symmetric: list[bool] = field(default_factory=list)
    """Of found objects: whether the order of symmetry is right."""
    named: list[bool] = field(default_factory=list)
    """Of found objects: whether the best name is the true one."""
    overlaps: list[float] = field(default_factory=list)
    """Of true objects: the largest IoU with a detection."""
    kinds: list[str] = field(default_factory=list)
    """Of true objects, as `overlaps`."""
    matched: list[int] = field(default_factory=list)
    """Of each cloud: objects of which some detection has the points, with an IoU of 0.5."""
    sure: int = 0

    def add(self, name: str, detections: Sequence[Detection], room: DetectionRoom, seen: Bool[np.ndarray, " boxes"]):
        """Count a cloud.

        Args:
            name: of the cloud.
            detections: of it, also those of a low score.
            room: the cloud with its objects.
            seen: which of them are to be found.
        """
        sure = [one for one in detections if one.score >= self.min_score]
        rows = np.flatnonzero(seen)
        boxes = room.boxes[rows].astype(np.float64)
        iou = rotated_iou(_rows(sure), boxes)
        self.found[name] = found_boxes(detections)
        self.true[name] = TrueBoxes(boxes, tuple(room.kinds[row] for row in rows))
        self.overlaps += iou.max(0, initial=0).tolist()
        self.kinds += self.true[name].labels
        for column, row in enumerate(rows):
            if iou[:, column].max(initial=0) < 0.25:
                continue
            best = sure[int(iou[:, column].argmax())]
            self.symmetric.append(best.symmetry_order == int(room.symmetry[row]))
            self.named.append(best.label == room.kinds[row])
            if room.facing[row]:
                yaw = best.yaw_rad
                error = 180.0 if best.front is None or yaw is None else _apart(yaw, float(room.boxes[row, 6]))
                self.errors.append(error)
        self.matched.append(len(_matched(room.instance, [one.points for one in sure]) & set((rows + 1).tolist())))
        self.sure += len(sure)

    def figures(self) -> dict[str, float]:
        """All figures."""
        scores, errors = measure_detection(self.found, self.true, min_score=self.min_score), np.array(self.errors)
        good, novel = np.array(self.overlaps) >= 0.25, np.isin(self.kinds, NOVEL)
        return _agnostic(scores) | {
            "point_recall_50": sum(self.matched) / max(len(self.overlaps), 1),
            "point_precision_50": sum(self.matched) / max(self.sure, 1),
            "mean_iou": float(np.mean(self.overlaps)),
            "recall_25_other_kinds": _share(good[~novel]),
            "recall_25_novel_kinds": _share(good[novel]),
            "front_median_deg": float(np.median(errors)),
            "front_15": float((errors <= 15).mean()),
            "front_30": float((errors <= 30).mean()),
            "symmetry": float(np.mean(self.symmetric)),
            "names": float(np.mean(self.named)),
            "named_ap_25": scores.ap_25,
        }


@dataclass(frozen=True)
class MeasureDetection:
    """Print the tables and write them as JSON."""

    rooms: int = 20
    """Rooms with exact clouds."""
    points: int = 150_000
    """Points of each."""
    first: int = FIRST_SEED
    """Seed of the first of them."""
    surfaces: Path | None = None
    """A folder of scripts.training.field_surfaces."""
    runs: tuple[Path, ...] = ()
    """Runs of synthetic rooms, with semantics."""
    scan: Path | None = None
    """A pickle of mmdet3d's, such as scannet_infos.pkl."""
    scan_folder: Path | None = None
    """The folder of its points; by default beside the pickle."""
    output: Path = Path("outputs/detection/benchmark.json")
    """Where the figures go."""
    weights: Path = SHIPPED
    """Of the head."""
    min_score: float = Detector.min_score
    """Least score of a detection, except in average precision."""
    passes: int = Detector.passes
    """Of the head, whose predictions are averaged."""
    boxes: Literal["shipped", "refined", "head", "points"] = "shipped"
    """shipped: refined for instances alone; refined: for clouds, too (`detect --exact`); head: its own; points: of
    --rooms those around the points of each object, whose scores are lower."""
    card: bool = False
    """Also put the figures into the card of the shipped weights."""

    def main(self) -> None:
        """Measure."""
        detector = Detector(
            self.weights, min_score=self.min_score, passes=self.passes, exact=self.boxes == "refined",
            faces=None if self.boxes in ("head", "points") else Detector.faces,
        )  # fmt: skip
        figures: dict[str, Any] = {"rooms": self._rooms(detector)} if self.rooms else {}
        if self.surfaces is not None:
            figures["surfaces"] = _surfaces(detector, self.surfaces)
        if self.runs:
            figures |= _runs(detector, self.runs)
        if self.scan is not None:
            figures["scan"] = _scan(detector, self.scan, self.scan_folder)
        figures["peak_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        write_json(self.output, figures)
        if self.card:
            path = detector.weights.parent / "card.json"
            write_json(path, {**read_json(path), "figures": figures})
        for name, value in figures.items():
            print(name, value)

    def _rooms(self, detector: Detector) -> dict[str, Any]:
        every, tally, seconds = replace(detector, min_score=ALL_SCORES), Tally(detector.min_score), []
        for seed in range(self.first, self.first + 2 * self.rooms, 2):
            room = make_detection_room(seed, self.points, ALL, typed=True)
            start_time = time.perf_counter()
            detections = every.detect(_cloud(room))
            if self.boxes == "points":
                detections = boxes_around_points(detections, room.xyz)
            seconds.append(time.perf_counter() - start_time)
            tally.add(str(seed), detections, room, np.ones(len(room.boxes), bool))
        speed = {"median_seconds": float(np.median(seconds)), "threads": torch.get_num_threads()}
        return tally.figures() | speed


def _surfaces(detector: Detector, folder: Path) -> dict[str, float]:
    """Figures on kept surfaces of fields, class-agnostic."""
    every, tally = replace(detector, min_score=ALL_SCORES), Tally(detector.min_score)
    for path in sorted(folder.glob("*.npz")):
        room = read_detection_room(path)
        shown = np.bincount(room.instance, minlength=len(room.boxes) + 1)[1:] >= MIN_SHOWN
        tally.add(path.stem, every.detect(_cloud(room)), room, shown)
    return tally.figures()


def _cloud(room: DetectionRoom) -> PointCloud:
    return PointCloud(room.xyz, room.normal.astype(np.float32) / 127, room.rgb.astype(np.float32) / 255)


def found_boxes(detections: Sequence[Detection]) -> FoundBoxes:
    """Detections as the measure takes them."""
    return FoundBoxes(
        _rows(detections), np.array([d.score for d in detections]), tuple(d.label or "object" for d in detections)
    )


def _rows(detections: Sequence[Detection]) -> np.ndarray:
    return np.array([[*d.center, *d.size, d.yaw_rad or 0.0] for d in detections], np.float64).reshape(-1, 7)


def _share(values: Bool[np.ndarray, " n"]) -> float:
    """NaN of nothing."""
    return float(values.mean()) if len(values) else float("nan")


def _apart(a: float, b: float) -> float:
    return float(np.degrees(abs((a - b + np.pi) % (2 * np.pi) - np.pi)))


def _agnostic(scores: DetectionScores) -> dict[str, float]:
    names = ("ap_25", "recall_25", "precision_25", "ap_50", "recall_50", "precision_50")
    figures = {name: float(getattr(scores, f"agnostic_{name}")) for name in names}
    return figures | {
        "calibration_error": scores.calibration_error,
        "true": scores.true_boxes,
        "found": scores.found_boxes,
    }


def _runs(detector: Detector, folders: tuple[Path, ...]) -> dict[str, dict[str, float]]:
    """Figures of the instances of runs with the head's boxes, of the boxes around their points, and of the head alone;
    class-agnostic but for names, which are of the runs' phrases."""
    every = replace(detector, min_score=ALL_SCORES)
    tallies = {
        "instances": Tally(0.0),
        "boxes around points": Tally(0.0),
        "head alone": Tally(detector.min_score),
    }
    for folder in folders:
        engine = QueryEngine(load(folder))
        name, surface, scene = str(folder), engine.semantics.surface, engine.scene
        cloud = surface_cloud(scene.path, seen=True)
        assert cloud.seen is not None
        seen = np.bincount(cloud.instance, cloud.seen >= 2) > 0
        origin = read_json(scene.path / "synth.json")
        exact = labelled_room(make_room(origin, folder=scene.path), EXACT_POINTS, origin["seed"])
        room = labelled(surface, exact)
        detections = {
            "instances": engine.detect(detector=every).detections,
            "boxes around points": _around_points(surface, engine.semantics.instance),
            "head alone": every.detect(surface.cloud),
        }
        for kind, tally in tallies.items():
            tally.add(name, detections[kind], room, seen[1 : 1 + len(room.boxes)])
    figures = {f"runs, {kind}": tally.figures() for kind, tally in tallies.items()}
    for name in ("front_median_deg", "front_15", "front_30", "symmetry", "names", "named_ap_25"):
        del figures["runs, boxes around points"][name]
    for name in ("names", "named_ap_25"):  # not of the runs' phrases
        del figures["runs, head alone"][name]
    del figures["runs, instances"]["symmetry"]
    return figures


def _around_points(surface: Surface, ids: np.ndarray) -> tuple[Detection, ...]:
    """The boxes around the instances that grouping found."""
    return tuple(
        Detection(
            one.center, one.size, one.rotation_wxyz, one.yaw_rad, 0, None, one.score,
            np.zeros(0), np.flatnonzero(ids == one.id), np.zeros(0),
        )
        for one in InstancePoints(surface, ids).records()
    )  # fmt: skip


def _matched(instance: np.ndarray, masks: list[np.ndarray]) -> set[int]:
    """Objects that one of the masks has, with an IoU of their points of at least 0.5."""
    counts, hit = np.bincount(instance), set()
    for mask in masks:
        inside = np.bincount(instance[mask], minlength=len(counts))
        iou = inside / (counts + len(mask) - inside)
        hit |= {int(best) for best in np.flatnonzero(iou >= 0.5) if best > 0}
    return hit


def _scan(detector: Detector, infos: Path, folder: Path | None) -> dict[str, float]:
    """Figures of real scans: class-agnostic, at the shipped least score."""
    found, true = {}, {}
    every = replace(detector, min_score=ALL_SCORES)
    for scene in read_mmdet3d(infos, folder=folder):
        rgb = None if scene.rgb is None else scene.rgb.astype(np.float32) / 255
        found[scene.name] = found_boxes(every.detect(PointCloud(scene.xyz, None, rgb)))
        true[scene.name] = TrueBoxes(scene.boxes, scene.labels)
    return _agnostic(measure_detection(found, true, min_score=detector.min_score))


if __name__ == "__main__":
    start(MeasureDetection)
