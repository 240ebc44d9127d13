"""Exports of a run: its surface, labels and pictures as files for other programs.

    <folder>/cloud/        cloud.ply, cloud_labels.ply, cloud.npz, labels.json, on request cloud.las
    <folder>/mesh/         mesh.ply, mesh.glb, mesh_labels.glb, labels.json
    <folder>/labels/       an index image for each view, labels.json, annotations.json (COCO), overview.png
    <folder>/instances.json
    <folder>/video.mp4     a flight through the training views, and with phrases video_labels.mp4
    <folder>/<scene>.html  one page with the points, for anyone

A run without meaning gives its surface (taken from the field), unlabelled; labels and instances it cannot give.
Asked for more points than the run keeps, the field is looked at again, and meaning is carried over from the nearest.
"""

import dataclasses
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from ovseg3d.engine import Event, Report, ignore
from ovseg3d.errors import ConfigError, RunError, nearest
from ovseg3d.export import WHAT
from ovseg3d.export.labelled import FrameName, LabelledCloud, moved
from ovseg3d.export.labels import label_views
from ovseg3d.export.mesh import LabelledMesh, mesh_of, save_mesh
from ovseg3d.export.overlays import Painter
from ovseg3d.export.page import save_page
from ovseg3d.export.points import import_laspy, save_cloud
from ovseg3d.export.records import instance_records, place
from ovseg3d.features.maps import normalise
from ovseg3d.field.surface import Surface, SurfaceConfig, between, extract_surface, look
from ovseg3d.files import write_json
from ovseg3d.instances.records import instances_of
from ovseg3d.points.semantic_scene import FILE, NEAREST, SemanticScene
from ovseg3d.query.engine import Asker
from ovseg3d.query.relevancy import label, relevancy
from ovseg3d.render.frames import render_film
from ovseg3d.render.palette import colours
from ovseg3d.render.paths import check_film, interpolation, resized
from ovseg3d.render.views import ViewChoice, choose_views
from ovseg3d.runs.devices import BackendName, DeviceName
from ovseg3d.runs.fields import refined, restore
from ovseg3d.runs.folder import RunFolder
from ovseg3d.runs.phrases import in_list
from ovseg3d.scene import Scene

MOST_POINTS = 3_000_000
"""That a spacing may ask the field for."""
SPARE = 1.5
"""Pixels to look at for each hit that a new surface needs: some rays meet nothing."""


FEWEST_HITS = 2
"""Of a point, where many points are asked for."""


@dataclass(frozen=True)
class ExportOptions:
    """What can be chosen."""

    phrases: Sequence[str] | None = None
    """The list of labels; None: the scene's own; empty: no labels, and then no encoder is needed."""
    none: bool = True
    """Whether what is nearer to a canonical phrase than to all of the list stays unlabelled."""
    select: Sequence[str] = ()
    """Only points with these labels; none chosen: all points."""
    frame: FrameName = "input"
    points: int | None = None
    """At most so many; None: those of the run."""
    spacing: float | None = None
    """At most one point in a cell of this size, in the frame's units; also the step of the mesh."""
    las: bool = False
    """Also write LAS."""
    embedding: bool = False
    """Give each instance its mean vector in the encoder's space."""
    views: ViewChoice = "all"
    """For `labels`."""
    seconds: float = 8.0
    """Of the video."""
    fps: float = 24.0
    width: int | None = None
    """Of the video, pixels; None: as trained."""
    scene: Path | None = None
    """Where the capture is now, if it has moved."""
    device: DeviceName = "auto"
    backend: BackendName = "auto"


def parse_what(text: str) -> tuple[str, ...]:
    """The kinds of export that a list with commas names. Raises ConfigError."""
    kinds = tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    for kind in kinds:
        if kind not in WHAT:
            close = nearest(kind, WHAT)
            fix = f"--what {close}" if close else f"--what {','.join(WHAT)}"
            raise ConfigError(f"There is no export {kind!r}", fix=fix)
    if not kinds:
        raise ConfigError("Nothing to export was named", fix=f"--what {','.join(WHAT)}")
    return kinds


def export_run(
    run: RunFolder,
    what: str,
    folder: Path | None = None,
    *,
    report: Report = ignore,
    stop: threading.Event | None = None,
    **options: Any,
) -> list[Path]:
    """Write exports; see `ovseg3d.cloud.export`.

    Args:
        report: receives events of the stages "surface", "segment" and "render".
        stop: set it to end early: KeyboardInterrupt then, and no half-written file.
    """
    kinds = parse_what(what)
    known = [field.name for field in dataclasses.fields(ExportOptions)]
    for name in options:
        if name not in known:
            close = nearest(name, known)
            raise ConfigError(f"An export has no option {name!r}", fix=close or ", ".join(known))
    for name in ("phrases", "select"):
        if options.get(name) is not None:
            options[name] = in_list(options[name])
    export = _Export(run, ExportOptions(**options), report, stop or threading.Event())
    export.check(kinds)
    folder = run.exports if folder is None else Path(folder)
    files: list[Path] = []
    if "mesh" in kinds:
        _ = export.shape  # points that cannot be a mesh are told before anything is written
    for kind in kinds:
        export.end_if_stopped()
        files += getattr(export, kind)(folder)
    return files


class _Export:
    """One call's exports; what several of them need is made once."""

    def __init__(self, run: RunFolder, options: ExportOptions, report: Report, stop: threading.Event) -> None:
        self.run, self.options, self.report, self.stop = run, options, report, stop

    def check(self, kinds: Sequence[str]) -> None:
        """Raise what can be known before any work."""
        options = self.options
        for name in ("points", "spacing"):
            value = getattr(options, name)
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"{name} must be above 0 and a number, not {value}", fix=f"--{name}")
        check_film(options.seconds, options.fps, options.width)
        if options.phrases or options.select or {"labels", "instances"} & set(kinds):
            self._meaning()
        if options.las and "cloud" in kinds:
            import_laspy()
        if "labels" in kinds and not self.phrases:
            raise ConfigError(
                "This scene names no phrases to label with",
                where=self.scene.path,
                fix='--phrases "chair;table;floor"',
            )
        for phrase in options.select:
            if phrase not in self.phrases:
                close = nearest(phrase, self.phrases)
                fix = f"--select {close!r}" if close else "select among the phrases, or name it in --phrases"
                raise ConfigError(f"No label is called {phrase!r}", fix=fix)

    def end_if_stopped(self) -> None:
        """Raise KeyboardInterrupt once `stop` is set."""
        if self.stop.is_set():
            raise KeyboardInterrupt

    # -- what exports are made of ------------------------------------------------------------------------------

    @cached_property
    def asker(self) -> Asker | None:
        """None: the run knows nothing about meaning."""
        if not (self.run.folder / FILE).exists():
            return None
        options = self.options
        scene = None if options.scene is None else self.run.load_scene(options.scene)
        return Asker(self.run, scene, options.device, options.backend)

    def _meaning(self) -> Asker:
        if self.asker is None:
            raise RunError(
                "The run knows nothing about meaning, so it has no labels and no instances",
                where=self.run.folder,
                fix=f"ovseg3d train {self.run.folder} --resume --only semantics; or --what cloud,mesh,video,html",
            )
        return self.asker

    @cached_property
    def scene(self) -> Scene:
        if self.asker is not None:
            return self.asker.scene
        return refined(self.run, self.run.load_scene(self.options.scene))

    @cached_property
    def renderer(self) -> Any:
        if self.asker is not None:
            return self.asker.renderer
        return restore(self.run, self.scene, self.options.device, self.options.backend)

    @cached_property
    def phrases(self) -> tuple[str, ...]:
        if self.asker is None:
            return ()
        chosen = self.options.phrases
        return tuple(dict.fromkeys(self.scene.phrases if chosen is None else chosen))

    @cached_property
    def whole(self) -> LabelledCloud:
        """All of the run's surface points, in the frame that was asked for."""
        surface = self._look_again(SurfaceConfig()) if self.asker is None else self.asker.semantics.surface
        return self._labelled(surface)

    @cached_property
    def chosen(self) -> LabelledCloud:
        """As many points, with as many labels, as were asked for."""
        options, made = self.options, self.whole
        wanted = options.points or 0
        if options.spacing is not None and len(made):
            typical = float(np.median(made.surface.cell))
            if options.spacing < 0.9 * typical:
                wanted = max(wanted, min(int(len(made) * (typical / options.spacing) ** 2), MOST_POINTS))
        if wanted > len(made):
            # Some more than wanted: points that too few views see go, and thinning comes close to any number.
            denser = self._labelled(self._look_again(self._denser(int(1.25 * wanted))))
            if len(denser) < 0.8 * wanted:
                told = f"{wanted:,} points were asked for; all pixels of the photos' size give {len(denser):,}"
                self.report(Event("log", "surface", message=told))
            made = replace(denser, things=made.things)
        if options.select:
            numbers = [made.phrases.index(phrase) + 1 for phrase in options.select]
            made = made.take(np.isin(made.label, numbers))
        return made.thinned(options.points, options.spacing)

    def _denser(self, points: int) -> SurfaceConfig:
        """How to look at the field for so many points: at more pixels, and where those run out, with fewer hits."""
        cameras = [self.scene.frames[view].camera for view in self.scene.train]
        views = len(cameras) + len(between(cameras))
        most = views * max(camera.width * camera.height for camera in cameras)
        hits = min(SurfaceConfig().hits, max(FEWEST_HITS, int(most / (SPARE * points))))
        return SurfaceConfig(points=points, hits=hits, pixels=int(SPARE * hits * points / views) + 1)

    def _look_again(self, settings: SurfaceConfig) -> Surface:
        """The field's surface, input frame."""
        scene = self.scene
        cameras = [scene.frames[view].camera for view in scene.train]
        views = list(look(self.renderer, cameras + between(cameras), settings, self.report, self.stop))
        self.end_if_stopped()
        up = np.linalg.inv(scene.world_from_input[:3, :3])[:, 2]
        return extract_surface(self.renderer, views, up / np.linalg.norm(up), scene.metric, settings)

    def _labelled(self, surface: Surface) -> LabelledCloud:
        """Points of the input frame with what the run knows of them, in the frame that was asked for."""
        frame = self.options.frame
        world, metres = self.run.transform()
        similarity = world if frame == "world" else np.eye(4)
        if metres is not None:
            metres = 1.0 if frame == "world" else metres
        instance, columns, facts = np.zeros(len(surface), np.int32), {}, {}
        labels, own = np.zeros(len(surface), np.int64), None
        if self.asker is not None:
            known = self._known(surface)
            instance, encoder = known.instance, known.encoder
            columns = {"vectors": known.vectors, "agreement": known.agreement}
            facts = {"axes": known.basis.axes, "encoder": encoder.id, "encoder_weight_hash": encoder.weight_hash,
                     "logit_scale": encoder.logit_scale}  # fmt: skip
            if self.phrases:
                phrase, other = self.asker.closed(self.phrases, self.asker.canonical, of=known)
                labels = label(phrase, other if self.options.none else None)
                columns |= {
                    "scores": known.scores(self.asker.encode(self.phrases)),
                    "relevancy": relevancy(phrase, other),
                }
                best = columns["relevancy"][np.arange(len(labels)), labels - 1]
                own = np.where(labels > 0, best, 0.0).astype(np.float64)
        here = surface if frame == "input" else moved(surface, similarity)
        things = instances_of(
            here, instance, labels=labels if self.phrases else None, phrases=self.phrases, scores=own, frame=frame
        )
        tints = colours(self.phrases, () if self.asker is None else self.asker.phrases)
        return LabelledCloud(
            here, labels, instance, self.phrases, tints, things, self.run.scene_name, frame,
            similarity, metres, columns, facts,
        )  # fmt: skip

    def _known(self, surface: Surface) -> SemanticScene:
        """What the run knows of a surface; points that are not its own take it from the nearest that are."""
        assert self.asker is not None
        learnt = self.asker.semantics
        if surface is learnt.surface:
            return learnt
        apart, near = cKDTree(learnt.surface.xyz).query(surface.xyz, k=min(NEAREST, len(learnt.surface)))
        apart, near = apart.reshape(len(surface), -1), near.reshape(len(surface), -1)
        weight = 1 / (apart**2 + (0.5 * np.maximum(learnt.surface.cell[near[:, :1]], 1e-9)) ** 2)
        vectors = np.zeros((len(surface), learnt.vectors.shape[1]), np.float32)
        for column in range(near.shape[1]):
            vectors += weight[:, column : column + 1].astype(np.float32) * learnt.vectors[near[:, column]]
        return replace(learnt.take(near[:, 0]), surface=surface, vectors=normalise(vectors))

    # -- one method for each kind ------------------------------------------------------------------------------

    def cloud(self, folder: Path) -> list[Path]:
        return save_cloud(folder / "cloud", self._slim(self.chosen), self.options.las)

    @staticmethod
    def _slim(cloud: LabelledCloud) -> LabelledCloud:
        """With features as halves, as the run stores them."""
        return replace(cloud, columns={name: values.astype(np.float16) for name, values in cloud.columns.items()})

    @cached_property
    def shape(self) -> tuple[LabelledCloud, LabelledMesh]:
        """What the mesh is made of, and the mesh."""
        options, cloud = self.options, self.whole
        if options.select or options.spacing is not None or options.points is not None:
            cloud = self.chosen
        self.end_if_stopped()
        return cloud, mesh_of(cloud, options.spacing)

    def mesh(self, folder: Path) -> list[Path]:
        return save_mesh(folder / "mesh", *self.shape)

    def labels(self, folder: Path) -> list[Path]:
        asker, scene = self._meaning(), self.scene
        names = [scene.frames[view].name for view in choose_views(scene, self.options.views)]
        target = folder / "labels"
        told = label_views(
            target, asker, self.phrases, names, none=self.options.none, report=self.report, stop=self.stop
        )
        images = [target / name for name in told["views"].values()]
        return [*images, told["picture"], target / "labels.json", told["annotations"]]

    def instances(self, folder: Path) -> list[Path]:
        cloud, asker = self.whole, self._meaning()
        embedding = asker.semantics.basis.expand(cloud.columns["vectors"]) if self.options.embedding else None
        records = instance_records(cloud, cloud.columns.get("relevancy"), embedding)
        file = folder / "instances.json"
        write_json(
            file,
            {**place(cloud), "encoder": asker.semantics.encoder.id, "calibrated": False,
             "phrases": list(self.phrases), "instances": records},
        )  # fmt: skip
        return [file]

    def video(self, folder: Path) -> list[Path]:
        options = self.options
        path = interpolation(self.scene, options.seconds, options.fps)
        cameras = resized(path.cameras, options.width)
        files, of_labels = {"colour": folder / "video.mp4"}, folder / "video_labels.mp4"
        renderer = self.renderer
        if self.phrases:
            assert self.asker is not None
            renderer = Painter(self.asker, ("labels",), self.phrases, none=options.none)
            files["labels"] = of_labels
        made = render_film(renderer, cameras, files, path.fps, report=self.report, stop=self.stop)
        if not self.phrases:
            of_labels.unlink(missing_ok=True)  # of an earlier film
        return made

    def html(self, folder: Path) -> list[Path]:
        name = "".join(c if c.isalnum() or c in "-_." else "_" for c in self.run.scene_name).strip(".") or "scene"
        file = folder / f"{name}.html"
        save_page(file, self.chosen)
        return [file]
