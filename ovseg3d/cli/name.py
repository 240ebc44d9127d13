"""`ovseg3d name`: rank names for shapes without colour."""

from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from ovseg3d.cli.flags import Json, ShapeClip, ShapeWeights, UpAxis
from ovseg3d.errors import ConfigError, ShapeError
from ovseg3d.runs.devices import DeviceName

if TYPE_CHECKING:
    from ovseg3d.heads.naming import ShapeNamer


@dataclass(frozen=True)
class Name:
    """Name shapes by their geometry alone: clouds, meshes, pieces of scans.

    Each shape is drawn from ten sides, and the pictures are compared with the names by an image tower that was aligned
    to such views. Formats: PLY, OBJ, OFF, STL, GLB, PCD, NPY, NPZ, BIN. Without --classes, the names are the default
    vocabulary of rooms. Of several shapes, one that cannot be named is reported, and the others are named; the exit
    code is 2 then.

    Examples:
      ovseg3d name teapot.ply --classes "teapot;mug;vase"
      ovseg3d name scans --up z --output names.jsonl
    """

    files: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE|FOLDER...")]
    """The shapes, and folders of shapes."""
    classes: str | None = None
    """Names separated by semicolons, or a file with one per line. Words in brackets explain a name: "mouse (a computer
    part)"."""
    up: UpAxis = "auto"
    top: int = 5
    """Names to report for each shape."""
    output: Path | None = None
    """A file to write names to, a line of JSON for each shape. The same call again names only what it lacks."""
    clip: ShapeClip = "builtin"
    weights: ShapeWeights = None
    device: DeviceName = "auto"
    """Device that encodes."""
    json: Json = False

    def main(self) -> int:
        """Rank the names and print them. Raises ConfigError: no file, or a wrong number."""
        from ovseg3d.cli.console import get_console, print_json
        from ovseg3d.heads.naming import ShapeNamer
        from ovseg3d.heads.naming.prompts import check_classes
        from ovseg3d.query.default_vocabulary import DEFAULT_VOCABULARY
        from ovseg3d.runs.devices import resolve_device
        from ovseg3d.runs.phrases import read_names

        if not self.files:
            raise ConfigError("No file was given", fix='such as: ovseg3d name teapot.ply --classes "teapot;mug"')
        if self.top < 1:
            raise ConfigError(f"--top must be at least 1, not {self.top}", fix="--top 5")
        listed = DEFAULT_VOCABULARY if self.classes is None else read_names(self.classes, "--classes")
        classes, files = check_classes(listed), self._files()
        namer = ShapeNamer(self.clip, weights=self.weights, device=resolve_device(self.device))
        console, shapes = get_console(self.json), []
        for shape in self._named(namer, classes, files):
            shapes.append(shape)
            if not self.json and "error" not in shape:
                names = ", ".join(f"{one['label']} {one['score']:.0%}" for one in shape["candidates"])
                console.print(f"{shape['file']}: {names} (up: {shape['up_axis']})", markup=False, soft_wrap=True)
        if self.json:
            print_json({"shapes": shapes})
        failed = sum("error" in shape for shape in shapes)
        if failed:
            get_console(True).print(f"{failed} of {len(shapes)} shapes could not be named; see above.", markup=False)
        return 2 if failed else 0

    def _named(
        self, namer: "ShapeNamer", classes: tuple[str, ...], files: list[Path]
    ) -> Generator[dict[str, Any], None, None]:
        """What is printed of each shape, from the list of --output or made anew. Raises ShapeError: of a lone file."""
        from ovseg3d.cli.console import get_console, show_error
        from ovseg3d.cli.name_list import open_list
        from ovseg3d.cli.progress import sentence_bar
        from ovseg3d.heads.naming.upright import up_id

        facts = {"encoder": namer.scored_by, "classes": classes, "up": up_id(self.up), "top": self.top}
        names = None if self.output is None else open_list(self.output, facts)
        with sentence_bar(get_console(True)) if len(files) > 1 else nullcontext(lambda *_: None) as report:
            for number, file in enumerate(files):
                report(f"Naming shapes: {file.name}", number / len(files))
                shape = None if names is None else names.known(file)
                if shape is None:
                    try:
                        shape = self._name(namer, classes, file)
                    except ShapeError as error:
                        if len(files) == 1:
                            raise
                        show_error(error)
                        shape = {"error": str(error)}
                    if names is not None:
                        names.add(file, shape)
                yield {"file": file, **shape}

    def _files(self) -> list[Path]:
        """Files, and those in folders, each once. Raises ShapeError: no shape is in a folder."""
        from ovseg3d.datasets import find_shapes

        found = [find_shapes(path) if path.is_dir() else [path] for path in self.files]
        return list(dict.fromkeys(file for group in found for file in group))

    def _name(self, namer: "ShapeNamer", classes: tuple[str, ...], file: Path) -> dict[str, Any]:
        """What is printed of a shape. Raises ShapeError: it cannot be used."""
        from ovseg3d.datasets import read_shape

        shape = read_shape(file)
        with about(file):
            naming = namer.name(shape.points, classes, up=self.up, stated_up=shape.up, top=self.top)
        candidates = [vars(one) for one in naming.candidates]
        return {"up_axis": naming.up_axis, "up": naming.up, "candidates": candidates}


@contextmanager
def about(file: Path) -> Generator[None, None, None]:
    """Name the file in errors about its shape. Raises ShapeError: one inside, again."""
    try:
        yield
    except ShapeError as error:
        raise ShapeError(error.what, where=error.where or file, fix=error.fix) from error
