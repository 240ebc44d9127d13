"""Measure the shipped detection head on exact clouds of new rooms, on a real scan, and for speed.

    python -m scripts.benchmarks.detection
    python -m scripts.benchmarks.detection --scan infos.pkl --scan-folder FOLDER   # a scan in mmdet3d's layout
    python -m scripts.benchmarks.detection --rooms 0 --runs outputs/room/run       # runs of synthetic rooms

Rooms are of seeds that no training and no choice of a setting has used, with all looks, also those held out of
training. Names do not count in the first table: boxes are class-agnostic. Recall and precision are those of the
shipped least score; average precision takes all detections above 0.02. The front is that of the true objects with one
that were found at an IoU of 0.25. The scan's boxes are parallel to its axes, and its classes are 18 kinds only, so that
right boxes of other things count as errors in its precision. In runs the head's boxes stand beside those around the
instances that grouping found; true are the objects that two photos see, with their whole extent. Points of a detection
are compared with those of the surface that lie on the object.
"""

import resource
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree  # pyright: ignore[reportAttributeAccessIssue] - not in SciPy's list of names

from ovseg3d.datasets import read_mmdet3d
from ovseg3d.evaluate.measure import read_objects
from ovseg3d.evaluate.metrics.detection import DetectionScores, FoundBoxes, TrueBoxes, measure_detection
from ovseg3d.files import read_json, write_json
from ovseg3d.geometry import rotated_iou
from ovseg3d.geometry.boxes import box_from_record
from ovseg3d.heads.detection import Detection, Detector
from ovseg3d.instances.records import instances_of
from ovseg3d.query.engine import QueryEngine
from ovseg3d.scene import PointCloud
from ovseg3d.session import load
from ovseg3d.synth import surface_cloud
from ovseg3d.synth.holdout import ALL
from scripts.start import start
from scripts.training.detection_rooms import DetectionRoom, make_detection_room

FIRST_SEED = 830_000
"""Of the rooms; trainings use 500,000 and on, development 600,000 and on; 820,000 and on were opened before."""
ALL_SCORES = 0.02
ON_SURFACE = 0.08
"""A surface point this near to the true surface belongs to its object, metres."""


@dataclass
class Fronts:
    """Errors of the front, degrees, and right orders of symmetry."""

    errors: list[float] = field(default_factory=list)
    """Of true objects with a front that were found; 180 where the detection has none."""
    symmetric: list[bool] = field(default_factory=list)
    """Of found objects: whether the order of symmetry is right."""
    named: list[bool] = field(default_factory=list)
    """Of found objects: whether the best name is the kind's."""

    def add(self, room: DetectionRoom, detections: tuple[Detection, ...]) -> None:
        """Count the detections of a room."""
        iou = rotated_iou(_rows(detections), room.boxes.astype(np.float64))
        for true in range(len(room.boxes)):
            if not len(iou) or iou[:, true].max() < 0.25:
                continue
            best = detections[int(iou[:, true].argmax())]
            self.symmetric.append(best.symmetry_order == int(room.symmetry[true]))
            self.named.append(best.label == room.kinds[true])
            if room.facing[true]:
                yaw = best.yaw_rad
                error = 180.0 if best.front is None or yaw is None else _apart(yaw, float(room.boxes[true, 6]))
                self.errors.append(error)

    def figures(self) -> dict[str, float]:
        """Median, shares within 15 and 30 degrees, shares of right symmetries and names."""
        errors = np.array(self.errors)
        return {
            "front_median_deg": float(np.median(errors)),
            "front_15": float((errors <= 15).mean()),
            "front_30": float((errors <= 30).mean()),
            "symmetry": float(np.mean(self.symmetric)),
            "names": float(np.mean(self.named)),
        }


@dataclass(frozen=True)
class MeasureDetection:
    """Print the tables and write them as JSON."""

    rooms: int = 20
    """Rooms with exact clouds."""
    points: int = 150_000
    """Points of each."""
    runs: tuple[Path, ...] = ()
    """Runs of synthetic rooms, with semantics."""
    scan: Path | None = None
    """A pickle of mmdet3d's, such as scannet_infos.pkl."""
    scan_folder: Path | None = None
    """The folder of its points; by default beside the pickle."""
    output: Path = Path("outputs/detection/benchmark.json")
    """Where the figures go."""
    card: bool = False
    """Also put the figures into the card of the shipped weights."""

    def main(self) -> None:
        """Measure."""
        detector = Detector()
        figures: dict[str, Any] = {"rooms": self._rooms(detector)} if self.rooms else {}
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
        every = Detector(min_score=ALL_SCORES)
        found, true, fronts, seconds = {}, {}, Fronts(), []
        for seed in range(FIRST_SEED, FIRST_SEED + 2 * self.rooms, 2):
            room = make_detection_room(seed, self.points, ALL, typed=True)
            cloud = PointCloud(room.xyz, room.normal.astype(np.float32) / 127, room.rgb.astype(np.float32) / 255)
            start_time = time.perf_counter()
            detections = detector.detect(cloud)
            seconds.append(time.perf_counter() - start_time)
            fronts.add(room, detections)
            found[str(seed)] = found_boxes(every.detect(cloud))
            true[str(seed)] = TrueBoxes(room.boxes.astype(np.float64), room.kinds)
        scores = measure_detection(found, true, min_score=detector.min_score)
        speed = {"median_seconds": float(np.median(seconds)), "threads": torch.get_num_threads()}
        return _agnostic(scores) | fronts.figures() | speed


def found_boxes(detections: tuple[Detection, ...]) -> FoundBoxes:
    """Detections as the measure takes them."""
    return FoundBoxes(
        _rows(detections), np.array([d.score for d in detections]), tuple(d.label or "object" for d in detections)
    )


def _rows(detections: tuple[Detection, ...]) -> np.ndarray:
    return np.array([[*d.center, *d.size, d.yaw_rad or 0.0] for d in detections], np.float64).reshape(-1, 7)


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
    """Figures of the head and of grouping in runs, class-agnostic."""
    every = Detector(detector.weights, min_score=ALL_SCORES)
    found: dict[str, dict[str, FoundBoxes]] = {"head": {}, "grouping": {}}
    true: dict[str, TrueBoxes] = {}
    points, overlaps = PointCounts(), {"head": [], "grouping": []}
    for folder in folders:
        engine = QueryEngine(load(folder))
        name, surface = str(folder), engine.semantics.surface
        detections = engine.detect(detector=every).detections
        found["head"][name] = found_boxes(detections)
        grouped = instances_of(surface, engine.semantics.instance)
        sure = [d for d in detections if d.score >= detector.min_score]
        rows = np.array([box_from_record(one.record()).row() for one in grouped]).reshape(-1, 7)
        found["grouping"][name] = FoundBoxes(rows, np.array([one.score for one in grouped]), ("object",) * len(rows))
        cloud = surface_cloud(engine.scene.path, seen=True)
        assert cloud.seen is not None
        views = np.bincount(cloud.instance, cloud.seen >= 2)
        seen = [record for record in read_objects(engine.scene) if views[record["id"]] > 0]
        boxes = np.array([box_from_record(record).row() for record in seen])
        true[name] = TrueBoxes(boxes, tuple(record["category"] for record in seen))
        for kind in overlaps:
            overlaps[kind] += rotated_iou(boxes, found[kind][name].boxes).max(1, initial=0).tolist()
        near, row = cKDTree(cloud.xyz).query(surface.xyz)
        points.add(np.where(near < ON_SURFACE, cloud.instance[row], 0), [d.points for d in sure], len(seen))
    figures = {
        f"runs, {kind}": _agnostic(
            measure_detection(one, true, min_score=detector.min_score if kind == "head" else 0.0)
        )
        for kind, one in found.items()
    }
    figures["runs, head"] |= points.figures()
    for kind, values in overlaps.items():
        figures[f"runs, {kind}"]["mean_iou"] = float(np.mean(values))
    return figures


@dataclass
class PointCounts:
    """Objects found at a point IoU of 0.5."""

    right: int = 0
    found: int = 0
    true: int = 0

    def add(self, instance: np.ndarray, masks: list[np.ndarray], true: int) -> None:
        """Count a run: the true instance of each surface point, and the detections' points."""
        hit = set()
        for mask in masks:
            inside = np.bincount(instance[mask])
            inside[0:1] = 0
            best = int(inside.argmax()) if len(inside) else 0
            union = len(mask) + (instance == best).sum() - inside[best] if len(inside) else 1
            if best > 0 and inside[best] / union >= 0.5:
                hit.add(best)
        self.right, self.found, self.true = self.right + len(hit), self.found + len(masks), self.true + true

    def figures(self) -> dict[str, float]:
        """Recall and precision."""
        return {
            "point_recall_50": self.right / max(self.true, 1),
            "point_precision_50": self.right / max(self.found, 1),
        }


def _scan(detector: Detector, infos: Path, folder: Path | None) -> dict[str, float]:
    """Figures of real scans: class-agnostic, at the shipped least score."""
    found, true = {}, {}
    every = Detector(detector.weights, min_score=ALL_SCORES)
    for scene in read_mmdet3d(infos, folder=folder):
        rgb = None if scene.rgb is None else scene.rgb.astype(np.float32) / 255
        found[scene.name] = found_boxes(every.detect(PointCloud(scene.xyz, None, rgb)))
        true[scene.name] = TrueBoxes(scene.boxes, scene.labels)
    return _agnostic(measure_detection(found, true, min_score=detector.min_score))


if __name__ == "__main__":
    start(MeasureDetection)
