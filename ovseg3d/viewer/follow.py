"""Follow a run in training: show each new checkpoint, and the progress.

The run's folder is polled, so training may happen in this process (`train --view`) or in another.
"""

import json
import threading
from collections.abc import Callable

from ovseg3d.engine import latest_checkpoint
from ovseg3d.errors import RunError
from ovseg3d.limits import open_regular
from ovseg3d.points.semantic_scene import FILE
from ovseg3d.viewer.shared_scene import SharedScene, file_state

POLL_SECONDS = 1.0
"""Time between two polls."""


class Follower:
    """Watches the run of a shared scene in its own thread, until training ends or `stop` is called.

    Args:
        shared: the scene.
        changed: called with the progress as text at each change; empty when training has ended.
        failed: called with an error, once for repeated equal ones; following continues.
    """

    def __init__(
        self, shared: SharedScene, changed: Callable[[str], None], failed: Callable[[Exception], None]
    ) -> None:
        self._shared, self._changed, self._failed = shared, changed, failed
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="ovseg3d-follower", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread; does not wait for it."""
        self._stop.set()

    def join(self, seconds: float) -> None:
        """Wait for the thread to end."""
        self._thread.join(seconds)

    def _work(self) -> None:
        try:
            self._follow()
        finally:
            self._shared.training = False

    def _follow(self) -> None:
        shown: tuple[object, ...] | None = None
        said, wrong = "", ""
        while True:
            try:
                running = self._shared.need_run().status()["status"] == "running"
                self._shared.training = running
                state, words = _state(self._shared), progress(self._shared) if running else ""
                shown = shown or state  # the shared scene has already read the run
                if state != shown:
                    self._shared.refresh()
                if state != shown or words != said or not running:
                    shown, said = state, words
                    self._changed(words)
                if not running:
                    return
                wrong = ""
            except Exception as error:  # such as a file that is being replaced, or an internal error
                if repr(error) != wrong:
                    self._failed(error)
                wrong = repr(error)
            if self._stop.wait(POLL_SECONDS):
                return


def _state(shared: SharedScene) -> tuple[object, ...]:
    """A value that changes when the run has something new to show."""
    newest = latest_checkpoint(shared.need_run().checkpoints)
    return newest.name if newest else "", file_state(shared.need_run().folder / FILE)


def progress(shared: SharedScene) -> str:
    """Progress of training: step, quality and time, from the last line of metrics.jsonl."""
    try:
        with open_regular(shared.need_run().metrics_log, RunError) as log:
            log.seek(0, 2)
            log.seek(max(0, log.tell() - 4096))
            lines = log.read().splitlines()
        entry = next(json.loads(line) for line in reversed(lines) if line.endswith(b"}"))
        step = int(entry.get("step", 0))
    except (RunError, OSError, ValueError, TypeError, AttributeError, StopIteration, RecursionError):
        return "Training begins."
    words = [f"Training: step {step:,}"]
    if isinstance(entry.get("psnr"), int | float):
        words.append(f"{entry['psnr']:.1f} dB")
    if isinstance(entry.get("seconds"), int | float):
        words.append(f"{entry['seconds']:.0f} s")
    return ", ".join(words)
