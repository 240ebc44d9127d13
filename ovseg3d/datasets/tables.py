"""Tables of data sets: clouds, boxes and other arrays of plain numbers, checked when they are read."""

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from ovseg3d.errors import SceneError
from ovseg3d.limits import MAX_TABLE_BYTES, check_regular, first_line

Colours = UInt8[np.ndarray, "points 3"] | None
Cloud = tuple[Float[np.ndarray, "points 3"], Colours]
"""Points, and colours if there are any."""


def as_boxes(rows: Any, where: Path | str) -> Float[np.ndarray, "boxes 7"]:
    """Boxes from rows of 6 (parallel to the axes) or 7 numbers. Raises SceneError: they are none."""
    try:
        boxes = np.array(rows, dtype=np.float64)
        boxes = boxes.reshape(len(boxes), -1) if boxes.size else np.zeros((0, 7))
        if boxes.shape[1] == 6:
            boxes = np.column_stack([boxes, np.zeros(len(boxes))])
        if boxes.shape[1] != 7 or not np.isfinite(boxes).all() or (boxes[:, 3:6] < 0).any():
            raise ValueError("six or seven finite numbers each, and no negative size")
    except (TypeError, ValueError) as cause:
        raise SceneError(f"The boxes are not usable: {first_line(cause)}", where=where, fix="fetch it again") from cause
    return boxes


def as_cloud(table: np.ndarray, where: Path, white: int) -> Cloud:
    """Points (n, 3) and colours (n, 3), or None, of a table of 3 or 6 columns, in which white is `white` (1 or 255).

    Raises SceneError: another shape, no point, or a value that is not finite.
    """
    if table.ndim != 2 or table.shape[1] not in (3, 6) or not len(table) or not np.isfinite(table).all():
        shape = "x".join(map(str, table.shape))
        raise SceneError(f"A table of {shape} is no cloud of finite x y z r g b", where=where, fix="fetch it again")
    rgb = np.clip(np.rint(table[:, 3:] * (255 / white)), 0, 255).astype(np.uint8) if table.shape[1] == 6 else None
    return table[:, :3].astype(np.float64), rgb


def as_table(xyz: Float[np.ndarray, "points 3"], rgb: Colours, white: int) -> Float[np.ndarray, "points 6"]:
    """The reverse of `as_cloud`, in single precision; a cloud without colours becomes black."""
    colours = np.zeros_like(xyz) if rgb is None else rgb * (white / 255)
    return np.hstack([xyz, colours]).astype(np.float32)


def moved(xyz: Float[np.ndarray, "points 3"], matrix: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "points 3"]:
    """Float[np.ndarray, "points 3"] after a rigid motion."""
    return xyz @ matrix[:3, :3].T + matrix[:3, 3]


def read_array(path: Path, key: str | None = None) -> np.ndarray:
    """An array of plain numbers from a .npy file, or, with its name, from a .npz file.

    Raises SceneError: it is missing, damaged, too large, or holds anything else.
    """
    size = check_regular(path, SceneError, "array")

    def load() -> Any:
        if key is None:
            return np.load(path, allow_pickle=False)
        with zipfile.ZipFile(path) as archive:
            check_size(sum(entry.file_size for entry in archive.infolist()), path)
        with np.load(path, allow_pickle=False) as arrays:
            return arrays[key]

    check_size(size, path)
    return numbers_from(load, path)


def read_binary(path: Path, dtype: type, columns: int = 1) -> np.ndarray:
    """A .bin file: rows of numbers without a header. Raises SceneError: it is missing, too large, or no whole rows."""
    size = check_regular(path, SceneError, "table")
    check_size(size, path)
    if size % (np.dtype(dtype).itemsize * columns):
        raise SceneError(f"The file is no table of {columns} columns", where=path, fix="fetch it again")
    flat = numbers_from(lambda: np.fromfile(path, dtype), path)
    return flat.reshape(-1, columns) if columns > 1 else flat


def numbers_from(load: Callable[[], Any], path: Path) -> np.ndarray:
    """The array that `load` gives. Raises SceneError: it raises, or gives no array of plain numbers."""
    try:
        array = load()
    except Exception as cause:  # numpy, zipfile and scipy raise errors of all kinds
        raise SceneError(f"The file cannot be read: {first_line(cause)}", where=path, fix="fetch it again") from cause
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        raise SceneError("The file holds no array of plain numbers", where=path, fix="fetch it again")
    return array


def check_size(size: int, path: Path) -> None:
    """Raises SceneError: more bytes than `MAX_TABLE_BYTES`."""
    if size > MAX_TABLE_BYTES:
        raise SceneError(f"The file is larger than {MAX_TABLE_BYTES / 2**20:g} MiB, the maximum", where=path)


def named_files(folder: Path, suffix: str) -> list[str]:
    """Names of the scenes in a folder: files with this ending, without it, sorted. Raises SceneError: none."""
    try:
        names = sorted(name.removesuffix(suffix) for name in os.listdir(folder) if name.endswith(suffix))
    except OSError as cause:
        raise SceneError("The folder is missing or closed", where=folder, fix="check the path") from cause
    if not names:
        raise SceneError(f"The folder holds no *{suffix}", where=folder, fix="check the path and the protocol")
    return names
