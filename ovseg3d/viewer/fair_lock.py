"""A lock that nobody waits for without end, and that can be closed."""

import threading

from ovseg3d.errors import RunError


class FairLock:
    """A lock that is handed on in the order in which it was asked for, so that nobody waits for ever.

    Its holder must not take it again. `with` raises RunError once it is closed.
    """

    def __init__(self) -> None:
        self._next, self._serving, self._closed, self._changed = 0, 0, False, threading.Condition()

    def close(self) -> None:
        """Nobody gets it any more: not who waits for it now, nor who comes later."""
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
