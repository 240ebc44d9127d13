"""The browser viewer: look at a scene, ask it, export from it. Built on viser."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
