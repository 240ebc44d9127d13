"""Runs on disk: configuration, devices, the run folder, and the field restored from its checkpoint."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
