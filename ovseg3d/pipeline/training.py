"""The training of one of many scenes, as work of a task.

A run that is there is continued from its checkpoint, and a finished one is left as it is.
"""

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ovseg3d.limits import NO_TRUST, Trust
from ovseg3d.pipeline.tasks import Ended, Progress, Send, Started, Task

if TYPE_CHECKING:
    from ovseg3d.runs.config import Config
    from ovseg3d.runs.folder import RunFolder

LOCK_SECONDS = 120.0
"""How long a repeated scene waits for the lock of its lost worker; NFS keeps the locks of a lost machine for 90 s."""


@dataclass(frozen=True, slots=True)
class Training:
    """Trains the scene of a task: its item is the capture, its folder the run folder (by default a new one)."""

    config: "Config"
    trust: Trust = NO_TRUST

    def __call__(self, task: Task, send: Send, stop: threading.Event) -> Ended:
        """Train, or go on. Raises what is wrong with the scene."""
        from ovseg3d.engine import latest_checkpoint
        from ovseg3d.pipeline.seeds import check_alike
        from ovseg3d.pipeline.train import train_scene
        from ovseg3d.runs.folder import open_run, open_scene
        from ovseg3d.runs.lock import is_locked

        def on_start(run: "RunFolder") -> None:
            send(Started(task.item, run.folder, task.attempt))

        if task.folder is not None and task.attempt > 1:
            end = time.monotonic() + LOCK_SECONDS
            while is_locked(task.folder) and time.monotonic() < end and not stop.wait(0.5):
                pass
        scene, earlier = open_scene(task.item, self.config, self.trust), None
        if task.folder is not None and (task.folder / "config.json").is_file():
            run = open_run(task.folder, self.trust)
            done = run.status()["status"] == "done"
            if done or latest_checkpoint(run.checkpoints) is not None:  # else the folder is used again
                check_alike(run, scene, self.config)
                if done and run.config.only == self.config.only:
                    return Ended(task.item, "done", run.folder)
                earlier = run
        run = train_scene(
            scene,
            self.config,
            output_dir=task.folder if earlier is None else None,
            resume=earlier,
            report=lambda event: send(Progress(task.item, event)),
            stop=stop,
            on_start=on_start,
            trust=self.trust,
        )
        return Ended(task.item, run.status()["status"], run.folder)
