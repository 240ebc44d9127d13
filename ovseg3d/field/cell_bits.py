"""The cells that rays march through, one bit each.

Marching waits for memory more than for arithmetic. With bits a cascade of 128 cells a side takes 256 KiB in place of
2 MiB. A word holds a block of 4 x 4 x 4 cells: a ray crosses a few cells for each word it reads, and an empty block is
skipped at once.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int64
from torch import Tensor


@dataclass(frozen=True)
class CellBits:
    """Cells to sample, packed; blocks are aligned with each cascade's corner, and those at its far end may be cut."""

    words: Int64[Tensor, "cascades blocks blocks blocks"]
    """Indexed [cascade, z, y, x]; bit 16 z + 4 y + x is a cell within the block."""
    resolution: int
    """Cells along each axis of a cascade."""

    @classmethod
    def pack(cls, occupied: Bool[Tensor, "cascades cells cells cells"]) -> "CellBits":
        """From the cells, indexed [cascade, z, y, x]."""
        cascades, resolution = occupied.shape[:2]
        blocks = -(-resolution // 4)
        cells = torch.nn.functional.pad(occupied.view(torch.uint8), (0, 4 * blocks - resolution) * 3)
        # Four bytes of 0 or 1 become four bits: in the product each has a place of its own.
        rows = cells.view(torch.int32).view(cascades, blocks, 4, blocks, 4, blocks) * 0x01020408 >> 24
        planes = rows[:, :, :, :, 0].clone()
        for y in range(1, 4):
            planes |= rows[:, :, :, :, y] << 4 * y
        words = planes[:, :, 0].long()
        for z in range(1, 4):
            words |= planes[:, :, z].long() << 16 * z
        return cls(words, resolution)

    def unpack(self) -> Bool[Tensor, "cascades cells cells cells"]:
        """The cells, indexed [cascade, z, y, x]."""
        cascades, blocks = self.words.shape[:2]
        bits = torch.arange(64, device=self.words.device).view(4, 1, 4, 1, 4)
        cells = (self.words[:, :, None, :, None, :, None] >> bits & 1).bool()
        whole = cells.view(cascades, *(4 * blocks,) * 3)
        return whole[:, : self.resolution, : self.resolution, : self.resolution].contiguous()
