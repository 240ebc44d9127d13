"""Pictures for one browser: the newest wish wins, coarse while the camera moves, sharper while it stands still.

A `Stream` has one thread. A wish is drawn at once with few pixels; when no newer one has come for a moment, again with
more, and at last sharp. A newer wish ends a sharper picture between two strips, never a coarse one, so that something
new is always shown. How many pixels are few follows from how fast the last pictures were made.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ovseg3d.errors import RunError

COARSE = 128.0 * 96.0
"""Pixels of a picture while the camera moves, at least."""
MOVING_SECONDS = 0.12
"""What such a picture may take."""
MIDDLE_SECONDS = 0.6
"""What a picture on the way to the sharp one may take."""
QUIET_SECONDS = 0.2
"""A camera that has not moved for so long stands still."""
STRIP_SECONDS = 0.1
"""About what is drawn between two looks at whether it is still wanted."""

Draw = Callable[[Any, float, Callable[[], bool]], float | None]
"""draw(wish, pixels, unwanted) draws and shows a picture of about so many pixels, unless `unwanted()`; it returns the
seconds that rendering took, 0 if nothing had to be rendered, None if no picture was shown."""


@dataclass
class Pace:
    """How fast pictures are made, pixels a second, of the last few."""

    pixels_per_second: float = 50_000.0

    def learn(self, pixels: float, seconds: float) -> None:
        """Take one picture into account."""
        if seconds > 0:
            self.pixels_per_second += 0.3 * (pixels / seconds - self.pixels_per_second)

    def ladder(self, sharp: float) -> list[float]:
        """Pixels of the pictures after a change, from coarse to `sharp`."""
        coarse = max(COARSE, self.pixels_per_second * MOVING_SECONDS)
        middle = self.pixels_per_second * MIDDLE_SECONDS
        steps = [pixels for pixels in (coarse, middle) if pixels < 0.5 * sharp]
        if len(steps) == 2 and steps[1] < 2 * steps[0]:
            steps.pop()
        return [*steps, sharp]


class Stream:
    """Draws for one browser until it is closed.

    Args:
        draw: see `Draw`. What it raises goes to `failed`, and the stream goes on with the next wish.
        failed: told of an error.
        pace: shared by all streams of one field.
        sharp: pixels of a sharp picture; may be changed.
    """

    def __init__(self, draw: Draw, failed: Callable[[Exception], None], pace: Pace, sharp: float) -> None:
        self._draw, self._failed, self._pace, self.sharp = draw, failed, pace, sharp
        self._wish: Any = None
        self._number = 0
        self._wished = 0.0
        self._closed = False
        self._idle = True
        self._news = threading.Condition()
        self.drawn = 0
        """Pictures shown so far."""
        self._thread = threading.Thread(target=self._work, name="ovseg3d-stream", daemon=True)
        self._thread.start()

    @property
    def closed(self) -> bool:
        return self._closed

    def want(self, wish: Any) -> None:
        """Draw this instead of whatever was wanted before."""
        with self._news:
            self._wish, self._number, self._wished = wish, self._number + 1, time.monotonic()
            self._idle = False
            self._news.notify_all()

    def close(self) -> None:
        """End; does not wait for a picture that is being drawn."""
        with self._news:
            self._closed = True
            self._news.notify_all()

    def join(self, seconds: float) -> None:
        """Wait for the thread to end after `close`: a program must not end while something is being rendered."""
        self._thread.join(seconds)

    def wait_idle(self, seconds: float) -> bool:
        """Wait until the last wish is drawn sharp; False when it takes longer than this."""
        with self._news:
            return self._news.wait_for(lambda: self._idle or self._closed, seconds)

    def _work(self) -> None:
        number, left = 0, []
        while True:
            with self._news:
                if not left and number == self._number:
                    self._idle = True
                    self._news.notify_all()
                self._news.wait_for(lambda: self._closed or left or number != self._number)  # noqa: B023
                if self._closed:
                    return
                fresh = number != self._number
                number, wish, wished = self._number, self._wish, self._wished
            if fresh:
                left = self._pace.ladder(self.sharp)
            elif self._moved_within(number, wished + QUIET_SECONDS - time.monotonic()):
                continue
            pixels = left.pop(0)

            def unwanted(number: int = number, fresh: bool = fresh) -> bool:
                return self._closed or (not fresh and number != self._number)

            try:
                seconds = self._draw(wish, pixels, unwanted)
                if seconds is not None:
                    self._pace.learn(pixels, seconds)
                    self.drawn += 1
            except Exception as error:  # whatever it was, the next wish may go well
                left = []
                if not self._closed:
                    self._failed(error)

    def _moved_within(self, number: int, seconds: float) -> bool:
        """Wait for a newer wish, or the end."""
        with self._news:
            return self._news.wait_for(lambda: self._closed or number != self._number, max(seconds, 0.0))


class Turns:
    """A lock that is handed on in the order in which it was asked for, so that nobody waits for ever.

    Its holder must not take it again. `with` raises RunError once it is closed.
    """

    def __init__(self) -> None:
        self._next, self._serving, self._closed, self._news = 0, 0, False, threading.Condition()

    def close(self) -> None:
        """Nobody gets it any more: not who waits for it now, nor who comes later."""
        with self._news:
            self._closed = True
            self._news.notify_all()

    def __enter__(self) -> None:
        with self._news:
            mine, self._next = self._next, self._next + 1
            self._news.wait_for(lambda: self._closed or self._serving == mine)
            if self._closed:
                raise RunError("The viewer has been closed", fix="ovseg3d view RUN")

    def __exit__(self, *_: object) -> None:
        with self._news:
            self._serving += 1
            self._news.notify_all()
