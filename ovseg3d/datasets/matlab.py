"""MATLAB's .mat files of versions 5 to 7.2: structs, cells, text and numbers, read without trust.

SciPy's reader is fast and complete, but parses in C: a damaged file can end the process. This one checks every length
against the bytes that are there. Format: MathWorks, MAT-File Format. Objects, functions, and complex and sparse arrays
are refused; so is version 7.3, which is HDF5.
"""

import math
import struct
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ovseg3d.errors import SceneError
from ovseg3d.limits import MAX_TABLE_BYTES, first_line, read_bytes

_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""Types of data elements."""
_TEXTS = {1: "utf-8", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCT, _CHAR = 1, 2, 4
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
"""Classes of numeric arrays."""
_COMPLEX = 0x0800
_HEADER = 128
MAX_DEPTH = 32
"""Of structs and cells in each other."""


class _Element(NamedTuple):
    kind: int
    data: bytes


class _Reader:
    """A sequence of data elements."""

    def __init__(self, data: bytes, order: str) -> None:
        self.data, self.order, self.at = data, order, 0

    def more(self) -> bool:
        """Whether elements are left."""
        return self.at < len(self.data)

    def next(self) -> _Element:
        """The next element. Raises ValueError: it is cut short."""
        kind, count = struct.unpack_from(f"{self.order}II", self._bytes(self.at, 8))
        if kind >> 16:  # a small element has its length in the upper half of the type, and its data in the tag
            kind, count, start, after = kind & 0xFFFF, kind >> 16, self.at + 4, self.at + 8
            if count > 4:
                raise ValueError("a small element that is not small")
        else:
            start = self.at + 8
            after = start + count + (0 if kind == _COMPRESSED else -count % 8)
        self.at = after
        return _Element(kind, self._bytes(start, count))

    def _bytes(self, start: int, count: int) -> bytes:
        if start + count > len(self.data):
            raise ValueError("it is cut short")
        return self.data[start : start + count]


def read_matlab(path: Path, name: str) -> Any:
    """A variable: a struct as a dictionary, several and cells as a list, text, or an array of numbers.

    Raises SceneError: the file is missing, damaged, too large, of another version, or has no such variable.
    """
    data = read_bytes(path, SceneError, "MATLAB file", MAX_TABLE_BYTES)
    try:
        order = {b"IM": "<", b"MI": ">"}[data[_HEADER - 2 : _HEADER]]
        reader = _Reader(data[_HEADER:], order)
        while reader.more():
            element = reader.next()
            if element.kind == _COMPRESSED:
                element = _Reader(_inflated(element.data), order).next()
            if element.kind == _MATRIX and (found := _variable(element.data, order, 0, name)) is not None:
                return found[0]
    except Exception as cause:  # damaged bytes are wrong in all ways
        reason = f"The file cannot be read: {first_line(cause)}"
        raise SceneError(reason, where=path, fix="fetch it again, or save it with -v7") from cause
    raise SceneError(f"The file has no variable {name!r}", where=path, fix="fetch it again")


def _inflated(data: bytes) -> bytes:
    inflater = zlib.decompressobj()
    inflated = inflater.decompress(data, MAX_TABLE_BYTES)
    if inflater.unconsumed_tail:
        raise ValueError("a variable is too large")
    return inflated


def _variable(data: bytes, order: str, depth: int, wanted: str | None = None) -> tuple[Any] | None:
    """The value of a matrix element; None if it has another name than the wanted one."""
    if not data:
        return (np.zeros((0, 0)),)
    if depth > MAX_DEPTH:
        raise ValueError("structs are nested too deeply")
    reader = _Reader(data, order)
    flags = struct.unpack_from(f"{order}I", reader.next().data)[0]
    shape = tuple(int(side) for side in _numbers(reader.next(), order))
    name = reader.next().data.decode("latin-1")
    if wanted is not None and name != wanted:
        return None
    if any(side < 0 for side in shape) or flags & _COMPLEX:
        raise ValueError("a complex array, or one of a negative size")
    kind, count = flags & 0xFF, math.prod(shape)
    if kind == _CELL:
        return ([_inner(reader, order, depth) for _ in range(count)],)
    if kind == _STRUCT:
        return (_structs(reader, order, depth, count),)
    element = reader.next()
    if kind == _CHAR:
        return (element.data.decode(_TEXTS[element.kind].replace("utf-16", f"utf-16-{'l' if order == '<' else 'b'}e")),)
    array = _numbers(element, order).astype(_CLASSES[kind])
    return (array.reshape(shape, order="F"),)


def _structs(reader: _Reader, order: str, depth: int, count: int) -> dict[str, Any] | list[dict[str, Any]]:
    length = int(_numbers(reader.next(), order)[0])
    names = reader.next().data
    if length < 1 or len(names) % length:
        raise ValueError("names of fields are cut short")
    fields = [names[at : at + length].split(b"\0")[0].decode("latin-1") for at in range(0, len(names), length)]
    if not fields and count > 1:
        raise ValueError("structs without a field")
    found = [{field: _inner(reader, order, depth) for field in fields} for _ in range(count)]
    return found[0] if count == 1 else found


def _inner(reader: _Reader, order: str, depth: int) -> Any:
    element = reader.next()
    if element.kind != _MATRIX:
        raise ValueError("a struct or a cell holds no array")
    value = _variable(element.data, order, depth + 1)
    return value[0] if value is not None else None


def _numbers(element: _Element, order: str) -> np.ndarray:
    return np.frombuffer(element.data, np.dtype(order + _NUMBERS[element.kind]))
