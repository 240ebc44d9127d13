"""Early end between two pieces of work, as for Ctrl-C."""

import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def until_stopped(pieces: Iterable[T], stop: threading.Event | None) -> Iterator[T]:
    """Yield the pieces. Once `stop` is set, KeyboardInterrupt is raised before the next piece or after the last."""
    for piece in pieces:
        _check(stop)
        yield piece
    _check(stop)


def _check(stop: threading.Event | None) -> None:
    if stop is not None and stop.is_set():
        raise KeyboardInterrupt
