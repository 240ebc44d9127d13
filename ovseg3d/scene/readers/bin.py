"""Points of a .bin file of float32, which has no header. The numbers tell three layouts apart: ScanObjectNN's (a count,
then 11 numbers for each point), KITTI's (x y z intensity), and mmdet3d's of rooms (x y z r g b).
"""

import numpy as np
from jaxtyping import Bool, Float

_SCANOBJECTNN_COLUMNS, _KITTI_COLUMNS, COLOURED_COLUMNS = 11, 4, 6


def read_bin(data: bytes) -> Float[np.ndarray, "points columns"]:
    """Rows of float32 that begin with x, y, z; where there are six, colours follow, of 0 to 1 or 0 to 255.

    Raises:
        ValueError: another layout, or one that is not certain.
    """
    if len(data) % 4:
        raise ValueError("it is no table of float32")
    if not data:
        raise ValueError("it holds no points")
    values = np.frombuffer(data, "<f4")
    if len(values) % _SCANOBJECTNN_COLUMNS == 1 and values[0] == len(values) // _SCANOBJECTNN_COLUMNS:
        return values[1:].reshape(-1, _SCANOBJECTNN_COLUMNS)
    kitti, coloured = _kitti(values), _coloured(values)
    if coloured is not None and kitti is not None and np.mean(_are_colours(coloured[:, :3], coloured[:, 3:])) > 0.5:
        raise ValueError("its rows may be x y z intensity or x y z r g b; save them as .npy with three or six columns")
    if coloured is not None:  # lengths would not all look like colours, and half of these do not
        return coloured
    if kitti is None:
        raise ValueError("it is neither ScanObjectNN's (11 columns) nor KITTI's (4) nor mmdet3d's layout (x y z r g b)")
    return kitti


def _kitti(values: np.ndarray) -> np.ndarray | None:
    """Rows x y z intensity; None: another layout, since intensity is never negative and what others have there is."""
    if len(values) % _KITTI_COLUMNS:
        return None
    rows = values.reshape(-1, _KITTI_COLUMNS)
    return None if (rows[:, 3] < 0).any() else rows


def _coloured(values: np.ndarray) -> np.ndarray | None:
    """Rows x y z r g b; None: another layout, which has lengths where these have colours."""
    if len(values) % COLOURED_COLUMNS:
        return None
    rows = values.reshape(-1, COLOURED_COLUMNS)
    return rows if _are_colours(rows[:, 3:], rows[:, 3:]).all() else None


def _are_colours(values: np.ndarray, rgb: np.ndarray) -> Bool[np.ndarray, " points"]:
    """Rows of `values` that could be colours of the kind that `rgb` has."""
    if rgb.max(initial=0) <= 1:
        return np.all((values >= 0) & (values <= 1), axis=1)
    return np.all((values >= 0) & (values <= 255) & (values == np.rint(values)), axis=1)
