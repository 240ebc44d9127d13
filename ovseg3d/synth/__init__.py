"""Procedural labelled rooms, ray-traced: synthetic scenes with exact labels of every pixel, point and box.

Rooms are metric, z up, with the floor at z = 0. Heavy modules (Warp) load on first use.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
