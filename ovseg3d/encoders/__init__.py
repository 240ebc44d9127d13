"""Frozen 2D models behind two small interfaces: text-image encoders (CLIP) and self-supervised ones (DINO).

`load_clip(name, device)` and `load_dino(name, device)` give them; how to add one's own is said in `registry`. What they
say about a photo is made by `extract_features`, and about a whole scene, through a cache on disk, by `encode_photos`.
Names load on use, so that importing this stays light.
"""

import importlib

_LAZY = {
    "DenseEncoder": "base",
    "Preprocess": "base",
    "TextImageEncoder": "base",
    "TokenEncoder": "base",
    "load_clip": "registry",
    "load_dino": "registry",
    "register_clip": "registry",
    "register_dino": "registry",
    "DEFAULT_CLIP": "registry",
    "DEFAULT_DINO": "registry",
    "FeatureSettings": "features",
    "PhotoFeatures": "maps",
    "extract_features": "features",
    "FeatureCache": "cache",
    "SceneFeatures": "scenes",
    "encode_photos": "scenes",
}

__all__ = list(_LAZY)


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(importlib.import_module(f"ovseg3d.encoders.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'ovseg3d.encoders' has no attribute {name!r}")
