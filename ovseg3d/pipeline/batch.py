"""Do many tasks: hand them to an executor, try again where a worker died, and keep the ledger.

The ledger (`runs.ledger`) and the folders of the items hold all state. So the same call again does what is missing:
items that are done are left out, and unfinished and failed ones are tried again. What a task is, this module does not
know: see `many` (scenes that are trained) and `many_runs` (runs that are used).
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ovseg3d.errors import Ovseg3dError, RunError
from ovseg3d.pipeline.executors import Executor, Sequential
from ovseg3d.pipeline.tasks import Died, Ended, Message, Started, Task, Work
from ovseg3d.runs.ledger import Entry, Ledger, State
from ovseg3d.runs.lists import Listed
from ovseg3d.runs.places import hashed_name

MAX_ATTEMPTS = 5
"""How often a task is started in one call, if its worker dies each time."""


@dataclass(frozen=True, slots=True)
class TaskReport:
    """How it ended with an item."""

    item: Path
    status: str
    """done, failed, interrupted, or not started."""
    folder: Path | None = None
    """Its folder, if there is one."""
    error: Exception | None = None
    """Why it failed: an Ovseg3dError, or else a bug with its traceback as the message."""
    result: Mapping[str, Any] | None = None
    """What this call's work on it gave."""


@dataclass(frozen=True, slots=True)
class Planned:
    """The first report: what there is to do."""

    items: int
    """Number of items in the list."""
    done: int
    """How many of them were done before."""


Watch = Callable[[Message | Planned], None]
"""Receives what happens, in the thread that called."""


@dataclass(frozen=True)
class Batch:
    """Items, and what is known about them."""

    listed: tuple[Listed, ...]
    work: Work
    """What is done with each."""
    settings: Callable[[str], str]
    """A short hash of all that the result for an item (a path) depends on."""
    ledger: Ledger | None
    """None: nothing is kept."""
    folder: Path | None
    """Each item gets a folder in it; None: where the work decides."""
    proof: str
    """A file that the folder of a started item has; without it the item is not done, whatever the ledger says."""

    @cached_property
    def _known(self) -> dict[str, Entry]:
        """The last entries of items that have a folder, which is used again."""
        entries = {} if self.ledger is None else self.ledger.latest()
        return {
            item: entry
            for item, entry in entries.items()
            if entry.folder is not None and (self.folder is not None or entry.settings == self.settings(item))
        }

    def done(self) -> dict[str, Path]:
        """The items that were done before, by path, with their folders."""
        found = {}
        for one in self.listed:
            entry = self._known.get(one.path)
            if entry is not None and entry.folder is not None and entry.state == "done":
                # The folder may have been removed, to do it anew.
                if os.path.isfile(entry.folder / self.proof) and entry.settings == self.settings(one.path):
                    found[one.path] = entry.folder
        return found

    def tasks(self, done: Mapping[str, Path]) -> Iterator[Task]:
        """A task for each item that is not done."""
        taken = {entry.folder for entry in self._known.values()}
        for one in self.listed:
            if one.path in done:
                continue
            entry = self._known.get(one.path)
            folder = None if entry is None else entry.folder
            if folder is None and self.folder is not None:
                folder = next(name for name in _names(self.folder, one) if name not in taken)
                taken.add(folder)
            yield Task(Path(one.path), self.work, folder, self.proof)


def do_tasks(
    batch: Batch, executor: Executor | None = None, report: Watch | None = None, stop: threading.Event | None = None
) -> tuple[TaskReport, ...]:
    """Do what is not done yet.

    Args:
        batch: the items.
        executor: where to work; by default one after another in this process.
        report: receives a `Planned`, and then the messages of `pipeline.tasks`.
        stop: set it, from another thread or a signal handler, to end.

    Returns:
        A report for each item, in the order of the list. An item that fails is reported and does not stop others.

    Raises:
        RunError, OutputError: the ledger cannot be read or written.
    """
    progress, stop = _Progress(batch, report or (lambda _: None)), stop or threading.Event()
    with executor or Sequential() as executor:
        while True:
            while not stop.is_set() and executor.free > 0 and (task := progress.take()) is not None:
                executor.submit(task)
            if not executor.busy:
                break
            executor.poll(progress.handle, stop)
    return tuple(progress.reports())


class _Progress:
    """What is running and what has ended, in memory and in the ledger."""

    def __init__(self, batch: Batch, report: Watch) -> None:
        self._batch, self._report = batch, report
        self._again: deque[Task] = deque()
        self._running: dict[Path, Task] = {}
        self._settings: dict[Path, str] = {}
        done = batch.done()
        self._ended = {Path(item): TaskReport(Path(item), "done", folder) for item, folder in done.items()}
        self._tasks = batch.tasks(done)
        report(Planned(len(batch.listed), len(done)))

    def take(self) -> Task | None:
        """The next task, or None."""
        task = self._again.popleft() if self._again else next(self._tasks, None)
        if task is not None:
            self._running[task.item] = task
            # An item that changes while it is worked on is done again by the next call.
            self._settings[task.item] = self._batch.settings(str(task.item))
        return task

    def handle(self, message: Message) -> None:
        """Note what happened to an item."""
        task = self._running[message.item]
        if isinstance(message, Started):
            self._running[task.item] = replace(task, folder=message.folder)
            self._write(task, "running", message.folder)
        elif isinstance(message, Died):
            del self._running[task.item]
            if task.attempt < MAX_ATTEMPTS:
                self._write(task, "died", task.folder, message.reason)
                self._again.append(replace(task, attempt=task.attempt + 1))
            else:
                error = RunError(
                    f"{message.reason}, {task.attempt} times here",
                    where=task.item,
                    fix="give each more memory (fewer workers, smaller photos), then the same command again",
                )
                message = Ended(task.item, "failed", task.folder, error)
        if isinstance(message, Ended):
            self._running.pop(task.item, None)
            self._ended[task.item] = TaskReport(
                task.item, message.status, message.folder, message.error, message.result
            )
            self._write(task, message.status, message.folder, _text(message.error))  # type: ignore[arg-type]
        self._report(message)

    def _write(self, task: Task, state: State, folder: Path | None, message: str = "") -> None:
        if self._batch.ledger is not None:
            settings = self._settings[task.item]
            self._batch.ledger.append(Entry(str(task.item), state, folder, task.attempt, message, settings))

    def reports(self) -> Iterator[TaskReport]:
        """A report for each item."""
        again = {task.item: task for task in self._again}
        for one in self._batch.listed:
            item = Path(one.path)
            if item in again:  # its worker died while all were stopping
                yield TaskReport(item, "interrupted", again[item].folder)
            else:
                yield self._ended.get(item) or TaskReport(item, "not started")


def _names(folder: Path, one: Listed) -> Iterator[Path]:
    """Folders for an item, the best name first."""
    yield folder / one.name
    for digits in (4, 8, 16, 64):
        yield folder / hashed_name(Path(one.path), one.name, digits)


def _text(error: Exception | None) -> str:
    if error is None:
        return ""
    where = f" ({error.where})" if isinstance(error, Ovseg3dError) and error.where is not None else ""
    return f"{error.what if isinstance(error, Ovseg3dError) else error}{where}"
