"""A small basis per scene for an encoder's vectors, so that a query is one small matrix product.

A vector v of the joint space is stored as coefficients c = axes^T v, with orthonormal axes (dim, kept). For a phrase t
of unit length, cos(v, t) is (c / |c|) . (axes^T t), up to the part of v outside the axes. Axes are the leading right
singular vectors of lifted surface features, not centred: the first one is the part that all images have in common.
(LangSplat trains an autoencoder for this, LangSplatV2 a codebook; both need minutes and cannot be queried in 3D
directly.)
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Basis:
    """Orthonormal axes in an encoder's joint space."""

    axes: Float[np.ndarray, "dim kept"]
    """float32, columns orthonormal, ordered by their share of the variance."""
    left_out: float
    """Share of the fitted vectors' variance about their mean that lies outside the axes."""

    def reduce(self, vectors: Float[np.ndarray, "*rows dim"]) -> Float[np.ndarray, "*rows kept"]:
        """Coefficients of vectors, or of phrases."""
        return vectors.astype(np.float32) @ self.axes

    def expand(self, coefficients: Float[np.ndarray, "*rows kept"]) -> Float[np.ndarray, "*rows dim"]:
        """Vectors of the joint space."""
        return coefficients.astype(np.float32) @ self.axes.T


def fit_basis(vectors: Float[np.ndarray, "points dim"], kept: int) -> Basis:
    """The basis that represents `vectors` best.

    Args:
        vectors: samples of a scene's lifted features; zero rows are ignored.
        kept: most axes.

    Raises:
        ValueError: no vector has a direction.
    """
    lengths = np.linalg.norm(vectors, axis=1)
    rows = vectors[lengths > 1e-9].astype(np.float64) / lengths[lengths > 1e-9, None]
    if not len(rows):
        raise ValueError("a basis is fitted to at least one vector that is not zero")
    axes = np.linalg.eigh(rows.T @ rows / len(rows))[1]
    axes = axes[:, ::-1][:, : min(kept, rows.shape[1])]
    # The sign of an axis is arbitrary. It is fixed, so that the same photos give the same bits.
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])])
    apart = rows - rows.mean(0)
    outside = apart - (apart @ axes) @ axes.T
    # Identical vectors have no variance except rounding.
    share = float((outside**2).sum() / max((apart**2).sum(), 1e-12 * len(rows)))
    return Basis(np.ascontiguousarray(axes, dtype=np.float32), share)
