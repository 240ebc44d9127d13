"""One scene of many as a task: what a worker gets, what it does, and the messages that it sends.

Tasks and messages pickle. A task can be run again at any time, in any process that sees the same files: a run that is
there is continued from its checkpoint, and a finished one is left as it is. This module is light to import, since the
number of threads must be set before torch and numpy are imported.
"""

import os
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ovseg3d.errors import Ovseg3dError
from ovseg3d.limits import NO_TRUST, Trust

if TYPE_CHECKING:
    from ovseg3d.engine import Event
    from ovseg3d.runs.config import Config
    from ovseg3d.runs.folder import RunFolder

LOCK_SECONDS = 120.0
"""How long a repeated scene waits for the lock of its lost worker; NFS keeps the locks of a lost machine for 90 s."""
_LIBRARIES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
"""Environment variables with the threads of libraries, read when these are imported."""


@dataclass(frozen=True, slots=True)
class Task:
    """A scene to train."""

    scene: Path
    """Absolute path of the capture."""
    config: "Config"
    folder: Path | None = None
    """The run folder, which may hold an unfinished run; None: a new one, outputs/<scene>/<timestamp>."""
    attempt: int = 1
    trust: Trust = NO_TRUST


@dataclass(frozen=True, slots=True)
class Message:
    """Something that happened to a scene."""

    scene: Path


@dataclass(frozen=True, slots=True)
class Started(Message):
    """Training has started, or goes on."""

    run: Path
    attempt: int


@dataclass(frozen=True, slots=True)
class Progress(Message):
    """An event of the training."""

    event: "Event"


@dataclass(frozen=True, slots=True)
class Died(Message):
    """The worker ended without a word."""

    reason: str


@dataclass(frozen=True, slots=True)
class Ended(Message):
    """The end of a scene."""

    status: str
    """done, interrupted, or failed."""
    run: Path | None = None
    error: Exception | None = None
    """Why it failed: an Ovseg3dError, or a bug with its traceback as a note."""


Send = Callable[[Message], None]
"""Passes a message on; called by the thread that trains."""


def limit_threads(count: int) -> None:
    """Let this process use `count` cores. Call it before torch and numpy are imported, as far as possible."""
    for name in _LIBRARIES:
        os.environ[name] = str(count)
    import torch

    from ovseg3d.engine.workers import CORES_VARIABLE

    os.environ[CORES_VARIABLE] = str(count)
    torch.set_num_threads(count)


def run_task(task: Task, send: Send, stop: threading.Event) -> Ended:
    """Train a scene. Whatever is wrong with it is part of the result, so that other scenes go on."""
    from ovseg3d.encoders.hub import stoppable

    started: list[Path] = []

    def on_start(run: "RunFolder") -> None:
        started.append(run.folder)
        send(Started(task.scene, run.folder, task.attempt))

    try:
        with stoppable(stop):
            run = _train(task, lambda event: send(Progress(task.scene, event)), stop, on_start)
        return Ended(task.scene, run.status()["status"], run.folder)
    except KeyboardInterrupt:
        return Ended(task.scene, "interrupted", _existing(task, started))
    except Exception as error:
        if not isinstance(error, Ovseg3dError):
            error = _plain_bug(error)
        return Ended(task.scene, "failed", _existing(task, started), error)


def _existing(task: Task, started: list[Path]) -> Path | None:
    """The run folder, if there is one."""
    if started or task.folder is None:
        return started[0] if started else None
    return task.folder if (task.folder / "config.json").is_file() else None


def _train(
    task: Task, report: "Callable[[Event], None]", stop: threading.Event, on_start: "Callable[[RunFolder], None]"
) -> "RunFolder":
    from ovseg3d.engine import latest_checkpoint
    from ovseg3d.pipeline.seeds import check_alike
    from ovseg3d.pipeline.train import train_scene
    from ovseg3d.runs.folder import is_locked, open_run, open_scene

    if task.folder is not None and task.attempt > 1:
        end = time.monotonic() + LOCK_SECONDS
        while is_locked(task.folder) and time.monotonic() < end and not stop.wait(0.5):
            pass
    scene, earlier = open_scene(task.scene, task.config, task.trust), None
    if task.folder is not None and (task.folder / "config.json").is_file():
        run = open_run(task.folder, task.trust)
        done = run.status()["status"] == "done"
        if done or latest_checkpoint(run.checkpoints) is not None:  # else the folder is used again
            check_alike(run, scene, task.config)
            if done and run.config.only == task.config.only:
                return run
            earlier = run
    return train_scene(
        scene,
        task.config,
        output_dir=task.folder if earlier is None else None,
        resume=earlier,
        report=report,
        stop=stop,
        on_start=on_start,
        trust=task.trust,
    )


def _plain_bug(error: Exception) -> Exception:
    """The error without its frames, which do not pickle; their text is kept."""
    return RuntimeError("".join(traceback.format_exception(error)).rstrip())
