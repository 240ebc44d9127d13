"""Names for shapes without colour: depth views of a point cloud, and a CLIP tower aligned to them."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
