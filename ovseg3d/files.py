"""Atomic writing of files and sets of files, and reading of JSON with clear messages.

A file is written under a hidden name in its own folder (same file system), flushed to the disk, and then renamed.
Readers see either the old file or the new one, even after a crash. Every failure to write raises an OutputError that
names the path.
"""

import errno
import json
import math
import os
import re
import secrets
import shutil
import signal
import stat
import threading
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ovseg3d.errors import OutputError, Ovseg3dError, SceneError
from ovseg3d.limits import MAX_TEXT_BYTES, read_bytes

_ELSEWHERE = "choose another folder with --output (train: --output-dir)"
_FREE = f"free some space, or {_ELSEWHERE}"
_OWN = "choose a folder that you own with --output (train: --output-dir)"
_TEMPORARY = re.compile(r"\.(.*\.)?[0-9a-f]{8}\.tmp(\.\w{1,15})?", re.DOTALL)
"""Names of temporary files, including those left by killed processes."""
_STALE_SECONDS = 3600.0
"""A temporary file not written to for this long belongs to a killed process."""
_CAUSES = {
    errno.ENOSPC: ("The disk is full", _FREE),
    errno.EDQUOT: ("The disk quota is used up", _FREE),
    errno.EFBIG: (
        "The file would be larger than this system allows",
        _ELSEWHERE,
    ),
    errno.EACCES: ("No permission to write here", _OWN),
    errno.EPERM: ("No permission to write here", _OWN),
    errno.EROFS: ("This file system is read-only", _ELSEWHERE),
    errno.ENOTDIR: ("A file exists where a folder is needed", "move the file away, or choose another folder"),
    errno.EEXIST: ("A file exists where a folder is needed", "move the file away, or choose another folder"),
    errno.EISDIR: ("A folder exists where a file is to be written", "move the folder away"),
}


def output_error(error: OSError, path: Path) -> OutputError:
    """The OutputError for a system error while writing `path`."""
    what, fix = _CAUSES.get(
        error.errno or 0,
        (f"Cannot write: {error.strerror or error}", _ELSEWHERE),
    )
    return OutputError(what, where=path, fix=fix)


def expand(path: str | Path, error: type[Ovseg3dError] = OutputError) -> Path:
    """`path` with ~ expanded. Raises `error`: the user in it is unknown."""
    try:
        return Path(path).expanduser()
    except RuntimeError as cause:
        raise error("The home folder of this user is unknown", where=path, fix="write the absolute path") from cause


@contextmanager
def looking(error: type[Ovseg3dError]) -> Generator[None, None, None]:
    """Turn an OSError into an `error` that names the file; a context manager and a decorator.

    `Path.exists` and the like raise OSError in unreadable folders and for names that are too long.
    """
    try:
        yield
    except OSError as cause:
        what = f"This cannot be accessed: {cause.strerror or cause}"
        fix = "check the spelling"
        if isinstance(cause, PermissionError):
            what, fix = "No permission to look here", "ask its owner for read permission"
        raise error(what, where=cause.filename, fix=fix) from cause


def make_folder(path: Path) -> Path:
    """Make the folder `path` and its parents; returns it.

    Raises:
        OutputError: it cannot be made, or it is in a run and reached through a link. A run may come from somebody else,
            so nothing outside of it is written.
    """
    try:
        _refuse_links(path)
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(error, path) from error
    return path


def _refuse_links(path: Path) -> None:
    """Raises OutputError: `path` is in a run folder and reached through a link."""
    links = []
    for folder in (path, *path.parents):
        if (folder / "config.json").is_file() and (folder / "status.json").is_file():
            break
        if folder.is_symlink():
            links.append(folder)
    else:
        return
    if links:
        raise _link(links[-1])


def _link(path: Path) -> OutputError:
    return OutputError(
        "A link exists where an output folder is needed, and links are not followed here",
        where=path,
        fix="remove the link; to write elsewhere, use --output",
    )


def sweep(folder: Path, seconds: float = _STALE_SECONDS) -> None:
    """Remove temporary files and folders that killed processes left in `folder`.

    Args:
        folder: the folder; subfolders are not searched.
        seconds: minimum time since the last write.
    """
    with suppress(OSError):
        for path in [path for path in folder.iterdir() if _TEMPORARY.fullmatch(path.name)]:
            with suppress(OSError):
                found = path.lstat()
                if time.time() - found.st_mtime < seconds:
                    continue
                if stat.S_ISDIR(found.st_mode):
                    shutil.rmtree(path, ignore_errors=True)
                elif stat.S_ISREG(found.st_mode):
                    path.unlink()


def _temporary(path: Path) -> Path:
    """An unused name beside `path`. The stem is cut, since that of `path` may have the maximum length."""
    suffix = path.suffix if re.fullmatch(r"\.\w{1,15}", path.suffix, re.ASCII) else ""
    stem = os.fsencode(path.stem)[:200].decode(errors="ignore")
    return path.with_name(f".{stem}.{secrets.token_hex(4)}.tmp{suffix}")


def write_atomic(path: Path, data: bytes | Callable[[Path], None]) -> None:
    """Write `path` atomically; its folder is created if missing.

    Args:
        path: the file to write; an existing one is replaced in one step.
        data: the bytes, or a function that writes the file at a given path (with the suffix of `path`, for writers that
            choose a format by it).

    Raises:
        OutputError: the disk is full, the folder is not writable, or the like. No partial file is left.
    """
    path = Path(path)
    make_folder(path.parent)
    temporary = _temporary(path)
    try:
        if callable(data):
            temporary.touch()
            usual = stat.S_IMODE(temporary.stat().st_mode)
            temporary.unlink()
            data(temporary)
            temporary.chmod(usual)  # safetensors makes files that only their owner can read
        else:
            temporary.write_bytes(data)
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):  # the first error is the one to report
            temporary.unlink(missing_ok=True)
        if isinstance(error, Ovseg3dError):
            raise
        # Writers in other languages (safetensors, ffmpeg) report such errors as text.
        if not (isinstance(error, OSError) and error.errno):
            for code in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EROFS, errno.EACCES):
                if os.strerror(code) in str(error):
                    raise output_error(OSError(code, os.strerror(code)), path) from error
        if isinstance(error, OSError) and _is_about(error, temporary, path):
            raise output_error(error, path) from error
        raise


def listed_files(folder: Path, names: Iterable[object]) -> list[str]:
    """Those of the names that are files directly in a folder. A listing that was read is not trusted to name others."""
    if not folder.is_dir():
        return []
    wanted = {name for name in names if isinstance(name, str)}
    return sorted(file.name for file in folder.iterdir() if file.is_file() and file.name in wanted)


@contextmanager
def write_together(folder: Path, listing: str | None, earlier: Iterable[str] = ()) -> Generator[Path, None, None]:
    """Write a set of files, all or none.

        with write_together(folder, "list.json", earlier=["old.png"]) as staging:
            ...  # write list.json and the files that it lists into `staging`

    When the block ends without an error, the earlier files are removed and the new ones are moved to `folder`; other
    files stay. After an error or an interruption nothing has changed. An interruption during the move takes effect
    afterwards. The listing is removed first and moved last, so that it never lists files of another set, even after a
    power failure. Names may contain folders.

    Args:
        folder: the output folder; created if missing.
        listing: name of the file that lists the others; None if there is none.
        earlier: names of the files of an earlier set in `folder`.

    Raises:
        OutputError: the folder is not writable, or the like.
    """
    folder = make_folder(Path(folder))
    sweep(folder)
    staging = make_folder(_temporary(folder / "set"))
    try:
        yield staging
        last = [] if listing is None else [listing]
        names = {file.relative_to(staging).as_posix() for file in staging.rglob("*") if file.is_file()}
        try:
            _check_folders(folder, {*names, *last, *earlier})
            with _uninterrupted():
                for name in (*last, *earlier):
                    (folder / name).unlink(missing_ok=True)
                    _remove_empty((folder / name).parent, folder)
                for name in (*sorted(names.difference(last)), *last):
                    make_folder((folder / name).parent)
                    os.replace(staging / name, folder / name)
        except OSError as error:
            raise output_error(error, folder) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _check_folders(folder: Path, names: Iterable[str]) -> None:
    """Raises OutputError: a folder of `names`, below `folder`, is a link."""
    for parent in sorted({parent for name in names for parent in Path(name).parents} - {Path()}):
        if (folder / parent).is_symlink():
            raise _link(folder / parent)


@contextmanager
def _uninterrupted() -> Generator[None, None, None]:
    """Delay SIGINT and SIGTERM until the end of the block."""
    if threading.current_thread() is not threading.main_thread():  # signals interrupt the main thread only
        yield
        return
    came: list[int] = []
    # A handler that is not Python's (None) could not be restored.
    handlers = {name: old for name in (signal.SIGINT, signal.SIGTERM) if (old := signal.getsignal(name)) is not None}
    for name in handlers:
        signal.signal(name, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for name, handler in handlers.items():
            signal.signal(name, handler)
        for name in came:
            signal.raise_signal(name)


def _remove_empty(path: Path, top: Path) -> None:
    """Remove a folder below `top` if it is empty."""
    if path != top and path.is_dir() and not any(path.iterdir()):
        path.rmdir()


def _is_about(error: OSError, temporary: Path, path: Path) -> bool:
    """Whether an OSError concerns the file being written, not one that its writer reads."""
    if error.filename is None or isinstance(error.filename, int):
        return True
    return Path(os.fsdecode(error.filename)) in (temporary, path)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented UTF-8 JSON, atomically. NaN and infinities become null. Raises OutputError."""
    text = json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False)
    write_atomic(path, (text + "\n").encode())


def plain(value: Any) -> Any:
    """Convert `value` to JSON types: numpy and torch values, paths and tuples become plain ones."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):  # numpy and torch, without importing either
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def read_json(path: Path, error: type[Ovseg3dError] = SceneError, most: int = MAX_TEXT_BYTES) -> dict[str, Any]:
    """Read a JSON file that holds one object.

    Args:
        path: the file.
        error: which error to raise.
        most: bytes that it may have.

    Raises:
        error: the file is missing, not a regular file, too large, not JSON, or not an object.
    """
    path = Path(path)
    data = read_bytes(path, error, most=most)
    try:
        value = json.loads(data)
    except json.JSONDecodeError as cause:
        line = f"{path}, line {cause.lineno}"
        raise error(f"The file is not valid JSON: {cause.msg}", where=line, fix="write it again") from cause
    except (ValueError, RecursionError) as cause:
        raise error("The file is not valid JSON", where=path, fix="write it again") from cause
    if not isinstance(value, dict):
        raise error(f"Expected one JSON object, found {type(value).__name__}", where=path)
    return value
