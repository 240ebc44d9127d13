"""Read the points of a PLY file, or the properties of any of its elements.

Of points only position, colour and normal are read. The counts of the header are compared with the size
of the file before memory is allocated, which libraries do not do for lists and text.
"""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Float, Num, UInt8

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
_Kind = str | tuple[str, str]
"""Type of a property; of a list, the types of its length and of its values."""
_COUNT = "number of "
"""Before a list's name: the field of its length."""
_LONGEST_LIST = 64


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


def read_element(
    path: Path, name: str, keys: Sequence[str], what: str = "points", fix: str = "export them again"
) -> dict[str, Num[np.ndarray, "rows *length"]]:
    """Properties of one element of a PLY file, such as the labels of its vertices, or its faces.

    Args:
        path: the file.
        name: of the element: "vertex", "face".
        keys: the properties. One that is a list, such as "vertex_indices", has a column for each of its values.
        what: what is read, for messages.
        fix: what to do about a broken file.

    Raises:
        SceneError: the file is missing, broken or cut short, holds more than `MAX_POINTS`, lacks a property, or has
            lists of different lengths.
    """
    with open_regular(path, what=f"file of {what}") as file:
        try:
            with np.errstate(all="ignore"):  # numbers that their type cannot hold
                found = _columns(file, name, keys)
            missing = [key for key in keys if key not in found]
            if missing:
                raise ValueError(f"the element {name!r} has no {missing[0]!r}")
        except (ValueError, IndexError, KeyError, OSError) as error:
            raise SceneError(f"The {what} cannot be read: {shorten(str(error))}", where=path, fix=fix) from error
    return found


def _read(file: BinaryIO) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    values = _columns(file, "vertex", [*"xyz", *_COLOURS, *_NORMALS])
    points = np.stack([values[key] for key in "xyz"], axis=-1).astype(np.float64)
    colours = normals = None
    if set(_COLOURS) <= set(values):
        colours = np.stack([_byte(values[key]) for key in _COLOURS], axis=-1)
    if set(_NORMALS) <= set(values):
        normals = np.stack([values[key] for key in _NORMALS], axis=-1).astype(np.float64)
    return points, colours, normals


def _columns(file: BinaryIO, wanted: str, keys: Sequence[str]) -> dict[str, np.ndarray]:
    """Those of the properties `keys` that the element `wanted` has. Only elements other than "vertex" have lists."""
    order, elements = _header(file)
    left = os.fstat(file.fileno()).st_size - file.tell()
    for name, count, properties in elements:
        lists = any(isinstance(kind, tuple) for kind in properties.values())
        if lists and (name != wanted or name == "vertex"):
            raise ValueError(f"the element {name!r} has lists; it must come after the points, and points have none")
        lengths = _lengths(file, order, properties) if lists and count else {}
        row = _row(order, properties, lengths)
        # A value in text takes at least a digit and a separator; the last one may lack that.
        least = count * (2 * (len(properties) + sum(lengths.values())) if order == "=" else row.itemsize)
        if count and not properties or least > left + 1:
            raise ValueError(f"its header promises {count} of {name!r}, more than the file holds")
        if name == wanted:
            break
        left -= least
        if order == "=":
            for _ in islice(_lines(file), count):
                pass
        else:
            file.seek(count * row.itemsize, os.SEEK_CUR)
    else:
        raise ValueError(f"it has no element {wanted!r}")
    if count > MAX_POINTS:
        raise ValueError(f"it holds {count} of {wanted!r}, more than {MAX_POINTS}: thin them out")
    values = _text(file, row, count, keys, lengths) if order == "=" else np.fromfile(file, row, count)
    if len(values) != count:
        raise ValueError("it is cut short")
    if any((values[_COUNT + key] != length).any() for key, length in lengths.items()):
        raise ValueError(f"the lists of {wanted!r} differ in length: make all faces triangles")
    return {key: values[key] for key in keys if key in properties}


def _row(order: str, properties: dict[str, _Kind], lengths: dict[str, int]) -> np.dtype:
    """The type of one row; a list is a field for its length, and one for its values."""
    fields: list[Any] = []
    for key, kind in properties.items():
        if isinstance(kind, tuple):
            fields += [(_COUNT + key, order + kind[0]), (key, order + kind[1], (lengths.get(key, 0),))]
        else:
            fields.append((key, order + kind))
    return np.dtype(fields)


def _lengths(file: BinaryIO, order: str, properties: dict[str, _Kind]) -> dict[str, int]:
    """The length of each list in the first row, which is not consumed."""
    start, found, values = file.tell(), {}, iter(())
    if order == "=":
        values = iter(next(_lines(file), b"").split())
    for key, kind in properties.items():
        types = kind if isinstance(kind, tuple) else (kind,)
        first = next(values, b"") if order == "=" else file.read(np.dtype(types[0]).itemsize)
        if isinstance(kind, str):
            continue
        length = int(first) if order == "=" else int(np.frombuffer(first, order + kind[0])[0])
        if not 0 <= length <= _LONGEST_LIST:
            raise ValueError(f"a list {key!r} has {length} values")
        found[key] = length
        if order == "=":
            deque(islice(values, length), maxlen=0)
        else:
            file.seek(length * np.dtype(kind[1]).itemsize, os.SEEK_CUR)
    file.seek(start)
    return found


def _text(file: BinaryIO, row: np.dtype, count: int, keys: Sequence[str], lengths: dict[str, int]) -> np.ndarray:
    """Rows of text, with the fields `keys` and those of lists filled in."""
    assert row.names is not None
    first, columns, at = {}, [], 0
    for name in row.names:
        width = lengths.get(name, 1)
        if name in keys or lengths:
            first[name] = len(columns)
            columns += range(at, at + width)
        at += width
    lines = (line.decode("ascii") for line in islice(_lines(file), count))
    table = np.loadtxt(lines, ndmin=2, usecols=columns, comments=None) if count else np.zeros((0, len(columns)))
    values = np.zeros(len(table), row)
    for name, column in first.items():
        found = table[:, column : column + lengths.get(name, 1)]
        values[name] = found if name in lengths else found[:, 0]
    return values


def _byte(values: np.ndarray) -> np.ndarray:
    """Colour values as bytes; those of a floating-point type are from 0 to 1 if none is above."""
    if values.dtype.kind == "f" and np.nanmax(values, initial=0) <= 1:
        values = values * 255
    return np.clip(np.nan_to_num(values), 0, 255).astype(np.uint8)


def _header(file: BinaryIO) -> tuple[str, list[tuple[str, int, dict[str, _Kind]]]]:
    """Byte order ("=" for text), and the name, count and properties of each element."""
    order = ""
    elements: list[tuple[str, int, dict[str, _Kind]]] = []
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
            case ["property", "list", number, kind, name] if elements:
                elements[-1][2][name] = _TYPES[number], _TYPES[kind]
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
