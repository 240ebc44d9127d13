"""`ovseg3d segment`: label images of a run's views, from a list of phrases, or of the things in it."""

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
    phrases and colours, and a picture for looking. A run without phrases, or --instances, gives the things that were
    found, each with a number and a colour of its own.

    Examples:
      ovseg3d segment outputs/playroom/latest --phrases "chair;table;wall;floor"
      ovseg3d segment outputs/playroom/latest --instances
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """A run folder, outputs/SCENE/latest, or a scene (its newest run)."""
    phrases: str | None = None
    """Phrases with semicolons, or a file with one a line; by default those of the run."""
    keep: bool = False
    """Keep these phrases with the run, in place of those that it has."""
    templates: str | None = None
    """Sentences with {} for the phrase, with semicolons, or a file with one a line; usual: a built-in set. A phrase is
    the mean of its sentences; by default it is taken as it is."""
    instances: bool = False
    """Label the things that were found, not phrases."""
    none: bool = True
    """Leave pixels unlabelled that are nearer to a canonical phrase than to all of the list."""
    views: Literal["held-out", "train", "all"] = "all"
    """For which views."""
    output: Path | None = None
    """Folder for the files; by default exports/labels (or exports/instances) in the run."""
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
        from ovseg3d.pipeline.label import instance_views, label_views
        from ovseg3d.pipeline.phrases import keep_phrases, read_list, read_templates
        from ovseg3d.pipeline.query import Asker
        from ovseg3d.pipeline.run import load
        from ovseg3d.pipeline.views import choose_views

        console = get_console(self.json)
        run = load(self.run)
        scene = run.load_scene(self.scene)
        phrases = read_list(self.phrases) if self.phrases is not None else scene.phrases
        if self.keep and self.phrases is None:
            raise ConfigError("--keep needs phrases to keep", fix='--phrases "chair;table;floor" --keep')
        things = self.instances or not phrases
        names = [scene.frames[view].name for view in choose_views(scene, self.views)]
        templates = {} if self.templates is None else {"templates": read_templates(self.templates)}
        asker = Asker(run, scene, self.device, self.backend, **templates)
        folder = self.output or run.exports / ("instances" if things else "labels")
        stop = threading.Event()
        with interruptible(stop), Progress(console) as progress:
            if things:
                told = instance_views(folder, asker, names, phrases=phrases, report=progress, stop=stop)
            else:
                told = label_views(folder, asker, phrases, names, none=self.none, report=progress, stop=stop)
        if self.keep:
            keep_phrases(run.folder, phrases)
        if self.json:
            print_json({"run": run.folder, **told})
            return
        what = f"{len(told['instances'])} things" if things else f"{len(phrases)} phrases"
        console.print(f"{len(names)} label images, {what}:", markup=False)
        for path in (told["folder"], told["picture"]):
            console.print(f"  {shell_path(path)}", markup=False, soft_wrap=True)
