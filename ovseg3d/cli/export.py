"""`ovseg3d export`: a run's surface, labels and images as files for other programs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from ovseg3d.cli.flags import Json, NoneOfThese, RunPath, Views, Where, WhereFlags, refuse_idle
from ovseg3d.cli.many import Many, ManyFlags
from ovseg3d.cli.many_runs import MoreRuns, Output, are_many, over_runs


@dataclass(frozen=True)
class Export:
    """Export a run: points, meshes, label images, instances, a video, or a self-contained web page.

    cloud: labelled points as PLY and NPZ (LAS on request). mesh: PLY and GLB with labels on vertices. labels: an index
    image for each view, and COCO-style JSON. instances: boxes, sizes and scores. video: a camera path through the
    training views. html: one file with points, labels and legend, for a browser without Python or network.

    Examples:
      ovseg3d export outputs/playroom/latest
      ovseg3d export outputs/playroom/latest --what cloud,mesh,instances --frame world
      ovseg3d export outputs/playroom/latest --what html --phrases "sofa;table;lamp" --points 300000
    """

    stoppable: ClassVar[bool] = True
    run: RunPath
    more: MoreRuns = ()
    what: str = "cloud,html"
    """Kinds of export, separated by commas: cloud, mesh, labels, instances, video, html."""
    phrases: str | None = None
    """Labels: phrases separated by semicolons, or a file with one per line; by default the scene's; "" for none."""
    none: NoneOfThese = True
    select: str | None = None
    """Export only points with these labels (some of the phrases, separated by semicolons)."""
    frame: Literal["input", "world"] = "input"
    """input: the capture's own frame and units; world: upright (+z up), in metres if the scale is known."""
    points: int | None = None
    """Maximum number of points. If the run keeps fewer, they are sampled from the field again."""
    spacing: float | None = None
    """At most one point per cell of this size, in units of the frame; also the step size of the mesh."""
    las: bool = False
    """Also write the cloud as LAS (needs laspy)."""
    embedding: bool = False
    """Include each instance's embedding, in the encoder's space."""
    views: Views = "all"
    """Views for `labels`."""
    seconds: float = 8.0
    """Length of the video in seconds."""
    fps: float = 24.0
    """Frames per second of the video."""
    width: int | None = None
    """Width of the video in pixels; by default the training width."""
    output: Path | None = None
    """Folder for the files; by default exports/ in the run. For several runs it has a folder for each, with the ledger
    results.jsonl, and the same command again does what is missing."""
    many: ManyFlags = Many()
    where: WhereFlags = Where()
    json: Json = False

    def main(self) -> int:
        """Export and print the paths of the files."""
        from ovseg3d.cli.console import print_json
        from ovseg3d.export.run import parse_what

        kinds = parse_what(self.what)
        points, video = bool({"cloud", "mesh", "html"} & set(kinds)), "video" in kinds
        refuse_idle(
            self,
            ("select", points, "with --what cloud, mesh or html"),
            ("frame", points or "instances" in kinds, "with --what cloud, mesh, instances or html"),
            ("points", points, "with --what cloud, mesh or html"),
            ("spacing", points, "with --what cloud, mesh or html"),
            ("las", "cloud" in kinds, "with --what cloud"),
            ("embedding", "instances" in kinds, "with --what instances"),
            ("views", "labels" in kinds, "with --what labels"),
            *((name, video, "with --what video") for name in ("seconds", "fps", "width")),
            ("scene", not are_many((self.run, *self.more), self.many), "with one run"),
        )
        result, code = over_runs(self, (self.run, *self.more), self.many, self.output)
        if self.json:
            print_json(result)
        return code

    def _options(self) -> dict[str, Any]:
        from ovseg3d.runs.phrases import read_list

        names = ("none", "frame", "points", "spacing", "las", "embedding", "views", "seconds", "fps", "width")
        options = {name: getattr(self, name) for name in names} | {
            key: getattr(self.where, key) for key in ("scene", "device", "backend")
        }
        if self.phrases is not None:
            options["phrases"] = read_list(self.phrases) if self.phrases.strip() else ()
        return options | {"select": () if self.select is None else read_list(self.select, "--select")}

    def use(self, path: Path, folder: Path | None, output: Output) -> dict[str, Any]:
        """Export one run."""
        from ovseg3d.cli.console import format_bytes, shell_path
        from ovseg3d.export.run import parse_what

        kinds, options, console, run = parse_what(self.what), self._options(), output.console, self.where.load(path)
        with output.progress() as progress:
            files = run.export(",".join(kinds), folder, report=progress, stop=output.stop, **options)
        result = {"run": run.folder, "frame": self.frame, "what": kinds, "files": files}
        if self.json:
            return result
        console.print(f"{len(files)} file{'s' if len(files) != 1 else ''}:", markup=False)
        images = [file for file in files if file.parent.name == "labels" and file.suffix == ".png"]
        for file in files:
            if file not in images:
                size = format_bytes(file.stat().st_size)
                console.print(f"  {shell_path(file)}  {size}", markup=False, soft_wrap=True)
        if images:
            count = len(images)
            console.print(f"  {shell_path(images[0].parent)}  {count} images", markup=False, soft_wrap=True)
        return result
