"""ovseg3d: ask a room questions. Posed photos in; a radiance field, and answers to free text, out.

Names load on use: `import ovseg3d` brings neither torch nor viser.
"""

import lazy_loader as _lazy

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
