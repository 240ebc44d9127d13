"""Messages of any thread reach a browser, and a closed event loop raises no error."""

import asyncio

from viser._messages import ResetGuiMessage
from viser.infra._async_message_buffer import AsyncMessageBuffer

from ovseg3d.viewer.thread_safe_events import ThreadSafeBuffer, ThreadSafeEvent


def messages_from_a_thread(kind: type[AsyncMessageBuffer], number: int) -> list:
    """What the sender gets of messages that another thread pushes while it sleeps, in a loop that minds threads."""

    async def main() -> list:
        buffer = kind(asyncio.get_running_loop(), persistent_messages=False)
        windows, got = buffer.window_generator(0), []
        for _ in range(number):
            window = asyncio.ensure_future(anext(windows))
            await asyncio.sleep(0.03)  # now it sleeps
            await asyncio.to_thread(buffer.push, ResetGuiMessage())
            got += await asyncio.wait_for(window, 10)
        await windows.aclose()
        return got

    loop = asyncio.new_event_loop()  # asyncio.run would wait at the end for a sender that nothing can wake
    loop.set_debug(True)
    try:
        return loop.run_until_complete(main())
    finally:
        loop.close()


def test_a_message_from_another_thread_wakes_the_sender() -> None:
    assert len(messages_from_a_thread(ThreadSafeBuffer, 5)) == 5


def test_the_viewer_gives_its_browsers_such_buffers(connect) -> None:
    bare, session = connect()
    buffers = [
        session.context.client._websock_connection.get_message_buffer(),
        session.context.client._viser_server._websock_server,
    ]
    assert isinstance(buffers[0], ThreadSafeBuffer) and isinstance(buffers[1].get_message_buffer(), ThreadSafeBuffer)


def test_nobody_waits_in_a_loop_that_ended() -> None:
    loop = asyncio.new_event_loop()
    bell = ThreadSafeEvent(loop)
    loop.close()
    bell.set()
    assert not bell.is_set()
