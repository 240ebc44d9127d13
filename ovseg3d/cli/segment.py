"""`ovseg3d segment`: label images of a run's views, from a list of phrases."""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ovseg3d.errors import ConfigError


@dataclass(frozen=True)
class Segment:
    """Label every pixel of a run's views with one of a list of phrases, or with none of these.

    Writes an index image for each view (0 none, 1 the first phrase, ...; PNG with a palette), labels.json with
    phrases and colours, and a picture for looking.

    Example: ovseg3d segment outputs/playroom/latest --phrases "chair;table;wall;floor"
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """A run folder, outputs/SCENE/latest, or a scene (its newest run)."""
    phrases: str | None = None
    """Phrases with semicolons, or a file with one a line; by default those of the scene."""
    none: bool = True
    """Leave pixels unlabelled that are nearer to a canonical phrase than to all of the list."""
    views: Literal["held-out", "train", "all"] = "all"
    """For which views."""
    output: Path | None = None
    """Folder for the files; by default exports/labels in the run."""
    scene: Path | None = None
    """The scene's folder, if it has moved since training."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to encode and render."""
    backend: Literal["auto", "warp", "torch", "tcnn"] = "auto"
    """What computes the field."""
    json: bool = False
    """Print one JSON object on stdout and nothing else there."""

    def main(self) -> None:
        """Label, and say where the files are."""
        from ovseg3d.cli.console import get_console, interruptible, print_json, shell_path
        from ovseg3d.cli.progress import Progress
        from ovseg3d.pipeline.label import label_views
        from ovseg3d.pipeline.query import Asker
        from ovseg3d.pipeline.run import load
        from ovseg3d.pipeline.views import choose_views

        console = get_console(self.json)
        run = load(self.run)
        scene = run.load_scene(self.scene)
        phrases = read_list(self.phrases) if self.phrases is not None else scene.phrases
        if not phrases:
            raise ConfigError("This scene names no phrases", where=scene.path, fix='--phrases "chair;table;floor"')
        names = [scene.frames[view].name for view in choose_views(scene, self.views)]
        asker = Asker(run, scene, self.device, self.backend)
        stop = threading.Event()
        with interruptible(stop), Progress(console) as progress:
            told = label_views(
                self.output or run.exports / "labels", asker, phrases, names, none=self.none, report=progress, stop=stop
            )
        if self.json:
            print_json({"run": run.folder, **told})
            return
        console.print(f"{len(names)} label images, {len(phrases)} phrases:", markup=False)
        for path in (told["folder"], told["picture"]):
            console.print(f"  {shell_path(path)}", markup=False, soft_wrap=True)


def read_list(text: str) -> tuple[str, ...]:
    """Phrases with semicolons, or a file with one a line; each once, in their order. Raises ConfigError."""
    path = Path(text)
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else text.split(";")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("The list of phrases cannot be read as text", where=path, fix="one phrase a line") from error
    phrases = tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not phrases:
        raise ConfigError("The list of phrases is empty", fix='--phrases "chair;table;floor"')
    return phrases
