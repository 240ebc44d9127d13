"""Read the sparse points of a PLY file.

Only position and colour of the element "vertex" are read. The counts of the header are compared with the size of the
file before memory is allocated, which libraries do not do for lists and text.
"""

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ovseg3d.errors import SceneError
from ovseg3d.limits import MAX_POINTS, open_regular, shorten

_TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4",
    "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4",
    "float32": "f4", "float64": "f8",
}  # fmt: skip
_ORDERS = {"ascii": "=", "binary_little_endian": "<", "binary_big_endian": ">"}
_LONGEST_LINE = 65_536
_COLOURS = ("red", "green", "blue")


def read_ply(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Positions (n, 3) float64, and colours (n, 3) uint8 where there are any, of a PLY point cloud.

    Raises:
        SceneError: it is missing, broken, cut short, or holds more than `MAX_POINTS`.
    """
    with open_regular(path, what="file of sparse points") as file:
        try:
            with np.errstate(all="ignore"):  # numbers that their type cannot hold
                points, colours = _read(file)
        except (ValueError, IndexError, KeyError, OSError) as error:
            raise SceneError(
                f"The sparse points cannot be read: {shorten(str(error))}",
                where=path,
                fix="export them again, or remove ply_file_path from transforms.json",
            ) from error
    finite = np.isfinite(points).all(axis=1)
    return points[finite], None if colours is None else colours[finite]


def _read(file: BinaryIO) -> tuple[np.ndarray, np.ndarray | None]:
    order, elements = _header(file)
    left = os.fstat(file.fileno()).st_size - file.tell()
    for name, count, properties in elements:
        if any(kind is None for kind in properties.values()):
            raise ValueError(f"the element {name!r} has lists; it must come after the points, and points have none")
        row = np.dtype([(key, order + str(kind)) for key, kind in properties.items()])
        # A value in text takes at least a digit and a separator; the last one may lack that.
        least = count * (2 * len(properties) if order == "=" else row.itemsize)
        if count and not properties or least > left + 1:
            raise ValueError(f"its header promises {count} of {name!r}, more than the file holds")
        if name == "vertex":
            break
        left -= least
        if order == "=":
            for _ in islice(_lines(file), count):
                pass
        else:
            file.seek(count * row.itemsize, os.SEEK_CUR)
    else:
        raise ValueError("it has no element 'vertex'")
    if count > MAX_POINTS:
        raise ValueError(f"it holds {count} points, more than {MAX_POINTS}: thin them out")
    keys = ["x", "y", "z", *(_COLOURS if set(_COLOURS) <= set(properties) else ())]
    if order == "=":
        columns = [list(properties).index(key) for key in keys]
        lines = (line.decode("ascii") for line in islice(_lines(file), count))
        table = np.loadtxt(lines, ndmin=2, usecols=columns, comments=None) if count else np.zeros((0, len(keys)))
        if len(table) != count:
            raise ValueError("it is cut short")
        values = {key: table[:, i].astype(properties[key]) for i, key in enumerate(keys)}
    else:
        values = np.fromfile(file, row, count)
        if len(values) != count:
            raise ValueError("it is cut short")
    points = np.stack([values[key] for key in "xyz"], axis=-1).astype(np.float64)
    if len(keys) == 3:
        return points, None
    colours = np.stack([np.clip(np.nan_to_num(values[key]), 0, 255).astype(np.uint8) for key in _COLOURS], axis=-1)
    return points, colours


def _header(file: BinaryIO) -> tuple[str, list[tuple[str, int, dict[str, str | None]]]]:
    """Byte order ("=" for text), and the name, count and properties of each element; the type of a list is None."""
    order = ""
    elements: list[tuple[str, int, dict[str, str | None]]] = []
    if file.readline(_LONGEST_LINE).strip() != b"ply":
        raise ValueError("it is no PLY file")
    for line in islice(_lines(file), 10_000):
        match line.decode("ascii", "replace").split():
            case ["end_header"]:
                if not order:
                    raise ValueError("its header does not say in which format it is")
                return order, elements
            case ["format", kind, _]:
                order = _ORDERS[kind]
            case ["element", name, count] if count.isascii() and count.isdecimal() and len(count) < 19:
                elements.append((name, int(count), {}))
            case ["property", "list", _, _, name] if elements:
                elements[-1][2][name] = None
            case ["property", kind, name] if elements and name not in elements[-1][2]:
                elements[-1][2][name] = _TYPES[kind]
            case [] | ["comment" | "obj_info", *_]:
                pass
            case _:
                raise ValueError("its header is broken")
    raise ValueError("its header does not end")


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Lines until the end of the file. Raises ValueError: one is longer than any table has."""
    while line := file.readline(_LONGEST_LINE):
        if len(line) == _LONGEST_LINE:
            raise ValueError("it has a line without an end")
        yield line
