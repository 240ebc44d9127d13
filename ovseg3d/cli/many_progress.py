"""One progress display for many scenes: live bars on a terminal, plain lines elsewhere."""

import time
from pathlib import Path
from types import TracebackType

from rich import progress as rich_progress
from rich.console import Console

from ovseg3d.cli.console import shell_path, show_error
from ovseg3d.cli.progress import PLAIN_EVERY, STAGE_NAMES, figures
from ovseg3d.engine import Event
from ovseg3d.errors import Ovseg3dError
from ovseg3d.pipeline.many import Planned
from ovseg3d.pipeline.tasks import Died, Ended, Message, Progress, Started

MAX_BARS = 20
"""Most scenes that have a bar of their own."""


class ManyProgress:
    """A report (callable with a message of `train_scenes`) that displays progress; use it in a `with` statement."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: rich_progress.Progress | None = None
        self._bars: dict[Path, rich_progress.TaskID] = {}
        self._all: rich_progress.TaskID | None = None
        self._scenes = self._done = self._failed = 0
        self._began: dict[Path, float] = {}
        self._last_line = 0.0

    def __enter__(self) -> "ManyProgress":
        if self._console.is_terminal:
            self._live = rich_progress.Progress(
                rich_progress.TextColumn("{task.description:<16}", markup=False),
                rich_progress.BarColumn(bar_width=24),
                rich_progress.TextColumn("{task.fields[figures]}", markup=False),
                console=self._console,
            )
            self._all = self._live.add_task("all scenes", total=1.0, figures="")
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, message: Message | Planned) -> None:
        if isinstance(message, Planned):
            self._scenes, self._done = message.scenes, message.done
            if message.done:
                self._print(f"{message.done} of {message.scenes} scenes were done before.")
        elif isinstance(message, Started):
            self._start(message)
        elif isinstance(message, Progress):
            self._progress(message.scene, message.event)
        elif isinstance(message, Died):
            self._remove(message.scene)
            self._print(f"{message.scene.name}: {message.reason}. It is tried again from its checkpoint.")
        elif isinstance(message, Ended):
            self._end(message)
        self._count()

    def _start(self, message: Started) -> None:
        self._began[message.scene] = time.monotonic()
        if self._live is None:
            self._print(f"{message.scene.name}: training in {shell_path(message.run)}")
        elif len(self._bars) < MAX_BARS:
            self._bars[message.scene] = self._live.add_task(message.scene.name, total=1.0, figures="starting")

    def _progress(self, scene: Path, event: Event) -> None:
        if event.kind == "log":
            if event.stage == "set-up":  # notes of the reader about the capture
                self._print(f"{scene.name}: warning: {event.message}")
            return
        text = f"{STAGE_NAMES.get(event.stage, event.stage)}: {figures(event)}"
        if self._live is not None and scene in self._bars:
            self._live.update(self._bars[scene], completed=event.progress, figures=text)
        elif self._live is None and time.monotonic() - self._last_line > PLAIN_EVERY:
            self._print(f"[{self._counted()}] {scene.name}: {event.progress:4.0%}  {text}")

    def _end(self, message: Ended) -> None:
        self._remove(message.scene)
        name = message.scene.name
        if message.status == "done":
            self._done += 1
            seconds = time.monotonic() - self._began.get(message.scene, time.monotonic())
            self._print(f"{name}: done after {seconds:.0f} s")
        elif message.status == "failed":
            self._failed += 1
            if isinstance(message.error, Ovseg3dError):
                show_error(message.error)
            else:
                self._print(f"{name}: failed by a bug in ovseg3d\n{message.error}")
        else:
            self._print(f"{name}: stopped with a checkpoint")

    def _remove(self, scene: Path) -> None:
        if self._live is not None and scene in self._bars:
            self._live.remove_task(self._bars.pop(scene))

    def _count(self) -> None:
        if self._live is not None and self._all is not None:
            share = (self._done + self._failed) / max(self._scenes, 1)
            self._live.update(self._all, completed=share, figures=self._counted())

    def _counted(self) -> str:
        failed = f", {self._failed} failed" if self._failed else ""
        return f"{self._done} of {self._scenes} done{failed}"

    def _print(self, text: str) -> None:
        self._last_line = time.monotonic()
        self._console.print(text, markup=False, soft_wrap=True)
