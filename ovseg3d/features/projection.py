"""Reduce DINO's vectors to at most 64 dimensions by a stored projection that is fitted to a few photos.

Principal components: `reduced = (vector - mean) @ basis` with orthonormal columns, ordered by variance, with fixed
signs (a column's largest entry is positive), so that the same photos give the same bits on one machine. Vectors of at
most the requested dimension are not changed (mean 0, identity).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Projection:
    """An orthonormal projection."""

    mean: Float[np.ndarray, "dim"]
    """float32."""
    basis: Float[np.ndarray, "dim kept"]
    """float32, columns orthonormal."""
    explained: float
    """Share of the fitted photos' variance that is kept."""

    def reduce(self, grid: Float[np.ndarray, "gh gw dim"]) -> Float[np.ndarray, "gh gw kept"]:
        """Reduced vectors, float32."""
        return (grid.astype(np.float32) - self.mean) @ self.basis

    def arrays(self) -> dict[str, np.ndarray]:
        """Arrays for a file; the inverse is `from_arrays`."""
        return {"mean": self.mean, "basis": self.basis, "explained": np.array([self.explained], dtype=np.float64)}

    @staticmethod
    def from_arrays(arrays: Mapping[str, np.ndarray]) -> "Projection":
        """The inverse of `arrays`. Raises KeyError, ValueError: the arrays are not a projection."""
        mean, basis = np.array(arrays["mean"]), np.array(arrays["basis"])
        if basis.ndim != 2 or mean.shape != basis.shape[:1]:
            raise ValueError("mean and basis do not belong together")
        return Projection(mean, basis, float(arrays["explained"][0]))


def fit_projection(grids: Iterable[Float[np.ndarray, "gh gw dim"]], dims: int) -> Projection:
    """Fit to the vectors of some photos.

    Args:
        grids: their dense features; only one is in memory at a time.
        dims: most dimensions.
    """
    count, total, squares = 0, None, None
    for grid in grids:
        rows = grid.reshape(-1, grid.shape[-1]).astype(np.float64)
        if total is None or squares is None:
            total, squares = np.zeros(rows.shape[1]), np.zeros((rows.shape[1],) * 2)
        count, total, squares = count + len(rows), total + rows.sum(axis=0), squares + rows.T @ rows
    if total is None or squares is None:
        raise ValueError("a projection is fitted to at least one photo")
    dim = len(total)
    if dim <= dims:
        return Projection(np.zeros(dim, dtype=np.float32), np.eye(dim, dtype=np.float32), 1.0)
    mean = total / count
    values, vectors = np.linalg.eigh(squares / count - np.outer(mean, mean))
    values, basis = np.maximum(values[::-1], 0), vectors[:, ::-1][:, :dims]
    largest = np.abs(basis).argmax(axis=0)
    basis = basis * np.sign(basis[largest, np.arange(dims)])
    share = float(values[:dims].sum() / max(values.sum(), 1e-30))
    return Projection(mean.astype(np.float32), np.ascontiguousarray(basis, dtype=np.float32), share)
