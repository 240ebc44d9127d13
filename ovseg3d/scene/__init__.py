"""Captures: cameras, images, readers of all formats, checks, and batches of pixels for training.

`load_scene(path)` returns a `Scene`. Only `Cameras`, `PhotoPool` and `PixelBatch` need torch, which loads on first use.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
