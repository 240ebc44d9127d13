"""Run a stage: so many steps, or so many seconds, whichever ends first.

progress = max(step / steps, seconds / max_seconds) sets the rates, so that a run limited by time decays its
rates too. With steps alone nothing depends on time, and equal seeds give equal bits. With both, time counts from
`SET_UP` of it on, or a second more of set-up would change the first steps, and so all bits, of a run that its steps
end.
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
SET_UP = 0.1
"""Share of the time that does not count beside steps."""


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
        steps: how many steps in all, those before `first_step` counted in.
        max_seconds: how long in all, by `clock`.
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
        time = clock.seconds / max_seconds if max_seconds else 0.0
        if steps and max_seconds:
            time = (time - SET_UP) / (1 - SET_UP)
        return min(max(step / steps if steps else 0.0, time), 1.0)

    def event(kind: str, metrics: dict[str, float] | None = None) -> None:
        done, seconds = progress(), clock.seconds
        gained = done - began_progress
        left = (seconds - began) * (1.0 - done) / gained if gained > 0.0 and step > first_step else None
        report(Event(kind, stage.name, step, steps, done, seconds, left, metrics or {}))  # type: ignore[arg-type]

    def checkpoint() -> None:
        if checkpoints is not None:
            save_checkpoint(checkpoints, Checkpoint(stage.name, step, clock.seconds, stage.state(), stage.facts()))
            event("checkpoint")

    began_progress = progress()
    event("start")
    reported = saved = clock.seconds
    stopped = False
    while progress() < 1.0 and (steps is None or step < steps):
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
