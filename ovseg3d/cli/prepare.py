"""`ovseg3d prepare VIDEO|PHOTOS OUT`: show the progress and print the report of `scene.prepare`."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from rich.console import Console

    from ovseg3d.scene.prepare import PrepareReport

# Photos named in a message; report.json lists all.
_NAMED = 8


@dataclass(frozen=True)
class Prepare:
    """Turn a phone video or a folder of photos into a scene folder for training.

    Chooses sharp images, estimates the camera poses (structure from motion), and writes OUT with the photos,
    transforms.json, sparse points and a report that says what to capture again.
    """

    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="VIDEO|PHOTOS")]
    """A video file, or a folder of photos (JPEG, PNG, HEIC...)."""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """The scene folder to make; must be new or empty."""
    max_frames: int = 150
    """Maximum number of images; the sharpest are chosen, spread over the capture."""
    max_side: int | None = None
    """Longest side of the written photos in pixels; by default unchanged."""
    threads: int | None = None
    """Threads to use; by default all cores."""
    seed: int = 0
    """Seed of every random choice."""
    json: bool = False
    """Print the report as one JSON object on stdout, and everything else to stderr."""

    def main(self) -> None:
        """Prepare the scene and print the report."""
        from ovseg3d.cli.console import get_console, print_json
        from ovseg3d.cli.progress import sentence_bar
        from ovseg3d.scene.prepare import prepare_scene

        console = get_console(self.json)
        start = time.perf_counter()
        with sentence_bar(console) as report:
            summary = prepare_scene(
                self.source,
                self.out,
                max_frames=self.max_frames,
                max_side=self.max_side,
                seed=self.seed,
                threads=self.threads,
                report=report,
            )
        if self.json:
            print_json({"scene": self.out.absolute()} | summary.as_dict())
        else:
            _show(console, summary, self.out, time.perf_counter() - start)


def _show(console: "Console", summary: "PrepareReport", out: Path, seconds: float) -> None:
    from rich.table import Table
    from rich.text import Text

    from ovseg3d.cli.console import format_seconds

    what = "frames of the video" if summary.kind == "video" else "photos"
    table = Table.grid(padding=(0, 2))
    rows = [
        ("images", f"{summary.total} chosen of {summary.found} {what}"),
        ("with pose", f"{summary.registered} of {summary.total}"),
        ("reprojection error", f"{summary.mean_reprojection_error_px:.2f} px (below 1 is good)"),
        (
            "points",
            f"{summary.points}, each seen in {summary.mean_track_length:.1f} photos on average;"
            f" {summary.median_observations_per_photo:.0f} in the median photo",
        ),
        (
            "parallax",
            f"{summary.median_triangulation_angle_deg:.1f} degrees for the median point (above 5 is good)",
        ),
        ("time", format_seconds(seconds)),
    ]
    for name, value in rows:
        table.add_row(f"[bold]{name}[/bold]", value)
    console.print(table)
    for advice in summary.advice:
        colour = "yellow" if advice.level == "warning" else "cyan"
        line = Text(f"\n{advice.level}: ", style=colour)
        line.append(advice.what, style="default")
        if advice.where:
            more = len(advice.where) - _NAMED
            line.append(f"\n  which: {', '.join(advice.where[:_NAMED])}" + (f" and {more} more" if more > 0 else ""))
        line.append(f"\n  do:    {advice.fix}")
        console.print(line)
    console.print(Text(f"\nThe scene is {out} (details: {out / 'report.json'}). Next:"))
    console.print(Text(f"  ovseg3d info {out}\n  ovseg3d train {out}"))
