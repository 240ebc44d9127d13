"""Frozen 2D models behind two small interfaces. Names load on use, so that importing this stays light."""

import importlib

_LAZY = {
    "DenseEncoder": "base",
    "Preprocess": "base",
    "TextImageEncoder": "base",
}

__all__ = list(_LAZY)


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(importlib.import_module(f"ovseg3d.encoders.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'ovseg3d.encoders' has no attribute {name!r}")
