"""Run a stage for a number of steps or of seconds, whichever ends first.

Learning rates follow `progress`. With `steps` it is step / steps, even if time is limited too: the time may end the run
but does not change the schedule, so the steps taken have the same bits as in any run with that number of steps. With
`max_seconds` alone it is the fraction of the time, so that the rates have decayed when the time is over; the bits then
depend on the speed of the machine.

A stage with both limits that is ended by its time stops before its rates have decayed. The loop cannot avoid this loss
of quality, since it does not know in advance that the time is too short. The caller reports it and recommends
`max_seconds` alone, or more time. The default on a CPU has both: a number of steps, so that the bits are reproducible,
and a time that only far slower machines reach.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch

from ovseg3d.engine.checkpoint import Checkpoint, save_checkpoint
from ovseg3d.engine.clock import Clock
from ovseg3d.engine.events import Event, Kind, Report, ignore

PROGRESS_EVERY = 0.5
"""Seconds between two progress events."""


@runtime_checkable
class Stage(Protocol):
    """Something that is trained step by step."""

    name: str

    def step(self, step: int, progress: float) -> None:
        """One optimisation step; `progress` in [0, 1) sets the rates. It must depend on its state only."""

    def measure(self) -> dict[str, float]:
        """Figures for the progress display. It is called rarely and may synchronise with the device."""
        ...

    def state(self) -> dict[str, torch.Tensor]:
        """Everything needed to continue with the same bits."""
        ...

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        """The inverse of `state`."""

    def facts(self) -> dict:
        """What a loader needs to build this stage before `load_state` (JSON values)."""
        ...


@dataclass(frozen=True)
class Outcome:
    """How a stage ended."""

    steps: int
    seconds: float
    interrupted: bool


@dataclass(frozen=True)
class Start:
    """Where a stage starts: at 0, or where it was interrupted."""

    step: int = 0
    """Steps done before."""
    clock: Clock | None = None
    """The stopwatch; one that started earlier includes set-up time. None: a new one."""


@dataclass(frozen=True)
class CheckpointFolder:
    """Where checkpoints go, and how often."""

    folder: Path
    every_seconds: float = 30.0
    """Seconds between checkpoints; there is one more at the end."""


def run_stage(
    stage: Stage,
    steps: int | None = None,
    max_seconds: float | None = None,
    start: Start = Start(),
    checkpoints: CheckpointFolder | None = None,
    report: Report = ignore,
    after_step: Callable[[int], None] | None = None,
    stop: threading.Event | None = None,
) -> Outcome:
    """Train `stage` until its steps or its time are used up, or until `stop` is set.

    Args:
        stage: what to train.
        steps: number of all steps, including those before `start`; determines the rates if given.
        max_seconds: maximum time by the clock of `start`; determines the rates if given alone.
        start: steps done before, and the stopwatch.
        checkpoints: a folder for checkpoints, or None.
        report: receives events: `start`, `progress`, `checkpoint`, and `done` or `interrupted`.
        after_step: called after each step with the number of steps done.
        stop: set it from another thread or a signal handler to end after the current step.

    Raises:
        ValueError: neither `steps` nor `max_seconds` is given.
        OutputError: a checkpoint cannot be written.
    """
    if steps is None and max_seconds is None:
        raise ValueError("give steps, max_seconds or both")
    course = _Course(stage, steps, max_seconds, start, checkpoints, report)
    clock = course.clock
    course.event("start")
    reported = saved = clock.seconds
    stopped = False
    while course.progress() < 1.0 and not course.out_of_time():
        if stop is not None and stop.is_set():
            stopped = True
            break
        stage.step(course.step, course.progress())
        course.step += 1
        if after_step is not None:
            after_step(course.step)
        now = clock.seconds
        if now - reported >= PROGRESS_EVERY:
            course.event("progress", stage.measure())
            reported = clock.seconds
        if checkpoints is not None and now - saved >= checkpoints.every_seconds:
            course.checkpoint()
            saved = clock.seconds
    course.event("progress", stage.measure() if course.step > start.step else {})
    course.checkpoint()
    course.event("interrupted" if stopped else "done")
    return Outcome(course.step, clock.seconds, stopped)


class _Course:
    """How far a stage is between its start and its limits. Writes its events and checkpoints."""

    def __init__(
        self,
        stage: Stage,
        steps: int | None,
        max_seconds: float | None,
        start: Start,
        checkpoints: CheckpointFolder | None,
        report: Report,
    ) -> None:
        self.clock, self.step = start.clock or Clock(), start.step
        self._stage, self._steps, self._max_seconds = stage, steps, max_seconds
        self._checkpoints, self._report = checkpoints, report
        self._start_step, self._start_seconds = start.step, self.clock.seconds
        self._start_progress = self.progress()

    def progress(self) -> float:
        """The share that is done, which sets the rates."""
        if self._steps is not None:
            return min(self.step / self._steps, 1.0) if self._steps else 1.0
        return min(self.clock.seconds / self._max_seconds, 1.0) if self._max_seconds else 1.0

    def out_of_time(self) -> bool:
        """Whether the time is used up."""
        return self._max_seconds is not None and self.clock.seconds >= self._max_seconds

    def event(self, kind: Kind, metrics: dict[str, float] | None = None) -> None:
        """Report how far the stage is, with the seconds that are left at the speed since the start."""
        done, seconds = self.progress(), self.clock.seconds
        gained = done - self._start_progress
        left = None
        if gained > 0.0 and self.step > self._start_step:
            left = (seconds - self._start_seconds) * (1.0 - done) / gained
            if self._max_seconds is not None:
                left = min(left, max(self._max_seconds - seconds, 0.0))
        self._report(Event(kind, self._stage.name, self.step, self._steps, done, seconds, left, metrics or {}))

    def checkpoint(self) -> None:
        """Write one, if there is a folder for them."""
        if self._checkpoints is not None:
            stage = self._stage
            state = Checkpoint(stage.name, self.step, self.clock.seconds, stage.state(), stage.facts())
            save_checkpoint(self._checkpoints.folder, state)
            self.event("checkpoint")
