"""From surface points to instances: superpoints, merging, boxes, crops; and priors about the layout of rooms."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
