"""Starts Warp once for all parts: quietly, and with a cache of compiled kernels that can be written to.

Call `start_warp` before the first kernel is launched. Nothing else is set for the whole process: whether a module of
kernels has adjoint code (`enable_backward`) is an option of that module.
"""

import os
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from pathlib import Path


@cache
def start_warp() -> None:
    """Initialise Warp without a word on stdout or stderr; where the home is not writable, kernels are cached in a
    temporary folder, private to this process."""
    import warp as wp

    wp.config.log_level = max(wp.config.log_level or 0, wp.LOG_ERROR)
    folder = Path(wp.config.kernel_cache_dir or Path.home() / ".cache" / "warp")
    if not _writable(folder):
        wp.config.kernel_cache_dir = tempfile.mkdtemp(prefix="ovseg3d-warp-")
    with _silent_stderr():
        wp.init()


@contextmanager
def _silent_stderr() -> Generator[None, None, None]:
    """Warp's native code writes to stderr that there is no CUDA driver; `ovseg3d doctor` says so in its place."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)
