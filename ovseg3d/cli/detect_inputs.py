"""What `detect` looks at: a point cloud, a run, one photo with depth, or a view of a capture."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ovseg3d.errors import ConfigError, RunError, SceneError

if TYPE_CHECKING:
    import numpy as np

    from ovseg3d.cli.flags import Where
    from ovseg3d.heads.detection import DetectedScene, Detector, Names
    from ovseg3d.heads.lifting import LiftedPhoto
    from ovseg3d.heads.naming import ObjectNamer
    from ovseg3d.runs.devices import DeviceName
    from ovseg3d.scene import PointCloud, Scene
    from ovseg3d.session import Run


@dataclass(frozen=True)
class Seen:
    """Points with their detections, and the photo that they come from, if they do."""

    cloud: "PointCloud"
    found: "DetectedScene"
    eye: "np.ndarray | None" = None
    """Position from which distances are measured."""
    photo: "tuple[np.ndarray, LiftedPhoto] | None" = None
    """Its pixels, and what was lifted from it."""
    name: str | None = None
    """Of the run's capture, or of the view; None: that of the file."""


@dataclass(frozen=True)
class DepthSource:
    """Where a photo's depth and intrinsics come from."""

    depth: Path | None
    scale: float | None
    model: str | None
    """Of metric depth."""
    intrinsics: tuple[float, float, float, float] | None
    """In pixels of the upright photo."""
    device: "DeviceName" = "auto"

    @property
    def is_builtin(self) -> bool:
        """Whether depth that is predicted comes from the built-in network."""
        from ovseg3d.encoders.depth import BUILTIN

        return self.model == BUILTIN

    def predict(
        self, rgb: "np.ndarray", intrinsics: tuple[float, float, float, float]
    ) -> "tuple[np.ndarray, float | None]":
        """Metric depth by the model, and its focal length. Raises EncoderError."""
        from ovseg3d.encoders.depth import load_depth_estimator
        from ovseg3d.runs.devices import resolve_device

        assert self.model is not None
        estimator = load_depth_estimator(self.model, resolve_device(self.device), "--depth-model")
        return estimator.metric_depth(rgb, intrinsics)


@dataclass(frozen=True)
class NameSources:
    """What names the objects of a cloud."""

    by: str | None = None
    """Sources, separated by commas; None: what --name-by says of its default."""
    clip: str | None = None
    """What sees images and reliefs; None: the built-in CLIP."""
    device: "DeviceName" = "auto"

    @property
    def chosen(self) -> tuple[str, ...] | None:
        """The sources that were asked for. Raises ConfigError: one is not known, or there is none."""
        if self.by is None:
            return None
        asked = tuple(word.strip() for word in self.by.split(","))
        wrong = [word for word in asked if word not in SOURCES]
        if wrong:
            raise ConfigError(f"--name-by takes {', '.join(SOURCES)}, not {wrong[0]!r}", fix="--name-by head,shape")
        if asked == ("head",) and self.clip is not None:
            raise ConfigError("--clip has no effect with --name-by head", fix="leave one out")
        return asked

    @property
    def by_head(self) -> bool:
        """Whether the head's embedding is one of them. Raises ConfigError."""
        return "head" in (self.chosen or ("head",))

    @property
    def by_encoder(self) -> bool:
        """Whether there are others. Raises ConfigError."""
        return self.clip is not None or self.chosen not in (None, ("head",))

    def load(self, cloud: "PointCloud", path: Path) -> "list[ObjectNamer]":
        """What names objects besides the head. Raises ConfigError, EncoderError."""
        from ovseg3d.heads.naming import PictureNamer, ReliefNamer, has_colours
        from ovseg3d.runs.devices import resolve_device

        chosen, coloured = self.chosen, has_colours(cloud)
        if chosen is None:
            chosen = ("head",) if self.clip is None else ("head", "images" if coloured else "shape")
        if "images" in chosen and not coloured:
            raise ConfigError(
                "The cloud has no colours, or only one, so there are no images of it",
                where=path,
                fix="--name-by head,shape",
            )
        clip, namers = self.clip or "builtin", []
        if "shape" in chosen:
            namers.append(ReliefNamer(clip, device=resolve_device(self.device)))
        if "images" in chosen:
            namers.append(PictureNamer(clip, device=resolve_device(self.device)))
        return namers


SOURCES = ("head", "shape", "images")


def parse_intrinsics(text: str | None) -> tuple[float, float, float, float] | None:
    """The four numbers of --intrinsics. Raises ConfigError."""
    if text is None:
        return None
    try:
        fx, fy, cx, cy = (float(word) for word in text.split(","))
        if not (0 < fx < 1e6 and 0 < fy < 1e6 and abs(cx) < 1e6 and abs(cy) < 1e6):
            raise ValueError
    except ValueError as error:
        raise ConfigError(
            f"--intrinsics must be four numbers fx,fy,cx,cy in pixels, not {text!r}", fix="--intrinsics 525,525,320,240"
        ) from error
    return fx, fy, cx, cy


def load_run(path: Path, where: "Where") -> "Run":
    """The run at `path`. Raises RunError, ConfigError: it is no run, and no other file that is read."""
    from ovseg3d.runs.places import find_run
    from ovseg3d.scene.clouds import SUFFIXES
    from ovseg3d.scene.images import PHOTO_SUFFIXES

    try:
        find_run(path)
    except RunError as error:
        if not path.suffix or path.is_dir():
            raise
        what = "This file is no point cloud, no photo and not of a run" if path.exists() else "There is no such file"
        kinds = f"a point cloud ({', '.join(SUFFIXES)}), or a photo ({', '.join(PHOTO_SUFFIXES)})"
        raise ConfigError(what, where=path, fix=f"give the folder of a run, {kinds}") from error
    return where.load(path)


TOO_SMALL = "This is too small for a room, and the detector knows objects in rooms: use ovseg3d name for one object."


def in_cloud(
    path: Path, detector: "Detector", names: "Names | None", up: Any, metres_per_unit: float | None,
    sources: NameSources = NameSources(),
) -> Seen:  # fmt: skip
    """Objects of a file of points.

    Args:
        path: the file.
        detector: finds the objects, and names them if `sources` says so.
        names: to choose from.
        up: unit vector, or None to guess.
        metres_per_unit: or None to guess.
        sources: what names the objects.

    Raises:
        SceneError, ConfigError, EncoderError: the input or a flag is not usable.
    """
    from ovseg3d.heads.detection import detect_scene, is_small
    from ovseg3d.scene import read_cloud

    cloud, lost = read_cloud(path)
    namers = sources.load(cloud, path)
    notes = (f"{lost:,} points without finite coordinates are left out.",) if lost else ()
    found = detect_scene(
        cloud,
        detector,
        up=up,
        metres_per_unit=metres_per_unit,
        names=names,
        namers=namers,
    )
    if is_small(cloud, found.frame.metres_per_unit) and not found.frame.is_flat:
        notes += (TOO_SMALL,)
    return Seen(cloud, replace(found, frame=replace(found.frame, warnings=(*found.frame.warnings, *notes))))


def in_run(
    path: Path,
    where: "Where",
    detector: "Detector | None",
    phrases: Sequence[str] | None,
    *,
    camera: str | None,
    metres: float | None,
) -> Seen:
    """Objects on a run's surface.

    Args:
        path: the run.
        where: the flags of runs.
        detector: see `QueryEngine.detect`.
        phrases: names to choose from.
        camera: name of the view from which distances are measured.
        metres: per unit.

    Raises:
        RunError, ConfigError: the input or a flag is not usable.
    """
    run = load_run(path, where)
    engine = where.engine(run, run.load_scene(where.scene))
    eye = None if camera is None else engine.camera(camera).position
    found = engine.detect(phrases, detector=detector, metres_per_unit=metres)
    return Seen(engine.semantics.surface.cloud, found, eye, name=run.scene_name)


def in_photo(path: Path, source: DepthSource, detector: "Detector", names: "Names | None") -> Seen:
    """Objects in one photo. Raises SceneError, EncoderError."""
    from ovseg3d.heads.lifting import USUAL_SPREAD, Focal, lift_photo, usual_focal
    from ovseg3d.scene import read_rgbd

    if source.depth is None and source.model is None:
        raise ConfigError(
            "A photo alone has no depth",
            where=path,
            fix="--depth DEPTH.png, --depth-model NAME for a model of metric depth, or --depth-model builtin, which is "
            "too rough for most boxes",
        )
    read = read_rgbd(path, source.depth, source.scale)
    focal = None if read.focal_px is None else Focal(read.focal_px, EXIF_SPREAD, "EXIF")
    given, notes = None, ()
    if source.intrinsics is not None:
        fx, fy, cx, cy = (value * read.scale for value in source.intrinsics)
        given = (fx, fy, cx, cy)
    depth_z = read.depth_z
    if depth_z is None:
        height, width = read.rgb.shape[:2]
        known = focal or Focal(usual_focal(width, height), USUAL_SPREAD, "estimated")
        depth_z, predicted = source.predict(read.rgb, given or (known.pixels, known.pixels, width / 2, height / 2))
        if focal is None and predicted is not None:
            focal = Focal(predicted, MODEL_SPREAD, "model")
        if source.is_builtin:
            focal, notes = known, (ROUGH,)  # its depth takes the focal length for granted, so it says nothing of it
    lifted = lift_photo(depth_z, read.rgb, intrinsics=given, focal=focal)
    return _of_photo(lifted, read.rgb, detector, names, 1.0, "camera", notes)


def in_view(
    path: Path, view: str, where: "Where", source: DepthSource, detector: "Detector", *, names: "Names | None",
    metres: float | None,
) -> Seen:  # fmt: skip
    """Objects in one view of a capture, or of a run's.

    Args:
        path: of the capture or the run.
        view: name of the photo.
        where: the flags of runs.
        source: a model of depth, where the capture has none.
        detector: finds the objects.
        names: to choose from; None: the phrases of the capture, or else the detector's own.
        metres: per unit.

    Raises:
        SceneError, RunError, ConfigError, EncoderError: the input or a flag is not usable.
    """
    import numpy as np

    from ovseg3d.heads.lifting import lift_view
    from ovseg3d.scene.images import load_depth, load_photo
    from ovseg3d.scene.rgbd import MAX_SIDE

    scene = _capture(path, where)
    names, notes = (names, ()) if names is not None else _names_of(scene, detector)
    frame = next((f for f in scene.frames if view in (f.name, Path(f.name).name, Path(f.name).stem)), None)
    if frame is None:
        raise ConfigError(f"The capture has no view {view}", where=scene.path, fix=f"--view {scene.frames[0].name}")
    share = min(1.0, MAX_SIDE / max(frame.camera.width, frame.camera.height))
    camera = frame.camera.scaled(round(frame.camera.width * share), round(frame.camera.height * share))
    frame = replace(frame, camera=camera)
    rgb = load_photo(frame)[..., :3]
    metres = metres or scene.metres_per_unit
    if source.model is not None:
        if metres is None:
            raise ConfigError("The capture's scale is not known, so metric depth does not fit it", fix="--scale METRES")
        depth_z = source.predict(rgb, (camera.fx, camera.fy, camera.cx, camera.cy))[0] / metres
        notes = (*notes, ROUGH) if source.is_builtin else notes
    elif frame.depth_path is not None:
        depth_z = load_depth(frame, scene)
    else:
        raise ConfigError(f"{frame.name} has no depth", where=scene.path, fix="--depth-model NAME, or another --view")
    up = scene.world_from_input[2, :3] / np.linalg.norm(scene.world_from_input[2, :3])
    lifted = lift_view(depth_z, camera, tuple(float(v) for v in up), rgb)  # type: ignore[arg-type]
    return replace(_of_photo(lifted, rgb, detector, names, metres, "input", notes), name=frame.name)


def _names_of(scene: "Scene", detector: "Detector") -> "tuple[Names | None, tuple[str, ...]]":
    """Names of a capture's own phrases (None: it has none), and notes. What is none of these stays, as in a run."""
    from ovseg3d.errors import EncoderError
    from ovseg3d.heads.detection import given_names
    from ovseg3d.query.words import is_structural

    phrases = [phrase for phrase in scene.phrases if not is_structural(phrase)]
    try:
        return given_names(phrases, detector.names, keep_unnamed=True) if phrases else None, ()
    except EncoderError as error:
        return None, (
            f"Objects have the detector's own names, since the capture's phrases cannot be used: {error.what}.",
        )


EXIF_SPREAD, MODEL_SPREAD = 0.03, 0.1
"""Relative uncertainty of a focal length by EXIF, which is rounded to a millimetre, and by a model."""
ROUGH = (
    "The depth comes from a small network that has seen rendered rooms only: it is rough, and hardly any box is right. "
    "Give a depth image (--depth) or a larger model (--depth-model)."
)


def _of_photo(
    lifted: "LiftedPhoto", rgb: "np.ndarray", detector: "Detector", names: "Names | None", metres: float | None,
    coordinates: Any, notes: tuple[str, ...] = (),
) -> Seen:  # fmt: skip
    from ovseg3d.heads.detection import detect_scene

    found = detect_scene(lifted.cloud, detector, up=lifted.up, metres_per_unit=metres, names=names)
    found = replace(
        found,
        is_scale_known=metres is not None,
        coordinates=coordinates,
        frame=replace(found.frame, warnings=(*notes, *lifted.warnings, *found.frame.warnings)),
    )
    return Seen(lifted.cloud, found, lifted.camera.position, (rgb, lifted))


def _capture(path: Path, where: "Where") -> "Scene":
    """A capture, or that of a run."""
    from ovseg3d.scene import load_scene

    try:
        return where.load(path).load_scene(where.scene)
    except RunError as no_run:
        if where.scene is not None or (path / "config.json").is_file():
            raise
        try:
            return load_scene(path, trust=where.trust())
        except SceneError as no_scene:
            raise no_scene from no_run
