"""A first-in, first-out lock that can be closed."""

import threading

from ovseg3d.errors import RunError


class FairLock:
    """A lock that is granted in the order of requests, so that no thread starves.

    It is not reentrant. `with` raises RunError once it is closed.
    """

    def __init__(self) -> None:
        self._next, self._serving, self._closed, self._changed = 0, 0, False, threading.Condition()

    def close(self) -> None:
        """Refuse the lock from now on, also to waiting threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def __enter__(self) -> None:
        with self._changed:
            mine, self._next = self._next, self._next + 1
            self._changed.wait_for(lambda: self._closed or self._serving == mine)
            if self._closed:
                raise RunError("The viewer has been closed", fix="ovseg3d view RUN")

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._serving += 1
            self._changed.notify_all()
