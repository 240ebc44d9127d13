"""Many small rooms with two workers: how fast, and what survives when workers are killed.

    python -m scripts.benchmarks.many_rooms OUT
    python -m scripts.benchmarks.many_rooms OUT --rooms 4 --kills 3 --steps 200

The same rooms are trained one after another in one process, with workers, and with workers that are killed (SIGKILL) at
random moments. All have one thread each, a number of steps and no held-out views. Prints a markdown table: wall and CPU
seconds, workers killed, scenes that were lost with one, whether the tensors are those of the first run, and files that
were left behind. The exit code is 1 where bits differ or files are left.
"""

import os
import random
import resource
import shutil
import signal
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from ovseg3d.pipeline import Executor, Processes, train_scenes
from ovseg3d.pipeline.tasks import Died, Progress
from ovseg3d.runs.config import Config
from ovseg3d.runs.ledger import FILE
from ovseg3d.runs.settings import make_config
from ovseg3d.synth import Views, synthesise
from scripts.benchmarks.same_bits import tensors_of
from scripts.start import start

SMALL_FIELD = {"levels": 4, "log2_table": 14, "max_resolution": 256, "samples": 8192, "max_rays": 1024,
               "occupancy_resolution": 64}  # fmt: skip
"""A field for photos of 64 x 48 pixels."""


@dataclass(frozen=True)
class ManyRooms:
    """Train rooms in three ways, and print a markdown table."""

    output: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """Folder for the rooms (made if missing) and the runs (which must not be there yet)."""
    rooms: int = 16
    """Number of rooms."""
    workers: int = 2
    """Number of workers."""
    kills: int = 10
    """Workers to kill."""
    steps: int = 600
    """Training steps for each room."""
    views: int = 12
    """Photos of each room, of 64 x 48 pixels."""
    pause: float = 3.0
    """Longest time from a checkpoint to a kill, in seconds."""
    seed: int = 0
    """Seed of the rooms and of the moments."""

    def main(self) -> int:
        """Returns 1 where bits differ, or files are left behind."""
        rooms = [self._room(number) for number in range(self.rooms)]
        train = {"steps": self.steps, "checkpoint_seconds": 1.0, "device": "cpu"}
        base = make_config("cpu", flags={"train": train, "field": SMALL_FIELD, "scene": {"train_on_all": True}})
        base = replace(base, only="field")
        print("| how | wall s | CPU s | killed | scenes lost | tensors | left behind |\n|" + " --- |" * 7)
        same = True
        for name, executor, kills in (
            ("one process", Processes(1, 1), 0),
            (f"{self.workers} workers", Processes(self.workers, 1), 0),
            (f"{self.workers} workers, killed", Processes(self.workers, 1), self.kills),
        ):
            folder = self.output / name.replace(" ", "-").replace(",", "")
            wall, cpu, killed, lost = self._train(rooms, base, executor, folder, kills)
            alike = all(
                tensors_of(folder / room.name) == tensors_of(self.output / "one-process" / room.name) for room in rooms
            )
            left = [path for path in folder.rglob("*") if ".tmp" in path.name]
            same = same and alike and not left
            verdict = "same" if alike else "DIFFERENT"
            print(
                f"| {name} | {wall:.0f} | {cpu:.0f} | {killed} | {lost} | {verdict} | {len(left)} files |", flush=True
            )
        return int(not same)

    def _room(self, number: int) -> Path:
        folder = self.output / "rooms" / f"room_{number:02d}"
        if not folder.exists():
            synthesise(folder, seed=self.seed + number, views=Views(self.views, 0, 64, 48, "none"))
        return folder

    def _train(
        self, rooms: list[Path], config: Config, executor: Processes, folder: Path, kills: int
    ) -> tuple[float, float, int, int]:
        killed: list[int] = []
        lost: list[Any] = []
        ended, trained = threading.Event(), threading.Event()
        killer = threading.Thread(target=self._kill, args=(executor, kills, ended, trained, killed))
        before, began = _cpu_seconds(), time.monotonic()
        killer.start()
        try:
            reports = self._run(rooms, config, executor, folder, lost, trained)
        finally:
            ended.set()
            killer.join()
        assert all(report.status == "done" for report in reports), reports
        return time.monotonic() - began, _cpu_seconds() - before, len(killed), len(lost)

    def _run(
        self,
        rooms: list[Path],
        config: Config,
        executor: Executor,
        folder: Path,
        lost: list[Any],
        trained: threading.Event,
    ) -> Any:
        def watch(message: Any) -> None:
            if isinstance(message, Died):
                lost.append(message)
            elif isinstance(message, Progress) and message.event.kind == "checkpoint":
                trained.set()

        shutil.rmtree(folder, ignore_errors=True)
        while True:  # a scene may meet more deaths than one call tries; the next call goes on
            reports = train_scenes(rooms, config, executor=executor, output_dir=folder, report=watch)
            if all(report.status == "done" for report in reports) or not (folder / FILE).exists():
                return reports

    def _kill(
        self,
        executor: Processes,
        kills: int,
        ended: threading.Event,
        trained: threading.Event,
        killed: list[int],
    ) -> None:
        """Kill workers at random moments, each time after a checkpoint, so that most of them are training."""
        chance = random.Random(self.seed)
        while len(killed) < kills and not ended.is_set():
            if not trained.wait(0.1) or ended.wait(chance.uniform(0.0, self.pause)):
                continue
            if pids := executor.pids:
                killed.append(chance.choice(pids))
                os.kill(killed[-1], signal.SIGKILL)
                trained.clear()


def _cpu_seconds() -> float:
    """CPU seconds of this process and its ended children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


if __name__ == "__main__":
    start(ManyRooms)
