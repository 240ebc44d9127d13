"""tinycudann's fully fused networks as the field's `perceptron`, on the field's own weights.

tinycudann stores layers one after another, each as [outputs, inputs], row-major, with the inputs of the first and
the outputs of the last padded to a multiple of 16. Ours are [inputs, outputs] without padding. Only the field's
weights are stored: each call converts them (a few kilobytes), and converts the gradient back. tinycudann feeds ones to
the padded inputs; their weights are zero here and have no gradient, so that networks have no biases, as on every
other backend.

Differences from our own networks: tinycudann computes in half precision, forward (error about 1e-3 of a value) and
backward; hidden layers have 16, 32, 64 or 128 neurons. Half precision ranges from 6e-8 to 65504. Gradients of a field
exceed that range, so each call scales them such that no sum over its samples can leave it, and scales back in single
precision. tinycudann's own constant factor is disabled.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ovseg3d.errors import DeviceError
from ovseg3d.field.networks import perceptron

WIDTHS = (16, 32, 64, 128)
"""Widths of hidden layers that tinycudann fuses on every GPU."""
BLOCK = 16
"""Layers are padded to a multiple of this."""
LARGEST_SUM = 128.0
"""The largest sum of an output's absolute gradients is scaled to this: it fits even with activations of 500."""


class FusedNetworks:
    """`perceptron(x, *layers)` on tinycudann: linear layers without bias, ReLU between them. Differentiable.

    Raises:
        DeviceError: tinycudann does not support layers of these sizes, or its layout differs.
    """

    def __init__(self, tinycudann: Any, device: torch.device) -> None:
        self._tinycudann, self._device = tinycudann, device
        self._networks: dict[tuple[int, ...], torch.nn.Module] = {}

    def __call__(self, x: Float[Tensor, "samples dim"], *layers: Tensor) -> Float[Tensor, "samples out"]:
        widths = (len(layers[0]), *(layer.shape[1] for layer in layers))
        if widths not in self._networks:
            self._networks[widths] = self._network(widths)
        if not len(x):
            # tinycudann cannot launch a kernel without samples.
            return perceptron(x, *layers)
        return _Fused.apply(x, self._networks[widths], *layers)

    def _network(self, widths: tuple[int, ...]) -> torch.nn.Module:
        inputs, *hidden, outputs = widths
        if len(set(hidden)) != 1 or hidden[0] not in WIDTHS:
            raise DeviceError(
                f"tinycudann cannot fuse hidden layers of {', '.join(map(str, hidden))} neurons",
                fix=f"use {', '.join(map(str, WIDTHS))} (--field.hidden), or --backend warp",
            )
        config = {
            "otype": "FullyFusedMLP",
            "activation": "ReLU",
            "output_activation": "None",
            "n_neurons": hidden[0],
            "n_hidden_layers": len(hidden),
        }
        try:
            network = self._tinycudann.Network(inputs, outputs, config).to(self._device)
        except RuntimeError as error:
            raise DeviceError(f"tinycudann cannot make a network here ({error})", fix="use --backend warp") from error
        expected = sum(_padded(a) * _padded(b) for a, b in zip(widths, widths[1:]))
        if network.params.numel() != expected:
            raise DeviceError(
                f"tinycudann's network has {network.params.numel()} parameters where {expected} were expected",
                fix="fused networks need a GPU of compute capability 7.5 or more; else use --backend warp",
            )
        network.loss_scale = 1.0
        return network


def _padded(width: int) -> int:
    return -(-width // BLOCK) * BLOCK


def to_tinycudann(layers: Sequence[Tensor]) -> Float[Tensor, " weights"]:
    """Our layers, each [inputs, outputs], as tinycudann's flat parameters, padded with zeros."""
    pieces = []
    for layer in layers:
        inputs, outputs = layer.shape
        padding = (0, _padded(outputs) - outputs, 0, _padded(inputs) - inputs)
        pieces.append(torch.nn.functional.pad(layer, padding).t().reshape(-1))
    return torch.cat(pieces)


def from_tinycudann(flat: Float[Tensor, " weights"], shapes: Sequence[torch.Size]) -> list[Tensor]:
    """The inverse of `to_tinycudann`: layers, or their gradients, of these shapes [inputs, outputs]."""
    pieces = flat.split([_padded(inputs) * _padded(outputs) for inputs, outputs in shapes])
    return [
        piece.view(_padded(outputs), _padded(inputs))[:outputs, :inputs].t()
        for piece, (inputs, outputs) in zip(pieces, shapes)
    ]


class _Fused(torch.autograd.Function):
    """tinycudann's network, with gradients scaled into half precision and back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, network: torch.nn.Module, *layers: Tensor) -> Tensor:
        x = x.detach().requires_grad_(ctx.needs_input_grad[0])
        flat = to_tinycudann(layers).requires_grad_(any(ctx.needs_input_grad[2:]))
        with torch.set_grad_enabled(x.requires_grad or flat.requires_grad):
            out = torch.func.functional_call(network, {"params": flat}, (x,))
        ctx.graph, ctx.shapes = (out, x, flat), [layer.shape for layer in layers]
        return out.detach().float()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        out, *leaves = ctx.graph
        scale = LARGEST_SUM / grad.abs().sum(0).amax().clamp_min(1e-30)
        wanted = [leaf for leaf in leaves if leaf.requires_grad]
        found = iter(torch.autograd.grad(out, wanted, (grad * scale).to(out.dtype)))
        grad_x, grad_flat = (next(found).float() / scale if leaf.requires_grad else None for leaf in leaves)
        if grad_flat is None:
            return (grad_x, None, *[None] * len(ctx.shapes))
        return (grad_x, None, *from_tinycudann(grad_flat, ctx.shapes))
