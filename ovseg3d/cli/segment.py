"""`ovseg3d segment`: label images of a run's views, by phrases or by instances."""

import threading
from dataclasses import dataclass
from pathlib import Path

from ovseg3d.cli.flags import Json, NoneOfThese, RunPath, Templates, Views, Where, WhereFlags, refuse_idle
from ovseg3d.errors import ConfigError


@dataclass(frozen=True)
class Segment:
    """Label every pixel of a run's views with one phrase of a list, or with none of these.

    Writes an index image for each view (0 none, 1 the first phrase, ...; PNG with a palette), labels.json with
    phrases and colours, the same as COCO-style JSON, and an overview image. They replace the files of an earlier call.
    With --instances, or if the run has no phrases, the labels are the instances found, each with its own number and
    colour.

    Examples:
      ovseg3d segment outputs/playroom/latest --phrases "chair;table;wall;floor"
      ovseg3d segment outputs/playroom/latest --instances
    """

    run: RunPath
    phrases: str | None = None
    """Phrases separated by semicolons, or a file with one per line; by default those of the run."""
    keep: bool = False
    """Store these phrases in the run, in place of its own."""
    templates: Templates = None
    instances: bool = False
    """Label with the instances found instead of phrases."""
    none: NoneOfThese = True
    views: Views = "all"
    """Views to label."""
    output: Path | None = None
    """Folder for the files; by default exports/labels (or exports/instances) in the run."""
    where: WhereFlags = Where()
    json: Json = False

    def main(self) -> None:
        """Label and print the paths of the files. Raises ConfigError: flags that cannot be combined."""
        from ovseg3d.cli.console import get_console, interruptible, print_json, shell_path
        from ovseg3d.cli.progress import Progress
        from ovseg3d.export.labels import instance_views, label_views
        from ovseg3d.query.relations.inflection import counted
        from ovseg3d.render.views import choose_views
        from ovseg3d.runs.phrases import keep_phrases, read_list

        console = get_console(self.json)
        run = self.where.load(self.run)
        scene = run.load_scene(self.where.scene)
        phrases = read_list(self.phrases) if self.phrases is not None else scene.phrases
        if self.keep and self.phrases is None:
            raise ConfigError("--keep needs --phrases", fix='--phrases "chair;table;floor" --keep')
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
                written = instance_views(folder, engine, names, phrases=phrases, report=progress, stop=stop)
            else:
                written = label_views(folder, engine, phrases, names, none=self.none, report=progress, stop=stop)
        if self.keep:
            keep_phrases(run.folder, phrases)
        if self.json:
            print_json({"run": run.folder, **written})
            return
        what = counted(len(written["instances"]), "instance") if instances else counted(len(phrases), "phrase")
        console.print(f"{counted(len(names), 'label image')}, {what}:", markup=False)
        for path in (written["folder"], written["image"]):
            console.print(f"  {shell_path(path)}", markup=False, soft_wrap=True)
