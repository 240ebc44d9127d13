"""The ledger of many scenes: runs.jsonl in the output folder, one JSON object per line, appended and never rewritten.

    {"time": "2026-11-25T18:00:00+00:00", "scene": "/data/room_a", "state": "done", "run": "room_a", "attempt": 1,
     "message": "", "settings": "5f0c..."}

A run is named relative to the folder of the ledger, which may move. The last line of a scene is its state. Only the
process that hands out the scenes writes, each line in one write to the end of the file. A line that a killed process
cut is skipped by readers, and the next line starts on a new one.
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
State = Literal["running", "died", "interrupted", "failed", "done"]
"""died: the worker ended without a word, and the scene is tried again."""
MAX_MESSAGE = 2000
"""Longest message of a line, in characters."""
_MAX_LINE = 4 * MAX_PATH_BYTES + 8 * MAX_MESSAGE
"""Longest line that is read, in bytes."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What happened to a scene."""

    scene: str
    """Absolute path of the capture."""
    state: State
    run: Path | None = None
    """Absolute path of the run folder, once there is one."""
    attempt: int = 1
    """1, and one more after each death of a worker."""
    message: str = ""
    settings: str = ""
    """Hash of the settings."""


@dataclass(frozen=True)
class Ledger:
    """A ledger file, which may not exist yet."""

    path: Path

    def append(self, entry: Entry) -> None:
        """Add a line. Raises OutputError: the folder cannot be written to, or the disk is full."""
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        run = None if entry.run is None else os.path.relpath(entry.run, self.path.parent)
        values = {"time": now, **asdict(entry), "run": run, "message": entry.message[:MAX_MESSAGE]}
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
        """The last entry of each scene, in the order of first mention; lines that are cut or foreign are skipped.

        Raises:
            RunError: the file cannot be read.
        """
        found: dict[str, Entry] = {}
        if os.path.lexists(self.path):
            for line in self._lines():
                if (entry := self._parse(line)) is not None:
                    found[entry.scene] = entry
        return found

    def _lines(self) -> Iterator[bytes]:
        with open_regular(self.path, RunError, "ledger") as file:
            while line := file.readline(_MAX_LINE):
                yield line

    def _parse(self, line: bytes) -> Entry | None:
        try:
            values: Any = json.loads(line)
            fields = {name: values[name] for name in Entry.__dataclass_fields__}
            texts = (fields["scene"], fields["message"], fields["settings"], fields["run"] or "")
            known = all(isinstance(text, str) and "\0" not in text for text in texts)
            if not known or fields["state"] not in get_args(State) or not isinstance(fields["attempt"], int):
                return None
        except (ValueError, RecursionError, KeyError, TypeError):
            return None
        if fields["run"] is not None:
            fields["run"] = Path(os.path.abspath(self.path.parent / fields["run"]))
        return Entry(**fields)
