"""Sparse convolutions in plain torch: one gather and one matrix product per kernel tap, and one sum over taps.

Only pairs of occupied voxels are multiplied. Surfaces fill about 11 of the 27 voxels around each of theirs, so this
takes a third of the time of a dense gather of all 27 (measured on rooms of 150,000 points).
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ovseg3d.heads.detection.bags import Bags


@dataclass(frozen=True)
class Taps:
    """Which rows of the input go to which rows of the output."""

    pairs: list[tuple[Int[Tensor, " _"], Int[Tensor, " _"]]]
    """For each kernel tap, the rows of the output and the rows of the input that it connects; rows of a tap are
    unique."""
    of_outputs: Bags
    """The pairs of each row of the output, by their places in all taps one after the other."""

    @classmethod
    def of(cls, pairs: list[tuple[Tensor, Tensor]], n_out: int) -> "Taps":
        """Of these pairs, for an output of so many rows."""
        outputs = torch.cat([o for o, _ in pairs]) if pairs else torch.zeros(0, dtype=torch.long)
        return cls(pairs, Bags.of(outputs, n_out))


class _SparseProduct(torch.autograd.Function):
    """out[o] = sum over taps k of x[i] W[k], for the pairs (o, i) of each tap."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, taps: Taps) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.taps = taps
        products = x.new_empty(len(taps.of_outputs.rows), weight.shape[2])
        parts = products.split([len(i) for _, i in taps.pairs])
        for w, (_, i), part in zip(weight, taps.pairs, parts):
            torch.mm(x.index_select(0, i), w, out=part)
        return taps.of_outputs.sums(products)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        (grad,) = grads
        x, weight = ctx.saved_tensors
        grad_x, grad_w = torch.zeros_like(x), torch.zeros_like(weight)
        for k, (o, i) in enumerate(ctx.taps.pairs):
            part = grad.index_select(0, o)
            grad_x.index_add_(0, i, part @ weight[k].T)
            grad_w[k] = x.index_select(0, i).T @ part
        return grad_x, grad_w, None


class SparseConv(nn.Module):
    """A convolution over occupied voxels, without bias.

    Args:
        inputs: channels.
        outputs: channels.
        taps: 27 for a 3x3x3 kernel, 8 for one of 2x2x2 with stride 2, either way.
    """

    def __init__(self, inputs: int, outputs: int, taps: int = 27) -> None:
        super().__init__()
        self.taps = taps
        # Half of the taps or fewer meet an occupied voxel: He's gain for the taps that count. A matrix, since Muon
        # trains matrices.
        self.weight = nn.Parameter(torch.randn(taps * inputs, outputs) * (2 / (inputs * taps * 0.4)) ** 0.5)

    def forward(self, x: Float[Tensor, "n_in c_in"], taps: Taps) -> Float[Tensor, "n_out c_out"]:
        """The output rows; `taps` say which rows are neighbours."""
        weight = self.weight.view(self.taps, -1, self.weight.shape[1])
        out: Tensor = _SparseProduct.apply(x, weight, taps)  # type: ignore[assignment]
        return out
