"""Read the points of a PLY file.

Only position, colour and normal of the element "vertex" are read. The counts of the header are compared with the size
of the file before memory is allocated, which libraries do not do for lists and text.
"""

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Float, UInt8

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
_NORMALS = ("nx", "ny", "nz")


def read_ply(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Positions (n, 3) float64, and colours (n, 3) uint8 where there are any, of a PLY point cloud.

    Raises:
        SceneError: it is missing, broken, cut short, or holds more than `MAX_POINTS`.
    """
    fix = "export them again, or remove ply_file_path from transforms.json"
    points, colours, _ = read_vertices(path, "sparse points", fix)
    finite = np.isfinite(points).all(axis=1)
    return points[finite], None if colours is None else colours[finite]


def read_vertices(
    path: Path, what: str = "points", fix: str = "export them again"
) -> tuple[Float[np.ndarray, "points 3"], UInt8[np.ndarray, "points 3"] | None, Float[np.ndarray, "points 3"] | None]:
    """Positions, and colours and normals where there are any, of a PLY file's vertices; not all need be finite.

    Args:
        path: the file.
        what: the points, for messages.
        fix: what to do about a broken file.

    Raises:
        SceneError: it is missing, broken, cut short, or holds more than `MAX_POINTS`.
    """
    with open_regular(path, what=f"file of {what}") as file:
        try:
            with np.errstate(all="ignore"):  # numbers that their type cannot hold
                return _read(file)
        except (ValueError, IndexError, KeyError, OSError) as error:
            raise SceneError(f"The {what} cannot be read: {shorten(str(error))}", where=path, fix=fix) from error


def _read(file: BinaryIO) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
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
    optional = [group for group in (_COLOURS, _NORMALS) if set(group) <= set(properties)]
    keys = ["x", "y", "z", *(key for group in optional for key in group)]
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
    colours = normals = None
    if _COLOURS in optional:
        colours = np.stack([_byte(values[key]) for key in _COLOURS], axis=-1)
    if _NORMALS in optional:
        normals = np.stack([values[key] for key in _NORMALS], axis=-1).astype(np.float64)
    return points, colours, normals


def _byte(values: np.ndarray) -> np.ndarray:
    """Colour values as bytes; those of a floating-point type are from 0 to 1 if none is above."""
    if values.dtype.kind == "f" and np.nanmax(values, initial=0) <= 1:
        values = values * 255
    return np.clip(np.nan_to_num(values), 0, 255).astype(np.uint8)


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
