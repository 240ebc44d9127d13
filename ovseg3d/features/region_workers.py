"""Processes that compute region maps while this one encodes.

Superpixels and their merging hold the interpreter lock, so that threads would not be faster. The processes are started
as commands, not by multiprocessing: that would run a user's script again, and not from a daemon. They import no torch,
read pickled calls from a pipe, and end when it is closed, so also when this process is killed.
"""

import os
import pickle
import signal
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from threading import local
from typing import IO, Any

import numpy as np
from jaxtyping import Integer

from ovseg3d.features.segments import region_map

_CODE = """
import os, sys
answers, sys.stdout = os.fdopen(os.dup(1), "wb"), sys.stderr
os.dup2(2, 1)  # what a library prints is no answer
import pickle
sys.path[:] = pickle.load(sys.stdin.buffer)
from {} import serve
serve(answers)
"""
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class RegionWorkers:
    """Region maps from other processes; used in a `with` block, which ends them.

    Args:
        count: number of processes; each takes one core and about 150 MB, and is started when it is needed.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="regions")
        self._own = local()
        self._closing = False
        self.processes: list[subprocess.Popen[bytes]] = []
        """Those that were started."""

    def submit(self, *arguments: Any) -> "Future[Integer[np.ndarray, 'rows columns']]":
        """Start `segments.region_map` with these arguments. It is called here if the process is lost."""
        return self._threads.submit(self._ask, *arguments)

    def _ask(self, *arguments: Any) -> np.ndarray:
        try:
            if not hasattr(self._own, "process"):
                self._own.process = self._start()
            process: subprocess.Popen[bytes] = self._own.process
            assert process.stdin is not None and process.stdout is not None
            _send(process.stdin, arguments)
            return pickle.load(process.stdout)
        except (OSError, EOFError, pickle.UnpicklingError):
            if self._closing:
                raise
            if hasattr(self._own, "process"):
                self._own.process.kill()  # the next call starts another one
                del self._own.process
            return region_map(*arguments)

    def _start(self) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _CODE.format(__name__)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **_ONE_THREAD},
        )
        self.processes.append(process)
        assert process.stdin is not None
        _send(process.stdin, sys.path)
        return process

    def __enter__(self) -> "RegionWorkers":
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process in self.processes:
            process.kill()
        self._threads.shutdown()
        for process in self.processes:
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with suppress(OSError):  # what was still to be sent
                    assert pipe is not None
                    pipe.close()


def serve(answers: IO[bytes]) -> None:
    """Answer calls on the standard input until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal
    while True:
        try:
            arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        _send(answers, region_map(*arguments))


def _send(pipe: IO[bytes], value: object) -> None:
    pickle.dump(value, pipe, protocol=pickle.HIGHEST_PROTOCOL)
    pipe.flush()
