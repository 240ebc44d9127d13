"""A visitor's lock, and an errand that comes many times a second and must wait for nobody.

viser has a few threads for the callbacks of all browsers: whoever waits in them makes every visitor wait.
"""

import threading
from collections.abc import Callable


class State:
    """A lock that its holder may take again; `with` takes it. Where nobody does, one thread at a time does the errand.

    Args:
        errand: done under the lock after `soon`, by whoever has the lock or gets it; once for all who asked so far.
    """

    def __init__(self, errand: Callable[[], None]) -> None:
        self._lock, self._errand, self._due = threading.RLock(), errand, False

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        # Whoever asked in the meantime has not waited.
        self._run()

    def soon(self) -> None:
        """Have the errand done: here if the lock is free, else by its holder."""
        self._due = True
        self._run()

    def _run(self) -> None:
        while self._due and self._lock.acquire(blocking=False):
            try:
                due, self._due = self._due, False
                if due:
                    self._errand()
            finally:
                self._lock.release()
