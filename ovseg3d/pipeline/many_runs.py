"""Apply work to many runs, such as an evaluation. Results and the ledger are kept in an output folder: see `batch`."""

import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ovseg3d.engine import Report
from ovseg3d.errors import ConfigError, RunError
from ovseg3d.files import plain, read_json, write_json
from ovseg3d.pipeline.batch import Batch, TaskReport, Watch, do_tasks
from ovseg3d.pipeline.executors import Executor
from ovseg3d.pipeline.tasks import Ended, Progress, Send, Started, Task
from ovseg3d.runs.ledger import RESULTS, Ledger
from ovseg3d.runs.lists import read_runs
from ovseg3d.runs.places import find_run

RESULT = "result.json"
"""A run's result, in its folder below the output folder."""
_CHANGING = ("metrics.json", "metrics.jsonl")
"""Files of a run that measuring it changes."""

Use = Callable[[Path, Path | None, Report, threading.Event], tuple[Mapping[str, Any], str]]
"""Gets a run (or what else the list names), a folder for files (None: where it likes), a receiver of events, and an
event that asks it to stop; gives a result and a text for people. It pickles, and may raise an Ovseg3dError."""


@dataclass(frozen=True, slots=True)
class RunWork:
    """Work on the run of a task, with its result kept in the task's folder."""

    use: Use
    directory: Path
    """The working directory, which relative paths of settings start from."""

    def __call__(self, task: Task, send: Send, stop: threading.Event) -> Ended:
        """Use the run. Raises what is wrong with it."""
        if Path.cwd() != self.directory:  # on another machine
            try:
                os.chdir(self.directory)
            except OSError as error:
                raise ConfigError(
                    "A worker does not see the folder where the command was started",
                    where=self.directory,
                    fix="start it in one that all machines share",
                ) from error
        send(Started(task.item, task.folder, task.attempt))
        result, text = self.use(task.item, task.folder, lambda event: send(Progress(task.item, event)), stop)
        result = plain(dict(result))
        if task.folder is not None:
            write_json(task.folder / RESULT, result)
        return Ended(task.item, "done", task.folder, result=result, text=text)


def use_runs(
    runs: Path | str | Iterable[Path | str],
    use: Use,
    *,
    settings: str = "",
    executor: Executor | None = None,
    output_dir: Path | str | None = None,
    report: Watch | None = None,
    stop: threading.Event | None = None,
) -> tuple[TaskReport, ...]:
    """Apply `use` to runs.

    Args:
        runs: runs, folders of runs, globs or list files; see `runs.lists`.
        use: what is done with each.
        settings: text of all settings that results depend on.
        executor: where to work; by default one after another in this process.
        output_dir: gets a folder for each run, with its result, and the ledger results.jsonl. What is done there with
            the same settings, and for runs that have not changed since, is not done again, and its result is read. By
            default nothing is kept.
        report: receives a `Planned`, and then the messages of `pipeline.tasks`.
        stop: set it to end.

    Returns:
        A report for each run, in the order of the list. A run that fails is reported and does not stop others.

    Raises:
        ConfigError: the list cannot be used.
        RunError, OutputError: the ledger or a result cannot be read or written.
    """
    folder = None if output_dir is None else Path(output_dir).absolute()
    listed = read_runs(runs)
    if folder is not None and any(Path(one.path).absolute().parent == folder for one in listed):
        raise ConfigError(
            f"{folder} holds a run of the list; its results would be written into the run",
            fix="choose another output folder",
        )
    batch = Batch(
        listed,
        RunWork(use, Path.cwd()),
        settings=lambda item: _hash(settings, *_state(Path(item))),
        ledger=None if folder is None else Ledger(folder / RESULTS),
        folder=folder,
        proof=RESULT,
    )
    reports = do_tasks(batch, executor, report, stop)
    return tuple(
        replace(one, result=read_json(one.folder / RESULT, RunError))
        if one.status == "done" and one.result is None and one.folder is not None
        else one
        for one in reports
    )


def _state(path: Path) -> list[str]:
    """Names, sizes and times of the files of a run, or of a single file; they change when it is trained again."""
    try:
        run = path if path.is_file() else find_run(path)
        files = [run] if run.is_file() else [
            file for folder in (run, run / "checkpoints") if folder.is_dir() for file in folder.iterdir()
            if file.is_file() and file.name not in _CHANGING and not file.name.startswith(".")
        ]  # fmt: skip
        stated = [(str(file), file.stat()) for file in sorted(files)]
    except (RunError, OSError):
        return ["absent"]
    return [f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stated]


def _hash(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode(errors="surrogateescape")).hexdigest()[:16]
