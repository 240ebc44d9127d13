"""Captures: cameras, images, readers for every format, checks; and batches of pixels to train on.

`load_scene(path)` gives a `Scene`. Only `Cameras`, `PhotoPool` and `PixelBatch` need torch; names load on use, so
that reading a capture stays light.
"""

import importlib

_LAZY = {
    "Camera": "cameras",
    "Frame": "capture",
    "Scene": "capture",
    "Finding": "capture",
    "FORMATS": "capture",
    "load_scene": "load",
    "inspect_scene": "load",
    "load_photo": "images",
    "load_mask": "images",
    "usable_at": "images",
    "load_depth": "images",
    "load_labels": "images",
    "check_scene": "check",
    "plot_scene": "plot",
    "Cameras": "rays",
    "PhotoPool": "photos",
    "PixelBatch": "photos",
}

__all__ = list(_LAZY)


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(importlib.import_module(f"ovseg3d.scene.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'ovseg3d.scene' has no attribute {name!r}")
