"""The interface of a backend, implemented by `kernels` (Warp), `tcnn` and `reference` (plain torch).

Samples are packed, see `samples.py`. Positions `x` are in the unit cube of `box.FieldBox`, rays in field units and
axes. Code outside of a backend uses nothing else of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ovseg3d.engine import Workers
from ovseg3d.field.cell_bits import CellBits
from ovseg3d.field.levels import GridLevels
from ovseg3d.field.samples import RaySamples


@dataclass(frozen=True)
class AdamStep:
    """Parameters of one step of Adam (Kingma and Ba 2015)."""

    rate: float
    step: int
    """From 1."""
    beta1: float = 0.9
    beta2: float = 0.99
    epsilon: float = 1e-15


@runtime_checkable
class FieldBackend(Protocol):
    """The operators of one hash grid on one device. Operators marked differentiable are so for autograd."""

    name: str
    levels: GridLevels
    device: torch.device

    # -- the hash grid and the networks ------------------------------------------------------------------------

    def encode(
        self, x: Float[Tensor, "samples 3"], table: Float[Tensor, "entries features"]
    ) -> Float[Tensor, "samples dim"]:
        """Trilinear interpolation of every level's table at x, level-major. Differentiable."""
        ...

    def add_table_gradient(
        self,
        pieces: Sequence[tuple[Float[Tensor, "_ 3"], Float[Tensor, "_ dim"]]],
        grad_table: Float[Tensor, "entries features"],
        workers: Workers | None = None,
    ) -> None:
        """Add to `grad_table` the gradient of each (positions, gradient of their encoding), in order.

        The result does not depend on the number of threads.
        """
        ...

    def position_gradient(
        self,
        x: Float[Tensor, "samples 3"],
        table: Float[Tensor, "entries features"],
        grad: Float[Tensor, "samples dim"],
    ) -> Float[Tensor, "samples 3"]:
        """Gradient of positions, from that of their encoding."""
        ...

    def adam(
        self,
        table: Float[Tensor, "entries features"],
        grad: Float[Tensor, "entries features"],
        mean: Float[Tensor, "entries features"],
        square: Float[Tensor, "entries features"],
        by: AdamStep,
        workers: Workers | None = None,
    ) -> None:
        """A step of Adam in place, on entries with a gradient only; `grad` is zero afterwards.

        Args:
            table: parameters.
            grad: their gradient.
            mean: first moment.
            square: second moment.
            by: learning rate and decay.
            workers: threads; None uses the calling one.
        """
        ...

    def perceptron(self, x: Float[Tensor, "samples dim"], *layers: Tensor) -> Float[Tensor, "samples out"]:
        """Linear layers [inputs, outputs] without bias, ReLU between them. Differentiable."""
        ...

    # -- along rays --------------------------------------------------------------------------------------------

    def march(
        self,
        origins: Float[Tensor, "rays 3"],
        directions: Float[Tensor, "rays 3"],
        spans: Float[Tensor, "rays 2"],
        jitter: Float[Tensor, " rays"],
        cells: CellBits,
        smallest_step: float,
        cone: float,
        capacity: int | None,
    ) -> RaySamples:
        """Samples in occupied cells.

        Args:
            origins: field units.
            directions: unit length, field axes.
            spans: distances at which rays begin and end.
            jitter: offset of a ray's first sample from its beginning, in steps, 0 to 1.
            cells: to sample.
            smallest_step: least distance between samples, field units.
            cone: distance between samples further away, as a share of the distance from the origin.
            capacity: largest number of samples; those of the last rays are dropped. None: no limit, but a GPU is waited
                for.
        """
        ...

    def merge(
        self,
        density: Float[Tensor, " samples"],
        samples: RaySamples,
        draws: Float[Tensor, " samples"],
        least_transmittance: float,
        quota: float,
        capacity: int | None,
    ) -> tuple[Float[Tensor, " samples"], Int[Tensor, " merged"], Float[Tensor, " merged"], Int[Tensor, " offsets"]]:
        """Merge neighbouring samples until their render weights add up to `quota`.

        Each group is represented by one member i, drawn in proportion to optical thickness x_i = density_i step_i,
        with the step sum_j x_j / density_i. Transmittance is preserved exactly, and the expected gradient of optical
        thickness with respect to each density: (x_i / sum_j x_j) (sum_j x_j / density_i) = step_i. Colour is unbiased
        to first order in the group's opacity, which the quota keeps small.

        Args:
            density: of the samples.
            samples: from `march`.
            draws: a uniform random number from 0 to 1 for each sample.
            least_transmittance: samples with less transmittance are dropped.
            quota: render weight, 0 to 1; 0 merges nothing.
            capacity: largest number of groups, as in `march`.

        Returns:
            Render weights of all samples; the sample that represents each group; its step; the first group of each
            ray.
        """
        ...

    def composite(
        self,
        density: Float[Tensor, " samples"],
        values: Float[Tensor, "samples dim"],
        t: Float[Tensor, " samples"],
        step: Float[Tensor, " samples"],
        offsets: Int[Tensor, " offsets"],
    ) -> tuple[Float[Tensor, " samples"], Float[Tensor, "rays dim"], Float[Tensor, " rays"], Float[Tensor, " rays"]]:
        """Volume rendering (Max 1995). Differentiable.

        Args:
            density: of the samples, per field unit.
            values: to composite, such as colours.
            t: distances along the rays, field units.
            step: lengths of the samples' intervals, field units.
            offsets: first sample of each ray, and the end of the last.

        Returns:
            The weights w_i = T_i (1 - exp(-density_i step_i)), with T_i = exp(-sum_{j<i} density_j step_j), and for
            each ray the sums of w x value, of w (the opacity), and of w x t.
        """
        ...

    def median(
        self,
        weight: Float[Tensor, " samples"],
        t: Float[Tensor, " samples"],
        step: Float[Tensor, " samples"],
        offsets: Int[Tensor, " offsets"],
    ) -> Float[Tensor, " rays"]:
        """The t at which half of a ray's weight is reached, interpolated within a step; 0 for rays without weight."""
        ...

    def distortion(
        self,
        weight: Float[Tensor, " samples"],
        t: Float[Tensor, " samples"],
        step: Float[Tensor, " samples"],
        ray: Int[Tensor, " samples"],
        offsets: Int[Tensor, " offsets"],
    ) -> Float[Tensor, " rays"]:
        """Distortion loss (Barron et al. 2022, equation 15) of each ray. Differentiable in the weights.

        Args:
            weight: render weights of the samples.
            t: distances along the rays, in any units.
            step: lengths of the samples' intervals, in the same units.
            ray: index of each sample's ray.
            offsets: first sample of each ray, and the end of the last.
        """
        ...

    def scatter_max(
        self,
        cell: Int[Tensor, " samples"],
        weight: Float[Tensor, " samples"],
        value: Float[Tensor, "cascades cells cells cells"],
    ) -> None:
        """value[cell] = max(value[cell], weight), in place; `cell` is an index as in `RaySamples.cell`.

        Values and weights are not negative. Weights of 0, as of unused rows, are skipped.
        """
        ...
