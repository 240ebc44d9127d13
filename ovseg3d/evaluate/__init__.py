"""Evaluation by named protocols: photos, labels, points, instances and absence. `metrics` works on arrays."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
