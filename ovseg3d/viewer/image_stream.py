"""Images for one browser: the newest request wins, coarse while the camera moves, sharper while it stands still.

An `ImageStream` has one thread. A request is drawn at once with few pixels; if no newer one follows, again with more,
and finally sharp. A newer request ends a sharper image between two strips, but never a coarse one, so that every image
shown is recent. The coarse resolution follows from the speed of the last images.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

COARSE_PIXELS = 128.0 * 96.0
"""Fewest pixels of an image while the camera moves."""
MOVING_SECONDS = 0.12
"""Time of such an image."""
MIDDLE_SECONDS = 0.6
"""Time of an intermediate image."""
QUIET_SECONDS = 0.2
"""A camera that has not moved for this time stands still."""
STRIP_SECONDS = 0.1
"""Approximate time of a strip; cancellation is checked between strips."""

Draw = Callable[[Any, float, Callable[[], bool]], float | None]
"""draw(request, pixels, unwanted) draws and shows an image of about so many pixels, unless `unwanted()`. It returns the
seconds of rendering, 0 if nothing had to be rendered, None if no image was shown."""


@dataclass
class RenderRate:
    """Rendering speed in pixels per second, averaged over the last images."""

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
        draw: see `Draw`. Its errors are passed to `failed`, and the stream continues with the next request.
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
        """Draw this request instead of any earlier one."""
        with self._changed:
            self._request, self._number, self._requested = request, self._number + 1, time.monotonic()
            self._idle = False
            self._changed.notify_all()

    def close(self) -> None:
        """Stop; does not wait for the current image."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def join(self, seconds: float) -> None:
        """After `close`: wait for the thread, since the program must not exit during rendering."""
        self._thread.join(seconds)

    def wait_idle(self, seconds: float) -> bool:
        """Wait until the last request is drawn sharp; False after `seconds`."""
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
            except Exception as error:  # the next request may succeed
                left = []
                if not self._closed:
                    self._failed(error)

    def _moved_within(self, number: int, seconds: float) -> bool:
        """Wait for a newer request, or the end."""
        with self._changed:
            return self._changed.wait_for(lambda: self._closed or number != self._number, max(seconds, 0.0))
