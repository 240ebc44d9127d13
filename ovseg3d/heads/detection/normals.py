"""Normals of clouds that have none."""

import numpy as np
from jaxtyping import Float
from scipy.spatial import cKDTree  # pyright: ignore[reportAttributeAccessIssue] - not in SciPy's list of names

NEIGHBOURS = 16
"""Points that a plane is fitted to."""
SPACING = 0.05
"""One normal for each cube of this side, metres: the voxels of the network are not finer."""
MAX_CELLS = 2**19
"""Along an axis, to each side of the median; what is farther out counts as the last one."""


def estimate_normals(xyz: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, "points 3"]:
    """Unit normals, of unknown sign: the direction in which the nearest points extend least (PCA).

    Args:
        xyz: metres.
    """
    low = np.maximum(xyz.min(0), np.median(xyz, 0) - MAX_CELLS * SPACING)
    cells = np.clip((xyz - low) / SPACING, 0, 2 * MAX_CELLS).astype(np.int64)
    shape = cells.max(0) + 1
    _, first, inverse = np.unique(
        np.ravel_multi_index(tuple(cells.T), tuple(shape)), return_index=True, return_inverse=True
    )
    near = xyz[cKDTree(xyz).query(xyz[first], k=min(NEIGHBOURS, len(xyz)))[1].reshape(len(first), -1)]
    near = near.astype(np.float64) - near.mean(1, keepdims=True)
    _, axes = np.linalg.eigh(np.einsum("pki,pkj->pij", near, near))
    return axes[:, :, 0].astype(np.float32)[inverse]
