"""Samples along rays, packed: one ray's samples after another's, in buffers of fixed capacity.

Ray r owns rows offsets[r] to offsets[r + 1]. Rows from offsets[-1] on are unused. On a GPU buffers of a training step
keep their capacity, so that no step waits for the device to learn a count. Elsewhere, and on the CPU, unused rows are
cut off at once. Unused rows hold zeros, and kernels that add to something skip rows that would add nothing.
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


def padded(device: torch.device) -> bool:
    """Whether buffers with a capacity keep it on this device."""
    return device.type != "cpu"


def offsets_of(counts: Int[Tensor, " rays"], capacity: int | None) -> Int[Tensor, " offsets"]:
    """First sample of each ray, from the counts. Samples beyond the capacity are dropped, last rays first."""
    ends = torch.nn.functional.pad(torch.cumsum(counts, 0, dtype=torch.int32), (1, 0))
    return ends if capacity is None else ends.clamp_(max=capacity)


def used(offsets: Int[Tensor, " offsets"], capacity: int | None) -> int:
    """Rows of a buffer: its capacity on a GPU; those in use on the CPU, and without a capacity."""
    if capacity is None or not padded(offsets.device):
        return int(offsets[-1])
    return capacity
