"""Samples along rays, packed: one ray's samples after another's, in buffers of fixed capacity.

Ray r owns rows offsets[r] to offsets[r + 1]. Rows from offsets[-1] on are spare. On a GPU the buffers keep their
capacity, so that no step waits for the device to learn a count; on the CPU spare rows are cut off at once.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class RaySamples:
    """Where rays are sampled, in field units."""

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
    """Where each ray's samples begin; what does not fit the capacity is left out, last rays first."""
    ends = torch.cumsum(counts, 0, dtype=torch.int32)
    return torch.nn.functional.pad(ends, (1, 0)).clamp_(max=capacity)


def used(offsets: Int[Tensor, " offsets"], capacity: int) -> int:
    """How many rows to keep of a buffer: the number in use on the CPU, all of them on a GPU."""
    return int(offsets[-1]) if offsets.device.type == "cpu" else capacity
