"""Densities on the circle as exponentials of short Fourier series, and their modes.

log p(x) = sum_k a_k cos kx + b_k sin kx - log Z: the generalised von Mises distribution (Gatto and Jammalamadaka,
Statistical Methodology 4, 2007). A network gives the coefficients. The density has no bins, so that neither training
nor decoding rounds an angle; two or four modes are as easy to say as one.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

GRID = 180
"""Angles at which a density is summed up: 2 degrees, several to the shortest wave."""
KERNEL, SHIFTS = 12.0, 8
"""Concentration of the kernel that finds a mode (a deviation of 17 degrees), and its steps."""


def grid_angles(count: int = GRID) -> Float[Tensor, " count"]:
    """Evenly spaced angles from 0, radians."""
    return torch.arange(count) * (2 * math.pi / count)


def waves(angles: Float[Tensor, "*n"], order: int) -> Float[Tensor, "*n terms"]:
    """cos kx, then sin kx, for k from 1 to `order`."""
    phase = angles[..., None] * torch.arange(1, order + 1, dtype=angles.dtype)
    return torch.cat([phase.cos(), phase.sin()], -1)


def log_density(coefficients: Float[Tensor, "n terms"], angles: Float[Tensor, "m"]) -> Float[Tensor, "n m"]:
    """Logarithms of densities, relative to the uniform one, at the same angles for all."""
    order = coefficients.shape[1] // 2
    return coefficients @ waves(angles, order).T - _log_mean(coefficients, order)[:, None]


def probabilities(coefficients: Float[Tensor, "n terms"], count: int) -> Float[Tensor, "n count"]:
    """Probabilities of evenly spaced angles from 0; they add up to 1."""
    return log_density(coefficients, grid_angles(count)).softmax(1)


def negative_log_likelihood(
    coefficients: Float[Tensor, "n terms"], angle: Float[Tensor, " n"], order: Int[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """Cross entropy with the angles that an object's symmetry makes equal; 0 for a uniform density.

    Args:
        coefficients: of the densities.
        angle: radians.
        order: of the symmetry: 1, 2, 4, or 0 where all angles are equal.
    """
    terms = coefficients.shape[1] // 2
    k = torch.arange(1, terms + 1)
    # The mean of cos k(x + 2 pi j / n) over j is cos kx where n divides k, and 0 elsewhere.
    n = order[:, None]
    kept = ((n > 0) & (k % n.clamp(min=1) == 0)).to(coefficients.dtype).repeat(1, 2)
    return _log_mean(coefficients, terms) - (coefficients * kept * waves(angle, terms)).sum(1)


def _log_mean(coefficients: Tensor, order: int) -> Float[Tensor, " n"]:
    values = coefficients @ waves(grid_angles(), order).T
    return values.logsumexp(1) - math.log(GRID)


def mode(probability: Float[Tensor, "n grid"]) -> Float[Tensor, " n"]:
    """The likeliest angle, radians from 0 to 2 pi: the place near the highest angle that is the mean of its own
    surroundings (mean shift with a von Mises kernel; Comaniciu and Meer, PAMI 24, 2002).

    Args:
        probability: of evenly spaced angles from 0.
    """
    grid = grid_angles(probability.shape[1]).to(probability.dtype)
    angle = grid[probability.argmax(1)]
    for _ in range(SHIFTS):
        weight = probability * torch.exp(KERNEL * (torch.cos(grid - angle[:, None]) - 1))
        angle = torch.atan2((weight * grid.sin()).sum(1), (weight * grid.cos()).sum(1))
    return torch.remainder(angle, 2 * math.pi)
