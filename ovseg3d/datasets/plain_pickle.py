"""Pickles of plain data, read without running what they say.

A pickle is a program that may call anything. Here it may build Python's own containers, numbers and text, and numpy's
arrays and numbers, which are put together from their bytes by the code below. All else is refused. NumPy itself keeps
a list of objects in a .npz file as a pickle: `read_plain_objects` reads it in the same way.
"""

import io
import math
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ovseg3d.datasets.tables import check_size
from ovseg3d.errors import SceneError
from ovseg3d.limits import MAX_HEADER_BYTES, MAX_TABLE_BYTES, check_regular, first_line, read_bytes, shorten

_FIX = "open it where its library is installed, and save plain lists, numbers and arrays"


def read_plain_pickle(path: Path) -> Any:
    """What a pickle of containers, numbers, text and numpy arrays holds.

    Raises SceneError: it names anything else, is damaged, or is larger than `MAX_TABLE_BYTES`.
    """
    return _unpickled(read_bytes(path, SceneError, "pickle", MAX_TABLE_BYTES), path)


def read_plain_objects(path: Path, key: str) -> list[Any]:
    """A list of plain data that was saved with `numpy.savez(path, key=list)`, without numpy's `allow_pickle`.

    Raises SceneError: the file has no such array, or it holds anything else, is damaged or too large.
    """
    from numpy.lib import format as npy

    check_size(check_regular(path, SceneError, "archive"), path)
    try:
        with zipfile.ZipFile(path) as archive:
            check_size(archive.getinfo(f"{key}.npy").file_size, path)
            file = io.BytesIO(archive.read(f"{key}.npy"))
        read = npy.read_array_header_1_0 if npy.read_magic(file) == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read(file, max_header_size=MAX_HEADER_BYTES)
    except SceneError:
        raise
    except Exception as cause:  # zipfile and numpy raise errors of all kinds
        reason = f"The file holds no list {key!r}: {first_line(cause)}"
        raise SceneError(reason, where=path, fix="fetch it again") from cause
    objects = _unpickled(file.read(), path, objects=True) if dtype.hasobject and len(shape) == 1 else None
    if not isinstance(objects, list) or len(objects) != shape[0]:
        raise SceneError(f"The array {key!r} is no list of objects", where=path, fix="fetch it again")
    return objects


def _unpickled(data: bytes, path: Path, *, objects: bool = False) -> Any:
    try:
        return _plain(_PlainUnpickler(io.BytesIO(data), objects).load(), {})
    except SceneError as error:
        raise SceneError(error.what, where=path, fix=error.fix) from error
    except Exception as cause:  # damaged pickles raise errors of all kinds
        raise SceneError(f"The pickle is damaged: {first_line(cause)}", where=path, fix="fetch it again") from cause


class _Dtype:
    """Stands for a numpy dtype of plain numbers or text."""

    kinds = "biufSU"

    def __init__(self, spec: Any, *_: Any) -> None:
        dtype = np.dtype(spec) if isinstance(spec, str) else None
        if dtype is None or dtype.kind not in self.kinds:
            raise SceneError(f"The pickle holds an array of {shorten(ascii(spec))}", fix=_FIX)
        self.dtype = dtype

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.dtype = self.dtype.newbyteorder("<" if state[1] == "|" else state[1])


class _AnyDtype(_Dtype):
    """Also that of objects, which are plain data themselves."""

    kinds = "biufSUO"


class _Array:
    """Stands for a numpy array until its bytes come."""

    value: np.ndarray | list[Any] | None = None

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, fortran, data = state
        self.value = _array(data, kind, shape, "F" if fortran else "C").value


def _array(data: Any, kind: Any, shape: tuple[int, ...], order: Any) -> _Array:
    if isinstance(kind, _AnyDtype) and kind.dtype.kind == "O" and isinstance(data, list) and shape == (len(data),):
        array = _Array()
        array.value = data
        return array
    if not isinstance(kind, _Dtype) or kind.dtype.kind == "O" or not isinstance(data, bytes | bytearray):
        raise SceneError("The pickle holds an array of objects", fix=_FIX)
    if math.prod(shape) * kind.dtype.itemsize != len(data):
        raise ValueError("an array's size is not that of its bytes")
    flat = np.frombuffer(data, kind.dtype) if data else np.zeros(0, kind.dtype)
    array = _Array()
    array.value = flat.reshape(shape, order=order).copy()
    return array


def _number(kind: _Dtype, data: bytes) -> Any:
    """A numpy number."""
    return np.frombuffer(data, kind.dtype, count=1)[0].item()


def _text_as_bytes(text: str, encoding: str) -> bytes:
    """How pickles of protocol 2 write bytes."""
    if encoding != "latin1":
        raise ValueError(f"bytes in {encoding}")
    return text.encode("latin1")


def _nothing() -> bytes:
    """How pickles of protocol 2 write no bytes."""
    return b""


_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _Array,  # only named
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy.core.multiarray", "scalar"): _number,
    ("numpy.core.numeric", "_frombuffer"): _array,
    ("_codecs", "encode"): _text_as_bytes,
    ("__builtin__", "bytes"): _nothing,
    ("collections", "OrderedDict"): dict,
}
"""What is called in place of the few names that a pickle may use."""


class _PlainUnpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, objects: bool) -> None:
        super().__init__(file)
        self._allowed = _ALLOWED | ({("numpy", "dtype"): _AnyDtype} if objects else {})

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        key = module.replace("numpy._core.", "numpy.core."), name
        if key not in self._allowed:
            named = shorten(ascii(f"{module}.{name}"))
            raise SceneError(f"The pickle names {named}, which is not plain data", fix=_FIX)

        def stand_in(*arguments: Any) -> Any:  # a new one each time, since a pickle can set attributes of it
            return self._allowed[key](*arguments)

        return stand_in


def _plain(value: Any, done: dict[int, Any]) -> Any:
    """The value with arrays in place of what stood for them; shared parts stay shared."""
    if id(value) in done:
        return done[id(value)][1]
    if isinstance(value, _Array):
        new: Any = _plain(value.value, done) if isinstance(value.value, list) else value.value
        if new is None:
            raise ValueError("an array without its bytes")
    elif isinstance(value, list):
        new = done.setdefault(id(value), (value, []))[1]  # known before its items: a list may hold itself
        new.extend(_plain(item, done) for item in value)
    elif isinstance(value, dict):
        new = done.setdefault(id(value), (value, {}))[1]
        new.update({key: _plain(item, done) for key, item in value.items()})
    elif isinstance(value, tuple):
        new = tuple(_plain(item, done) for item in value)
    elif value is None or isinstance(value, bool | int | float | str | bytes):
        return value
    else:
        raise SceneError(f"The pickle holds {type(value).__name__}, which is not plain data", fix=_FIX)
    done[id(value)] = value, new
    return new
