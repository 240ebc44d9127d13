"""The radiance field: a hash grid and two small networks without biases.

grid features -> density network -> (log density, geometry features); geometry features and the view direction in
spherical harmonics -> colour network -> rgb. Density is per field unit. The parameters are two tensors: `table`, and
`network`, the flat weights of both networks, each layer [inputs, outputs].

Source: Mueller et al. 2022, section 5.4.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ovseg3d.field.config import FieldConfig
from ovseg3d.field.levels import grid_levels
from ovseg3d.field.networks import as_layers, first_parameters, perceptron

HARMONICS = 16
"""Spherical harmonics up to degree 3."""
MIN_LOG_DENSITY, MAX_LOG_DENSITY = -6.0, 15.0
"""Limits of log density. Space of the least has an opacity of 0.0025 per field unit, and gradients that can fill it
again; at -10 they no longer could. At the largest, density times a length cannot overflow."""


class RadianceField:
    """Parameters and networks. The lookup of the grid is the backend's.

    Args:
        config: sizes.
        device: where the parameters live.
        seed: of the initial values.
        run: runs the layers of a network, see `perceptron`; a backend may have its own.
    """

    def __init__(
        self, config: FieldConfig, device: torch.device, seed: int = 0, run: Callable[..., Tensor] | None = None
    ) -> None:
        self.levels = grid_levels(config)
        geometry = config.geometry_features
        self._density = [self.levels.width, config.hidden, 1 + geometry]
        self._color = [geometry + HARMONICS, config.hidden, config.hidden, 3]
        table, network = first_parameters(self.levels, self._shapes(), seed)
        self.table, self.network = table.to(device), network.to(device)
        self._run = run or perceptron
        # Sizes that the backend cannot run raise an error here, not in the first step.
        empty = torch.empty(0, geometry, device=device), torch.empty(0, HARMONICS, device=device)
        self.color(*empty, self.layers(self.network))

    def _shapes(self) -> list[tuple[int, int]]:
        return [*pairwise(self._density), *pairwise(self._color)]

    def layers(self, network: Float[Tensor, " weights"]) -> list[Tensor]:
        """The flat weights as matrices, in the order of `_shapes`."""
        return as_layers(network, self._shapes())

    def density(self, features: Float[Tensor, "samples dim"], layers: list[Tensor]) -> Float[Tensor, " samples"]:
        """Density only: of the last layer, just the first output is computed."""
        return trunc_exp(self._run(features, layers[0], layers[1][:, :1])[:, 0])

    def geometry(
        self, features: Float[Tensor, "samples dim"], layers: list[Tensor]
    ) -> tuple[Float[Tensor, " samples"], Float[Tensor, "samples geometry"]]:
        """Density, and the geometry features for the colour network."""
        out = self._run(features, *layers[:2])
        return trunc_exp(out[:, 0]), out[:, 1:]

    def color(
        self,
        geometry: Float[Tensor, "samples geometry"],
        harmonics: Float[Tensor, "samples harmonics"],
        layers: list[Tensor],
    ) -> Float[Tensor, "samples 3"]:
        """rgb from 0 to 1."""
        return torch.sigmoid(self._run(torch.cat([geometry, harmonics], -1), *layers[2:]))


class _TruncExp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        log = x - 1.0
        y = torch.exp(log.clamp(MIN_LOG_DENSITY, MAX_LOG_DENSITY))
        ctx.save_for_backward(log, y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        log, y = ctx.saved_tensors
        beyond = log - log.clamp(MIN_LOG_DENSITY, MAX_LOG_DENSITY)
        return (grad * y).masked_fill(grad * beyond < 0, 0.0)  # a step goes against the gradient


def trunc_exp(x: Tensor) -> Tensor:
    """exp(x - 1), with x - 1 within its limits. The -1 starts fields thin, so that rays reach all of them.

    The gradient is `grad` times the result. Beyond a limit it only leads back: Adam would carry values away that are
    there already, however small the gradient, and with them whole regions out of which none finds back.
    """
    return _TruncExp.apply(x)


def harmonics(d: Float[Tensor, "rays 3"]) -> Float[Tensor, "rays harmonics"]:
    """Real spherical harmonics of unit directions, degrees 0 to 3, normalised over the sphere."""
    x, y, z = d.unbind(-1)
    xx, yy, zz = x * x, y * y, z * z
    return torch.stack(
        [
            torch.full_like(x, 0.28209479177387814),
            -0.4886025119029199 * y,
            0.4886025119029199 * z,
            -0.4886025119029199 * x,
            1.0925484305920792 * x * y,
            -1.0925484305920792 * y * z,
            0.31539156525252005 * (3.0 * zz - 1.0),
            -1.0925484305920792 * x * z,
            0.5462742152960396 * (xx - yy),
            -0.5900435899266435 * y * (3.0 * xx - yy),
            2.890611442640554 * x * y * z,
            -0.4570457994644658 * y * (5.0 * zz - 1.0),
            0.3731763325901154 * z * (5.0 * zz - 3.0),
            -0.4570457994644658 * x * (5.0 * zz - 1.0),
            1.445305721320277 * z * (xx - yy),
            -0.5900435899266435 * x * (xx - 3.0 * yy),
        ],
        -1,
    )
