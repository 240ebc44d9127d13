"""Rendered depth of held-out views, which the stage `evaluate` keeps: masks of answers then need no rendering."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ovseg3d.errors import RunError
from ovseg3d.files import write_atomic
from ovseg3d.limits import read_bytes
from ovseg3d.runs.folder import RunFolder

FILE = "view_depth.safetensors"
MAX_VALUES = 2**24
"""Most pixels that are kept, 64 MiB; later views are rendered when they are needed."""


def save_view_depth(run: RunFolder, depths: Mapping[str, Float[np.ndarray, "h w"]]) -> None:
    """Write the depth of views.

    Args:
        run: written to its folder.
        depths: z-depth by name of the view, input units, 0 where there is none; at most `MAX_VALUES` pixels.

    Raises:
        OutputError: the file cannot be written.
    """
    kept = {name: np.ascontiguousarray(depth, np.float32) for name, depth in depths.items()}
    write_atomic(run.folder / FILE, save(kept))


def load_view_depth(run: RunFolder) -> dict[str, Float[np.ndarray, "h w"]]:
    """The depth of views by name; empty for a run without the file.

    Raises:
        RunError: the file is damaged.
    """
    path = run.folder / FILE
    if not path.exists():
        return {}
    try:
        depths = load(read_bytes(path, RunError, "view depth", 8 * MAX_VALUES))
    except SafetensorError as error:
        raise RunError("The depth of the views cannot be read", where=path, fix="remove this file") from error
    if any(one.dtype != np.float32 or one.ndim != 2 or not np.isfinite(one).all() for one in depths.values()):
        raise RunError("This file does not hold the depth of views", where=path, fix="remove this file")
    return depths
