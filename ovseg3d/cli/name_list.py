"""The file that `ovseg3d name --output` writes: a line of JSON for each shape, added as soon as the shape is named.

The first line says what the names depend on: encoder, classes, up axis, count. The same call again keeps the lines of
files that have not changed since, and names the others; so work that was interrupted goes on. A line that was cut, and
lines of shapes that could not be named, are dropped when the file is opened again.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ovseg3d.errors import ConfigError
from ovseg3d.files import make_folder, output_error, plain, write_atomic
from ovseg3d.limits import MAX_TEXT_BYTES, open_regular

VERSION = 1


@dataclass(frozen=True)
class NameList:
    """A file of names that is being written.

    Attributes:
        path: of the file.
        named: the lines, by absolute path: what `--json` prints of a shape, and the file's "size" and "time".
    """

    path: Path
    named: dict[str, dict[str, Any]]

    def known(self, file: Path) -> dict[str, Any] | None:
        """What the list says of a file that has not changed since."""
        line, state = self.named.get(os.path.abspath(file)), _state(file)
        if line is None or not state or {**line, **state} != line:
            return None
        return {key: value for key, value in line.items() if key not in ("file", *state)}

    def add(self, file: Path, shape: dict[str, Any]) -> None:
        """Add the line of a file. Raises OutputError: the disk is full, or the like."""
        line = _line({"file": os.path.abspath(file), **shape, **({} if "error" in shape else _state(file))})
        try:
            with open(self.path, "ab", buffering=0) as target:
                target.write(line)
        except OSError as error:
            raise output_error(error, self.path) from error


def open_list(path: Path, facts: dict[str, Any]) -> NameList:
    """Start a list, or go on with one.

    Args:
        path: the file.
        facts: what names depend on.

    Raises:
        ConfigError: the file is something else, or was made with other facts.
        OutputError: it cannot be written.
    """
    head = plain({"format_version": VERSION, **facts})
    named: dict[str, dict[str, Any]] = {}
    if os.path.lexists(path):
        with open_regular(path, ConfigError, "list of names") as file:
            lines = iter(lambda: file.readline(MAX_TEXT_BYTES), b"")
            found = _object(next(lines, b""))
            if found is None or "format_version" not in found:
                raise ConfigError("This file is no list of names", where=path, fix="name another file with --output")
            if differing := [key for key in head if found.get(key) != head[key]]:
                what = f"The list of names was made with another {' and '.join(differing)}"
                raise ConfigError(what, where=path, fix="name another file with --output, or remove this one")
            for one in map(_object, lines):
                if one is not None and "candidates" in one and isinstance(one.get("file"), str):
                    named[one["file"]] = one
    make_folder(path.parent)
    write_atomic(path, b"".join(map(_line, (head, *named.values()))))
    return NameList(path, named)


def _state(file: Path) -> dict[str, int]:
    """Size and time of a file; nothing where it is gone."""
    try:
        found = os.stat(file)
    except OSError:
        return {}
    return {"size": found.st_size, "time": found.st_mtime_ns}


def _line(value: dict[str, Any]) -> bytes:
    text = json.dumps(plain(value), ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode(errors="backslashreplace")


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        value: Any = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
