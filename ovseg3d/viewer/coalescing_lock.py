"""A lock with a callback that is scheduled many times a second and must wait for nobody.

viser has a few threads for the callbacks of all browsers: whoever waits in them makes every browser wait.
"""

import threading
from collections.abc import Callable


class CoalescingLock:
    """A reentrant lock; `with` takes it. One thread at a time runs the callback, under the lock.

    Args:
        callback: runs after `schedule`, in the thread that has the lock or gets it; once for all requests so far.
    """

    def __init__(self, callback: Callable[[], None]) -> None:
        self._lock, self._callback, self._due = threading.RLock(), callback, False

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        # Whoever scheduled it in the meantime has not waited.
        self._run()

    def schedule(self) -> None:
        """Have the callback run: here if the lock is free, else by its holder."""
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
