"""Points of a .bin file: ScanObjectNN's (a count, then 11 numbers for each point) or KITTI's (x, y, z, intensity)."""

import numpy as np
from jaxtyping import Float

_SCANOBJECTNN_COLUMNS, _KITTI_COLUMNS = 11, 4


def read_bin(data: bytes) -> Float[np.ndarray, "points columns"]:
    """Rows of float32 that begin with x, y, z. Raises ValueError: another layout."""
    if len(data) % 4:
        raise ValueError("it is no table of float32")
    values = np.frombuffer(data, "<f4")
    if len(values) % _SCANOBJECTNN_COLUMNS == 1 and values[0] == len(values) // _SCANOBJECTNN_COLUMNS:
        return values[1:].reshape(-1, _SCANOBJECTNN_COLUMNS)
    rows = values.reshape(-1, _KITTI_COLUMNS) if len(values) % _KITTI_COLUMNS == 0 else None
    # Intensity is never negative, but what other layouts have there is.
    if rows is None or (rows[:, 3] < 0).any():
        raise ValueError("it is neither ScanObjectNN's nor KITTI's layout")
    return rows
