"""A ledger of many tasks: a file in the output folder with one JSON object per line, appended and never rewritten.

    {"time": "2026-11-25T18:00:00+00:00", "scene": "/data/room_a", "state": "done", "run": "room_a", "attempt": 1,
     "message": "", "settings": "5f0c..."}

This is runs.jsonl, of scenes and their run folders. results.jsonl, of runs and the folders of their results, has "run"
and "folder" instead of "scene" and "run". Folders are named relative to that of the ledger, which may move. The last
line of an item is its state. Only the process that hands out the tasks writes, each line in one write to the end of the
file. A line that a killed process cut is skipped by readers, and the next line starts on a new one.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_args

from ovseg3d.errors import OutputError, RunError
from ovseg3d.files import make_folder, output_error
from ovseg3d.limits import MAX_PATH_BYTES, open_regular

FILE = "runs.jsonl"
"""Name of the ledger of scenes."""
RESULTS = "results.jsonl"
"""Name of the ledger of runs that a command was applied to."""
State = Literal["running", "died", "interrupted", "failed", "done"]
"""died: the worker ended without a word, and the task is tried again."""
MAX_MESSAGE = 2000
"""Longest message of a line, in characters."""
_MAX_LINE = 4 * MAX_PATH_BYTES + 8 * MAX_MESSAGE
"""Longest line that is read, in bytes."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What happened to an item."""

    item: str
    """Absolute path of the capture, or of the run."""
    state: State
    folder: Path | None = None
    """Absolute path of the run folder, or of the results, once there is one."""
    attempt: int = 1
    """1, and one more after each death of a worker."""
    message: str = ""
    settings: str = ""
    """Hash of the settings."""


@dataclass(frozen=True)
class Ledger:
    """A ledger file, which may not exist yet."""

    path: Path

    @property
    def _keys(self) -> dict[str, str]:
        """Names in the file of the fields of an entry."""
        item, folder = ("run", "folder") if self.path.name == RESULTS else ("scene", "run")
        return {**{name: name for name in Entry.__dataclass_fields__}, "item": item, "folder": folder}

    def append(self, entry: Entry) -> None:
        """Add a line. Raises OutputError: the folder cannot be written to, or the disk is full."""
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        folder = None if entry.folder is None else os.path.relpath(entry.folder, self.path.parent)
        values = {**asdict(entry), "folder": folder, "message": entry.message[:MAX_MESSAGE]}
        values = {"time": now, **{self._keys[name]: value for name, value in values.items()}}
        line = (json.dumps(values, ensure_ascii=False) + "\n").encode(errors="backslashreplace")
        make_folder(self.path.parent)
        try:
            with open(self.path, "ab+", buffering=0) as file:
                if end := file.seek(0, os.SEEK_END):
                    file.seek(end - 1)
                    line = line if file.read(1) == b"\n" else b"\n" + line
                written = file.write(line)
        except OSError as error:
            raise output_error(error, self.path) from error
        if written != len(line):
            raise OutputError("The disk is full", where=self.path, fix="free some space, then the same command again")

    def latest(self) -> dict[str, Entry]:
        """The last entry of each item, in the order of first mention; lines that are cut or foreign are skipped.

        Raises:
            RunError: the file cannot be read.
        """
        found: dict[str, Entry] = {}
        if os.path.lexists(self.path):
            for line in self._lines():
                if (entry := self._parse(line)) is not None:
                    found[entry.item] = entry
        return found

    def _lines(self) -> Iterator[bytes]:
        with open_regular(self.path, RunError, "ledger") as file:
            while line := file.readline(_MAX_LINE):
                yield line

    def _parse(self, line: bytes) -> Entry | None:
        try:
            values: Any = json.loads(line)
            fields = {name: values[key] for name, key in self._keys.items()}
            texts = (fields["item"], fields["message"], fields["settings"], fields["folder"] or "")
            known = all(isinstance(text, str) and "\0" not in text for text in texts)
            if not known or fields["state"] not in get_args(State) or not isinstance(fields["attempt"], int):
                return None
        except (ValueError, RecursionError, KeyError, TypeError):
            return None
        if fields["folder"] is not None:
            fields["folder"] = Path(os.path.abspath(self.path.parent / fields["folder"]))
        return Entry(**fields)
