"""Commands about a run, applied to one run, or to many: one after another, in processes, or on Ray."""

import io
import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Protocol, runtime_checkable

import tyro

from ovseg3d.cli.many import Many, counted, exit_code

if TYPE_CHECKING:
    from rich.console import Console

    from ovseg3d.engine import Report

_MORE = (
    "More runs. A RUN may also be a folder of runs, a glob in quotes, or a list: a .txt file with a path per line, or a"
    ' .jsonl file with {"run": PATH} per line.'
)
MoreRuns = Annotated[
    tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[RUN...]", help=_MORE, help_behavior_hint="")
]


@dataclass(frozen=True)
class Output:
    """Where the work on a run shows what it does and found."""

    console: "Console"
    stop: threading.Event
    """Set when the work is to end; it then raises KeyboardInterrupt."""
    report: "Report | None" = None
    """Receives events; None: they are displayed on the console."""

    def progress(self) -> "AbstractContextManager[Report]":
        """A receiver of events, for a `with` block."""
        from ovseg3d.cli.progress import Progress

        return Progress(self.console) if self.report is None else nullcontext(self.report)


@runtime_checkable
class RunCommand(Protocol):
    """A command that can be applied to a run. It is a frozen dataclass, so it pickles, and its text states its
    settings."""

    stoppable: ClassVar[bool]
    """Whether `use` ends soon after its event is set; else Ctrl-C ends the command at once, if it is about one run."""

    @property
    def json(self) -> bool:
        """Whether stdout is reserved for JSON."""
        ...

    def use(self, path: Path, folder: Path | None, output: Output) -> dict[str, Any]:
        """Apply it to one run, with files in `folder` (None: where it likes), and print what it found (with --json
        nothing but notes). Raises Ovseg3dError: the run cannot be used."""
        ...


def are_many(paths: Sequence[Path], many: Many) -> bool:
    """Whether `paths` are several runs, or one that stands for several or is to be used in a worker."""
    from ovseg3d.runs.lists import is_run_list

    return len(paths) > 1 or many.asked or is_run_list(paths[0])


def over_runs(
    command: RunCommand, paths: Sequence[Path], many: Many, folder: Path | None
) -> tuple[dict[str, Any], int]:
    """Apply a command to a run, or to each of several.

    Args:
        command: what is done with each.
        paths: as typed; they may stand for several runs each.
        many: the flags of workers.
        folder: output folder; several runs get a folder each in it, and the ledger results.jsonl is kept there.

    Returns:
        The result, or {"runs": [a result for each]}, and the exit code. A run that cannot be used is shown and does not
        stop the others.

    Raises:
        Ovseg3dError: of a single run, of the list or the flags.
    """
    from ovseg3d.cli.console import get_console, interruptible, shell_path
    from ovseg3d.cli.many_progress import ManyProgress
    from ovseg3d.pipeline.many_runs import use_runs
    from ovseg3d.runs.ledger import RESULTS

    console, stop = get_console(command.json), threading.Event()
    if not are_many(paths, many):
        with interruptible(stop) if command.stoppable else nullcontext():
            return command.use(paths[0], folder, Output(console, stop)), 0
    with interruptible(stop), ManyProgress(console, "runs") as progress:
        reports = use_runs(
            paths,
            _Recorded(command, console.width),
            settings=_settings(command),
            executor=many.executor(),
            output_dir=folder,
            report=progress,
            stop=stop,
        )
    kept = "" if folder is None else f" Ledger: {shell_path(folder / RESULTS)}"
    console.print(f"{len(reports)} runs: {counted(reports)}.{kept}", markup=False, soft_wrap=True)
    results = [
        {"run": one.item, **({"error": str(one.error)} if one.error is not None else {"status": one.status})}
        if one.result is None
        else one.result
        for one in reports
    ]
    return {"runs": results}, exit_code(reports, console, kept=folder is not None)


@dataclass(frozen=True)
class _Recorded:
    """A command in a worker: what it prints is kept as text, and its progress is sent."""

    command: RunCommand
    width: int

    def __call__(
        self, path: Path, folder: Path | None, report: "Report", stop: threading.Event
    ) -> tuple[Mapping[str, Any], str]:
        from ovseg3d.cli.console import get_console

        text = io.StringIO()
        console = get_console(file=text, width=self.width)
        return self.command.use(path, folder, Output(console, stop, report)), text.getvalue()


_ELSEWHERE = ("run", "input", "more", "many", "json", "output", "output_dir", "table")
"""Fields of a command that the result of one run does not depend on, beside the run itself."""


def _settings(command: Any) -> str:
    """A text of all that a result depends on, beside the run."""
    lines = [type(command).__name__]
    for name in (field.name for field in fields(command)):
        if name not in _ELSEWHERE:
            value = getattr(command, name)
            lines.append(f"{name} {value!r}")
            if isinstance(value, str | Path) and os.path.isfile(value):  # such as a list of phrases
                lines.append(f"{os.stat(value).st_size} {os.stat(value).st_mtime_ns}")
    return "\n".join(lines)
