"""Run a stage: so many steps, or so many seconds, whichever ends first.

Learning rates follow `progress`. With `steps` it is step / steps, whether time is limited too or not: time may then
end the run, but it schedules nothing, and the steps that were taken have the bits of those of any run with that number
of steps. With `max_seconds` alone it is the share of the time, so that rates have decayed when the time is over, and
the bits depend on the machine's speed.

A stage that has both and is ended by its time stops before its rates have decayed. That is a loss of quality which the
loop cannot mend: it does not know in advance that the time will be too short. Who starts the stage says so, and
advises `max_seconds` alone, or more time. The default on a CPU has both: a number of steps, so that its bits can be
promised, and a time that only far slower machines reach.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch

from ovseg3d.engine.checkpoint import Checkpoint, save_checkpoint
from ovseg3d.engine.clock import Clock
from ovseg3d.engine.events import Event, Report, ignore

PROGRESS_EVERY = 0.5
"""Seconds between two progress events."""


@runtime_checkable
class Stage(Protocol):
    """Something that learns step by step."""

    name: str

    def step(self, step: int, progress: float) -> None:
        """One optimisation step; `progress` in [0, 1) sets the rates. Must depend on nothing else but its state."""

    def measure(self) -> dict[str, float]:
        """Figures for the progress display. Called now and then, so it may wait for the device."""

    def state(self) -> dict[str, torch.Tensor]:
        """All that is needed to go on to the same bits."""

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        """The inverse of `state`."""

    def facts(self) -> dict:
        """What a loader must know to build this stage before `load_state` (JSON values)."""


@dataclass(frozen=True)
class Outcome:
    """How a stage ended."""

    steps: int
    seconds: float
    interrupted: bool


def run_stage(
    stage: Stage,
    # limits
    steps: int | None = None,
    max_seconds: float | None = None,
    # going on
    first_step: int = 0,
    clock: Clock | None = None,
    # safety
    checkpoints: Path | None = None,
    checkpoint_seconds: float = 30.0,
    # the outside
    report: Report = ignore,
    after_step: Callable[[int], None] | None = None,
    stop: threading.Event | None = None,
) -> Outcome:
    """Train `stage` until its steps or its time are used up, or until `stop` is set.

    Args:
        steps: how many steps in all, those before `first_step` counted in; sets the rates where it is given.
        max_seconds: how long in all, by `clock`; sets the rates where it is given alone.
        first_step: steps done before, for a stage that was resumed.
        clock: the stopwatch to go by; bring one that started earlier to count set-up time in.
        checkpoints: a folder for checkpoints: one every `checkpoint_seconds`, and one at the end.
        report: receives events: `start`, `progress`, `checkpoint`, and `done` or `interrupted`.
        after_step: called with the number of steps done after each.
        stop: set it from another thread or a signal handler to end after the current step.

    Raises:
        ValueError: neither `steps` nor `max_seconds` is given.
        OutputError: a checkpoint cannot be written.
    """
    if steps is None and max_seconds is None:
        raise ValueError("give steps, max_seconds or both")
    clock = clock or Clock()
    began, began_progress = clock.seconds, 0.0
    step = first_step

    def progress() -> float:
        if steps is not None:
            return min(step / steps, 1.0) if steps else 1.0
        return min(clock.seconds / max_seconds, 1.0) if max_seconds else 1.0

    def out_of_time() -> bool:
        return max_seconds is not None and clock.seconds >= max_seconds

    def event(kind: str, metrics: dict[str, float] | None = None) -> None:
        done, seconds = progress(), clock.seconds
        gained = done - began_progress
        left = (seconds - began) * (1.0 - done) / gained if gained > 0.0 and step > first_step else None
        if left is not None and max_seconds is not None:
            left = min(left, max(max_seconds - seconds, 0.0))
        report(Event(kind, stage.name, step, steps, done, seconds, left, metrics or {}))  # type: ignore[arg-type]

    def checkpoint() -> None:
        if checkpoints is not None:
            save_checkpoint(checkpoints, Checkpoint(stage.name, step, clock.seconds, stage.state(), stage.facts()))
            event("checkpoint")

    began_progress = progress()
    event("start")
    reported = saved = clock.seconds
    stopped = False
    while progress() < 1.0 and not out_of_time():
        if stop is not None and stop.is_set():
            stopped = True
            break
        stage.step(step, progress())
        step += 1
        if after_step is not None:
            after_step(step)
        now = clock.seconds
        if now - reported >= PROGRESS_EVERY:
            event("progress", stage.measure())
            reported = clock.seconds
        if checkpoints is not None and now - saved >= checkpoint_seconds:
            checkpoint()
            saved = clock.seconds
    event("progress", stage.measure() if step > first_step else {})
    checkpoint()
    event("interrupted" if stopped else "done")
    return Outcome(step, clock.seconds, stopped)
