"""Limits on untrusted input: a capture, a run folder, a model folder, a message from a browser.

Every reader checks its input here before it opens, allocates or uses anything:

    files     `open_regular`, `read_bytes`, `read_text`: regular files only, up to a maximum size
    paths     `inside`: a path named by a file stays in that file's folder, links followed
    text      `check_name`: names that terminals and file systems accept; see also `errors.printable`
    numbers   `check_number`: finite, and in a plausible range
    arrays    `check_array`: type, shape and size of a .npy before it is read; `tensor_headers`: of a safetensors file
    memory    `check_memory`: planned allocations, against the free memory

`Trust` holds permissions beyond the defaults. Only the user grants them; they are never read from a file.
"""

import errno
import json
import math
import os
import stat
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

from ovseg3d.errors import Ovseg3dError, SceneError, harmless

MAX_PIXELS = 100_000_000
"""Largest image that is decoded, in pixels; `--max-megapixels` raises it."""
MAX_TEXT_BYTES = 32 * 2**20
"""Largest JSON, YAML or list. Parsed JSON takes up to 25 times as much memory. 40,000 frames take about 25 MB."""
MAX_TABLE_BYTES = 2**30
"""Largest table of numbers: a COLMAP model, a point cloud, an array."""
MAX_HEADER_BYTES = 2**20
"""Largest header of an array or a safetensors file. (safetensors itself allows 100 MB.)"""
MAX_NAME_BYTES = 255
"""Longest name of a file, folder, class or phrase, in bytes of UTF-8; the limit of file systems."""
MAX_PATH_BYTES = 4096
"""Longest path, in bytes."""
MAX_LENGTH = 1e6
"""Largest coordinate or distance, in input units; 1000 km if a unit is a metre."""

# Cameras and captures. Values outside are impossible or break the arithmetic; `info` warns of values that are odd.
MAX_FRAMES = 50_000
"""Most photos of a capture."""
MAX_POINTS = 10_000_000
"""Most sparse points of a capture."""
MAX_SIDE = 65_536
"""Longest side of an image, in pixels."""
FOCAL_LENGTHS = (0.05, 1000.0)
"""Focal lengths, as fractions of the image's longer side: 0.16 is a full-sphere lens, 83 the longest zoom on sale."""
CENTRES = (-2.0, 3.0)
"""Principal points, as fractions of the image's side."""
MAX_DISTORTION = 1000.0
"""Largest shift of the image's farthest corner by one coefficient, relative to its distance from the centre."""
DEPTH_UNITS = (1e-9, 1e3)
"""Input units per value 1 in a depth file; typical are 0.001 (millimetres) and 1."""
SCALES = (1e-6, 1e6)
"""Metres per input unit."""
MAX_REDUCTION = 1024
"""Largest reduction factor of photos."""
MIN_REDUCED_SIDE = 4
"""Shortest side of a reduced photo, in pixels."""
LABELS = (-(2**31), 2**31 - 1)
"""Range of indices in a label image."""

MEMORY_SHARE = 0.8
"""Fraction of the free memory that one allocation may take."""


@dataclass(frozen=True)
class Trust:
    """The user's permissions for a capture or a run. They come from flags and arguments, never from a file."""

    outside: bool = False
    """Read files that a capture names outside its own folder (`--allow-outside`)."""
    max_pixels: int = MAX_PIXELS
    """Largest image that is decoded (`--max-megapixels`)."""
    clip: str | None = None
    """Location of a run's CLIP (`--clip`). Without it, a run may only name `builtin` or a well-known model."""
    dino: str | None = None
    """The same for DINO (`--dino`)."""
    segments: str | None = None
    """The same for the segmenter (`--segments`)."""


NO_TRUST = Trust()
"""No permissions beyond the defaults."""


# Files


def open_regular(path: Path, error: type[Ovseg3dError] = SceneError, what: str = "file") -> BufferedReader:
    """Open a regular file for reading. Named pipes and devices are refused, since they may block or never end.

    Args:
        path: the file, or a link to it.
        error: which error to raise.
        what: kind of file for the message, such as "photo".

    Raises:
        error: it is missing, not a regular file, or not readable.
    """
    path = Path(path)
    try:
        # O_NONBLOCK: opening a pipe without a writer would block. It has no effect on regular files.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError) as cause:  # ValueError: a NUL in the name
        raise unreadable(path, cause, error, what) from cause
    try:
        _check_regular(os.fstat(handle), path, error, what)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def check_regular(path: Path, error: type[Ovseg3dError] = SceneError, what: str = "file") -> int:
    """Size in bytes of a regular file that a library will open by name. Raises as `open_regular`."""
    try:
        return _check_regular(os.stat(path), path, error, what)
    except (OSError, ValueError) as cause:
        raise unreadable(path, cause, error, what) from cause


def _check_regular(found: os.stat_result, path: Path, error: type[Ovseg3dError], what: str) -> int:
    if stat.S_ISDIR(found.st_mode):
        raise error(f"The {what} is a folder", where=path, fix="name the file")
    if not stat.S_ISREG(found.st_mode):
        raise error(f"The {what} is no regular file but a pipe, a socket or a device", where=path, fix="remove it")
    return found.st_size


def unreadable(path: Path, cause: Exception, error: type[Ovseg3dError], what: str) -> Ovseg3dError:
    """The error for a file that cannot be opened."""
    if isinstance(cause, FileNotFoundError):
        return error(f"The {what} is missing", where=path, fix="check its name, or put the file back")
    if isinstance(cause, PermissionError):
        return error(f"No permission to read the {what}", where=path, fix="ask its owner for read permission")
    if isinstance(cause, OSError) and cause.errno == errno.ENAMETOOLONG:
        return error(f"The name of the {what} is too long", where=shorten(str(path)), fix="rename it")
    if isinstance(cause, ValueError):
        return error(f"The name of the {what} is invalid", where=ascii(str(path)), fix="rename it")
    reason = (cause.strerror if isinstance(cause, OSError) else None) or str(cause)
    return error(f"The {what} cannot be read: {reason}", where=path)


def read_bytes(
    path: Path, error: type[Ovseg3dError] = SceneError, what: str = "file", most: int = MAX_TEXT_BYTES
) -> bytes:
    """Content of a regular file of at most `most` bytes. Raises `error` as `open_regular`, or if it is too large."""
    with open_regular(path, error, what) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            # Read more than the stated size, since files in /proc have size 0. `read` allocates its argument at once.
            data = b"" if size > most else file.read(min(max(size, 2**20), most) + 1)
        except OSError as cause:
            raise unreadable(path, cause, error, what) from cause
    if max(size, len(data)) > most:
        raise error(f"The {what} is larger than {most / 2**20:g} MiB, the maximum", where=path)
    return data


def read_text(
    path: Path, error: type[Ovseg3dError] = SceneError, what: str = "file", most: int = MAX_TEXT_BYTES
) -> str:
    """The text of a UTF-8 file, without a byte order mark. Raises as `read_bytes`, or if it is not UTF-8."""
    try:
        return read_bytes(path, error, what, most).decode("utf-8-sig")
    except UnicodeDecodeError as cause:
        raise error(f"The {what} is not UTF-8 ({cause.reason})", where=path, fix="save it as UTF-8") from cause


# Paths


def inside(folder: Path, name: str | Path, error: type[Ovseg3dError] = SceneError, trust: Trust = NO_TRUST) -> Path:
    """`folder / name`, for a name stated by a file in `folder`; it must be inside of `folder`, links followed.

    Args:
        folder: folder of the file that states the name.
        name: a relative path.
        error: which error to raise.
        trust: the user's permissions.

    Raises:
        error: the path leads out of the folder and the user did not permit that, or is not a valid name.
    """
    path = Path(folder) / name
    try:
        if any(len(part) > MAX_NAME_BYTES for part in os.fsencode(path).split(b"/")):
            raise ValueError("too long")
        if trust.outside or Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
            return path
    except (OSError, ValueError) as cause:  # a NUL, a lone surrogate, a name that is too long
        raise error("This is not a valid file name", where=shorten(ascii(str(name))), fix="correct it") from cause
    raise error(
        "This file is outside the folder of the capture that names it",
        where=path,
        fix="copy it into the folder, or use --allow-outside if you trust the capture",
    )


# Text


def shorten(text: str, most: int = 80) -> str:
    """`text`, shortened in the middle if it is longer than `most` characters."""
    return text if len(text) <= most else f"{text[: most // 2]}...{text[-most // 3 :]}"


def check_name(text: str, where: str | Path | None, error: type[Ovseg3dError] = SceneError, what: str = "name") -> str:
    """Check the name of a class, a frame, a phrase or an object, and return it.

    Args:
        text: the name; parts between slashes each have their own limit.
        where: the file that states it; None if the user typed it.
        error: which error to raise.
        what: what is named, such as "class".

    Raises:
        error: it is longer than file systems allow, has control characters, or is not UTF-8.
    """
    shown = shorten(ascii(text))
    try:
        longest = max((len(part.encode()) for part in text.split("/")), default=0)
    except UnicodeEncodeError as cause:
        raise error(f"The {what} {shown} is no text in UTF-8", where=where, fix="write it in UTF-8") from cause
    if longest > MAX_NAME_BYTES or len(text.encode()) > MAX_PATH_BYTES:
        raise error(f"The {what} {shown} is longer than {MAX_NAME_BYTES} bytes", where=where, fix="shorten it")
    if not text.isprintable() and not all(map(harmless, text)):
        raise error(f"The {what} {shown} holds control characters", where=where, fix="leave them out")
    return text


# Numbers


def check_number(
    value: Any,
    name: str,
    where: str | Path,
    low: float | int = -math.inf,
    high: float | int = math.inf,
    error: type[Ovseg3dError] = SceneError,
    fix: str = "correct the file",
) -> float:
    """Check a number from JSON, and return it as a float.

    Args:
        value: the value in the file.
        name: its key, for messages.
        where: the file, or the frame in it, for messages.
        low: smallest allowed value.
        high: largest allowed value.
        error: which error to raise.
        fix: what the user can do.

    Raises:
        error: the value is not a number, not finite, or out of range.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise error(f"'{name}' is {type(value).__name__}, expected a number", where=where, fix=fix)
    try:
        number = float(value)
    except OverflowError:  # an integer with hundreds of digits
        number = math.inf
    if not math.isfinite(number):
        raise error(f"'{name}' is not finite", where=where, fix=fix)
    if not low <= number <= high:
        raise error(f"'{name}' is {number:g}, expected {low:g} to {high:g}", where=where, fix=fix)
    return number


# Arrays


def check_array(
    path: Path,
    error: type[Ovseg3dError] = SceneError,
    what: str = "array",
    *,
    kinds: str = "uif",
    dims: Sequence[int] = (2, 3),
    most: int = MAX_TABLE_BYTES,
) -> tuple[int, ...]:
    """The shape of a .npy file from its header, checked against the file's size.

    Args:
        path: the file.
        error: which error to raise.
        what: kind of file, for the message.
        kinds: allowed values of numpy's `dtype.kind`.
        dims: allowed numbers of axes.
        most: largest array, in bytes.

    Raises:
        error: not a .npy file, truncated, of another kind or shape, or larger than `most`.
    """
    from numpy.lib import format as npy

    with open_regular(path, error, what) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            version = npy.read_magic(file)
            if version not in ((1, 0), (2, 0)):
                raise ValueError(f"version {version[0]}.{version[1]} of the format")
            read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, _, dtype = read(file, max_header_size=MAX_HEADER_BYTES)
            start = file.tell()
        except Exception as cause:  # numpy parses the header as a literal, and raises errors of Python's parser
            reason = f"The {what} is no array that can be read: {first_line(cause)}"
            raise error(reason, where=path, fix="write the file again") from cause
    if dtype.hasobject or dtype.kind not in kinds:
        raise error(f"The {what} holds {dtype}, expected plain numbers", where=path, fix="write the file again")
    if len(shape) not in dims or any(side < 1 for side in shape):
        sides = "x".join(map(str, shape[:6])) or "a single number"
        raise error(f"The {what} has the shape {sides}", where=path, fix="write the file again")
    count = math.prod(shape) * dtype.itemsize
    if count > most:
        raise error(f"The {what} is larger than {most / 2**20:g} MiB", where=path, fix="write a smaller one")
    if start + count > size:
        raise error(f"The {what} is cut short", where=path, fix="write the file again")
    return tuple(shape)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or else its type."""
    if "allow_pickle" in str(error):  # numpy advises to run what it finds in the file
        return "it is damaged, or holds no plain numbers"
    return shorten((str(error).strip().splitlines() or [type(error).__name__])[0], 160)


_TENSOR_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8,
}  # fmt: skip


@dataclass(frozen=True)
class TensorHeader:
    """Header entry of one tensor in a safetensors file."""

    dtype: str
    """In the notation of safetensors, such as "F32"."""
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Its size in memory."""
        return math.prod(self.shape) * _TENSOR_BYTES.get(self.dtype, 8)


def tensor_headers(
    path: Path,
    error: type[Ovseg3dError],
    what: str = "file",
    most: int = MAX_TABLE_BYTES,
    most_header: int = MAX_HEADER_BYTES,
    fix: str = "fetch or make the file again",
) -> tuple[dict[str, TensorHeader], dict[str, str]]:
    """Types and shapes of all tensors in a safetensors file, and its metadata, without reading any tensor.

    Args:
        path: the file.
        error: which error to raise.
        what: kind of file, for the message.
        most: largest total size of the tensors, in bytes.
        most_header: largest header, in bytes.
        fix: what the user can do.

    Raises:
        error: the file is missing, not a safetensors file, truncated, or larger than `most`.
    """
    with open_regular(path, error, what) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(most_header, size - 8):
                raise ValueError("its header is cut or too large")
            header = json.loads(file.read(length))
            metadata = header.pop("__metadata__", {})
            if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
                raise ValueError("its facts are no texts")
            tensors, end = {}, 0
            for name, entry in header.items():
                shape = tuple(entry["shape"])
                if any(type(side) is not int or side < 0 for side in shape):
                    raise ValueError(f"the shape of {name!r}")
                tensors[name] = TensorHeader(str(entry["dtype"]), shape)
                end += tensors[name].bytes
            if 8 + length + end > size:
                raise ValueError("it is cut short")
        except (OSError, struct.error, ValueError, KeyError, TypeError, AttributeError, RecursionError) as cause:
            raise error(f"The {what} is cut or damaged ({first_line(cause)})", where=path, fix=fix) from cause
    if end > most:
        raise error(f"The {what} holds {end / 2**30:.1f} GiB of tensors, more than can be right", where=path, fix=fix)
    return tensors, metadata


# Memory


def free_memory() -> int | None:
    """Free memory of this machine in bytes, or None if unknown."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def check_memory(
    needed: int | float, what: str, where: str | Path | None, error: type[Ovseg3dError], fix: str | None = None
) -> None:
    """Refuse an allocation of more than `MEMORY_SHARE` of the free memory.

    Args:
        needed: number of bytes to allocate.
        what: purpose, as the subject of the message: "A field of 2^24 entries".
        where: the file or flag that requests it.
        error: which error to raise.
        fix: what the user can do.

    Raises:
        error: it does not fit.
    """
    free = free_memory()
    if free is not None and needed > MEMORY_SHARE * free:
        raise error(f"{what} takes {needed / 2**30:.1f} GiB, and {free / 2**30:.1f} are free", where=where, fix=fix)
