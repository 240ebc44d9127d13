"""Captures: cameras, images, readers for every format, checks; and batches of pixels to train on.

`load_scene(path)` gives a `Scene`. Only `Cameras`, `PhotoPool` and `PixelBatch` need torch; names load on use, so
that reading a capture stays light.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
