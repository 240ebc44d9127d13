"""Reduce DINO's vectors to at most 64 numbers by a projection that is fitted on a few photos and stored.

Principal components: `reduced = (vector - mean) @ basis` with orthonormal columns, ordered by variance, signs fixed
(the entry of a column with the largest size is positive), so that the same photos give the same bits on one machine.
A model with no more numbers than asked for is left as it is (mean 0, identity).
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
        """Vectors of fewer numbers, float32."""
        return (grid.astype(np.float32) - self.mean) @ self.basis

    def arrays(self) -> dict[str, np.ndarray]:
        """For a file; `from_arrays` is the way back."""
        return {"mean": self.mean, "basis": self.basis, "explained": np.array([self.explained], dtype=np.float64)}

    @staticmethod
    def from_arrays(arrays: Mapping[str, np.ndarray]) -> "Projection":
        """The projection that `arrays` took apart. Raises KeyError, ValueError: it is none."""
        mean, basis = np.array(arrays["mean"]), np.array(arrays["basis"])
        if basis.ndim != 2 or mean.shape != basis.shape[:1]:
            raise ValueError("mean and basis do not belong together")
        return Projection(mean, basis, float(arrays["explained"][0]))


def fit_projection(grids: Iterable[Float[np.ndarray, "gh gw dim"]], dims: int) -> Projection:
    """Fit to the vectors of some photos.

    Args:
        grids: their dense features; only one is held at a time.
        dims: how many numbers to keep at most.
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
