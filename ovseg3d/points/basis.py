"""A scene's own small basis for an encoder's vectors, so that a query is one small matrix product.

A vector v of the joint space is kept as coefficients c = axes^T v, with orthonormal axes (dim, kept). For a phrase t
of unit length, cos(v, t) is (c / |c|) . (axes^T t) up to what the axes leave out of v. Axes are the leading right
singular vectors of lifted surface features, not centred: what all pictures have in common is simply the first one.
(LangSplat trains an autoencoder for this, LangSplatV2 a codebook; both need minutes and cannot be queried in 3D as
they are.)
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Basis:
    """Orthonormal axes in an encoder's joint space."""

    axes: Float[np.ndarray, "dim kept"]
    """float32, columns orthonormal, ordered by how much they hold."""
    left_out: float
    """Share of the fitted vectors' variance about their mean that lies outside."""

    def reduce(self, vectors: Float[np.ndarray, "*rows dim"]) -> Float[np.ndarray, "*rows kept"]:
        """Coefficients of vectors, or of phrases."""
        return vectors.astype(np.float32) @ self.axes

    def expand(self, coefficients: Float[np.ndarray, "*rows kept"]) -> Float[np.ndarray, "*rows dim"]:
        """Vectors of the joint space."""
        return coefficients.astype(np.float32) @ self.axes.T


def fit_basis(vectors: Float[np.ndarray, "points dim"], kept: int = 64) -> Basis:
    """The basis that holds most of `vectors`.

    Args:
        vectors: samples of a scene's lifted features; rows without a direction (zeros) are left out.
        kept: how many axes at most.

    Raises:
        ValueError: no vector has a direction.
    """
    lengths = np.linalg.norm(vectors, axis=1)
    rows = vectors[lengths > 1e-9].astype(np.float64) / lengths[lengths > 1e-9, None]
    if not len(rows):
        raise ValueError("a basis is fitted to at least one vector that is not zero")
    values, axes = np.linalg.eigh(rows.T @ rows / len(rows))
    axes = axes[:, ::-1][:, : min(kept, rows.shape[1])]
    # The sign of an axis is arbitrary; fix it, so that the same photos give the same bits.
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])])
    apart = rows - rows.mean(0)
    outside = apart - (apart @ axes) @ axes.T
    # Where all vectors are the same there is no variance to leave out, but for rounding.
    share = float((outside**2).sum() / max((apart**2).sum(), 1e-12 * len(rows)))
    return Basis(np.ascontiguousarray(axes, dtype=np.float32), share)
