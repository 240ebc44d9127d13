"""What wakes viser's senders. They sleep on an `asyncio.Event`, which viser 1.1 sets from whatever thread a callback
runs in. asyncio does not allow that: now and then it ends with "deque mutated during iteration", in the middle of
greeting a browser, which then has half a panel for good. Here the loop's own thread does it, whoever asked.
"""

import asyncio
import contextlib
from typing import Any

import viser.infra._infra as infra
from viser.infra._async_message_buffer import AsyncMessageBuffer


class Bell(asyncio.Event):
    """An event of `loop` that any thread may set. It is set soon after, in the loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.loop = loop

    def set(self) -> None:
        """Wake who waits; nobody does once the loop is closed."""
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(super().set)


class Buffer(AsyncMessageBuffer):
    """viser's messages for a browser, with a bell that any thread may ring."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.message_event = Bell(self.event_loop)


def hang_bells() -> None:
    """Every server of viser's that starts from now on has them."""
    infra.AsyncMessageBuffer = Buffer  # type: ignore[misc]
