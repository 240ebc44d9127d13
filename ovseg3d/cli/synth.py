"""`ovseg3d synth OUT`: make a labelled room with `ovseg3d.synth`, show the progress, and print the next commands."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

if TYPE_CHECKING:
    from rich.console import Console

    from ovseg3d.synth.write import Written


@dataclass(frozen=True)
class Synth:
    """Make a labelled synthetic room, ray-traced offline: a scene folder ready for training.

    The class and depth of every pixel and the box of every object are exact. --seed N furnishes a random room, or moves
    the cameras and the light of a named one; without --room and --seed it is the playroom. The same command gives the
    same bytes.
    """

    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """The scene folder to make; must be new or empty."""
    room: str | None = None
    """A named room: playroom (furniture), desk (small objects, close cameras) or waiting-room (chairs that touch)."""
    seed: int | None = None
    """Furnish a room at random from this seed; with --room, only cameras and light are drawn from it."""
    views: int = 64
    """Number of training photos."""
    test_views: int = 16
    """Number of held-out photos: half on the camera's path, half away from it."""
    width: int = 240
    """Width of the photos in pixels."""
    height: int = 180
    """Height of the photos in pixels."""
    depth: Literal["test", "all", "none"] = "test"
    """Views with a depth image."""
    assets: Path | None = None
    """A folder of OBJ, GLB or DAE models to furnish with; assets.json in it (or in OUT) describes them."""
    world: Path | None = None
    """A Gazebo .world file that places the models of --assets (by default of the folders around it)."""
    json: bool = False
    """Print one JSON object on stdout; progress goes to stderr."""

    def main(self) -> None:
        """Make the room and print its path."""
        from ovseg3d.cli.console import get_console, print_json
        from ovseg3d.cli.progress import stage_bars
        from ovseg3d.synth import Views, synthesise

        console = get_console(self.json)
        start = time.perf_counter()
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
        seconds = time.perf_counter() - start
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
