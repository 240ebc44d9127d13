"""Following a run that is being trained: each new checkpoint is shown, and how far it is.

What is followed is the run's folder, so that it does not matter who trains: this process (`train --view`) or another.
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
"""Between two looks."""


class Follower:
    """Watches the run of a shared scene in a thread of its own, until it is trained or `stop` is called.

    Args:
        changed: called with how far training is, in words, when something new is there; empty when it has ended.
        failed: called with what went wrong, once for as long as it is the same; following goes on.
    """

    def __init__(
        self, shared: SharedScene, changed: Callable[[str], None], failed: Callable[[Exception], None]
    ) -> None:
        self._shared, self._changed, self._failed = shared, changed, failed
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="ovseg3d-follower", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End; does not wait."""
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
                shown = shown or state  # the shared scene has read the run already
                if state != shown:
                    self._shared.refresh()
                if state != shown or words != said or not running:
                    shown, said = state, words
                    self._changed(words)
                if not running:
                    return
                wrong = ""
            except Exception as error:  # a file that is just being replaced, say, or a mistake of ours
                if repr(error) != wrong:
                    self._failed(error)
                wrong = repr(error)
            if self._stop.wait(POLL_SECONDS):
                return


def _state(shared: SharedScene) -> tuple[object, ...]:
    """What changes when there is something new to be shown."""
    newest = latest_checkpoint(shared.need_run().checkpoints)
    return newest.name if newest else "", file_state(shared.need_run().folder / FILE)


def progress(shared: SharedScene) -> str:
    """How far training is: step, quality and time, as metrics.jsonl says last."""
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
