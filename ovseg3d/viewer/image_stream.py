"""Images for one browser: the newest request wins, coarse while the camera moves, sharper while it stands still.

An `ImageStream` has one thread. A request is drawn at once with few pixels; when no newer one has come for a moment,
again with more, and at last sharp. A newer request ends a sharper image between two strips, never a coarse one, so that
something new is always shown. How many pixels are few follows from how fast the last images were made.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

COARSE_PIXELS = 128.0 * 96.0
"""Pixels of an image while the camera moves, at least."""
MOVING_SECONDS = 0.12
"""What such an image may take."""
MIDDLE_SECONDS = 0.6
"""What an image on the way to the sharp one may take."""
QUIET_SECONDS = 0.2
"""A camera that has not moved for so long stands still."""
STRIP_SECONDS = 0.1
"""About what is drawn between two looks at whether it is still wanted."""

Draw = Callable[[Any, float, Callable[[], bool]], float | None]
"""draw(request, pixels, unwanted) draws and shows an image of about so many pixels, unless `unwanted()`; it returns the
seconds that rendering took, 0 if nothing had to be rendered, None if no image was shown."""


@dataclass
class RenderRate:
    """How fast images are made, pixels a second, of the last few."""

    pixels_per_second: float = 50_000.0

    def learn(self, pixels: float, seconds: float) -> None:
        """Take one image into account."""
        if seconds > 0:
            self.pixels_per_second += 0.3 * (pixels / seconds - self.pixels_per_second)

    def resolutions(self, sharp: float) -> list[float]:
        """Pixels of the images after a change, from coarse to `sharp`."""
        coarse = max(COARSE_PIXELS, self.pixels_per_second * MOVING_SECONDS)
        middle = self.pixels_per_second * MIDDLE_SECONDS
        steps = [pixels for pixels in (coarse, middle) if pixels < 0.5 * sharp]
        if len(steps) == 2 and steps[1] < 2 * steps[0]:
            steps.pop()
        return [*steps, sharp]


class ImageStream:
    """Draws for one browser until it is closed.

    Args:
        draw: see `Draw`. What it raises goes to `failed`, and the stream goes on with the next request.
        failed: called with an error.
        rate: shared by all streams of one field.
        sharp: pixels of a sharp image; may be changed.
    """

    def __init__(self, draw: Draw, failed: Callable[[Exception], None], rate: RenderRate, sharp: float) -> None:
        self._draw, self._failed, self._rate, self.sharp = draw, failed, rate, sharp
        self._request: Any = None
        self._number = 0
        self._requested = 0.0
        self._closed = False
        self._idle = True
        self._changed = threading.Condition()
        self.drawn = 0
        """Images shown so far."""
        self._thread = threading.Thread(target=self._work, name="ovseg3d-images", daemon=True)
        self._thread.start()

    @property
    def closed(self) -> bool:
        return self._closed

    def request(self, request: Any) -> None:
        """Draw this instead of whatever was wanted before."""
        with self._changed:
            self._request, self._number, self._requested = request, self._number + 1, time.monotonic()
            self._idle = False
            self._changed.notify_all()

    def close(self) -> None:
        """End; does not wait for an image that is being drawn."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def join(self, seconds: float) -> None:
        """Wait for the thread to end after `close`: a program must not end while something is being rendered."""
        self._thread.join(seconds)

    def wait_idle(self, seconds: float) -> bool:
        """Wait until the last request is drawn sharp; False when it takes longer than this."""
        with self._changed:
            return self._changed.wait_for(lambda: self._idle or self._closed, seconds)

    def _work(self) -> None:
        number, left = 0, []
        while True:
            with self._changed:
                if not left and number == self._number:
                    self._idle = True
                    self._changed.notify_all()
                self._changed.wait_for(lambda: self._closed or left or number != self._number)  # noqa: B023
                if self._closed:
                    return
                fresh = number != self._number
                number, request, requested = self._number, self._request, self._requested
            if fresh:
                left = self._rate.resolutions(self.sharp)
            elif self._moved_within(number, requested + QUIET_SECONDS - time.monotonic()):
                continue
            pixels = left.pop(0)

            def unwanted(number: int = number, fresh: bool = fresh) -> bool:
                return self._closed or (not fresh and number != self._number)

            try:
                seconds = self._draw(request, pixels, unwanted)
                if seconds is not None:
                    self._rate.learn(pixels, seconds)
                    self.drawn += 1
            except Exception as error:  # whatever it was, the next request may go well
                left = []
                if not self._closed:
                    self._failed(error)

    def _moved_within(self, number: int, seconds: float) -> bool:
        """Wait for a newer request, or the end."""
        with self._changed:
            return self._changed.wait_for(lambda: self._closed or number != self._number, max(seconds, 0.0))
