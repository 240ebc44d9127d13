"""ovseg3d: ask a room questions. Posed photos in; a radiance field, and answers to free text, out.

This module stays light: nothing here imports torch or viser until a name is used.
"""

__version__ = "0.1.0"

_LAZY = {
    "Config": "ovseg3d.pipeline",
    "Run": "ovseg3d.pipeline",
    "load": "ovseg3d.pipeline",
    "train_scene": "ovseg3d.pipeline",
    "load_scene": "ovseg3d.scene",
}

__all__ = ["__version__", *_LAZY]


def __getattr__(name: str) -> object:
    if name in _LAZY:
        import importlib

        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'ovseg3d' has no attribute {name!r}")
