"""Procedural labelled rooms, ray-traced: scenes whose every pixel, point and box is known exactly.

Rooms are metric, z up, with the floor at z = 0. Heavy modules (Warp) load on first use.
"""

_LAZY = {
    "Example": "ovseg3d.synth.examples",
    "KINDS": "ovseg3d.synth.kinds",
    "Views": "ovseg3d.synth.write",
    "Written": "ovseg3d.synth.write",
    "object_example": "ovseg3d.synth.examples",
    "room_example": "ovseg3d.synth.examples",
    "surface_cloud": "ovseg3d.synth.cloud",
    "synthesise": "ovseg3d.synth.make",
}

__all__ = list(_LAZY)


def __getattr__(name: str) -> object:
    if name in _LAZY:
        import importlib

        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'ovseg3d.synth' has no attribute {name!r}")
