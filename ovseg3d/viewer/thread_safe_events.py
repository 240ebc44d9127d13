"""Events that wake viser's senders from any thread.

The senders wait for an `asyncio.Event`, which viser 1.1 sets from the thread of a callback. asyncio does not allow
that: sometimes it raises "deque mutated during iteration" while a browser connects, whose panel stays incomplete.
Here the loop's own thread sets the event.
"""

import asyncio
import contextlib
from typing import Any

import viser.infra._infra as infra
from viser.infra._async_message_buffer import AsyncMessageBuffer


class ThreadSafeEvent(asyncio.Event):
    """An event of `loop` that any thread may set; it is set asynchronously, in the loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.loop = loop

    def set(self) -> None:
        """Set the event; ignored once the loop is closed."""
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(super().set)


class ThreadSafeBuffer(AsyncMessageBuffer):
    """viser's messages for a browser, with an event that any thread may set."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.message_event = ThreadSafeEvent(self.event_loop)


def use_thread_safe_events() -> None:
    """Make all viser servers that start from now on use thread-safe events."""
    infra.AsyncMessageBuffer = ThreadSafeBuffer  # type: ignore[misc]
