"""Samples along rays, packed: one ray's samples after another's, in buffers of fixed capacity.

Ray r owns rows offsets[r] to offsets[r + 1]. Rows from offsets[-1] on are unused. On a GPU buffers keep their
capacity, so that no step waits for the device to learn a count. On the CPU unused rows are cut off at once.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class RaySamples:
    """Samples along rays, in field units."""

    t: Float[Tensor, " samples"]
    """Distance from the ray's origin to the middle of the sample's interval."""
    step: Float[Tensor, " samples"]
    """Length of the interval."""
    ray: Int[Tensor, " samples"]
    """Index of the ray."""
    cell: Int[Tensor, " samples"]
    """Index of the occupancy cell."""
    offsets: Int[Tensor, " offsets"]
    """First sample of each ray, and the end of the last."""


def offsets_of(counts: Int[Tensor, " rays"], capacity: int) -> Int[Tensor, " offsets"]:
    """First sample of each ray, from the counts. Samples beyond the capacity are dropped, last rays first."""
    ends = torch.cumsum(counts, 0, dtype=torch.int32)
    return torch.nn.functional.pad(ends, (1, 0)).clamp_(max=capacity)


def used(offsets: Int[Tensor, " offsets"], capacity: int) -> int:
    """Rows of a buffer that are kept: those in use on the CPU, all on a GPU."""
    return int(offsets[-1]) if offsets.device.type == "cpu" else capacity
