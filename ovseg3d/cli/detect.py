"""`ovseg3d detect`: boxes around the objects of a point cloud or a run."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from ovseg3d.cli.flags import Json, Where, WhereFlags, refuse_idle
from ovseg3d.errors import ConfigError

if TYPE_CHECKING:
    from ovseg3d.heads.detection import DetectedScene, Detection, Detector
    from ovseg3d.scene.clouds import PointCloud

UP: dict[str, tuple[float, float, float]] = {
    "x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0),
    "-x": (-1.0, 0.0, 0.0), "-y": (0.0, -1.0, 0.0), "-z": (0.0, 0.0, -1.0),
}  # fmt: skip


@dataclass(frozen=True)
class Detect:
    """Put named, oriented boxes around the objects of a point cloud or a run.

    The table shows name, score (the expected overlap of the box with the object), size, and which way the object
    faces. With --output, boxes are written as JSON and CSV, with a picture from above.

    Examples:
      ovseg3d detect room.ply --output boxes
      ovseg3d detect outputs/playroom/latest --classes "chair;lamp;table"
    """

    input: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="CLOUD|RUN")]
    """A point cloud (.ply, .npy, .npz, or a mesh), a run folder, or a scene (its newest run)."""
    classes: str | None = None
    """Names to choose from, separated by semicolons, or a file with one per line. What is none of them is left out. By
    default the phrases of the run, or else the kinds of objects that the detector was trained on."""
    min_score: float = 0.3
    """Least score of a detection, 0 to 1."""
    up: Literal["auto", "x", "y", "z", "-x", "-y", "-z"] = "auto"
    """The axis of a point cloud that points up; auto is z, unless the cloud evidently lies another way."""
    scale: float | None = None
    """Metres per unit of the input; by default 1 for a point cloud, unless it evidently has another unit."""
    camera: str | None = None
    """Measure distances from this photo's camera (of a run)."""
    output: Path | None = None
    """Folder for detections.json, detections.csv and birds_eye.png."""
    where: WhereFlags = Where()
    json: Json = False

    def main(self) -> None:
        """Detect and print a table. Raises ConfigError: a flag is invalid or has no effect."""
        from ovseg3d.cli.console import get_console, print_json, shell_path
        from ovseg3d.export.detections import describe_detections, save_detections
        from ovseg3d.heads.detection import Detector
        from ovseg3d.scene.clouds import SUFFIXES

        if not 0 <= self.min_score <= 1:
            raise ConfigError(f"--min-score must be from 0 to 1, not {self.min_score:g}", fix="--min-score 0.3")
        if self.scale is not None and not 1e-6 <= self.scale <= 1e6:
            raise ConfigError(f"--scale must be above 0, not {self.scale:g}", fix="--scale 0.01 for centimetres")
        console = get_console(self.json)
        is_cloud = self.input.suffix.lower() in SUFFIXES and not self.input.is_dir()
        refuse_idle(
            self, ("up", is_cloud, "with a point cloud"), ("camera", not is_cloud, "with a run"),
            ("scene", not is_cloud, "with a run"), ("clip", not is_cloud, "with a run"),
        )  # fmt: skip
        detector = Detector(min_score=self.min_score)
        with console.status("Detecting objects"):
            cloud, found, eye, notes = self._in_cloud(detector) if is_cloud else self._in_run(detector)
        for text in (*notes, *found.frame.warnings):
            get_console(True).print(f"Note: {text}", markup=False, soft_wrap=True, style="yellow")
        files = [] if self.output is None else save_detections(self.output, cloud, found, self.input.name)
        if self.json:
            print_json({"input": self.input, **describe_detections(found), "files": files})
            return
        if found.detections:
            console.print(_table(found, eye))
        count = len(found.detections)
        console.print(f"{count} object{'s' if count != 1 else ''} in {len(cloud):,} points.", markup=False)
        for path in files:
            console.print(f"  {shell_path(path)}", markup=False, soft_wrap=True)

    def _in_cloud(self, detector: "Detector") -> "tuple[PointCloud, DetectedScene, Any, list[str]]":
        from ovseg3d.heads.detection import detect_scene, given_names
        from ovseg3d.runs.phrases import read_list
        from ovseg3d.scene.clouds import read_cloud

        cloud, lost = read_cloud(self.input)
        notes = [f"{lost:,} points without finite coordinates are left out."] if lost else []
        labels = None if self.classes is None else read_list(self.classes, "--classes")
        names = None if labels is None else given_names(labels, detector.names)
        up = UP.get(self.up)
        return cloud, detect_scene(cloud, detector, up=up, metres_per_unit=self.scale, names=names), None, notes

    def _in_run(self, detector: "Detector") -> "tuple[PointCloud, DetectedScene, Any, list[str]]":
        from ovseg3d.query.detections import cloud_of, detect_in_run
        from ovseg3d.runs.phrases import read_list

        run = self.where.load(self.input)
        engine = self.where.engine(run, run.load_scene(self.where.scene))
        eye = None if self.camera is None else engine.camera(self.camera).position
        phrases = None if self.classes is None else read_list(self.classes, "--classes")
        found = detect_in_run(engine, detector, phrases=phrases, metres_per_unit=self.scale)
        return cloud_of(engine), found, eye, []


def _table(found: "DetectedScene", eye: Any) -> Any:
    import numpy as np
    from rich.table import Table

    unit = "m" if found.metric else "units"
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("name")
    for heading in ("score", f"size, {unit}", f"centre, {unit}", *([f"distance, {unit}"] if eye is not None else [])):
        table.add_column(heading, justify="right")
    table.add_column("faces")
    for d in found.detections:
        far = [] if eye is None else [f"{np.linalg.norm(np.subtract(d.center, eye)):.2f}"]
        size, center = " x ".join(f"{v:.2f}" for v in d.size), ", ".join(f"{v:.2f}" for v in d.center)
        table.add_row(d.label or "object", f"{d.score:.2f}", size, center, *far, _facing(d))
    return table


def _facing(detection: "Detection") -> str:
    """The direction of the front along the frame's axes, such as "+x -y" for one between them."""
    if detection.front is None:
        return {0: "round", 2: "both ways", 4: "four ways"}[detection.symmetry_order]
    # Axes within 67.5 degrees of the front.
    near = [(value, axis) for value, axis in zip(detection.front, "xyz") if abs(value) > 0.38]
    return " ".join(f"{'+' if value > 0 else '-'}{axis}" for value, axis in near)
