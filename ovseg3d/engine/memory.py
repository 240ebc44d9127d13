"""Peak memory of this process, in bytes of anonymous memory (not backed by a file).

Memory that maps a file (photos, libraries) can be reclaimed by the system at any time, and is not counted on Linux.
Other systems do not report it separately; there it is the whole resident memory.
"""

import threading
from pathlib import Path
from types import TracebackType

_STATUS = Path("/proc/self/status")


def anonymous_bytes() -> int:
    """Current anonymous resident memory in bytes."""
    try:
        for line in _STATUS.read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return _peak_resident()


def _peak_resident() -> int:
    try:
        import resource
        import sys
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class PeakMemory:
    """Samples `anonymous_bytes` from a thread, ten times per second, while the `with` block runs."""

    def __init__(self, interval: float = 0.1) -> None:
        self.peak = anonymous_bytes()
        self._interval, self._end = interval, threading.Event()
        self._thread = threading.Thread(target=self._watch, name="peak-memory", daemon=True)

    def _watch(self) -> None:
        while not self._end.wait(self._interval):
            self.peak = max(self.peak, anonymous_bytes())

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()
        self.peak = max(self.peak, anonymous_bytes())
