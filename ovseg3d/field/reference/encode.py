"""Hash-grid encoding in plain torch: one gather, and one scatter by autograd. Conventions: `field/levels.py`."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ovseg3d.field.levels import PRIMES, GridLevels, Level


def encode(
    x: Float[Tensor, "samples 3"], table: Float[Tensor, "entries features"], levels: GridLevels
) -> Float[Tensor, "samples dim"]:
    """Trilinear interpolation of every level's table at x in the unit cube, level-major."""
    scale = x.new_tensor([level.scale for level in levels.levels])
    at = x.clamp(0.0, 1.0).t()[:, None] * scale[:, None] + 0.5
    low = at.detach().floor()
    fraction = at - low
    # Lower and upper neighbour along each axis, [levels, 2, samples]: first their weights, then their coordinates.
    across, up, along = torch.stack([1.0 - fraction, fraction], 2).unbind(0)
    share = across[:, :, None, None] * up[:, None, :, None] * along[:, None, None]
    near = torch.stack([low, low + 1.0], 2).long()
    entry = torch.stack([_entries(near[:, i], level) for i, level in enumerate(levels.levels)])
    corners = table.index_select(0, entry.view(-1)).view(len(levels.levels), 8, len(x), levels.features)
    total = (corners * share.view(*corners.shape[:3], 1)).sum(1)
    return total.transpose(0, 1).flatten(1)


def _entries(near: Int[Tensor, "3 2 samples"], level: Level) -> Int[Tensor, "2 2 2 samples"]:
    """Rows of the table for the corners of a level's cells."""
    x, y, z = near.unbind(0)
    if level.dense:
        y, z = y * level.resolution, z * level.resolution**2
        index = x[:, None, None] + y[:, None] + z
        return level.offset + index % level.size
    x, y, z = (axis * prime for axis, prime in zip((x, y, z), PRIMES))
    # The size of a hashed table is a power of two, so one mask does the modulus and 32-bit arithmetic.
    return level.offset + ((x[:, None, None] ^ y[:, None] ^ z) & (level.size - 1))
