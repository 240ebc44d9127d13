"""Peak memory: allocations that were freed again count."""

import mmap
import sys
import time

import numpy as np
import pytest

from ovseg3d.engine.memory import PeakMemory, anonymous_bytes


def test_memory_is_some() -> None:
    assert anonymous_bytes() > 1_000_000


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system knows resident memory only")
def test_a_peak_is_seen() -> None:
    before = anonymous_bytes()
    with PeakMemory(interval=0.01) as memory:
        # Allocated by the system: the heap may have enough memory freed by earlier tests.
        block = mmap.mmap(-1, 64 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        np.frombuffer(block, dtype=np.uint8)[:] = 1
        end = time.monotonic() + 20
        while memory.peak - before < 50 << 20 and time.monotonic() < end:
            time.sleep(0.02)
        block.close()
    assert memory.peak - before > 50 << 20
    assert anonymous_bytes() - before < 50 << 20
