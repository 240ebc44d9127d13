"""Train many scenes: hand tasks to an executor, try again where a worker died, and keep the ledger.

The ledger (`runs.ledger`) and the run folders hold all state. So the same call again trains what is missing: scenes
that are done are left out, unfinished runs are continued from their checkpoints, and failed scenes are tried again.
"""

import hashlib
import json
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ovseg3d.errors import Ovseg3dError, RunError
from ovseg3d.features.encode import from_anywhere
from ovseg3d.limits import NO_TRUST, Trust
from ovseg3d.pipeline.executors import Executor, Sequential
from ovseg3d.pipeline.seeds import essence
from ovseg3d.pipeline.tasks import Died, Ended, Message, Started, Task
from ovseg3d.runs.config import Config
from ovseg3d.runs.devices import resolve_device
from ovseg3d.runs.folder import hashed_name
from ovseg3d.runs.ledger import FILE, Entry, Ledger, State
from ovseg3d.runs.lists import Listed, read_scenes
from ovseg3d.runs.settings import make_config, to_plain

MAX_ATTEMPTS = 5
"""How often a scene is started in one call, if its worker dies each time."""


@dataclass(frozen=True, slots=True)
class SceneReport:
    """How it ended with a scene."""

    scene: Path
    status: str
    """done, failed, interrupted, or not started."""
    run: Path | None = None
    """Its run folder, if there is one."""
    error: Exception | None = None
    """Why it failed: an Ovseg3dError, or else a bug with its traceback as the message."""


@dataclass(frozen=True, slots=True)
class Planned:
    """The first report: what there is to do."""

    scenes: int
    """Number of scenes in the list."""
    done: int
    """How many of them were done before."""


Watch = Callable[[Message | Planned], None]
"""Receives what happens, in the thread that called `train_scenes`."""


def train_scenes(
    scenes: Path | str | Iterable[Path | str],
    config: Config | None = None,
    *,
    executor: Executor | None = None,
    output_dir: Path | str | None = None,
    report: Watch | None = None,
    stop: threading.Event | None = None,
    trust: Trust = NO_TRUST,
) -> tuple[SceneReport, ...]:
    """Train scenes that are not done yet, and keep runs.jsonl in the output folder.

    Args:
        scenes: scenes, folders of scenes, globs or list files; see `runs.lists`.
        config: settings of all scenes; by default the preset of this machine.
        executor: where to train, such as `Processes(2)` or `OnRay()`; by default one after another in this process.
        output_dir: folder of the run folders, OUTPUT_DIR/<scene>, and of the ledger; by default each run is
            outputs/<scene>/<timestamp>, and the ledger is in outputs.
        report: receives a `Planned`, and then the messages of `pipeline.tasks`.
        stop: set it, from another thread or a signal handler, to end all scenes with a checkpoint.
        trust: the user's permissions for the captures and their runs.

    Returns:
        A report for each scene, in the order of the list. A scene that fails is reported and does not stop others.

    Raises:
        ConfigError, DeviceError: the list or the settings cannot be used.
        RunError, OutputError: the ledger cannot be read or written.
    """
    listed = read_scenes(scenes)
    config = config or make_config(resolve_device("auto"))
    config = replace(config, encode=from_anywhere(config.encode))
    folder = None if output_dir is None else Path(output_dir).absolute()
    work = _Work(config, folder, trust, report or (lambda _: None))
    work.plan(listed)
    stop = stop or threading.Event()
    with executor or Sequential() as executor:
        while True:
            while not stop.is_set() and executor.free > 0 and (task := work.take()) is not None:
                executor.submit(task)
            if not executor.busy:
                break
            executor.poll(work.handle, stop)
    return tuple(work.reports())


class _Work:
    """What is to do and what has ended, in memory and in the ledger."""

    def __init__(self, config: Config, folder: Path | None, trust: Trust, report: Watch) -> None:
        self._config, self._folder, self._trust, self._report = config, folder, trust, report
        self._settings = _hash(config)
        self._ledger = Ledger((folder or Path("outputs").absolute()) / FILE)
        self._again: deque[Task] = deque()
        self._running: dict[Path, Task] = {}
        self._ended: dict[Path, SceneReport] = {}

    def plan(self, listed: tuple[Listed, ...]) -> None:
        """Find out what is done, and name the run folders of the rest."""
        known = {
            scene: entry
            for scene, entry in self._ledger.latest().items()
            if entry.run is not None and (self._folder is not None or entry.settings == self._settings)
        }
        self._listed = listed
        for one in listed:
            entry = known.get(one.path)
            if entry is not None and self._is_done(entry):
                self._ended[Path(one.path)] = SceneReport(Path(one.path), "done", entry.run)
        self._tasks = self._new_tasks(known)
        self._report(Planned(len(listed), len(self._ended)))

    def _is_done(self, entry: Entry) -> bool:
        # The folder may have been removed, to train the scene anew.
        done = entry.state == "done" and entry.settings == self._settings
        return done and entry.run is not None and os.path.isfile(entry.run / "status.json")

    def _new_tasks(self, known: dict[str, Entry]) -> Iterator[Task]:
        taken = {entry.run for entry in known.values()}
        for one in self._listed:
            scene = Path(one.path)
            if scene in self._ended:
                continue
            entry = known.get(one.path)
            run = None if entry is None else entry.run
            if run is None and self._folder is not None:
                run = next(run for run in _names(self._folder, one) if run not in taken)
                taken.add(run)
            yield Task(scene, self._config, run, trust=self._trust)

    def take(self) -> Task | None:
        """The next task, or None."""
        task = self._again.popleft() if self._again else next(self._tasks, None)
        if task is not None:
            self._running[task.scene] = task
        return task

    def handle(self, message: Message) -> None:
        """Note what happened to a scene."""
        task = self._running[message.scene]
        if isinstance(message, Started):
            self._running[task.scene] = replace(task, folder=message.run)
            self._write(task, "running", message.run)
        elif isinstance(message, Died):
            del self._running[task.scene]
            if task.attempt < MAX_ATTEMPTS:
                self._write(task, "died", task.folder, message.reason)
                self._again.append(replace(task, attempt=task.attempt + 1))
            else:
                error = RunError(
                    f"{message.reason}, {task.attempt} times in this scene",
                    where=task.scene,
                    fix="give each scene more memory (fewer workers, smaller photos), then the same command again",
                )
                message = Ended(task.scene, "failed", task.folder, error)
        if isinstance(message, Ended):
            self._running.pop(task.scene, None)
            self._ended[task.scene] = SceneReport(task.scene, message.status, message.run, message.error)
            self._write(task, message.status, message.run, _text(message.error))  # type: ignore[arg-type]
        self._report(message)

    def _write(self, task: Task, state: State, run: Path | None, message: str = "") -> None:
        self._ledger.append(Entry(str(task.scene), state, run, task.attempt, message, self._settings))

    def reports(self) -> Iterator[SceneReport]:
        """A report for each scene."""
        again = {task.scene: task for task in self._again}
        for one in self._listed:
            scene = Path(one.path)
            if scene in again:  # its worker died while all were stopping
                yield SceneReport(scene, "interrupted", again[scene].folder)
            else:
                yield self._ended.get(scene) or SceneReport(scene, "not started")


def _names(folder: Path, one: Listed) -> Iterator[Path]:
    """Run folders for a scene, the best name first."""
    yield folder / one.name
    for digits in (4, 8, 16, 64):
        yield folder / hashed_name(Path(one.path), one.name, digits)


def _hash(config: Config) -> str:
    """A short hash of the settings that affect a run."""
    values = {**to_plain(essence(config)), "only": config.only}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def _text(error: Exception | None) -> str:
    if error is None:
        return ""
    where = f" ({error.where})" if isinstance(error, Ovseg3dError) and error.where is not None else ""
    return f"{error.what if isinstance(error, Ovseg3dError) else error}{where}"
