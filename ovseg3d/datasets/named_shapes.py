"""Shapes with names: ModelNet, OmniObject3D and Objaverse-LVIS. (ScanObjectNN has a module of its own.)

    ModelNet40/chair/test/chair_0890.off                   z up; ModelNet10 likewise
    modelnet40_normal_resampled/modelnet40_test.txt        names, one a line; ModelNet10: modelnet10_test.txt
    modelnet40_normal_resampled/chair/chair_0890.txt       x,y,z,nx,ny,nz of 10,000 points a line; y up
    4096/antique/antique_001/pcd_4096.ply                  OmniObject3D's clouds; the first folder is the class
    lvis-annotations.json[.gz]                             Objaverse-LVIS: {"chair": ["<uid>", ...], ...}
    glbs/000-023/<uid>.glb                                 its objects, in any folder and format; y up

Listing a data set reads no shape: that happens when one is asked for.
"""

import gzip
import io
import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float

from ovseg3d.datasets.imagenet3d import read_lines
from ovseg3d.datasets.shapes import SAMPLES, find_shapes, read_shape
from ovseg3d.errors import ConfigError, ShapeError, nearest
from ovseg3d.limits import MAX_TABLE_BYTES, MAX_TEXT_BYTES, check_name, first_line, inside, read_bytes, read_text

LVIS_LIST = "lvis-annotations.json"
_FETCH = "fetch it again"


@dataclass(frozen=True)
class NamedShape:
    """A shape of a data set, which is read when it is asked for.

    Attributes:
        name: unique in its data set and split.
        label: its class, as the data set spells it.
        up: the axis that is up in its points.
        read: gives the points, in the data set's own frame and unit. Raises ShapeError.
    """

    name: str
    label: str
    up: str
    read: Callable[[], Float[np.ndarray, "points 3"]]


def read_modelnet(
    folder: Path, split: str = "test", *, classes: Sequence[str] | None = None, samples: int = SAMPLES
) -> list[NamedShape]:
    """Shapes of ModelNet10 or 40, meshes or resampled clouds, by class and name.

    Args:
        folder: with a folder for each class.
        split: `train` or `test`.
        classes: those to read; None: all that are there.
        samples: points on the surface of a mesh, evenly by area.

    Raises:
        ConfigError: there is no such split.
        ShapeError: the folder is not in one of the two layouts, or lacks a class.
    """
    folder = Path(folder)
    check_split(split)
    lists = sorted(folder.glob(f"modelnet[14]0_{split}.txt"))
    if lists:
        found = _resampled(folder, lists[-1])
    else:
        meshes = sorted(path for path in folder.glob(f"*/{split}/*") if path.suffix.lower() == ".off")
        found = [
            NamedShape(f"{path.parts[-3]}/{path.stem}", path.parts[-3], "z", partial(_points, path, samples))
            for path in meshes
        ]
    return _of_classes(found, classes, folder, f"CLASS/{split}/NAME.off, or modelnet40_{split}.txt")


def read_omniobject3d(folder: Path, *, up: str = "z", samples: int = SAMPLES) -> list[NamedShape]:
    """Shapes of OmniObject3D, or of any folder of class folders, by class and name.

    Args:
        folder: with a folder for each class, such as 4096/ of the clouds.
        up: the release does not state which axis is up; look at some shapes.
        samples: points on the surface of a mesh, evenly by area.

    Raises:
        ShapeError: there is no shape in a class folder.
    """
    folder = Path(folder)
    found = [(path.relative_to(folder), path) for path in find_shapes(folder)]
    shapes = [
        NamedShape(name.with_suffix("").as_posix(), name.parts[0], up, partial(_points, path, samples))
        for name, path in found
        if len(name.parts) > 1
    ]
    return _of_classes(shapes, None, folder, "CLASS/NAME/pcd_4096.ply")


def read_objaverse_lvis(folder: Path, *, up: str = "y", samples: int = SAMPLES) -> list[NamedShape]:
    """Shapes of Objaverse-LVIS that are there, by class and name.

    Args:
        folder: with the list, and the objects somewhere below, each called as its uid.
        up: the axis that is up; y in the objects' own format.
        samples: points on the surface of a mesh, evenly by area.

    Raises:
        ShapeError: the list is missing or damaged, or none of its objects is there.
    """
    folder = Path(folder)
    listed = _lvis(folder)
    files = {path.stem: path for path in find_shapes(folder)}
    shapes = [
        NamedShape(f"{label}/{uid}", label, up, partial(_points, files[uid], samples))
        for label, uids in sorted(listed.items())
        for uid in uids
        if uid in files
    ]
    return _of_classes(shapes, None, folder, "glbs/000-023/UID.glb")


def lvis_classes(folder: Path) -> tuple[str, ...]:
    """All classes of Objaverse-LVIS's list, by name. Raises ShapeError: it is missing or damaged."""
    return tuple(sorted(_lvis(Path(folder))))


def check_split(split: str) -> None:
    """Raises ConfigError: it is neither `train` nor `test`."""
    if split not in ("train", "test"):
        raise ConfigError(f"There is no split {split!r}", fix="train or test")


def _points(path: Path, samples: int) -> Float[np.ndarray, "points 3"]:
    return read_shape(path, samples).points


def _of_classes(shapes: list[NamedShape], classes: Sequence[str] | None, folder: Path, layout: str) -> list[NamedShape]:
    """The shapes of these classes. Raises ShapeError: there is none, or a class lacks any."""
    if not shapes:
        raise ShapeError("The data set has no shape in this folder", where=folder, fix=f"the layout is {layout}")
    present = {shape.label for shape in shapes}
    for name in classes or ():
        if name not in present:
            close = nearest(name, present)
            raise ShapeError(
                f"The data set has no shape of the class {name!r}",
                where=folder,
                fix=f"is {close!r} the same?" if close else _FETCH,
            )
    return [shape for shape in shapes if classes is None or shape.label in classes]


def _resampled(folder: Path, listed: Path) -> list[NamedShape]:
    shapes: list[NamedShape] = []
    for name in sorted(read_lines(listed)):
        label = check_name(name, listed, ShapeError).rpartition("_")[0]
        path = inside(folder, Path(label) / f"{name}.txt", ShapeError)
        shapes.append(NamedShape(f"{label}/{name}", label, "y", partial(_read_txt, path)))
    return shapes


def _read_txt(path: Path) -> Float[np.ndarray, "points 3"]:
    text = read_text(path, ShapeError, "shape", MAX_TABLE_BYTES)
    try:
        points = np.loadtxt(io.StringIO(text), delimiter=",", usecols=(0, 1, 2), ndmin=2)
        if not len(points) or not np.isfinite(points).all():
            raise ValueError("it needs rows of finite numbers")
        return points
    except ValueError as error:
        raise ShapeError(f"The shape cannot be read: {first_line(error)}", where=path, fix=_FETCH) from error


def _lvis(folder: Path) -> dict[str, list[str]]:
    """Uids by class."""
    path = folder / LVIS_LIST
    if not path.exists():
        path = folder / f"{LVIS_LIST}.gz"
    data = read_bytes(path, ShapeError, "list of Objaverse-LVIS")
    try:
        if path.suffix == ".gz":
            with gzip.open(io.BytesIO(data)) as file:
                data = file.read(MAX_TEXT_BYTES + 1)
            if len(data) > MAX_TEXT_BYTES:
                raise ValueError("it is too large")
        listed = json.loads(data)
        if not isinstance(listed, dict) or not all(
            isinstance(uids, list) and all(isinstance(uid, str) for uid in uids) for uids in listed.values()
        ):
            raise ValueError('it is not {"CLASS": ["UID", ...]}')
    except (ValueError, OSError, EOFError, zlib.error, RecursionError) as error:
        raise ShapeError(f"The list cannot be read: {first_line(error)}", where=path, fix=_FETCH) from error
    return listed
