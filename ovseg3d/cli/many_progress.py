"""One progress display for many scenes or runs: live bars on a terminal, plain lines elsewhere."""

import time
from pathlib import Path
from typing import Literal

from rich import progress as rich_progress
from rich.console import Console

from ovseg3d.cli.console import shell_path, show_error
from ovseg3d.cli.progress import PLAIN_EVERY, STAGE_NAMES, LiveBars, figures
from ovseg3d.errors import Ovseg3dError
from ovseg3d.pipeline.batch import Planned
from ovseg3d.pipeline.tasks import Died, Ended, Message, Progress, Started

MAX_BARS = 20
"""Most items that have a bar of their own."""


class ManyProgress(LiveBars):
    """A report (callable with a message of `train_scenes` or `use_runs`) that displays progress.

    Use it in a `with` statement.
    """

    def __init__(self, console: Console, things: Literal["scenes", "runs"] = "scenes") -> None:
        super().__init__(console)
        self._things = things
        self._bars: dict[Path, rich_progress.TaskID] = {}
        self._all: rich_progress.TaskID | None = None
        self._items = self._done = self._failed = 0
        self._began: dict[Path, float] = {}

    def __enter__(self) -> "ManyProgress":
        self._open()
        if self._live is not None:
            self._all = self._live.add_task(f"all {self._things}", total=1.0, figures="")
        return self

    def __call__(self, message: Message | Planned) -> None:
        if isinstance(message, Planned):
            self._items, self._done = message.items, message.done
            if message.done:
                self._print(f"{message.done} of {message.items} {self._things} were done before.")
        elif isinstance(message, Started):
            self._start(message)
        elif isinstance(message, Progress):
            self._progress(message)
        elif isinstance(message, Died):
            self._remove(message.item)
            how = " from its checkpoint" if self._things == "scenes" else ""
            self._print(f"{self._name(message)}: {message.reason}. It is tried again{how}.")
        elif isinstance(message, Ended):
            self._end(message)
        self._count()

    def _start(self, message: Started) -> None:
        name = self._name(message)
        self._began[message.item] = time.monotonic()
        if self._live is not None:
            if len(self._bars) < MAX_BARS:
                self._bars[message.item] = self._live.add_task(name, total=1.0, figures="starting")
        elif message.folder is not None and self._things == "scenes":
            self._print(f"{name}: training in {shell_path(message.folder)}")

    def _name(self, message: Message) -> str:
        # Runs are often named by their time alone.
        return message.item.name if self._things == "scenes" else shell_path(message.item)

    def _progress(self, message: Progress) -> None:
        item, name, event = message.item, self._name(message), message.event
        if event.kind == "log":
            if event.stage == "set-up":  # notes of the reader about the capture
                self._print(f"{name}: warning: {event.message}")
            return
        text = f"{STAGE_NAMES.get(event.stage, event.stage)}: {figures(event)}"
        if self._live is not None and item in self._bars:
            self._live.update(self._bars[item], completed=event.progress, figures=text)
        elif self._live is None and time.monotonic() - self._last_line > PLAIN_EVERY:
            self._print(f"[{self._counted()}] {name}: {event.progress:4.0%}  {text}")

    def _end(self, message: Ended) -> None:
        self._remove(message.item)
        name = self._name(message)
        if message.status == "done":
            self._done += 1
            seconds = time.monotonic() - self._began.get(message.item, time.monotonic())
            self._print(f"{name}: done after {seconds:.0f} s")
            if message.text:
                self._print(message.text.rstrip("\n"))
        elif message.status == "failed":
            self._failed += 1
            if isinstance(message.error, Ovseg3dError):
                show_error(message.error)
            else:
                self._print(f"{name}: failed by a bug in ovseg3d\n{message.error}")
        else:
            self._print(f"{name}: stopped{' with a checkpoint' if self._things == 'scenes' else ''}")

    def _remove(self, item: Path) -> None:
        if self._live is not None and item in self._bars:
            self._live.remove_task(self._bars.pop(item))

    def _count(self) -> None:
        if self._live is not None and self._all is not None:
            share = (self._done + self._failed) / max(self._items, 1)
            self._live.update(self._all, completed=share, figures=self._counted())

    def _counted(self) -> str:
        failed = f", {self._failed} failed" if self._failed else ""
        return f"{self._done} of {self._items} done{failed}"

    def _print(self, text: str) -> None:
        self._last_line = time.monotonic()
        self._console.print(text, markup=False, soft_wrap=True)
