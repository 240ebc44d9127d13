"""Hash-grid encoding in plain torch. Conventions: `field/levels.py`."""

import itertools

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ovseg3d.field.levels import PRIMES, GridLevels, Level


def encode(
    x: Float[Tensor, "samples 3"], table: Float[Tensor, "entries features"], levels: GridLevels
) -> Float[Tensor, "samples dim"]:
    """Trilinear interpolation of every level's table at x in the unit cube, level-major; autograd does the rest."""
    return torch.cat([_interpolate(x.clamp(0.0, 1.0), table, level) for level in levels.levels], dim=-1)


def _interpolate(x: Tensor, table: Tensor, level: Level) -> Tensor:
    at = x * level.scale + 0.5
    low = at.detach().floor()
    fraction = at - low
    total = torch.zeros(len(x), table.shape[1], dtype=table.dtype, device=table.device)
    for corner in itertools.product((0, 1), repeat=3):
        offset = torch.tensor(corner, device=x.device)
        share = torch.where(offset == 1, fraction, 1.0 - fraction).prod(-1, keepdim=True)
        total = total + share * table.index_select(0, _entry(low.long() + offset, level))
    return total


def _entry(corner: Int[Tensor, "samples 3"], level: Level) -> Int[Tensor, " samples"]:
    x, y, z = corner.unbind(-1)
    if level.dense:
        index = x + level.resolution * (y + level.resolution * z)
    else:
        index = (x * PRIMES[0]) ^ (y * PRIMES[1]) ^ (z * PRIMES[2])
        index = index & 0xFFFF_FFFF
    return level.offset + index % level.size
