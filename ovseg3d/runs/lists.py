"""Lists of scenes and of runs: paths, a folder of them, a quoted glob, or a file with up to `MAX_LISTED` of them.

A text file (.txt) has a path per line; blank lines and lines that start with # are skipped. A JSONL file has an
object per line: {"scene": PATH} or {"run": PATH}, and "name": NAME of the run folder if wanted. Paths in a file are
relative to its folder. A file is read and checked as a whole, so that a mistake in it shows before anything starts. No
scene of a list is opened here.
"""

import glob
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from ovseg3d.errors import ConfigError, RunError
from ovseg3d.files import expand, looking
from ovseg3d.limits import MAX_PATH_BYTES, check_name, open_regular
from ovseg3d.runs.ledger import FILE, Ledger
from ovseg3d.runs.places import find_run
from ovseg3d.scene.readers.formats import detect_formats

SUFFIXES = (".txt", ".jsonl")
MAX_LISTED = 1_000_000
"""Most members of a list."""
_MAX_LINE = 4 * MAX_PATH_BYTES


@dataclass(frozen=True, slots=True)
class Listed:
    """A member of a list."""

    path: str
    """Absolute."""
    name: str
    """The name that the list gives it, else that of its folder."""


@looking(ConfigError)
def is_scene_list(path: Path | str) -> bool:
    """Whether `path` stands for several scenes; False also where there is nothing."""
    path = Path(path)
    if _is_file(path) or _is_glob(path):
        return True
    return path.is_dir() and not detect_formats(path) and next(_scenes_in(path), None) is not None


@looking(ConfigError)
def is_run_list(path: Path | str) -> bool:
    """Whether `path` stands for several runs; False also where there is nothing."""
    path = Path(path)
    return _is_file(path) or _is_glob(path) or path.is_dir() and bool(_runs_in(path))


@looking(ConfigError)
def read_scenes(inputs: Path | str | Iterable[Path | str]) -> tuple[Listed, ...]:
    """The scenes of `inputs`, in order, each once.

    Args:
        inputs: scenes, folders of scenes, globs and files, see the module.

    Raises:
        ConfigError: a list is missing, empty or has a mistake; the line is named.
    """
    return _read(inputs, "scene", lambda path: [] if detect_formats(path) else list(_scenes_in(path)))


@looking(ConfigError)
def read_runs(inputs: Path | str | Iterable[Path | str]) -> tuple[Listed, ...]:
    """The runs of `inputs`, in order, each once. A folder with a ledger stands for the runs that are done in it.

    Args:
        inputs: runs, folders of runs, globs and files, see the module.

    Raises:
        ConfigError: see `read_scenes`.
    """
    return _read(inputs, "run", _runs_in)


def _read(
    inputs: Path | str | Iterable[Path | str], kind: str, inside: Callable[[Path], list[str]]
) -> tuple[Listed, ...]:
    found: dict[str, Listed] = {}
    for given in [inputs] if isinstance(inputs, str | Path) else inputs:
        path = expand(given, ConfigError)
        members = _members(path, kind, inside)
        first = next(members, None)
        if first is None:
            raise ConfigError(f"There is no {kind} in this list", where=path, fix=f"name a {kind} folder in it")
        for name, wanted in chain([first], members):
            whole = os.path.abspath(name)
            found.setdefault(whole, Listed(whole, wanted or os.path.basename(whole) or kind))
        if len(found) > MAX_LISTED:
            raise ConfigError(f"More than {MAX_LISTED:,} {kind}s are listed", where=path, fix="split the list")
    return tuple(found.values())


def _members(path: Path, kind: str, inside: Callable[[Path], list[str]]) -> Iterator[tuple[str, str | None]]:
    """Paths, and names if the list states them."""
    if kind == "run" and path.name == FILE:
        path = path.parent
    if _is_file(path):
        yield from _in_file(path, kind)
    elif _is_glob(path):
        yield from ((name, None) for name in sorted(glob.glob(str(path))) if os.path.isdir(name))
    else:
        within = inside(path) if path.is_dir() else []
        yield from ((name, None) for name in within or [str(path)])


def _in_file(path: Path, kind: str) -> Iterator[tuple[str, str | None]]:
    """Paths and names in a list file. Raises ConfigError with the line."""
    with open_regular(path, ConfigError, "list") as file:
        number = 0
        while line := file.readline(_MAX_LINE):
            number += 1
            where = f"{path}, line {number}"
            text = _decoded(line, where)
            if not text or text.startswith("#"):
                continue
            name = None
            if path.suffix == ".jsonl":
                text, name = _parse(text, kind, where)
            if "\0" in text or len(os.fsencode(text)) > MAX_PATH_BYTES:
                raise ConfigError("This is not a path", where=where, fix=f"write the path of a {kind}")
            yield os.path.join(path.parent, expand(text, ConfigError)), name


def _decoded(line: bytes, where: str) -> str:
    if len(line) >= _MAX_LINE:
        raise ConfigError("The line is too long", where=where, fix="write one path per line")
    try:
        return line.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise ConfigError("The line is not UTF-8 text", where=where, fix="save the list as UTF-8") from error


def _parse(text: str, kind: str, where: str) -> tuple[str, str | None]:
    fix = f'write {{"{kind}": "PATH"}}, with "name" if wanted'
    try:
        entry: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError("The line is not valid JSON", where=where, fix=fix) from error
    path = entry.get(kind) if isinstance(entry, dict) else None
    if not isinstance(path, str) or not path:
        raise ConfigError(f'The line has no "{kind}" that is a path', where=where, fix=fix)
    name = entry.get("name")
    if name is None:
        return path, None
    if not isinstance(name, str) or name.startswith(".") or "/" in name or "\\" in name:
        raise ConfigError(f'"name" is not the name of a folder: {name!r}', where=where, fix="use letters and digits")
    return path, check_name(name, where, ConfigError)


def _is_file(path: Path) -> bool:
    return path.suffix in SUFFIXES and not path.is_dir()


def _is_glob(path: Path) -> bool:
    return glob.has_magic(str(path)) and not os.path.lexists(path)


def _folders_in(path: Path) -> list[str]:
    """The folders in `path`, sorted by name, without hidden ones."""
    with os.scandir(path) as entries:
        return sorted(entry.path for entry in entries if not entry.name.startswith(".") and entry.is_dir())


def _scenes_in(path: Path) -> Iterator[str]:
    return (name for name in _folders_in(path) if detect_formats(Path(name)))


def _runs_in(path: Path) -> list[str]:
    """The runs of a folder of runs; none where the folder is itself a run, or a scene whose newest run is meant."""
    if (path / FILE).is_file():
        entries = Ledger(path / FILE).latest().values()
        return [str(entry.folder) for entry in entries if entry.folder is not None and entry.state == "done"]
    return [] if _is_run(path) else [name for name in _folders_in(path) if _is_run(Path(name))]


def _is_run(path: Path) -> bool:
    try:
        find_run(path)
    except RunError:
        return False
    return True
