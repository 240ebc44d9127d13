"""The browser viewer: look at a scene, ask it, take things away. Built on viser."""

import importlib

_LAZY = {"Viewer": "ovseg3d.viewer.app", "Exhibit": "ovseg3d.viewer.exhibit", "open_exhibit": "ovseg3d.viewer.exhibit"}

__all__ = list(_LAZY)  # noqa: PLE0605


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'ovseg3d.viewer' has no attribute {name!r}")
