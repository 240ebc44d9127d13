"""Errors of a depth map. Both maps are z-depth in the same unit; 0 or less means unknown."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class DepthErrors:
    """Errors over the pixels whose true depth is known; NaN if there are none."""

    rel_median: float
    """Median of |pred - true| / true."""
    within_5_percent: float
    """Fraction of pixels, 0 to 1, with |pred - true| <= 0.05 true."""
    abs_median: float
    """Median of |pred - true|, in the unit of the input."""


def depth_errors(pred_z: Float[np.ndarray, "h w"], true_z: Float[np.ndarray, "h w"]) -> DepthErrors:
    """Compare two z-depth maps where `true_z` is known (finite and above 0).

    A missing prediction (not finite) counts as depth 0, so its error is the whole depth.
    """
    known = np.isfinite(true_z) & (true_z > 0)
    if not known.any():
        return DepthErrors(*[float("nan")] * 3)
    true = true_z[known].astype(np.float64)
    pred = pred_z[known].astype(np.float64)
    error = np.abs(np.where(np.isfinite(pred), pred, 0.0) - true)
    return DepthErrors(
        rel_median=float(np.median(error / true)),
        within_5_percent=float(np.mean(error <= 0.05 * true)),
        abs_median=float(np.median(error)),
    )
