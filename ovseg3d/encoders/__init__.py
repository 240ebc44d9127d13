"""Frozen 2D models behind two small interfaces: text-image encoders (CLIP) and self-supervised ones (DINO).

`load_clip(name, device)` and `load_dino(name, device)` return them; see `registry` for adding one. Features of photos
are computed and cached by `ovseg3d.features`.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
