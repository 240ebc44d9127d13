"""A stopwatch that can be paused, so that measuring does not count as training."""

import time
from collections.abc import Generator
from contextlib import contextmanager


class Clock:
    """Seconds since construction, plus `spent`, minus the time in `paused()`."""

    def __init__(self, spent: float = 0.0) -> None:
        self._origin = time.monotonic() - spent

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._origin

    def add(self, seconds: float) -> None:
        """Add time spent elsewhere, such as before a run was resumed."""
        self._origin -= seconds

    @contextmanager
    def paused(self) -> Generator[None, None, None]:
        start = time.monotonic()
        try:
            yield
        finally:
            self._origin += time.monotonic() - start
