"""Small networks without biases, as tinycudann's fully fused ones, and the initial values of grid and networks.

The weights of a network are one flat tensor; each layer is [inputs, outputs].
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ovseg3d.field.levels import GridLevels


def first_parameters(
    levels: GridLevels, shapes: Sequence[tuple[int, int]], seed: int
) -> tuple[Float[Tensor, "entries features"], Float[Tensor, " weights"]]:
    """Initial table, uniform in +-1e-4, and initial flat weights (Glorot and Bengio 2010, equation 16).

    Args:
        levels: the grid.
        shapes: (inputs, outputs) of the layers, in order.
        seed: of the random values.
    """
    generator = torch.Generator().manual_seed(seed)
    table = torch.rand(levels.entries, levels.features, generator=generator) * 2e-4 - 1e-4
    layers = []
    for inputs, outputs in shapes:
        bound = (6.0 / (inputs + outputs)) ** 0.5
        layers.append(torch.rand(inputs * outputs, generator=generator) * 2 * bound - bound)
    return table, torch.cat(layers)


def as_layers(network: Float[Tensor, " weights"], shapes: Sequence[tuple[int, int]]) -> list[Tensor]:
    """Flat weights as matrices [inputs, outputs]."""
    flat = network.split([inputs * outputs for inputs, outputs in shapes])
    return [piece.view(shape) for piece, shape in zip(flat, shapes)]


class _Perceptron(torch.autograd.Function):
    """Linear layers with ReLU between them. It works in place where autograd would allocate."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *layers: Tensor) -> Tensor:
        inputs = [x]
        for layer in layers[:-1]:
            inputs.append(torch.mm(inputs[-1], layer).relu_())
        ctx.save_for_backward(*inputs, *layers)
        if layers[-1].shape[1] == 1:  # a product with a vector is faster than one with a matrix of one column
            return torch.mv(inputs[-1], layers[-1][:, 0])[:, None]
        return torch.mm(inputs[-1], layers[-1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        count = len(ctx.saved_tensors) // 2
        inputs, layers = ctx.saved_tensors[:count], ctx.saved_tensors[count:]
        grads: list[Tensor | None] = [None] * count
        for i in reversed(range(count)):
            grads[i] = torch.mm(inputs[i].t(), grad)
            grad = torch.mm(grad, layers[i].t())
            if i > 0:
                grad = torch.ops.aten.threshold_backward(grad, inputs[i], 0)
        return (grad, *grads)


def perceptron(x: Float[Tensor, "samples dim"], *layers: Tensor) -> Float[Tensor, "samples out"]:
    """Linear layers without bias, ReLU between them."""
    return _Perceptron.apply(x, *layers)
