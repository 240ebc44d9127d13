"""Files, and sets of files, that are written whole or not at all, and JSON that is read with a clear message.

A file is made under a hidden name in its own folder (same file system, so that the last step is one rename),
flushed to the disk, and only then given its name. Whoever reads the folder, or comes after a crash, finds
either the old file or the new one. Every failure to write is an OutputError that names the path.
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
from ovseg3d.limits import read_bytes

_ELSEWHERE = "choose another place with --output (train: --output-dir)"
_FREE = f"free some space, or {_ELSEWHERE}"
_OWN = "choose a folder that you own with --output (train: --output-dir)"
_TEMPORARY = re.compile(r"\.(.*\.)?[0-9a-f]{8}\.tmp(\.\w{1,15})?", re.DOTALL)
"""Names of what is being written; what a killed process left is known by them, too."""
_STALE_SECONDS = 3600.0
"""A temporary file that nobody has written to for so long belongs to a process that was killed."""
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
    errno.ENOTDIR: ("A file stands where a folder is needed", "move the file away, or choose another folder"),
    errno.EEXIST: ("A file stands where a folder is needed", "move the file away, or choose another folder"),
    errno.EISDIR: ("A folder stands where a file is to be written", "move the folder away"),
}


def output_error(error: OSError, path: Path) -> OutputError:
    """The OutputError that tells a user what `error` means for writing `path`."""
    what, fix = _CAUSES.get(
        error.errno or 0,
        (f"Cannot write: {error.strerror or error}", _ELSEWHERE),
    )
    return OutputError(what, where=path, fix=fix)


def expand(path: str | Path, error: type[Ovseg3dError] = OutputError) -> Path:
    """`path` with ~ written out. Raises `error`: of a user whom nobody knows."""
    try:
        return Path(path).expanduser()
    except RuntimeError as cause:
        raise error("Nobody knows the home of this user", where=path, fix="write the whole path") from cause


@contextmanager
def looking(error: type[Ovseg3dError]) -> Generator[None, None, None]:
    """Whatever the system has against a look at a file, as an `error` that names the file; also a decorator.

    Whether a file is there, `Path` tells only where that can be known: not in a folder that is closed to us, and not of
    a name that is too long.
    """
    try:
        yield
    except OSError as cause:
        what = f"This cannot be looked at: {cause.strerror or cause}"
        fix = "check the spelling"
        if isinstance(cause, PermissionError):
            what, fix = "No permission to look here", "ask its owner for the right to read it"
        raise error(what, where=cause.filename, fix=fix) from cause


def make_folder(path: Path) -> Path:
    """Make the folder `path` and its parents; returns it.

    Raises:
        OutputError: it cannot be made; or it lies in a run, and a link there leads to it: a run may come from somebody
            else, and nothing outside it is written to.
    """
    try:
        _refuse_links(path)
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(error, path) from error
    return path


def _refuse_links(path: Path) -> None:
    """Raises OutputError: between a run's folder and `path` in it is a link."""
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
        "A link stands where files are to be written, and links are not followed here",
        where=path,
        fix="remove the link; to write elsewhere, say so with --output",
    )


def sweep(folder: Path, seconds: float = _STALE_SECONDS) -> None:
    """Remove what killed processes left in `folder` under temporary names: files, and folders of files.

    Args:
        folder: where; not below it.
        seconds: only what nobody has written to for so long.
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
    """A name beside `path` that nobody has. The stem is cut, since that of `path` may be as long as names can be."""
    suffix = path.suffix if re.fullmatch(r"\.\w{1,15}", path.suffix, re.ASCII) else ""
    stem = os.fsencode(path.stem)[:200].decode(errors="ignore")
    return path.with_name(f".{stem}.{secrets.token_hex(4)}.tmp{suffix}")


def write_atomic(path: Path, data: bytes | Callable[[Path], None]) -> None:
    """Write `path` whole or not at all; its folder is made when it is not there.

    Args:
        path: the file to write; an older one is replaced in one step.
        data: the bytes, or a function that writes the file at the path it is given (which has the same
            suffix as `path`, for writers that choose a format by name).

    Raises:
        OutputError: the disk is full, the place is not writable, or the like; nothing is left behind.
    """
    path = Path(path)
    make_folder(path.parent)
    temporary = _temporary(path)
    try:
        if callable(data):
            data(temporary)
        else:
            temporary.write_bytes(data)
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):  # what went wrong first is to be told
            temporary.unlink(missing_ok=True)
        if isinstance(error, Ovseg3dError):
            raise
        # Writers in other languages (safetensors, ffmpeg) report such things as text of their own kind.
        if not (isinstance(error, OSError) and error.errno):
            for code in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EROFS):
                if os.strerror(code) in str(error):
                    raise output_error(OSError(code, os.strerror(code)), path) from error
        if isinstance(error, OSError) and _is_about(error, temporary, path):
            raise output_error(error, path) from error
        raise


@contextmanager
def write_together(folder: Path, listing: str | None, earlier: Iterable[str] = ()) -> Generator[Path, None, None]:
    """Write files that belong together, all or none.

        with write_together(folder, "list.json", earlier=["old.png"]) as place:
            ...  # write list.json and the files that it is about into `place`

    They come to `folder` when the block ends well, and then the earlier ones go; whatever else is there stays. After an
    error, or when the user interrupts, nothing has changed; who interrupts while they come waits until all are there.
    The listing goes first and comes last, so that it never stands beside files of another set, even if the power fails
    midway. Names may have folders in them.

    Args:
        folder: where to; made when it is not there.
        listing: the name of the file that says what the others are; None: there is none.
        earlier: names of the files that an earlier set left in `folder`.

    Raises:
        OutputError: the place is not writable, or the like.
    """
    folder = make_folder(Path(folder))
    sweep(folder)
    place = make_folder(_temporary(folder / "set"))
    try:
        yield place
        last = [] if listing is None else [listing]
        names = {file.relative_to(place).as_posix() for file in place.rglob("*") if file.is_file()}
        try:
            _check_places(folder, {*names, *last, *earlier})
            with _uninterrupted():
                for name in (*last, *earlier):
                    (folder / name).unlink(missing_ok=True)
                    _remove_empty((folder / name).parent, folder)
                for name in (*sorted(names.difference(last)), *last):
                    make_folder((folder / name).parent)
                    os.replace(place / name, folder / name)
        except OSError as error:
            raise output_error(error, folder) from error
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _check_places(folder: Path, names: Iterable[str]) -> None:
    """Raises OutputError: one of the folders below `folder` that `names` lie in is a link."""
    for place in sorted({parent for name in names for parent in Path(name).parents} - {Path()}):
        if (folder / place).is_symlink():
            raise _link(folder / place)


@contextmanager
def _uninterrupted() -> Generator[None, None, None]:
    """Ctrl-C, and a request to end, do what they do when the block is done."""
    if threading.current_thread() is not threading.main_thread():  # it is the main thread that they interrupt
        yield
        return
    came: list[int] = []
    # A handler that is not Python's (None) could not be put back.
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
    """Remove a folder below `top` if nothing is in it."""
    if path != top and path.is_dir() and not any(path.iterdir()):
        path.rmdir()


def _is_about(error: OSError, temporary: Path, path: Path) -> bool:
    """Whether an OSError concerns the file being written, not another one that its writer was reading."""
    if error.filename is None or isinstance(error.filename, int):
        return True
    return Path(os.fsdecode(error.filename)) in (temporary, path)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented UTF-8 JSON, atomically. NaN and infinities, which JSON lacks, become null."""
    text = json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False)
    write_atomic(path, (text + "\n").encode())


def plain(value: Any) -> Any:
    """`value` in JSON's own types: numpy scalars and arrays, paths and tuples are turned into plain ones."""
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


def read_json(path: Path, error: type[Ovseg3dError] = SceneError) -> dict[str, Any]:
    """Read a JSON file that holds one object.

    Args:
        path: the file.
        error: which error to raise when it is missing, no regular file, too large, not JSON, or not an object.
    """
    path = Path(path)
    data = read_bytes(path, error)
    try:
        value = json.loads(data)
    except json.JSONDecodeError as cause:
        place = f"{path}, line {cause.lineno}"
        raise error(f"The file is not valid JSON: {cause.msg}", where=place, fix="write it again") from cause
    except (ValueError, RecursionError) as cause:
        raise error("The file is not valid JSON", where=path, fix="write it again") from cause
    if not isinstance(value, dict):
        raise error(f"Expected one JSON object, found {type(value).__name__}", where=path)
    return value
