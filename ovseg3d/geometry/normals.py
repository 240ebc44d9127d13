"""Normals of surfaces that only points are known of."""

import numpy as np
from jaxtyping import Float


def fitted_normals(near: Float[np.ndarray, "points neighbours 3"]) -> Float[np.ndarray, "points 3"]:
    """Unit normals, of unknown sign: the direction in which each point's neighbours extend least (PCA).

    Args:
        near: positions of the neighbours of each point.
    """
    apart = near - near.mean(1, keepdims=True)
    _, axes = np.linalg.eigh(np.einsum("nki,nkj->nij", apart, apart))
    return axes[:, :, 0]
