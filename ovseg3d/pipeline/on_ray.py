"""Tasks on a Ray cluster. Ray is optional, and imported when an `OnRay` is entered.

Ray places the tasks, gives them CPUs and GPUs, and notices workers and machines that are lost. It repeats nothing:
`batch` does. Messages travel through one small actor on the machine of the caller; its answer to a worker says whether
to stop.
"""

import socket
import threading
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from ovseg3d.errors import ConfigError
from ovseg3d.pipeline.executors import POLL_SECONDS, Executor
from ovseg3d.pipeline.tasks import Died, Ended, Message, Task, limit_threads, run_task

GPUS_PER_SCENE = 0.25
"""Share of a GPU for a scene, where the cluster has GPUs and the settings do not forbid them."""

CONNECT_SECONDS = 10.0
"""Time for a cluster to answer."""


class OnRay(Executor):
    """Do tasks on a Ray cluster. All machines must have this version of ovseg3d, and see the same paths.

    Args:
        address: of the cluster, such as "auto", "HOST:6379" or "ray://HOST:10001"; by default the one that is running
            here, or else a new one on this machine alone.
        workers: most scenes at a time; by default as many as the cluster has room for.
        cpus_per_scene: CPUs that a scene reserves, and (rounded down, at least 1) its threads.
        gpus_per_scene: GPUs that a scene reserves; by default `GPUS_PER_SCENE` if the cluster has any, else 0.
    """

    def __init__(
        self,
        address: str | None = None,
        workers: int | None = None,
        cpus_per_scene: int | float = 1,
        gpus_per_scene: int | float | None = None,
    ) -> None:
        self._address, self._workers = address, workers
        self._cpus, self._gpus = cpus_per_scene, gpus_per_scene
        self._running: dict[Any, Task] = {}
        self._ray: Any = None
        self._stopping = False

    def __enter__(self) -> "OnRay":
        """Connect. Raises ConfigError: Ray is missing, the cluster cannot be reached, or has no room for a scene."""
        if find_spec("ray") is None:
            raise ConfigError("Ray is not installed", fix='pip install "ovseg3d[ray]" (or: pip install ray)')
        ray: Any = import_module("ray")
        strategies: Any = import_module("ray.util.scheduling_strategies")
        self._ray, self._own = ray, not ray.is_initialized()
        if self._own:
            try:
                _check_reachable(self._address)
                ray.init(address=self._address, log_to_driver=False, logging_level="ERROR")
            except (ConnectionError, ValueError, RuntimeError, TimeoutError, OSError) as error:
                raise ConfigError(
                    f"The Ray cluster cannot be reached: {str(error).splitlines()[0] if str(error) else error!r}",
                    where=self._address,
                    fix="start one with `ray start --head`, or use --on ray for a new one on this machine",
                ) from error
        if self._gpus is None:
            self._gpus = GPUS_PER_SCENE if ray.cluster_resources().get("GPU", 0) >= GPUS_PER_SCENE else 0.0
        if self._room() < 1:
            self.__exit__()
            raise ConfigError(
                f"The Ray cluster has no room for a scene with {self._cpus:g} CPUs and {self._gpus:g} GPUs",
                where=self._address,
                fix="lower --cpus-per-scene or --gpus-per-scene, or add machines",
            )
        here = strategies.NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._mailbox = ray.remote(num_cpus=0)(_Mailbox).options(scheduling_strategy=here).remote()
        self._work = ray.remote(num_cpus=self._cpus, num_gpus=self._gpus, max_retries=0)(_work)
        return self

    def __exit__(self, *_: object) -> None:
        if self._own:
            self._ray.shutdown()
            return
        for reference in self._running:  # after an error or a second Ctrl-C
            self._ray.cancel(reference, force=True)
        if self._running or hasattr(self, "_mailbox"):
            self._ray.kill(self._mailbox)

    def _room(self) -> int:
        """Number of scenes that fit into the cluster."""
        found = self._ray.cluster_resources()
        asked = (("CPU", self._cpus), ("GPU", self._gpus or 0.0))
        return min((int(found.get(name, 0.0) / count + 1e-6) for name, count in asked if count > 0), default=1)

    @property
    def free(self) -> int:
        room = self._room()
        return (room if self._workers is None else min(room, self._workers)) - len(self._running)

    @property
    def busy(self) -> bool:
        return bool(self._running)

    def submit(self, task: Task) -> None:
        self._running[self._work.remote(task, self._mailbox, max(1, int(self._cpus)))] = task

    def poll(self, handle: Callable[[Message], None], stop: threading.Event) -> None:
        ray = self._ray
        if stop.is_set() and not self._stopping:
            self._stopping = True
            ray.get(self._mailbox.stop.remote())
        ended, _ = ray.wait(list(self._running), num_returns=1, timeout=POLL_SECONDS)
        # A task ends after its messages have arrived, so they are taken after the wait.
        for message in ray.get(self._mailbox.take.remote()):
            handle(message)
        for reference in ended:
            task = self._running.pop(reference)
            handle(self._outcome(reference, task))

    def _outcome(self, reference: Any, task: Task) -> Message:
        errors: Any = import_module("ray.exceptions")
        try:
            return self._ray.get(reference)
        except errors.RayTaskError as error:  # such as another version of ovseg3d there
            return Ended(task.item, "failed", task.folder, RuntimeError(str(error)))
        except errors.RayError as error:
            return Died(task.item, f"The worker was lost: {' '.join(str(error).split())[:300] or type(error).__name__}")


def _check_reachable(address: str | None) -> None:
    """Raises OSError: nothing listens at HOST:PORT. Ray itself would try for ten minutes."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()


class _Mailbox:
    """An actor that keeps messages of workers until they are taken."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._stopping = False

    def put(self, message: Message) -> bool:
        """Keep a message; returns whether the worker is to stop."""
        self._messages.append(message)
        return self._stopping

    def take(self) -> list[Message]:
        """The messages since the last call."""
        messages, self._messages = self._messages, []
        return messages

    def stop(self) -> None:
        """Tell every worker to stop."""
        self._stopping = True


def _work(task: Task, mailbox: Any, threads: int) -> Ended:
    """Do a task in a worker of Ray."""
    limit_threads(threads)
    ray: Any = import_module("ray")
    stop = threading.Event()

    def send(message: Message) -> None:
        if ray.get(mailbox.put.remote(message)):
            stop.set()

    return run_task(task, send, stop)
