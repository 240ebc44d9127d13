"""Weights that a small transformer starts from: its heads look at neighbours, as a convolution does.

With little data a transformer spends most of its training finding out that near patches belong together. Here the
first channels of the stream carry each patch's place as sines and cosines of several frequencies (and nothing of the
image), and every head's queries and keys see only these, one turned against the other by an offset of its own out of
3 x 3. Its attention is then a soft impulse at that offset, which training may change. After Zheng, Li and Lucey,
"Convolutional Initialization for Data-Efficient Vision Transformers" (2024), who solve for such weights numerically.
"""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

OFFSETS = [(x, y) for y in (-1, 0, 1) for x in (-1, 0, 1)]
SHARPNESS = 1.7
NOISE = 0.02


def places(grid: int, channels: int) -> Tensor:
    """Sines and cosines of each patch's column, then of its row, (grid * grid, channels); channels by four."""
    angles = frequencies(channels) * torch.arange(grid)[:, None]
    line = torch.cat([angles.sin(), angles.cos()], -1)
    rows, columns = torch.meshgrid(torch.arange(grid), torch.arange(grid), indexing="ij")
    return torch.cat([line[columns.flatten()], line[rows.flatten()]], -1)


def frequencies(channels: int) -> Tensor:
    """Radians per patch, from nearly a half turn to a twelfth of that."""
    return 0.95 * math.pi * 0.08 ** torch.linspace(0, 1, channels // 4)


def turn(channels: int, offset: tuple[int, int]) -> Tensor:
    """The matrix (channels, channels) that takes a patch's place to that of the patch at `offset` (columns, rows)."""
    count = channels // 4
    matrix = torch.zeros(channels, channels)
    for axis, step in enumerate(offset):
        sine = torch.arange(count) + 2 * axis * count
        cosine, angle = sine + count, frequencies(channels) * step
        matrix[sine, sine] = matrix[cosine, cosine] = angle.cos()
        matrix[sine, cosine], matrix[cosine, sine] = angle.sin(), -angle.sin()
    return matrix


@torch.no_grad()
def start_local(
    table: Tensor, patches: nn.Conv2d, heads: Iterable[Sequence[tuple[Tensor, Tensor]]], random: torch.Generator
) -> None:
    """Set them in place.

    Args:
        table: positions, (1 + grid * grid, width), a class token's first.
        patches: the convolution that makes tokens of patches.
        heads: for every block, the query and key weights of its heads, (head width, width) each.
        random: gives the offsets and a little noise.
    """
    grid = math.isqrt(len(table) - 1)
    table.zero_()
    for block in heads:
        order = torch.randperm(len(OFFSETS), generator=random).tolist()
        for number, (query, key) in enumerate(block):
            channels = len(query)
            for weight in (query, key):
                weight.copy_(NOISE * torch.randn(weight.shape, generator=random))
            query[:, :channels] += SHARPNESS * turn(channels, OFFSETS[order[number % len(OFFSETS)]])
            key[:, :channels] += SHARPNESS * torch.eye(channels)
    table[1:, :channels] = places(grid, channels)
    patches.weight.mul_(2.0)  # as large as the places beside it
    patches.weight[:channels] = 0.0
