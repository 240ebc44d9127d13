"""`ovseg3d render`: a run's views, or a camera path through it, as images or MP4."""

import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ovseg3d.cli.flags import Json, NoneOfThese, RunPath, Views, Where, WhereFlags, refuse_idle
from ovseg3d.errors import ConfigError, nearest

_KINDS = ("colour", "depth", "normals", "opacity", "features", "labels", "instances", "relevancy")


@dataclass(frozen=True)
class Render:
    """Render a run: held-out views, every view, or a camera path, as images or MP4.

    Files go to the run's exports/ folder. Depth is written as a colour image and as numbers (uint16, in thousandths of
    the capture's unit).

    Examples:
      ovseg3d render outputs/playroom/latest
      ovseg3d render outputs/playroom/latest --path spiral --what colour,depth
      ovseg3d render outputs/playroom/latest --what labels,relevancy --phrase "a red chair"
    """

    run: RunPath
    views: Views | None = None
    """Views to render, without --path; by default the held-out ones, or some of all views if none is held out."""
    path: str | None = None
    """Render a camera path instead: spiral, interpolate (between the photos), or a camera path saved by nerfstudio
    (JSON, poses in the capture's own frame)."""
    what: str = "colour,depth"
    """Kinds of image, separated by commas: colour, depth, normals, opacity; for a run with semantics also features,
    labels (of --phrases), instances and relevancy (of --phrase)."""
    phrases: str | None = None
    """For labels: phrases separated by semicolons, or a file with one per line; by default the scene's."""
    none: NoneOfThese = True
    phrase: str | None = None
    """For relevancy: the phrase to look for."""
    images: bool = False
    """Write a camera path as images instead of MP4."""
    seconds: float = 8.0
    """Length of a spiral or interpolation in seconds."""
    fps: float = 24.0
    """Frames per second of a spiral or interpolation."""
    width: int | None = None
    """Width of the images in pixels; by default the training width, or that of the camera path."""
    output: Path | None = None
    """Folder for the files; by default exports/ in the run."""
    where: WhereFlags = Where()
    json: Json = False

    def main(self) -> None:
        """Render and print the paths of the files."""
        from ovseg3d.cli.console import get_console, interruptible, print_json, shell_path
        from ovseg3d.cli.progress import Progress
        from ovseg3d.runs.fields import refined

        kinds = parse_kinds(self.what)
        self._check(kinds)
        console = get_console(self.json)
        run = self.where.load(self.run)
        scene = run.load_scene(self.where.scene)
        cameras, names, fps = self._cameras(refined(run, scene))
        semantic = [kind for kind in kinds if kind in _KINDS[4:]]
        renderer = self._painter(run, scene, semantic) if semantic else self.where.renderer(run, scene)
        folder = self.output or run.exports
        stop = threading.Event()
        views = self.views or ("held-out" if scene.test else "some")
        name = f"views-{views}" if self.path is None else Path(self.path).stem
        with interruptible(stop), Progress(console) as progress:
            files = self._write(renderer, cameras, names, fps, folder / name, kinds, progress, stop)
        if self.json:
            print_json({"run": run.folder, "views": len(cameras), "fps": fps, "files": files})
            return
        console.print(f"From {len(cameras)} view{'s' if len(cameras) != 1 else ''}:", markup=False)
        for parent in dict.fromkeys(file.parent for file in files):
            few = [file for file in files if file.parent == parent]
            shown = shell_path(few[0] if len(few) == 1 else parent)
            console.print(f"  {shown}", markup=False, soft_wrap=True)

    def _check(self, kinds: tuple[str, ...]) -> None:
        from ovseg3d.render.paths import check_video

        timed = self.path is not None and not self.path.endswith(".json")
        refuse_idle(
            self,
            ("views", self.path is None, "without --path"),
            ("images", self.path is not None, "with --path"),
            ("seconds", timed, "with --path spiral or interpolate"),
            ("fps", timed, "with --path spiral or interpolate"),
            ("phrases", "labels" in kinds, "with --what labels"),
            ("none", "labels" in kinds, "with --what labels"),
            ("phrase", "relevancy" in kinds, "with --what relevancy"),
        )
        check_video(self.seconds, self.fps, self.width)

    def _painter(self, run: Any, scene: Any, what: list[str]) -> Any:
        """A renderer that also draws semantics. Raises ConfigError, RunError."""
        from ovseg3d.export.overlays import Painter
        from ovseg3d.runs.phrases import read_list

        phrases = read_list(self.phrases) if self.phrases is not None else scene.phrases
        if "labels" in what and not phrases:
            raise ConfigError("This scene has no phrases", where=scene.path, fix='--phrases "chair;table;floor"')
        if "relevancy" in what and not (self.phrase or "").strip():
            raise ConfigError("Relevancy needs a phrase", fix='--phrase "a red chair"')
        return Painter(self.where.engine(run, scene), what, phrases, self.phrase or "", self.none)

    def _cameras(self, scene: Any) -> tuple[list[Any], list[str], float | None]:
        """Cameras, file names, and the frame rate of a path (None for views)."""
        from ovseg3d.render import paths
        from ovseg3d.render.views import choose_views, view_files

        if self.path is None:
            frames = [scene.frames[view] for view in choose_views(scene, self.views)]
            files = view_files(scene)
            names = [files[frame.name] for frame in frames]
            return paths.resized([frame.camera for frame in frames], self.width), names, None
        if self.path == "spiral":
            found = paths.spiral(scene, self.seconds, self.fps)
        elif self.path == "interpolate":
            found = paths.interpolation(scene, self.seconds, self.fps)
        elif self.path.endswith(".json") or Path(self.path).exists():
            found = paths.read_nerfstudio_path(Path(self.path))
        else:
            close = nearest(self.path, ("spiral", "interpolate"))
            fix = f"--path {close}" if close else "--path spiral, interpolate, or a JSON file"
            raise ConfigError(f"There is no camera path {self.path!r}", fix=fix)
        names = [f"{index:05d}" for index in range(len(found.cameras))]
        return paths.resized(found.cameras, self.width), names, found.fps

    def _write(
        self,
        renderer: Any,
        cameras: Any,
        names: Any,
        fps: float | None,
        target: Path,
        kinds: Any,
        report: Any,
        stop: Any,
    ) -> list[Path]:
        from ovseg3d.render.frames import render_images, render_video

        if fps is None or self.images:
            return render_images(renderer, cameras, names, target, what=kinds, report=report, stop=stop)
        video = {kind: target.name if kind == "colour" else f"{target.name}_{kind}" for kind in kinds}
        paths = {kind: target.parent / f"{name}.mp4" for kind, name in video.items()}
        return render_video(renderer, cameras, paths, fps, report=report, stop=stop)


def parse_kinds(text: str) -> tuple[str, ...]:
    """Parse a comma-separated list of kinds of image. Raises ConfigError."""
    from ovseg3d.export.options import known_what

    aliases = {"color": "colour", "rgb": "colour", "normal": "normals"}
    kinds = tuple(dict.fromkeys(aliases.get(word, word) for word in re.split(r"[,\s]+", text.strip()) if word))
    for kind in kinds:
        if kind not in _KINDS:
            raise ConfigError(f"There is no kind of image {kind!r}", fix=known_what(kinds, _KINDS))
    if not kinds:
        raise ConfigError("--what is empty", fix=f"--what {','.join(_KINDS)}")
    return kinds
