"""Ending early between two pieces of work, as Ctrl-C asks for, with nothing half done."""

import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def until_stopped(pieces: Iterable[T], stop: threading.Event | None) -> Iterator[T]:
    """The pieces of work one by one; KeyboardInterrupt before the next, or after the last, once `stop` is set."""
    for piece in pieces:
        _check(stop)
        yield piece
    _check(stop)


def _check(stop: threading.Event | None) -> None:
    if stop is not None and stop.is_set():
        raise KeyboardInterrupt
