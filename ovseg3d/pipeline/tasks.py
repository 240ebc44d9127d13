"""One of many tasks: what a worker gets, what it does, and the messages that it sends.

A task is work on an item: on a scene that is trained (`training`), or on a run that a command uses (`many_runs`). Tasks
and messages pickle. A task can be done again at any time, in any process that sees the same files. This module is light
to import, since the number of threads must be set before torch and numpy are imported.
"""

import os
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ovseg3d.errors import Ovseg3dError

if TYPE_CHECKING:
    from ovseg3d.engine import Event

_LIBRARIES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
"""Environment variables with the threads of libraries, read when these are imported."""


@dataclass(frozen=True, slots=True)
class Message:
    """Something that happened to an item."""

    item: Path


@dataclass(frozen=True, slots=True)
class Started(Message):
    """Work has started, or goes on."""

    folder: Path | None
    attempt: int


@dataclass(frozen=True, slots=True)
class Progress(Message):
    """An event of the work."""

    event: "Event"


@dataclass(frozen=True, slots=True)
class Died(Message):
    """The worker ended without a word."""

    reason: str


@dataclass(frozen=True, slots=True)
class Ended(Message):
    """The end of a task."""

    status: str
    """done, interrupted, or failed."""
    folder: Path | None = None
    error: Exception | None = None
    """Why it failed: an Ovseg3dError, or a bug with its traceback as the message."""
    result: Mapping[str, Any] | None = None
    """What came out, beside files: plain values."""
    text: str = ""
    """The same for people."""


Send = Callable[[Message], None]
"""Passes a message on; called by the thread that works."""

Work = Callable[["Task", Send, threading.Event], Ended]
"""Does a task, and ends soon after the event is set. It pickles, sends `Started` once, and may raise."""


@dataclass(frozen=True, slots=True)
class Task:
    """Work on an item."""

    item: Path
    """Absolute path."""
    work: Work
    folder: Path | None = None
    """Where its files go; what an earlier attempt left may be there. None: where the work decides."""
    proof: str = ""
    """File that the folder has from some moment on, such as config.json of a run folder."""
    attempt: int = 1


def limit_threads(count: int) -> None:
    """Let this process use `count` cores. Call it before torch and numpy are imported, as far as possible."""
    for name in _LIBRARIES:
        os.environ[name] = str(count)
    import torch

    from ovseg3d.engine.workers import CORES_VARIABLE

    os.environ[CORES_VARIABLE] = str(count)
    torch.set_num_threads(count)


def run_task(task: Task, send: Send, stop: threading.Event) -> Ended:
    """Do a task. Whatever is wrong with its item is part of the result, so that others go on."""
    from ovseg3d.encoders.hub import stoppable

    folders: list[Path | None] = []

    def watch(message: Message) -> None:
        if isinstance(message, Started):
            folders.append(message.folder)
        send(message)

    try:
        with stoppable(stop):
            return task.work(task, watch, stop)
    except KeyboardInterrupt:
        return Ended(task.item, "interrupted", _existing(task, folders))
    except Exception as error:
        if not isinstance(error, Ovseg3dError):
            error = _plain_bug(error)
        return Ended(task.item, "failed", _existing(task, folders), error)


def _existing(task: Task, folders: list[Path | None]) -> Path | None:
    """The folder of the item, if there is one: the one that was started, or what an earlier attempt left."""
    if folders or task.folder is None:
        return folders[0] if folders else None
    return task.folder if (task.folder / task.proof).is_file() else None


def _plain_bug(error: Exception) -> Exception:
    """The error without its frames, which do not pickle; their text is kept."""
    return RuntimeError("".join(traceback.format_exception(error)).rstrip())
