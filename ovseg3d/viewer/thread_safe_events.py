"""Events that wake viser's senders from any thread.

The senders sleep on an `asyncio.Event`, which viser 1.1 sets from whatever thread a callback runs in. asyncio does not
allow that: now and then it ends with "deque mutated during iteration", in the middle of greeting a browser, which then
has half a panel for good. Here the loop's own thread sets the event, whoever asked.
"""

import asyncio
import contextlib
from typing import Any

import viser.infra._infra as infra
from viser.infra._async_message_buffer import AsyncMessageBuffer


class ThreadSafeEvent(asyncio.Event):
    """An event of `loop` that any thread may set. It is set soon after, in the loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.loop = loop

    def set(self) -> None:
        """Wake who waits; nobody does once the loop is closed."""
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(super().set)


class ThreadSafeBuffer(AsyncMessageBuffer):
    """viser's messages for a browser, with an event that any thread may set."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.message_event = ThreadSafeEvent(self.event_loop)


def use_thread_safe_events() -> None:
    """Every server of viser's that starts from now on uses them."""
    infra.AsyncMessageBuffer = ThreadSafeBuffer  # type: ignore[misc]
