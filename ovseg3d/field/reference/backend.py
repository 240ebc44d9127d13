"""`--backend torch`: the operators of `field/kernels/backend.py` in plain torch, gradients by autograd."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ovseg3d.engine import Workers
from ovseg3d.field.by_autograd import EncodeByAutograd
from ovseg3d.field.levels import GridLevels
from ovseg3d.field.radiance import perceptron
from ovseg3d.field.reference import rays
from ovseg3d.field.reference.encode import encode


class TorchBackend(EncodeByAutograd):
    """Operators of one grid on one device; see `WarpBackend` for what each does."""

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
        return encode(x, table, self.levels)

    def adam(
        self,
        table: Tensor,
        grad: Tensor,
        mean: Tensor,
        square: Tensor,
        *,
        rate: float,
        beta1: float,
        beta2: float,
        step: int,
        epsilon: float,
        workers: Workers | None = None,
    ) -> None:
        touched = (grad != 0).any(-1, keepdim=True)
        mean.copy_(torch.where(touched, beta1 * mean + (1 - beta1) * grad, mean))
        square.copy_(torch.where(touched, beta2 * square + (1 - beta2) * grad**2, square))
        denominator = (square / (1 - beta2**step)).sqrt() + epsilon
        table -= touched * (rate / (1 - beta1**step)) * mean / denominator
        grad.zero_()

    def strongest(self, cell: Int[Tensor, " samples"], weight: Float[Tensor, " samples"], value: Tensor) -> None:
        value.view(-1).scatter_reduce_(0, cell.long(), weight, "amax")
