"""`ovseg3d segment`: label images of a run's views, from a list of phrases, or of the things in it."""

import threading
from dataclasses import dataclass
from pathlib import Path

from ovseg3d.cli.flags import Json, NoneOfThese, RunPath, Templates, Views, Where, WhereFlags, refuse_idle
from ovseg3d.errors import ConfigError


@dataclass(frozen=True)
class Segment:
    """Label every pixel of a run's views with one of a list of phrases, or with none of these.

    Writes an index image for each view (0 none, 1 the first phrase, ...; PNG with a palette), labels.json with
    phrases and colours, the same as COCO-style JSON, and a picture for looking, in place of those that an earlier
    call left there. A run without phrases, or --instances, gives the things that were found, each with a number and a
    colour of its own.

    Examples:
      ovseg3d segment outputs/playroom/latest --phrases "chair;table;wall;floor"
      ovseg3d segment outputs/playroom/latest --instances
    """

    run: RunPath
    phrases: str | None = None
    """Phrases with semicolons, or a file with one a line; by default those of the run."""
    keep: bool = False
    """Keep these phrases with the run, in place of those that it has."""
    templates: Templates = None
    instances: bool = False
    """Label the things that were found, not phrases."""
    none: NoneOfThese = True
    views: Views = "all"
    """For which views."""
    output: Path | None = None
    """Folder for the files; by default exports/labels (or exports/instances) in the run."""
    where: WhereFlags = Where()
    json: Json = False

    def main(self) -> None:
        """Label, and say where the files are. Raises ConfigError: flags that do not go together."""
        from ovseg3d.cli.console import get_console, interruptible, print_json, shell_path
        from ovseg3d.cli.progress import Progress
        from ovseg3d.export.labels import instance_views, label_views
        from ovseg3d.render.views import choose_views
        from ovseg3d.runs.phrases import keep_phrases, read_list

        console = get_console(self.json)
        run = self.where.load(self.run)
        scene = run.load_scene(self.where.scene)
        phrases = read_list(self.phrases) if self.phrases is not None else scene.phrases
        if self.keep and self.phrases is None:
            raise ConfigError("--keep needs phrases to keep", fix='--phrases "chair;table;floor" --keep')
        instances = self.instances or not phrases
        refuse_idle(
            self,
            ("none", not instances, "with phrases and without --instances"),
            ("templates", bool(phrases), "with phrases"),
        )
        names = [scene.frames[view].name for view in choose_views(scene, self.views)]
        engine = self.where.engine(run, scene, self.templates)
        folder = self.output or run.exports / ("instances" if instances else "labels")
        stop = threading.Event()
        with interruptible(stop), Progress(console) as progress:
            if instances:
                told = instance_views(folder, engine, names, phrases=phrases, report=progress, stop=stop)
            else:
                told = label_views(folder, engine, phrases, names, none=self.none, report=progress, stop=stop)
        if self.keep:
            keep_phrases(run.folder, phrases)
        if self.json:
            print_json({"run": run.folder, **told})
            return
        what = f"{len(told['instances'])} things" if instances else f"{len(phrases)} phrases"
        console.print(f"{len(names)} label images, {what}:", markup=False)
        for path in (told["folder"], told["image"]):
            console.print(f"  {shell_path(path)}", markup=False, soft_wrap=True)
