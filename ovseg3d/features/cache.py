"""Features on disk, shared by all runs and processes: computed once, read through memory maps.

    <folder>/CACHEDIR.TAG                               marks the folder as a cache for backup programs
    <folder>/features/<kind>/<2 hex>/<64 hex>.safetensors
    <folder>/encoders/<64 hex>.json                     facts about encoders that are not loaded, see `lazy`
    <folder>/locks/<64 hex>.lock                        held while an entry is being made

An entry's name is a SHA-256 over everything that affects its content (`content_key`), so entries are never out of date.
A file is a plain safetensors file; its metadata repeats the name and holds a CRC-32, so that a truncated, overwritten
or misplaced file is detected and made again. Files are written atomically. The folder is --cache-dir, else
$OVSEG3D_CACHE_DIR, else the system's folder for caches.
"""

import hashlib
import importlib.metadata
import json
import os
import re
import struct
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ovseg3d.errors import CacheError, OutputError
from ovseg3d.files import expand, plain, read_json, sweep, write_atomic, write_json
from ovseg3d.limits import check_regular

FORMAT_VERSION = 2
"""Part of every key: raise it when the same inputs give other features."""
Arrays = Mapping[str, np.ndarray]
_TAG = b"Signature: 8a477f597d28d172789f06886806bc55\n# This folder is a cache of ovseg3d; it can be deleted.\n"
_ENTRY = re.compile(r"[0-9a-f]{64}\.safetensors|\.[0-9a-f]{64}\.[0-9a-f]{8}\.tmp\.safetensors")
_NOTE = re.compile(r"[0-9a-f]{64}\.json|\.[0-9a-f]{64}\.[0-9a-f]{8}\.tmp\.json")
_LOCK = re.compile(r"[0-9a-f]{64}\.lock")
_TYPES = {"F16": np.float16, "F32": np.float32, "F64": np.float64, "U16": np.uint16, "U8": np.uint8, "I64": np.int64}
_POLL = 0.1
"""Seconds between two attempts to take a lock."""


def default_folder() -> Path:
    """The folder of the cache without --cache-dir."""
    if place := os.environ.get("OVSEG3D_CACHE_DIR"):
        return expand(place, CacheError)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "ovseg3d" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "ovseg3d"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ovseg3d"


def content_key(parts: Mapping[str, Any]) -> str:
    """The name of an entry: 64 hexadecimal digits over plain values, independent of the order of keys."""
    text = json.dumps(plain({"format": FORMAT_VERSION, **parts}), sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def installed_version(package: str) -> str | None:
    """The installed version of a package by its pip name, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


@dataclass(frozen=True)
class CacheSize:
    """The size of a cache."""

    files: int
    """Number of entries, without notes on encoders, locks and the tag."""
    bytes: int


@dataclass(frozen=True)
class FeatureCache:
    """A folder of entries. The constructor does not access it."""

    folder: Path

    @staticmethod
    def at(folder: Path | str | None = None) -> "FeatureCache":
        """The cache in `folder`, by default in `default_folder()`."""
        return FeatureCache((expand(folder, CacheError) if folder else default_folder()).absolute())

    def path(self, kind: str, key: str) -> Path:
        """The file of an entry, whether it exists or not."""
        return self.folder / "features" / kind / key[:2] / f"{key}.safetensors"

    def read(self, kind: str, key: str, checked: bool = True) -> dict[str, np.ndarray] | None:
        """An entry's arrays, memory-mapped; None if it is missing, truncated, or not the entry of its name.

        Args:
            kind, key: of the entry.
            checked: also compare the checksum, which reads the file once (about 1 GB/s).
        """
        path = self.path(kind, key)
        try:
            check_regular(path, CacheError)  # a pipe would never end
            stored = np.memmap(path, dtype=np.uint8, mode="r")
            (length,) = struct.unpack("<Q", stored[:8].tobytes())
            header = json.loads(stored[8 : 8 + length].tobytes())
            facts = header.pop("__metadata__")
            data = stored[8 + length :]
            arrays, end = {}, 0
            for name, entry in header.items():
                first, last = entry["data_offsets"]
                arrays[name] = data[first:last].view(_TYPES[entry["dtype"]]).reshape(entry["shape"])
                end = max(end, last)
            if facts["key"] != key or end != len(data):
                return None
            if checked and int(facts["crc32"]) != _checksum(arrays):
                return None
            return arrays
        except (CacheError, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, struct.error):
            return None

    def write(self, kind: str, key: str, arrays: Arrays) -> None:
        """Write an entry atomically.

        Raises:
            CacheError: the folder cannot be written to, or the disk is full.
        """
        from safetensors.numpy import save

        whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        facts = {"key": key, "crc32": str(_checksum(whole)), "format": str(FORMAT_VERSION)}
        try:
            self._tag()
            sweep(self.path(kind, key).parent)
            write_atomic(self.path(kind, key), save(whole, metadata=facts))
        except OutputError as error:
            raise _cache_error(error.what, self.folder) from error

    def get_or_make(
        self, kind: str, key: str, make: Callable[[], Arrays], stop: threading.Event | None = None
    ) -> dict[str, np.ndarray] | None:
        """Read an entry; if it is missing, one process makes it with `make` while others wait.

        Returns:
            Its arrays, memory-mapped, or None if `stop` was set while another process was making it.

        Raises:
            CacheError: see `write`.
        """
        while True:
            if (found := self.read(kind, key)) is not None:
                return found
            if self.try_make(kind, key, make):
                if (found := self.read(kind, key)) is None:
                    raise _cache_error("What was written cannot be read back", self.path(kind, key))
                return found
            if stop is not None and stop.is_set():
                return None
            time.sleep(_POLL)

    def try_make(self, kind: str, key: str, make: Callable[[], Arrays]) -> bool:
        """Make an entry unless it exists; False if another process is making it.

        Raises:
            CacheError: see `write`.
        """
        from filelock import FileLock, Timeout

        path = self.folder / "locks" / f"{key}.lock"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path, timeout=0)
            lock.acquire()
        except Timeout:
            return False
        except (OSError, NotImplementedError) as error:
            raise _cache_error(_why(error), self.folder) from error
        try:
            if self.read(kind, key) is None:  # it may have been made meanwhile
                self.write(kind, key, make())
            # Processes that wait for this file then find the entry, later ones make a new file. Some systems do not
            # delete an open file; then it stays, which does no harm.
            with suppress(OSError):
                path.unlink()
        finally:
            lock.release()
        return True

    def size(self) -> CacheSize:
        """The current size; zero if the folder cannot be read."""
        sizes = []
        with suppress(OSError):
            sizes += [_size(path) for path in self._files() if path.suffix == ".safetensors"]
        return CacheSize(len(sizes), sum(sizes))

    def read_note(self, key: str) -> dict[str, Any] | None:
        """A note; None if it is missing or truncated."""
        try:
            note = read_json(self.folder / "encoders" / f"{key}.json", CacheError)
        except CacheError:
            return None
        return note

    def write_note(self, key: str, note: Mapping[str, Any] | None) -> None:
        """Store plain values under a key, or delete them (None). Failures are ignored, since notes only save time."""
        path = self.folder / "encoders" / f"{key}.json"
        with suppress(OutputError, OSError):
            if note is None:
                path.unlink(missing_ok=True)
            else:
                self._tag()
                write_json(path, dict(note))

    def clear(self) -> CacheSize:
        """Delete all entries; returns the freed size. Files of others, and their folders, stay.

        Files and locks in use by other processes stay, too.

        Raises:
            CacheError: the folder cannot be read, or a file cannot be deleted.
        """
        files = count = 0
        try:
            found = list(self._files())
        except OSError as error:
            raise _cache_error(_why(error), self.folder) from error
        for path in found:
            try:
                size = _size(path)
                if not self._delete(path):
                    continue
            except OSError as error:
                raise _cache_error(f"A file cannot be deleted: {error.strerror}", path) from error
            if path.suffix == ".safetensors":
                files, count = files + 1, count + size
        for folder in [*self.folder.glob("features/*/*"), *self.folder.glob("features/*"), self.folder / "features"]:
            _remove_empty(folder)
        _remove_empty(self.folder / "encoders")
        _remove_empty(self.folder / "locks")
        return CacheSize(files, count)

    def _delete(self, path: Path) -> bool:
        """Delete a file of the cache unless it is in use; False in that case. Raises OSError."""
        from filelock import FileLock, Timeout

        key = path.name.lstrip(".").partition(".")[0]
        lock = self.folder / "locks" / f"{key}.lock"
        # Only temporary files and locks may be in use; every writer holds a lock.
        if not (path == lock or path.name.startswith(".")) or not lock.exists():
            path.unlink(missing_ok=True)
            return True
        try:
            with FileLock(lock, timeout=0):
                path.unlink(missing_ok=True)
        except Timeout:
            return False
        return True

    def writable(self) -> bool:
        """Whether permissions allow adding entries."""
        # Path.exists would raise for a folder that may not be read.
        there = next(place for place in (self.folder, *self.folder.parents) if os.path.exists(place))
        return os.path.isdir(there) and os.access(there, os.W_OK)

    def _files(self) -> Iterator[Path]:
        """Entries, leftovers of killed processes, notes, and locks, recognised by folder and name."""
        for pattern, names in (("features/*/*/*", _ENTRY), ("encoders/*", _NOTE), ("locks/*", _LOCK)):
            for path in self.folder.glob(pattern):
                if names.fullmatch(path.name) and path.is_file() and not path.is_symlink():
                    if not pattern.startswith("features") or path.name.lstrip(".")[:2] == path.parent.name:
                        yield path

    def _tag(self) -> None:
        if not (self.folder / "CACHEDIR.TAG").exists():
            write_atomic(self.folder / "CACHEDIR.TAG", _TAG)


def _checksum(arrays: Arrays) -> int:
    """CRC-32 over names, types, shapes and bytes."""
    value = 0
    for name in sorted(arrays):
        array = arrays[name]
        value = zlib.crc32(f"{name} {array.dtype.str} {array.shape}".encode(), value)
        value = zlib.crc32(array.reshape(-1).view(np.uint8).data, value)
    return value


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):  # it is missing, or something else
        folder.rmdir()


def _why(error: BaseException) -> str:
    from ovseg3d.files import output_error

    return output_error(error, Path()).what if isinstance(error, OSError) else str(error)


def _cache_error(what: str, where: Path) -> CacheError:
    return CacheError(
        f"Features cannot be kept: {what[:1].lower()}{what[1:]}",
        where=where,
        fix="choose another folder with --cache-dir or OVSEG3D_CACHE_DIR, or make room: ovseg3d doctor --clear-cache",
    )
