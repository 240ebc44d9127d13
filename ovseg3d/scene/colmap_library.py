"""pycolmap and pyceres, imported without the handler of SIGTERM that they set: a run that is told to end keeps a
checkpoint. Import them from here, and late, since it takes a third of a second."""

import signal
import threading

_handler = signal.getsignal(signal.SIGTERM)

import pyceres  # noqa: E402 - after the handler is known
import pycolmap  # noqa: E402

if threading.current_thread() is threading.main_thread() and _handler is not None:
    signal.signal(signal.SIGTERM, _handler)

__all__ = ["pyceres", "pycolmap"]
