"""What the update of a step needs besides the kernels: Adam for small tensors, and gradients scaled on their way."""

import torch
from torch import Tensor

BETAS = (0.9, 0.99)
EPSILON = 1e-15


@torch.no_grad()
def adam(parameter: Tensor, grad: Tensor, mean: Tensor, square: Tensor, rate: float, step: int) -> None:
    """Adam (Kingma and Ba 2015, algorithm 1) in place. `step` counts from 1."""
    mean.lerp_(grad, 1 - BETAS[0])
    square.mul_(BETAS[1]).addcmul_(grad, grad, value=1 - BETAS[1])
    denominator = (square / (1 - BETAS[1] ** step)).sqrt_().add_(EPSILON)
    parameter.addcdiv_(mean, denominator, value=-rate / (1 - BETAS[0] ** step))


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, scale):
        ctx.save_for_backward(scale)
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.saved_tensors[0], None


def scale_gradient(x: Tensor, scale: Tensor) -> Tensor:
    """x, with its gradient scaled.

    Near a camera samples are dense in space and in few views, and without this fog gathers there (Philip and
    Deschaintre 2023, "Floaters No More").
    """
    return _ScaleGradient.apply(x, scale)
