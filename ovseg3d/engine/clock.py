"""A stopwatch that can be stopped, so that measuring never counts as training."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Seconds since it was made, plus `spent`, less the time spent in `paused()`."""

    def __init__(self, spent: float = 0.0) -> None:
        self._origin = time.monotonic() - spent

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._origin

    def add(self, seconds: float) -> None:
        """Count time spent elsewhere, such as before a run was resumed."""
        self._origin -= seconds

    @contextmanager
    def paused(self) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        finally:
            self._origin += time.monotonic() - start
