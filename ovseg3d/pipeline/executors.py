"""Where tasks are done: in this process one after another, in processes of this machine, or by Ray (`on_ray`).

An executor takes tasks while it has `free` places, and hands on the messages of its workers. It knows neither the list
nor the ledger, and repeats nothing: `batch` does, once for all executors.
"""

import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import connection, get_context
from multiprocessing.context import SpawnProcess
from queue import SimpleQueue
from types import TracebackType
from typing import Any

from ovseg3d.pipeline.tasks import Died, Ended, Message, Send, Task, limit_threads, run_task

POLL_SECONDS = 0.2
"""How long an executor waits for a message, and so how late a stop is noticed."""
_END_SECONDS = 10.0
"""Time for an idle worker to end, before it is killed."""


class Executor(ABC):
    """Something that does tasks; used in a `with` block, which ends its workers."""

    @property
    @abstractmethod
    def free(self) -> int:
        """Number of tasks that may be submitted now."""

    @property
    @abstractmethod
    def busy(self) -> bool:
        """Whether a task has not ended."""

    @abstractmethod
    def submit(self, task: Task) -> None:
        """Start a task."""

    @abstractmethod
    def poll(self, handle: Callable[[Message], None], stop: threading.Event) -> None:
        """Wait a moment, and hand on the messages that came. The last one of a task is `Ended` or `Died`.

        Once `stop` is set, all tasks end after their current step, with a checkpoint.
        """

    def __enter__(self) -> "Executor":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the workers; at once after an error."""
        return None


class Sequential(Executor):
    """One task after another, in this process."""

    def __init__(self) -> None:
        self._task: Task | None = None

    @property
    def free(self) -> int:
        return int(self._task is None)

    @property
    def busy(self) -> bool:
        return self._task is not None

    def submit(self, task: Task) -> None:
        self._task = task

    def poll(self, handle: Callable[[Message], None], stop: threading.Event) -> None:
        if (task := self._task) is not None:
            try:
                handle(run_task(task, handle, stop))
            finally:
                self._task = None


@dataclass
class _Worker:
    process: SpawnProcess
    pipe: "connection.Connection[Any, Any]"
    task: Task | None = None


class Processes(Executor):
    """Processes of this machine. Each does one task after another, so that it is started and warmed up once.

    Args:
        workers: number of processes.
        threads: threads of each; by default the cores divided by `workers`.
    """

    def __init__(self, workers: int, threads: int | None = None) -> None:
        if workers < 1 or threads is not None and threads < 1:
            raise ValueError("workers and threads must be at least 1")
        self._count, self._threads = workers, threads
        self._workers: list[_Worker] = []
        self._stopping = False

    @property
    def free(self) -> int:
        return self._count - sum(worker.task is not None for worker in self._workers)

    @property
    def busy(self) -> bool:
        return any(worker.task is not None for worker in self._workers)

    @property
    def pids(self) -> list[int]:
        """Ids of the processes that are at work."""
        return [worker.process.pid for worker in self._workers if worker.task and worker.process.pid]

    def submit(self, task: Task) -> None:
        worker = next((worker for worker in self._workers if worker.task is None), None) or self._start()
        worker.task = task
        try:
            worker.pipe.send(task)
        except OSError:
            pass  # it died while idle, which `poll` sees

    def _start(self) -> _Worker:
        from ovseg3d.engine.workers import available_cores

        # A pipe for each worker: a queue shared by all would stay locked after a worker is killed while it writes.
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        threads = self._threads or max(1, available_cores() // self._count)
        process = context.Process(target=_serve, args=(theirs, threads), name="ovseg3d-worker", daemon=True)
        process.start()
        theirs.close()
        worker = _Worker(process, ours)
        self._workers.append(worker)
        return worker

    def poll(self, handle: Callable[[Message], None], stop: threading.Event) -> None:
        if stop.is_set() and not self._stopping:
            self._stopping = True
            for worker in self._workers:
                _say(worker, "stop")
        by_pipe = {worker.pipe: worker for worker in self._workers}
        for pipe in connection.wait(list(by_pipe), POLL_SECONDS):
            worker = by_pipe[pipe]  # type: ignore[index]
            try:
                message = worker.pipe.recv()
            except (EOFError, OSError):
                self._workers.remove(worker)
                worker.pipe.close()
                worker.process.join()
                if worker.task is not None:
                    handle(Died(worker.task.item, _describe(worker.process.exitcode)))
                continue
            if isinstance(message, Ended):
                worker.task = None
            handle(message)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for worker in self._workers:
            _say(worker, None)
        for worker in self._workers:
            worker.process.join(_END_SECONDS if kind is None else 0.0)
            worker.process.kill()
            worker.process.join()
            worker.pipe.close()
        self._workers.clear()


def _say(worker: _Worker, what: object) -> None:
    try:
        worker.pipe.send(what)
    except OSError:
        pass  # it has ended


def _describe(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        name = signal.Signals(-exit_code).name if -exit_code in list(signal.Signals) else str(-exit_code)
        hint = ", as by the system when memory is short" if name == "SIGKILL" else ""
        return f"The worker was killed by {name}{hint}"
    return f"The worker ended with exit code {exit_code}"


def _serve(pipe: "connection.Connection[Any, Any]", threads: int) -> None:
    """A worker: do what comes through the pipe until None comes, or until the other side is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; `stop` is said instead
    limit_threads(threads)
    stop = threading.Event()
    tasks: SimpleQueue[Task | None] = SimpleQueue()

    def listen() -> None:
        while True:
            try:
                heard = pipe.recv()
            except (EOFError, OSError):
                heard = None
                stop.set()
            if heard == "stop":
                stop.set()
                continue
            tasks.put(heard)
            if heard is None:
                return

    threading.Thread(target=listen, name="listen", daemon=True).start()
    send: Send = lambda message: _send(pipe, message)  # noqa: E731
    while (task := tasks.get()) is not None:
        _send(pipe, run_task(task, send, stop))


def _send(pipe: "connection.Connection[Any, Any]", message: Message) -> None:
    try:
        pipe.send(message)
    except OSError:
        pass  # nobody listens any more; `listen` lets the work end
