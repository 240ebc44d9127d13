"""ScanObjectNN (Uy et al., ICCV 2019): objects cut from real scans, 2,048 points each, in HDF5 files.

    h5_files/main_split_nobg/test_objectdataset.h5                          OBJ_ONLY: the object alone
    h5_files/main_split/test_objectdataset.h5                               OBJ_BG: with what is around it
    h5_files/main_split/test_objectdataset_augmentedrot_scale75.h5          PB_T50_RS: its box moved, turned and scaled

`training_` in place of `test_` for training. Each file has `data` (objects, points, 3), y up, and `label` (objects,).
The variants' figures cannot be compared: PB_T50_RS is the hardest, OBJ_ONLY the easiest. Reading needs h5py.
"""

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from ovseg3d.datasets.named_shapes import NamedShape, check_split
from ovseg3d.errors import ConfigError, ShapeError, nearest
from ovseg3d.limits import MAX_LENGTH, MAX_TABLE_BYTES, check_regular, first_line

SCANOBJECTNN_CLASSES = (
    "bag", "bin", "box", "cabinet", "chair", "desk", "display", "door", "shelf", "table", "bed", "pillow", "sink",
    "sofa", "toilet",
)  # fmt: skip
"""In the order of the files' numbers."""
SCANOBJECTNN_VARIANTS = {
    "OBJ_ONLY": "main_split_nobg/{}_objectdataset.h5",
    "OBJ_BG": "main_split/{}_objectdataset.h5",
    "PB_T50_RS": "main_split/{}_objectdataset_augmentedrot_scale75.h5",
}
"""Files by variant; {} is `test` or `training`."""


def read_scanobjectnn(folder: Path, variant: str, split: str = "test") -> list[NamedShape]:
    """Objects of one variant, in the file's order.

    Args:
        folder: with main_split and main_split_nobg, or with h5_files above them.
        variant: `OBJ_ONLY`, `OBJ_BG` or `PB_T50_RS`.
        split: `train` or `test`.

    Raises:
        ConfigError: there is no such variant or split, or h5py is not installed.
        ShapeError: the file is missing, damaged, or not like that.
    """
    if variant not in SCANOBJECTNN_VARIANTS:
        close = nearest(variant, SCANOBJECTNN_VARIANTS)
        known = ", ".join(SCANOBJECTNN_VARIANTS)
        raise ConfigError(f"ScanObjectNN has no variant {variant!r}", fix=f"{close}?" if close else f"one of {known}")
    check_split(split)
    name = SCANOBJECTNN_VARIANTS[variant].format("training" if split == "train" else "test")
    below = Path(folder) / "h5_files"
    path = (below if below.is_dir() else Path(folder)) / name
    data, label = _arrays(path)
    if data.ndim != 3 or data.shape[2] != 3 or not data.shape[1] or label.shape not in ((len(data),), (len(data), 1)):
        found = f"The arrays data {data.shape} and label {label.shape} are not (objects, points, 3) and (objects,)"
        raise ShapeError(found, where=path, fix="fetch it again")
    label = label.reshape(-1)
    if label.dtype.kind not in "iu" or ((label < 0) | (label >= len(SCANOBJECTNN_CLASSES))).any():
        raise ShapeError("The labels are not numbers from 0 to 14", where=path, fix="fetch it again")
    if not (np.abs(data) <= MAX_LENGTH).all():
        raise ShapeError("There are points that are not finite, or too far away", where=path, fix="fetch it again")
    return [
        NamedShape(f"{split}/{row:05d}", SCANOBJECTNN_CLASSES[number], "y", partial(_row, data, row))
        for row, number in enumerate(label.tolist())
    ]


def _row(data: np.ndarray, row: int) -> Float[np.ndarray, "points 3"]:
    return data[row].astype(np.float64)


def _arrays(path: Path) -> tuple[np.ndarray, np.ndarray]:
    h5py = _import_h5py()
    check_regular(path, ShapeError, "HDF5 file")
    try:
        with h5py.File(path, "r") as file:
            return _array(h5py, file, "data"), _array(h5py, file, "label")
    except MemoryError:
        raise
    except Exception as error:  # HDF5 has errors of many kinds
        what = f"The HDF5 file cannot be read: {first_line(error)}"
        raise ShapeError(what, where=path, fix="fetch it again") from error


def _array(h5py: Any, file: Any, name: str) -> np.ndarray:
    """An array of plain numbers that is stored in this file: links to other files are not followed."""
    if name not in file or not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"it has no array {name!r} of its own")
    found = file[name]
    if not isinstance(found, h5py.Dataset) or found.is_virtual or found.external:
        raise ValueError(f"{name!r} is no array in this file")
    if found.dtype.kind not in "iuf" or math.prod(found.shape) * found.dtype.itemsize > MAX_TABLE_BYTES:
        raise ValueError(f"{name!r} is not of numbers, or too large")
    return np.asarray(found[()])


def _import_h5py() -> Any:
    """The package h5py. Raises ConfigError: it is not installed."""
    try:
        import h5py
    except ImportError as error:
        raise ConfigError(
            "Reading HDF5 needs the package h5py, which is not installed", fix='pip install "ovseg3d[h5]"'
        ) from error
    return h5py
