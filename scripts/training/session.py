"""Run a training from a script: resuming, Ctrl-C, printed progress, and weights exported at every checkpoint.

A work folder contains a folder of checkpoints for each stage. Time is summed over sessions, with rendering and waiting.
"""

import json
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from ovseg3d.engine import (
    CheckpointFolder,
    Clock,
    Event,
    Outcome,
    Stage,
    Start,
    latest_checkpoint,
    load_checkpoint,
    run_stage,
)
from ovseg3d.errors import ConfigError
from scripts.training.distributed import ALONE, SharedClock, World

INTERRUPTED = 130
_PRINT_EVERY = 20.0


def write_recipe(folder: Path, **recipe: object) -> None:
    """Write recipe.json beside the weights, for the model card."""
    from ovseg3d.files import write_json

    write_json(folder / "recipe.json", recipe)


class Session:
    """Runs the stages of one training.

    Args:
        work: the folder for checkpoints and `log.jsonl`.
        checkpoint_seconds: time between checkpoints.
        world: the processes; they stop after the same step, and the first one writes.
    """

    def __init__(self, work: Path, checkpoint_seconds: float, world: World = ALONE) -> None:
        self.work, self.checkpoint_seconds, self.world = work, checkpoint_seconds, world
        self.stop = threading.Event()
        self._printed = -_PRINT_EVERY
        work.mkdir(parents=True, exist_ok=True)

    def catch_signals(self) -> None:
        """Stop after the current step at the first SIGINT or SIGTERM, and at once at the second."""

        def handle(number: int, frame: object) -> None:
            if self.stop.is_set():
                raise KeyboardInterrupt
            self.stop.set()

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, handle)

    def run(self, stage: Stage, steps: int | None, max_seconds: float | None, export: Callable[[], None]) -> Outcome:
        """Train a stage to its end, from its newest checkpoint if any; call `export` after every checkpoint."""
        folder = self.work / stage.name
        first, spent = 0, 0.0
        newest = latest_checkpoint(folder)
        if newest is not None:
            held = load_checkpoint(newest, stage.name)
            if held.facts != json.loads(json.dumps(stage.facts())):
                raise ConfigError(
                    "The checkpoint was made with other settings",
                    where=newest,
                    fix=f"give the same, or remove {self.work}",
                )
            stage.load_state(held.state)
            first, spent = held.step, held.seconds
            print(f"{stage.name}: resuming at step {first}, {held.seconds:.0f} s", flush=True)
        since, on_start, newest_figures = time.monotonic(), first, {}

        def report(event: Event) -> None:
            newest_figures.update(event.metrics)
            if not self.world.first:
                return
            if event.kind == "checkpoint":
                export()
            due = time.monotonic() - self._printed >= _PRINT_EVERY
            if event.kind not in ("progress", "done", "interrupted") or not (due or event.kind != "progress"):
                return
            self._printed = time.monotonic()
            rate = (event.step - on_start) / max(time.monotonic() - since, 1e-9)
            figures = {name: round(value, 4) for name, value in newest_figures.items()}
            line = {"stage": stage.name, "event": event.kind, "step": event.step, "progress": round(event.progress, 4)}
            line |= {"seconds": round(event.seconds, 1), "steps per second": round(rate, 3), **figures}
            with open(self.work / "log.jsonl", "a") as log:
                log.write(json.dumps(line) + "\n")
            words = "  ".join(f"{name} {value:.3g}" for name, value in figures.items())
            print(
                f"{stage.name} {event.kind} {event.progress:6.1%}  step {event.step}  {event.seconds:.0f} s  "
                f"{rate:.2f} steps/s  {words}",
                flush=True,
            )

        checkpoints = CheckpointFolder(folder, self.checkpoint_seconds) if self.world.first else None
        clock, stop = Clock(spent), self.stop
        if self.world.size > 1:
            clock, stop = SharedClock(self.world, spent), threading.Event()
            stage = _Together(stage, clock, self.stop, stop)
        return run_stage(stage, steps, max_seconds, Start(first, clock), checkpoints, report, stop=stop)


class _Together:
    """A stage whose processes agree on the time and on stopping after every step, so that none waits for another.

    Args:
        stage: what is trained.
        clock: is set in every step.
        asked: set by this process's signals.
        stop: is set when it is set in any process.
    """

    def __init__(self, stage: Stage, clock: SharedClock, asked: threading.Event, stop: threading.Event) -> None:
        self.name, self.measure, self.state, self.facts = stage.name, stage.measure, stage.state, stage.facts
        self.load_state, self._stage = stage.load_state, stage
        self._clock, self._asked, self._stop = clock, asked, stop
        self._agree()

    def step(self, step: int, progress: float) -> None:
        self._stage.step(step, progress)
        self._agree()

    def _agree(self) -> None:
        if self._clock.agree(self._asked.is_set()):
            self._stop.set()
