"""Geometry that several parts share: oriented boxes and their overlap, lens distortion, quaternions, poses."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
