"""Small networks without biases beside a hash grid, as tinycudann's fully fused ones, and the first values of both.

A network's weights are one flat tensor, each layer [inputs, outputs].
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ovseg3d.field.levels import GridLevels


def first_parameters(
    levels: GridLevels, shapes: Sequence[tuple[int, int]], seed: int
) -> tuple[Float[Tensor, "entries features"], Float[Tensor, " weights"]]:
    """A new table, uniform in +-1e-4, and flat weights after Glorot and Bengio (2010, equation 16).

    Args:
        levels: the grid.
        shapes: of the layers, in their order.
        seed: the same one gives the same values.
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
    """Linear layers with ReLU between; in place where autograd would allocate."""

    @staticmethod
    def forward(ctx, x, *layers):
        inputs = [x]
        for layer in layers[:-1]:
            inputs.append(torch.mm(inputs[-1], layer).relu_())
        ctx.save_for_backward(*inputs, *layers)
        if layers[-1].shape[1] == 1:  # A vector is quicker than a narrow matrix.
            return torch.mv(inputs[-1], layers[-1][:, 0])[:, None]
        return torch.mm(inputs[-1], layers[-1])

    @staticmethod
    def backward(ctx, grad):
        count = len(ctx.saved_tensors) // 2
        inputs, layers = ctx.saved_tensors[:count], ctx.saved_tensors[count:]
        grads = [None] * count
        for i in reversed(range(count)):
            grads[i] = torch.mm(inputs[i].t(), grad)
            grad = torch.mm(grad, layers[i].t())
            if i > 0:
                grad = torch.ops.aten.threshold_backward(grad, inputs[i], 0)
        return (grad, *grads)


def perceptron(x: Float[Tensor, "samples dim"], *layers: Tensor) -> Float[Tensor, "samples out"]:
    """Linear layers without bias, ReLU between them."""
    return _Perceptron.apply(x, *layers)
