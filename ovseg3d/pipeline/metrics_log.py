"""The log of a training: metrics.jsonl, and tensorboard files if requested."""

import json
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from ovseg3d.engine import Event
from ovseg3d.errors import RunError
from ovseg3d.files import output_error, plain, write_atomic
from ovseg3d.limits import MAX_TABLE_BYTES, read_bytes
from ovseg3d.runs.folder import RunFolder


class MetricsLog:
    """Writes metrics.jsonl during training, and tensorboard files if requested.

    A resumed run first drops entries after its checkpoint.
    """

    def __init__(self, run: RunFolder, first_step: int, tensorboard: bool) -> None:
        self._path = run.metrics_log
        kept = [line for line in self._lines() if line.get("step", 0) <= first_step] if first_step else []
        write_atomic(self._path, b"".join(_line(entry) for entry in kept))
        try:
            self._file = open(self._path, "ab", buffering=0)
        except OSError as error:
            raise output_error(error, self._path) from error
        self._writer: Any = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(run.folder / "tensorboard"), purge_step=first_step)

    def _lines(self) -> list[dict[str, Any]]:
        """Entries of an earlier log; a truncated last line is dropped."""
        entries = []
        try:
            for line in read_bytes(self._path, RunError, most=MAX_TABLE_BYTES).splitlines():
                entry = json.loads(line)
                if isinstance(entry, dict) and isinstance(entry.get("step", 0), int):
                    entries.append(entry)
        except (RunError, ValueError, RecursionError):
            pass
        return entries

    def write(self, event: Event) -> None:
        entry = {"stage": event.stage, "step": event.step, "seconds": round(event.seconds, 3), **event.metrics}
        try:
            self._file.write(_line(entry))
        except OSError as error:
            raise output_error(error, self._path) from error
        if self._writer is not None:
            for name, value in event.metrics.items():
                self._writer.add_scalar(f"{event.stage}/{name}", value, event.step)

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if self._writer is not None:
            self._writer.close()


def _line(entry: Mapping[str, Any]) -> bytes:
    return (json.dumps(plain(dict(entry))) + "\n").encode()
