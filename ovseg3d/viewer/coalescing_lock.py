"""A lock with a callback that can be scheduled many times a second without blocking.

viser has a few threads for the callbacks of all browsers: a callback that blocks delays every browser.
"""

import threading
from collections.abc import Callable


class CoalescingLock:
    """A reentrant lock; `with` takes it. One thread at a time runs the callback, under the lock.

    Args:
        callback: runs after `schedule`, in the thread that holds or takes the lock; once for all requests so far.
    """

    def __init__(self, callback: Callable[[], None]) -> None:
        self._lock, self._callback, self._due = threading.RLock(), callback, False

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        # Threads that scheduled it meanwhile have not waited.
        self._run()

    def schedule(self) -> None:
        """Run the callback: here if the lock is free, else in its holder's thread."""
        self._due = True
        self._run()

    def _run(self) -> None:
        while self._due and self._lock.acquire(blocking=False):
            try:
                due, self._due = self._due, False
                if due:
                    self._callback()
            finally:
                self._lock.release()
