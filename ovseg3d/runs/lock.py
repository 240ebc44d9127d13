"""The lock on a run folder: no two processes train one run, and a killed process is told from a running one."""

import os
import time
from pathlib import Path

from ovseg3d.errors import RunError
from ovseg3d.files import output_error, sweep
from ovseg3d.limits import open_regular

LOCK_SECONDS = 1.0
"""How long training waits for the lock; readers of the status hold it for a moment."""


class RunLock:
    """Lock held while a process trains a run. The system releases it when the process ends, in whatever way."""

    def __init__(self, folder: Path) -> None:
        self._path, self._file = folder / ".lock", None

    def __enter__(self) -> "RunLock":
        try:
            import fcntl
        except ImportError:  # Windows has no lock; users must avoid two processes on one run
            return self
        try:
            # Links and pipes are refused; nothing is written.
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            self._file = os.fdopen(os.open(self._path, flags, 0o666), "rb", buffering=0)
        except OSError as error:
            raise output_error(error, self._path) from error
        end = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < end:
                    time.sleep(0.02)
                    continue
                self._file.close()
                raise RunError(
                    "Another process is training this run",
                    where=self._path.parent,
                    fix="wait for it, or stop it, then --resume",
                ) from None
            except OSError:
                return self  # a file system without locks
            for part in ("", "checkpoints", "previews"):
                sweep(self._path.parent / part, 0.0)  # no other process writes there
            return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()


def is_locked(folder: Path) -> bool:
    """Whether a process is training the run in `folder`.

    The check takes a shared lock, so that concurrent checks do not see each other, and needs no write permission.
    """
    try:
        import fcntl

        with open_regular(folder / ".lock", RunError) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (ImportError, OSError, RunError):  # no lock support or no lock file: nobody trains
        return False
    return False
