"""Threads over fixed pieces of work.

A step is always cut into the same `pieces`, and their results are combined in order. So the number of threads changes
the time but not the bits. Warp and torch release the interpreter lock inside their kernels, so plain threads are
enough. Inside `open()`, torch itself uses one thread per operation, since two levels of threading would compete for
the same cores.
"""

import os
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

CORES_VARIABLE = "OVSEG3D_NUM_THREADS"
"""Environment variable with the most cores that a process may use, for several trainings on one machine."""

_SETTING = threading.Lock()
"""Held while torch's number of threads is being set."""


class Workers:
    """A pool for the pieces of a step.

    Args:
        pieces: number of pieces of a step; 1 on a GPU, where one piece fills the device.
        threads: number of threads; by default one per piece, at most one per core.
    """

    def __init__(self, pieces: int, threads: int | None = None) -> None:
        self.pieces = pieces
        self.threads = min(pieces, threads or available_cores())
        self._pool: ThreadPoolExecutor | None = None

    @classmethod
    def for_device(cls, device: torch.device) -> "Workers":
        # Always two pieces on a CPU, so that results do not depend on its number of cores.
        return cls(pieces=2 if device.type == "cpu" else 1)

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """Apply `work` to every item; results are in order. The first error is raised after all have ended."""
        items = list(items)
        if self.threads == 1 or len(items) < 2:
            return [work(item) for item in items]
        if self._pool is None:
            # torch has a number of threads per calling thread, so it is set in every worker too.
            self._pool = ThreadPoolExecutor(
                self.threads, thread_name_prefix="ovseg3d", initializer=set_own_torch_threads, initargs=(1,)
            )
            # All workers start now: one that starts later would set its number while other threads first use torch.
            started = threading.Barrier(self.threads)
            wait([self._pool.submit(started.wait) for _ in range(self.threads)])
        futures = [self._pool.submit(work, item) for item in items]
        wait(futures)  # their inputs must not change or be freed while one runs
        return [future.result() for future in futures]

    @contextmanager
    def open(self) -> Generator["Workers", None, None]:
        """Use the pool in a `with` block: torch uses one thread per operation, and the pool ends with the block."""
        before = own_torch_threads()
        if self.pieces > 1:
            set_own_torch_threads(1)
        try:
            yield self
        finally:
            if self.pieces > 1:
                set_own_torch_threads(before)
            if self._pool is not None:
                self._pool.shutdown()
                self._pool = None


def own_torch_threads() -> int:
    """How many threads torch's operations use that this thread calls."""
    # A thread's first call of torch takes what threads begin with, which is another while a number is being set.
    with _SETTING:
        return torch.get_num_threads()


def set_own_torch_threads(count: int) -> None:
    """Set that number. Other threads keep theirs, also later ones: `torch.set_num_threads` alone would change what
    these begin with. (A thread whose first use of torch falls between the two calls below begins with `count`.)"""
    own_torch_threads()
    with _SETTING:
        begin = _in_new_thread(torch.get_num_threads)
        torch.set_num_threads(count)
        _in_new_thread(lambda: torch.set_num_threads(begin))


def _in_new_thread(work: Callable[[], Result]) -> Result:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def available_cores() -> int:
    """Number of cores available to this process: those of the system, or fewer if `CORES_VARIABLE` says so."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = os.environ.get(CORES_VARIABLE, "")
    return min(cores, max(int(limit), 1)) if limit.isdecimal() else cores
