"""Exports of a run: surface, labels, instances and video as files for other programs.

    <folder>/cloud/        cloud.ply, cloud_labels.ply, cloud.npz, labels.json, optionally cloud.las
    <folder>/mesh/         mesh.ply, mesh.glb, mesh_labels.glb, labels.json
    <folder>/labels/       an index image for each view, labels.json, annotations.json (COCO), overview.png
    <folder>/instances.json
    <folder>/video.mp4     a camera path through the training views; with phrases also video_labels.mp4
    <folder>/<scene>.html  one page with the points, for any browser

A run without semantics exports its surface without labels; it has no labels or instances (see `export.source`).
"""

import math
import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ovseg3d.engine import Report, ignore
from ovseg3d.errors import ConfigError, nearest
from ovseg3d.export.labelled import LabelledCloud
from ovseg3d.export.labels import label_views
from ovseg3d.export.mesh import LabelledMesh, mesh_of, save_mesh
from ovseg3d.export.options import ExportOptions, make_options, parse_what
from ovseg3d.export.overlays import Painter
from ovseg3d.export.page import save_page
from ovseg3d.export.points import import_laspy, save_cloud
from ovseg3d.export.records import instance_records, place
from ovseg3d.export.source import ExportSource
from ovseg3d.files import write_json
from ovseg3d.limits import MAX_POINTS
from ovseg3d.render.frames import What, render_video
from ovseg3d.render.paths import check_video, interpolation, resized
from ovseg3d.render.views import choose_views
from ovseg3d.runs.folder import RunFolder


def export_run(
    run: RunFolder,
    what: str,
    folder: Path | None = None,
    *,
    report: Report = ignore,
    stop: threading.Event | None = None,
    **options: Any,
) -> list[Path]:
    """Write exports.

    Args:
        run: any run; labels and instances need its semantics.
        what: kinds of `WHAT`, separated by commas.
        folder: receives the files; by default the run's exports/.
        report: receives events of the stages "surface", "segment" and "render".
        stop: set it to end early, without a half-written file.
        options: fields of `ExportOptions`.

    Returns:
        The files, in the order of `what`.

    Raises:
        ConfigError: an unknown kind or option, or one that does not fit this run.
        RunError: labels or instances of a run without semantics.
        OutputError: the folder cannot be written to; no file is half-written.
        KeyboardInterrupt: after `stop`.
    """
    kinds = parse_what(what)
    source = ExportSource(run, make_options(options), report, stop or threading.Event())
    export = _Export(source)
    export.check(kinds)
    folder = run.exports if folder is None else Path(folder)
    files: list[Path] = []
    if "mesh" in kinds:
        _ = export.shape  # report points that give no mesh before anything is written
    for kind in kinds:
        source.end_if_stopped()
        files += getattr(export, kind)(folder)
    return files


class _Export:
    """One call's exports: a method for each kind."""

    def __init__(self, source: ExportSource) -> None:
        self.source = source

    @property
    def options(self) -> ExportOptions:
        return self.source.options

    def check(self, kinds: Sequence[str]) -> None:
        """Check the options before any work.

        Raises:
            ConfigError: an option that does not fit, or an unknown phrase.
            RunError: labels or instances of a run without semantics.
        """
        options = self.options
        for name, usual in (("points", 300_000), ("spacing", 0.02)):
            value = getattr(options, name)
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"{name} must be above 0 and a number, not {value}", fix=f"--{name} {usual}")
        if options.points is not None and options.points > MAX_POINTS:
            raise ConfigError(f"points must be at most {MAX_POINTS:,}, not {options.points:,}", fix="--points 1000000")
        check_video(options.seconds, options.fps, options.width)
        if options.phrases or options.select or {"labels", "instances"} & set(kinds):
            self.source.need_engine()
        if options.las and "cloud" in kinds:
            import_laspy()
        if "labels" in kinds and not self.source.phrases:
            raise ConfigError(
                "This scene names no phrases to label with",
                where=self.source.scene.path,
                fix='--phrases "chair;table;floor"',
            )
        for phrase in options.select:
            if phrase not in self.source.phrases:
                close = nearest(phrase, self.source.phrases)
                fix = f"--select {close!r}" if close else "select among the phrases, or name it in --phrases"
                raise ConfigError(f"No label is called {phrase!r}", fix=fix)

    def cloud(self, folder: Path) -> list[Path]:
        return save_cloud(folder / "cloud", self._slim(self.source.chosen), self.options.las)

    @staticmethod
    def _slim(cloud: LabelledCloud) -> LabelledCloud:
        """With features in half precision, as the run stores them."""
        return replace(cloud, columns={name: values.astype(np.float16) for name, values in cloud.columns.items()})

    @cached_property
    def shape(self) -> tuple[LabelledCloud, LabelledMesh]:
        """The source cloud of the mesh, and the mesh."""
        options, cloud = self.options, self.source.whole
        if options.select or options.spacing is not None or options.points is not None:
            cloud = self.source.chosen
        self.source.end_if_stopped()
        return cloud, mesh_of(cloud, options.spacing)

    def mesh(self, folder: Path) -> list[Path]:
        return save_mesh(folder / "mesh", *self.shape)

    def labels(self, folder: Path) -> list[Path]:
        source, target, none = self.source, folder / "labels", self.options.none
        engine, scene = source.need_engine(), source.scene
        names = [scene.frames[view].name for view in choose_views(scene, self.options.views)]
        made = label_views(target, engine, source.phrases, names, none=none, report=source.report, stop=source.stop)
        images = [target / name for name in made["views"].values()]
        return [*images, made["image"], target / "labels.json", made["annotations"]]

    def instances(self, folder: Path) -> list[Path]:
        cloud, engine = self.source.whole, self.source.need_engine()
        embedding = engine.semantics.basis.expand(cloud.columns["vectors"]) if self.options.embedding else None
        records = instance_records(cloud, cloud.columns.get("relevancy"), embedding)
        file = folder / "instances.json"
        write_json(
            file,
            {**place(cloud), "encoder": engine.semantics.encoder.id, "calibrated": False,
             "phrases": list(self.source.phrases), "instances": records},
        )  # fmt: skip
        return [file]

    def video(self, folder: Path) -> list[Path]:
        options, source = self.options, self.source
        path = interpolation(source.scene, options.seconds, options.fps)
        cameras = resized(path.cameras, options.width)
        files: dict[What, Path] = {"colour": folder / "video.mp4"}
        of_labels = folder / "video_labels.mp4"
        renderer = source.renderer
        if source.phrases:
            renderer = Painter(source.need_engine(), ("labels",), source.phrases, none=options.none)
            files["labels"] = of_labels
        made = render_video(renderer, cameras, files, path.fps, report=source.report, stop=source.stop)
        if not source.phrases:
            of_labels.unlink(missing_ok=True)  # from an earlier export
        return made

    def html(self, folder: Path) -> list[Path]:
        name = "".join(c if c.isalnum() or c in "-_." else "_" for c in self.source.run.scene_name).strip(".")
        file = folder / f"{name or 'scene'}.html"
        save_page(file, self.source.chosen)
        return [file]
