"""Threads over fixed pieces of work.

A step is always cut into the same `pieces`, whoever does them, and their results are combined in order: the
number of threads changes the time and not one bit of the result. Warp and torch release the interpreter lock
inside their kernels, so plain threads are enough. While `open()` lasts, torch itself uses one thread an
operation: two levels of threading would fight for the same cores.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


class Workers:
    """A pool for the pieces of a step.

    Args:
        pieces: into how many pieces a step is cut; 1 on a GPU, where a piece fills the device.
        threads: how many work at once; by default one for each piece, at most one for each core.
    """

    def __init__(self, pieces: int, threads: int | None = None) -> None:
        self.pieces = pieces
        self.threads = min(pieces, threads or available_cores())
        self._pool: ThreadPoolExecutor | None = None

    @classmethod
    def for_device(cls, device: torch.device) -> "Workers":
        # Two pieces are the portable choice: results do not depend on the machine's number of cores.
        return cls(pieces=2 if device.type == "cpu" else 1)

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """`work` on every item; results in the items' order. The first error is raised after all have ended."""
        items = list(items)
        if self.threads == 1 or len(items) < 2:
            return [work(item) for item in items]
        if self._pool is None:
            # torch counts its threads for each calling thread, so every worker is told as well.
            self._pool = ThreadPoolExecutor(
                self.threads, thread_name_prefix="ovseg3d", initializer=torch.set_num_threads, initargs=(1,)
            )
        futures = [self._pool.submit(work, item) for item in items]
        wait(futures)  # what they work on must not change or go while one still runs
        return [future.result() for future in futures]

    @contextmanager
    def open(self) -> Iterator["Workers"]:
        """Use the pool for a while: torch keeps to one thread an operation, and the pool ends with the block."""
        before = torch.get_num_threads()
        if self.pieces > 1:
            torch.set_num_threads(1)
        try:
            yield self
        finally:
            torch.set_num_threads(before)
            if self._pool is not None:
                self._pool.shutdown()
                self._pool = None


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
