"""`ovseg3d synth OUT`: asks `ovseg3d.synth` for a labelled room, draws the progress, says what to type next."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

if TYPE_CHECKING:
    from rich.console import Console

    from ovseg3d.synth.write import Written


@dataclass(frozen=True)
class Synth:
    """Make a labelled synthetic room, ray-traced, offline: a scene folder that can be trained on at once.

    Every pixel's class and depth and every object's box are exact. Without --room, --seed N makes a room of
    its own; without either it is the playroom. The same command gives the same bytes.
    """

    out: tyro.conf.Positional[Path]
    """The scene folder to make; must be new or empty."""
    room: str | None = None
    """A named room: playroom (furniture), desk (small things, close cameras) or waiting-room (chairs that touch)."""
    seed: int | None = None
    """Furnish a room at random from this number."""
    views: int = 64
    """Photos to train on."""
    test_views: int = 16
    """Photos held out: half on the camera's path, half off it."""
    width: int = 240
    """Width of the photos in pixels."""
    height: int = 180
    """Height of the photos in pixels."""
    depth: Literal["test", "all", "none"] = "test"
    """Views that get a depth image."""
    assets: Path | None = None
    """A folder of OBJ, GLB or DAE models to furnish with; assets.json in it (or in OUT) says what they are."""
    world: Path | None = None
    """A Gazebo .world that places the models of --assets (else of the folders around it)."""
    json: bool = False
    """Print one JSON object on stdout; progress goes to stderr."""

    def main(self) -> None:
        """Make the room and say where it is."""
        from ovseg3d.cli.console import get_console, print_json
        from ovseg3d.cli.progress import stage_bars
        from ovseg3d.synth import Views, synthesise

        console = get_console(self.json)
        on_start = time.perf_counter()
        views = Views(self.views, self.test_views, self.width, self.height, self.depth)
        with stage_bars(console) as report:
            made = synthesise(
                self.out,
                room=self.room,
                seed=self.seed,
                views=views,
                assets=self.assets,
                world=self.world,
                report=report,
            )
        seconds = time.perf_counter() - on_start
        if self.json:
            print_json(
                {
                    "scene": made.folder.absolute(),
                    "frames": made.frames,
                    "classes": list(made.classes),
                    "objects": made.objects,
                    "bytes": made.bytes,
                    "skipped": list(made.skipped),
                    "seconds": seconds,
                }
            )
        else:
            _show(console, made, seconds)


def _show(console: "Console", made: "Written", seconds: float) -> None:
    from ovseg3d.cli.console import format_bytes, format_seconds, shell_path

    line: dict[str, Any] = {"markup": False, "soft_wrap": True}
    for name in made.skipped:
        console.print(f"skipped    {name}", **line)
    console.print(
        f"{made.frames} photos of {made.objects} objects in {len(made.classes)} classes,"
        f" {format_bytes(made.bytes)}, in {format_seconds(seconds)}",
        **line,
    )
    name = shell_path(made.folder)
    console.print(f"scene      {name}\n\nnext:\n  ovseg3d info {name}\n  ovseg3d train {name}", **line)
