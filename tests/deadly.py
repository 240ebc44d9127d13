"""An executor whose workers die."""

import threading
from collections.abc import Callable

from ovseg3d.pipeline import Executor
from ovseg3d.pipeline.tasks import Died, Message, Task, run_task


class Deadly(Executor):
    """Runs tasks in this process; the first `deaths` of them are lost after they have started."""

    def __init__(self, deaths: int) -> None:
        self.deaths, self.tasks = deaths, list[Task]()
        self._now: Task | None = None

    @property
    def free(self) -> int:
        return int(self._now is None)

    @property
    def busy(self) -> bool:
        return self._now is not None

    def submit(self, task: Task) -> None:
        self.tasks.append(task)
        self._now = task

    def poll(self, handle: Callable[[Message], None], stop: threading.Event) -> None:
        task, self._now = self._now, None
        assert task is not None
        if self.deaths > 0:
            self.deaths -= 1
            handle(Died(task.item, "It was lost"))
        else:
            handle(run_task(task, handle, stop))
