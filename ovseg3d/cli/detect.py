"""`ovseg3d detect`: boxes around the objects of a point cloud, a run, one photo, or a view of a capture."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import tyro

from ovseg3d.cli.flags import Json, Where, refuse_idle
from ovseg3d.cli.many import Many, ManyFlags
from ovseg3d.cli.many_runs import MoreRuns, Output, are_many, over_runs
from ovseg3d.errors import ConfigError

if TYPE_CHECKING:
    from ovseg3d.cli.detect_inputs import NameSources, Seen
    from ovseg3d.cli.tables import Column
    from ovseg3d.heads.detection import DetectedScene, Detection, Detector, Names

UP: dict[str, tuple[float, float, float]] = {
    "x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0),
    "-x": (-1.0, 0.0, 0.0), "-y": (0.0, -1.0, 0.0), "-z": (0.0, 0.0, -1.0),
}  # fmt: skip


@dataclass(frozen=True)
class DetectWhere(Where):
    """The same flags, one of which means more here."""

    clip: str | None = None
    """With a point cloud: the text-image encoder, as in --clip of train, that also names objects, by what --name-by
    says. With a run: its encoder, if the run itself may not name it; its hash is checked."""


@dataclass(frozen=True)
class Detect:
    """Put named, oriented boxes around the objects of a point cloud, a run, or one photo with depth.

    The table shows name, score (the expected overlap of the box with the object), size, and which way the object
    faces. With --output, boxes are written as JSON and CSV, with a picture from above. A photo needs depth: an image of
    a depth camera, or a model that predicts it. With --clip, or --name-by, the objects of a cloud are also named by
    pictures of them, which are rendered, or by the shape of their points.

    Examples:
      ovseg3d detect room.ply --output boxes
      ovseg3d detect outputs/playroom/latest --classes "chair;lamp;table"
      ovseg3d detect photo.jpg --depth-model builtin
      ovseg3d detect photo.jpg --depth depth.png --intrinsics 525,525,319.5,239.5
      ovseg3d detect photo.jpg --depth-model depth-anything/Depth-Anything-V2-Metric-Indoor-Small-hf
      ovseg3d detect scenes/playroom --view 64.jpg
    """

    stoppable: ClassVar[bool] = False
    input: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="CLOUD|RUN|PHOTO|SCENE")]
    """A point cloud (.ply, .pcd, .npy, .npz, .bin, or a mesh), a run folder, a scene (its newest run), or a photo."""
    more: MoreRuns = ()
    classes: str | None = None
    """Names to choose from, separated by semicolons, or a file with one per line. What is none of them is left out. By
    default the phrases of the run or the capture, and what is none of these is called object; or else the kinds of
    objects that the detector was trained on."""
    name_by: str | None = None
    """What names the objects of a point cloud, separated by commas: head, the detector's own embedding; shape, reliefs
    of their points, as ovseg3d name sees them; images, which are rendered, of a cloud with colours. By default head,
    and with --clip also images, or shape where there are no colours."""
    min_score: float | None = None
    """Least score of a detection, 0 to 1; by default 0.3, and any for the instances of a run."""
    exact: bool = False
    """The point cloud is exact and complete, such as a simulated room: boxes end where its points do."""
    up: Literal["auto", "x", "y", "z", "-x", "-y", "-z"] = "auto"
    """The axis of a point cloud that points up, such as -y; auto is z, unless the cloud evidently lies another way."""
    scale: float | None = None
    """Metres per unit of the input; by default 1 for a point cloud, unless it evidently has another unit."""
    view: str | None = None
    """Only what this photo of a capture shows, from its depth and camera."""
    depth: Path | None = None
    """Depth of the photo: an image, or an .npy array, of z-depth; 0 is unknown."""
    depth_scale: float | None = None
    """Metres per value of --depth; by default 0.001, and 1 for an .npy array."""
    depth_model: str | None = None
    """Predicts metric depth of a photo without --depth: a model of transformers by id or folder, or builtin, which is
    too rough for most boxes."""
    intrinsics: str | None = None
    """fx,fy,cx,cy of the photo in pixels; by default from EXIF, or else estimated, with a warning."""
    camera: str | None = None
    """Measure distances from this photo's camera (of a run)."""
    output: Path | None = None
    """Folder for detections.json, detections.csv, coco3d.json and birds_eye.png, and overlay.png of a photo. For
    several runs it has a folder for each, with the ledger results.jsonl, and the same command again does what is
    missing."""
    many: ManyFlags = Many()
    where: Annotated[DetectWhere, tyro.conf.arg(name="")] = DetectWhere()
    json: Json = False

    def main(self) -> int:
        """Detect and print a table. Raises ConfigError: a flag is invalid or has no effect."""
        from ovseg3d.cli.console import print_json

        paths = (self.input, *self.more)
        if are_many(paths, self.many):
            refuse_idle(self, ("scene", False, "with one run"), ("camera", False, "with one run"))
        result, code = over_runs(self, paths, self.many, self.output)
        if self.json:
            print_json(result)
        return code

    def use(self, path: Path, folder: Path | None, output: Output) -> dict[str, Any]:
        """Detect in one input."""
        return replace(self, input=path, more=(), output=folder)._run(output)

    def _run(self, output: Output) -> dict[str, Any]:
        from ovseg3d.cli.console import get_console, shell_path
        from ovseg3d.cli.tables import print_table
        from ovseg3d.export.detections import describe_detections, describe_photo, save_detections

        self._check()
        console = output.console
        with console.status("Detecting objects"):
            seen = self._detect()
        found, notes = seen.found, get_console(True) if output.report is None else console
        for text in found.frame.warnings:
            notes.print(f"Note: {text}", markup=False, soft_wrap=True, style="yellow")
        files = []
        if self.output is not None:
            photo = None if seen.photo is None else (seen.photo[0], seen.photo[1].camera)
            files = save_detections(self.output, seen.cloud, found, seen.name or self.input.name, photo, seen.eye)
        lifted = {} if seen.photo is None else describe_photo(seen.photo[1])
        result = {"input": self.input, **describe_detections(found, seen.eye), **lifted, "files": files}
        if self.json:
            return result
        if found.detections:
            print_table(console, _columns(found, seen.eye))
        count = len(found.detections)
        console.print(f"{count} object{'s' if count != 1 else ''} in {len(seen.cloud):,} points.", markup=False)
        for path in files:
            console.print(f"  {shell_path(path)}", markup=False, soft_wrap=True)
        return result

    @property
    def _is_cloud(self) -> bool:
        from ovseg3d.scene.clouds import SUFFIXES

        return self.input.suffix.lower() in SUFFIXES and not self.input.is_dir()

    @property
    def _is_photo(self) -> bool:
        from ovseg3d.scene.images import PHOTO_SUFFIXES

        return self.input.suffix.lower() in PHOTO_SUFFIXES and not self.input.is_dir()

    def _check(self) -> None:
        """Raises ConfigError."""
        if self.min_score is not None and not 0 <= self.min_score <= 1:
            raise ConfigError(f"--min-score must be from 0 to 1, not {self.min_score:g}", fix="--min-score 0.3")
        for name in ("scale", "depth_scale"):
            value, flag = getattr(self, name), "--" + name.replace("_", "-")
            if value is not None and not 1e-6 <= value <= 1e6:
                raise ConfigError(f"{flag} must be from 1e-6 to 1e6, not {value:g}", fix=f"{flag} 0.01 for centimetres")
        if self.depth is not None and self.depth_model is not None:
            raise ConfigError("--depth and --depth-model exclude each other", fix="leave one out")
        cloud, photo = self._is_cloud, self._is_photo
        captured = not cloud and not photo
        run = captured and self.view is None
        refuse_idle(
            self, ("up", cloud, "with a point cloud"), ("camera", run, "with a run"), ("scene", captured, "with a run"),
            ("clip", run or cloud, "with a run or a point cloud"), ("name_by", cloud, "with a point cloud"),
            ("exact", cloud, "with a point cloud"),
            ("layout", run, "with a run"), ("view", captured, "with a scene or a run"),
            ("depth", photo, "with a photo"), ("depth_scale", self.depth is not None, "with --depth"),
            ("depth_model", photo or self.view is not None, "with a photo or --view"),
            ("intrinsics", photo, "with a photo"), ("scale", not photo, "with a cloud, a run or a scene"),
            ("device", run or self.depth_model is not None or (cloud and self._sources().by_encoder),
             "with a run, --depth-model, --clip or --name-by"),
            ("backend", run, "with a run"), ("allow_outside", captured, "with a scene or a run"),
            ("max_megapixels", captured, "with a scene or a run"),
        )  # fmt: skip

    def _detect(self) -> "Seen":
        from ovseg3d.cli import detect_inputs
        from ovseg3d.heads.detection import Detector
        from ovseg3d.runs.phrases import read_list

        labels = None if self.classes is None else read_list(self.classes, "--classes")
        given = None if self.min_score is None else Detector(min_score=self.min_score)
        if not self._is_cloud and not self._is_photo and self.view is None:
            return detect_inputs.in_run(self.input, self.where, given, labels, camera=self.camera, metres=self.scale)
        detector = replace(given or Detector(), names_objects=self._sources().by_head, exact=self.exact)
        names = self._names(labels, detector)
        if self._is_cloud:
            return detect_inputs.in_cloud(self.input, detector, names, UP.get(self.up), self.scale, self._sources())
        intrinsics = detect_inputs.parse_intrinsics(self.intrinsics)
        source = detect_inputs.DepthSource(
            self.depth, self.depth_scale, self.depth_model, intrinsics, self.where.device
        )
        if self.view is None:
            return detect_inputs.in_photo(self.input, source, detector, names)
        return detect_inputs.in_view(
            self.input, self.view, self.where, source, detector, names=names, metres=self.scale
        )

    def _names(self, labels: tuple[str, ...] | None, detector: "Detector") -> "Names | None":
        from ovseg3d.heads.detection import given_names

        return None if labels is None else given_names(labels, detector.names)

    def _sources(self) -> "NameSources":
        from ovseg3d.cli.detect_inputs import NameSources

        return NameSources(self.name_by, self.where.clip, self.where.device)


def _columns(found: "DetectedScene", eye: Any) -> list["Column"]:
    import numpy as np

    from ovseg3d.cli.tables import Column, decimals, triples

    unit, all_found = found.unit, found.detections
    columns = [
        Column("name", [d.label or "object" for d in all_found], "left"),
        *([Column("id", [str(d.id) for d in all_found])] if any(d.id is not None for d in all_found) else []),
        Column("score", [f"{d.score:.2f}" for d in all_found]),
        Column(f"size, {unit}", triples(" x ", [d.size for d in all_found])),
        Column(f"centre, {unit}", triples(", ", [d.center for d in all_found]), spare=3),
    ]
    if eye is not None:
        far = [float(np.linalg.norm(np.subtract(d.center, eye))) for d in all_found]
        columns.append(Column(f"distance, {unit}", [f"{value:.{decimals(far)}f}" for value in far], spare=1))
    columns.append(Column("faces", [_facing(d) for d in all_found], "left", spare=2))
    return columns


def _facing(detection: "Detection") -> str:
    """The direction of the front along the frame's axes, such as "+x -y" for one between them; "?" for one that is
    likelier wrong than right."""
    from ovseg3d.heads.pose import likely_front

    if likely_front(detection) is None and detection.front is not None:
        return "?"
    if detection.front is None:
        return {0: "round", 2: "both ways", 4: "four ways"}[detection.symmetry_order]
    # Axes within 67.5 degrees of the front.
    near = [(value, axis) for value, axis in zip(detection.front, "xyz") if abs(value) > 0.38]
    return " ".join(f"{'+' if value > 0 else '-'}{axis}" for value, axis in near)
