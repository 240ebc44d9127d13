"""What the command line and user code call: settings, training, run folders, measuring, rendering.

No module globals, no printing: the device and the settings are arguments, progress comes as events, and a
Config pickles, so that many scenes can run as many processes.
"""

import importlib

# No name of a submodule: importing `pipeline.evaluate` would put the module in the place of its function.
_LAZY = {
    "Config": "ovseg3d.pipeline.config",
    "Run": "ovseg3d.pipeline.run",
    "load": "ovseg3d.pipeline.run",
    "make_config": "ovseg3d.pipeline.settings",
    "train_scene": "ovseg3d.pipeline.train",
    "restore": "ovseg3d.pipeline.fields",
    "encode_scene": "ovseg3d.pipeline.encode",
    "load_features": "ovseg3d.pipeline.encode",
    "render_images": "ovseg3d.pipeline.render",
    "render_film": "ovseg3d.pipeline.render",
}

__all__ = list(_LAZY)  # noqa: PLE0605


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'ovseg3d.pipeline' has no attribute {name!r}")
