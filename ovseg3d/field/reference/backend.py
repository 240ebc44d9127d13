"""The operators in plain torch, with gradients by autograd: the reference of tests and benchmarks."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ovseg3d.engine import Workers
from ovseg3d.field.by_autograd import EncodeByAutograd
from ovseg3d.field.levels import GridLevels
from ovseg3d.field.networks import perceptron
from ovseg3d.field.operators import AdamStep
from ovseg3d.field.reference import rays
from ovseg3d.field.reference.encode import encode


class TorchBackend(EncodeByAutograd):
    """Operators of one grid on one device; see `FieldBackend`."""

    name = "torch"
    perceptron = staticmethod(perceptron)
    march = staticmethod(rays.march)
    merge = staticmethod(rays.merge)
    composite = staticmethod(rays.composite)
    median = staticmethod(rays.median)
    distortion = staticmethod(rays.distortion)

    def __init__(self, levels: GridLevels, device: torch.device) -> None:
        self.levels, self.device = levels, device

    def encode(
        self, x: Float[Tensor, "samples 3"], table: Float[Tensor, "entries features"]
    ) -> Float[Tensor, "samples dim"]:
        """See `FieldBackend.encode`."""
        return encode(x, table, self.levels)

    def adam(
        self,
        table: Float[Tensor, "entries features"],
        grad: Float[Tensor, "entries features"],
        mean: Float[Tensor, "entries features"],
        square: Float[Tensor, "entries features"],
        by: AdamStep,
        workers: Workers | None = None,
    ) -> None:
        """See `FieldBackend.adam`."""
        touched = (grad != 0).any(-1, keepdim=True)
        mean.copy_(torch.where(touched, by.beta1 * mean + (1 - by.beta1) * grad, mean))
        square.copy_(torch.where(touched, by.beta2 * square + (1 - by.beta2) * grad**2, square))
        denominator = (square / (1 - by.beta2**by.step)).sqrt() + by.epsilon
        table -= touched * (by.rate / (1 - by.beta1**by.step)) * mean / denominator
        grad.zero_()

    def scatter_max(
        self,
        cell: Int[Tensor, " samples"],
        weight: Float[Tensor, " samples"],
        value: Float[Tensor, "cascades cells cells cells"],
    ) -> None:
        """See `FieldBackend.scatter_max`."""
        value.view(-1).scatter_reduce_(0, cell.long(), weight, "amax")
