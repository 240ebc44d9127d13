"""`ovseg3d find`: shapes in a folder, by text, picture or shape."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import tyro

from ovseg3d.cli.flags import Json, ShapeClip, ShapeWeights, UpAxis
from ovseg3d.errors import CacheError, ConfigError, OutputError, ShapeError
from ovseg3d.limits import MAX_PIXELS
from ovseg3d.runs.devices import DeviceName

if TYPE_CHECKING:
    from ovseg3d.heads.naming import Entry, ShapeIndex, ShapeNamer

INDEX_NAME = ".ovseg3d-shapes.safetensors"


@dataclass(frozen=True)
class Find:
    """Find shapes in a folder and its subfolders by text, by a picture, by another shape, or by several of these.

    The shapes are indexed once; later calls read new and changed files only. Files that hold no usable shape are
    reported and left out.

    Examples:
      ovseg3d find shapes "a teapot"
      ovseg3d find shapes --shape mug.ply --top 5
      ovseg3d find shapes "a red chair" --picture chair.jpg --json
    """

    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """The folder with shapes."""
    phrase: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PHRASE")] = ()
    """What to look for, as free text."""
    picture: Path | None = None
    """A photograph of what to look for."""
    shape: Path | None = None
    """A shape like which to look for."""
    top: int = 10
    """Shapes to report."""
    index: Path | None = None
    """File of the index; by default .ovseg3d-shapes.safetensors in the folder."""
    up: UpAxis = "auto"
    clip: ShapeClip = "builtin"
    weights: ShapeWeights = None
    device: DeviceName = "auto"
    """Device that encodes."""
    json: Json = False

    def main(self) -> None:
        """Search and print. Raises ConfigError: no query, or a wrong number."""
        from ovseg3d.cli.console import get_console, print_json
        from ovseg3d.heads.naming import ShapeNamer
        from ovseg3d.runs.devices import resolve_device

        if not any(phrase.strip() for phrase in self.phrase) and self.picture is None and self.shape is None:
            raise ConfigError("No query was given", fix='such as: ovseg3d find FOLDER "a teapot"')
        if len(self.phrase) > 1:
            raise ConfigError("One phrase can be asked at a time", fix='put it in quotes: "a red teapot"')
        if self.top < 1:
            raise ConfigError(f"--top must be at least 1, not {self.top}", fix="--top 10")
        console = get_console(self.json)
        namer = ShapeNamer(self.clip, weights=self.weights, device=resolve_device(self.device))
        query = self._query(namer)
        index, problems = self._indexed(namer)
        hits = index.search(query, self.top)
        for problem in problems:
            _notice(f"Left out: {problem}")
        if self.json:
            print_json({"query": {"text": self.phrase[0] if self.phrase else None, "picture": self.picture,
                                  "shape": self.shape},
                        "hits": [{"file": self.folder / hit.file, "score": hit.score} for hit in hits]})  # fmt: skip
            return
        for hit in hits:
            console.print(f"{hit.score:6.3f}  {self.folder / hit.file}", markup=False, soft_wrap=True)

    def _query(self, namer: "ShapeNamer") -> np.ndarray:
        from ovseg3d.heads.naming import mean_query

        vectors = [namer.embed_phrase(phrase) for phrase in self.phrase]
        if self.picture is not None:
            vectors.append(namer.embed_picture(read_picture(self.picture)))
        if self.shape is not None:
            vectors.append(self._embed(namer, self.shape))
        return mean_query(vectors)

    def _embed(self, namer: "ShapeNamer", file: Path) -> np.ndarray:
        from ovseg3d.cli.name import about
        from ovseg3d.datasets import read_shape

        shape = read_shape(file)
        with about(file):
            return namer.embed(shape.points, self.up, shape.up)

    def _indexed(self, namer: "ShapeNamer") -> tuple["ShapeIndex", list[str]]:
        """The index, brought up to date, and what is wrong with the files that it lacks."""
        from ovseg3d.cli.console import get_console
        from ovseg3d.cli.progress import sentence_bar
        from ovseg3d.datasets import find_shapes
        from ovseg3d.heads.naming import Entry, ShapeIndex
        from ovseg3d.heads.naming.upright import up_id

        path, made_by = self.index or self.folder / INDEX_NAME, f"{namer.id}, up {up_id(self.up)}"
        known = self._known(path, made_by)
        found: dict[Entry, np.ndarray] = {}
        problems, files = [], find_shapes(self.folder)
        try:
            with sentence_bar(get_console(json_output=True)) as report:
                for number, file in enumerate(files):
                    report("Indexing shapes", number / len(files))
                    state = file.stat()
                    entry = Entry(file.relative_to(self.folder).as_posix(), (state.st_size, state.st_mtime_ns))
                    try:
                        found[entry] = known[entry] if entry in known else self._embed(namer, file)
                    except ShapeError as error:
                        problems.append(f"{entry.file}: {error.what}")
        except KeyboardInterrupt:
            _keep(made_by, {**known, **found}, path)
            raise
        if not found:
            raise ShapeError("No shape in this folder can be used", where=self.folder, fix="; ".join(problems[:3]))
        if found.keys() != known.keys():
            _keep(made_by, found, path)
        return ShapeIndex(made_by, tuple(found), np.stack(list(found.values()))), problems

    def _known(self, path: Path, made_by: str) -> dict["Entry", np.ndarray]:
        """The vectors of the index on disk. The folder's own is made anew if it cannot be used; a file that the user
        names is not overwritten."""
        from ovseg3d.heads.naming import load_index

        try:
            return load_index(path, made_by).known() if path.is_file() else {}
        except CacheError as error:
            if self.index is not None:
                raise
            _notice(f"{error.what}; it is made anew.")
            return {}


def _keep(made_by: str, vectors: dict["Entry", np.ndarray], path: Path) -> None:
    """Write the index; a folder that cannot be written to is searched all the same."""
    from ovseg3d.heads.naming import ShapeIndex

    try:
        if vectors:
            ShapeIndex(made_by, tuple(vectors), np.stack(list(vectors.values()))).save(path)
    except OutputError as error:
        _notice(f"The index is not kept: {error.what} ({error.where})")


def _notice(text: str) -> None:
    from ovseg3d.cli.console import get_console

    get_console(json_output=True).print(text, markup=False, soft_wrap=True)


def read_picture(path: Path) -> np.ndarray:
    """A photograph (h, w, 3), uint8, upright. Raises SceneError: it cannot be read."""
    from PIL import ImageOps

    from ovseg3d.scene.opening import open_image

    with open_image(path, "picture", MAX_PIXELS) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
