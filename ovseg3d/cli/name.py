"""`ovseg3d name`: rank names for shapes without colour."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ovseg3d.cli.flags import Json, ShapeClip, UpAxis
from ovseg3d.errors import ConfigError, ShapeError
from ovseg3d.runs.devices import DeviceName


@dataclass(frozen=True)
class Name:
    """Name shapes by their geometry alone: clouds, meshes, pieces of scans.

    Each shape is drawn from ten sides, and the pictures are compared with the names by an image tower that was aligned
    to such views. Formats: PLY, OBJ, OFF, STL, GLB, PCD, NPY, NPZ, BIN. Without --classes, the names are the default
    vocabulary of rooms.

    Examples:
      ovseg3d name teapot.ply --classes "teapot;mug;vase"
      ovseg3d name scans/*.obj --up auto --json
    """

    files: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE...")]
    """The shapes."""
    classes: str | None = None
    """Names separated by semicolons, or a file with one per line. Words in brackets explain a name: "mouse (a computer
    part)"."""
    up: UpAxis = "auto"
    top: int = 5
    """Names to report for each shape."""
    clip: ShapeClip = "builtin"
    device: DeviceName = "auto"
    """Device that encodes."""
    json: Json = False

    def main(self) -> None:
        """Rank the names and print them. Raises ConfigError: no file, or a wrong number."""
        from ovseg3d.cli.console import get_console, print_json
        from ovseg3d.datasets import read_shape
        from ovseg3d.heads.naming import ShapeNamer
        from ovseg3d.query.default_vocabulary import DEFAULT_VOCABULARY
        from ovseg3d.runs.devices import resolve_device
        from ovseg3d.runs.phrases import read_names

        if not self.files:
            raise ConfigError("No file was given", fix='such as: ovseg3d name teapot.ply --classes "teapot;mug"')
        if self.top < 1:
            raise ConfigError(f"--top must be at least 1, not {self.top}", fix="--top 5")
        console = get_console(self.json)
        classes = DEFAULT_VOCABULARY if self.classes is None else read_names(self.classes, "--classes")
        namer = ShapeNamer(self.clip, device=resolve_device(self.device))
        found = []
        for file in self.files:
            shape = read_shape(file)
            with about(file):
                naming = namer.name(shape.points, classes, up=self.up, stated_up=shape.up, top=self.top)
            found.append({"file": file, "up_axis": naming.up_axis, "up": naming.up,
                          "candidates": [vars(one) for one in naming.candidates]})  # fmt: skip
            if not self.json:
                names = ", ".join(f"{one.label} {one.score:.0%}" for one in naming.candidates)
                console.print(f"{file}: {names} (up: {naming.up_axis})", markup=False, soft_wrap=True)
        if self.json:
            print_json({"shapes": found})


@contextmanager
def about(file: Path) -> Generator[None, None, None]:
    """Name the file in errors about its shape. Raises ShapeError: one inside, again."""
    try:
        yield
    except ShapeError as error:
        raise ShapeError(error.what, where=error.where or file, fix=error.fix) from error
