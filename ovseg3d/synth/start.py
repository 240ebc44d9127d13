"""Starts Warp quietly, with a kernel cache that can be written to. Import before any Warp kernel is launched."""

import os
import sys
import tempfile
from functools import cache
from pathlib import Path


@cache
def start() -> None:
    """Initialises Warp once. Its native code would complain on stderr where there is no CUDA driver."""
    import warp as wp

    wp.config.log_level = max(wp.config.log_level or 0, wp.LOG_ERROR)
    folder = Path(wp.config.kernel_cache_dir or Path.home() / ".cache" / "warp")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        usable = os.access(folder, os.W_OK)
    except OSError:
        usable = False
    if not usable:
        wp.config.kernel_cache_dir = tempfile.mkdtemp(prefix="ovseg3d-warp-")
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        wp.init()
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
