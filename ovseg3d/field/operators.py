"""What a field asks of its backend, declared: `kernels` (Warp), `tcnn` and `reference` (plain torch) provide it.

Samples are packed, see `samples.py`; positions `x` lie in the unit cube of `box.FieldBox`, rays in field units and
axes. Nothing outside of a backend knows more of it than this.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from ovseg3d.engine import Workers
from ovseg3d.field.levels import GridLevels
from ovseg3d.field.samples import RaySamples


@dataclass(frozen=True)
class AdamStep:
    """Numbers of one step of Adam (Kingma and Ba 2015)."""

    rate: float
    step: int
    """From 1."""
    beta1: float = 0.9
    beta2: float = 0.99
    epsilon: float = 1e-15


@runtime_checkable
class FieldBackend(Protocol):
    """The operators of one hash grid on one device. Those said to be differentiable are so for autograd."""

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
        """Add to `grad_table` the gradient of each (positions, gradient of their encoding), in their order.

        Any number of threads gives the same bits.
        """
        ...

    def position_gradient(
        self,
        x: Float[Tensor, "samples 3"],
        table: Float[Tensor, "entries features"],
        grad: Float[Tensor, "samples dim"],
    ) -> Float[Tensor, "samples 3"]:
        """The gradient of positions, from that of their encoding."""
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
        """A step of Adam, in place, on the entries that have a gradient; leaves `grad` zero."""
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
        occupied: UInt8[Tensor, "cascades cells cells cells"],
        smallest_step: float,
        cone: float,
        capacity: int,
    ) -> RaySamples:
        """Samples in occupied cells.

        Args:
            origins, directions: field units, unit length.
            spans: where rays begin and end.
            jitter: how many steps after its beginning a ray's first sample is, 0 to 1.
            occupied: 1 where samples are wanted, indexed [cascade, z, y, x].
            smallest_step: between samples near the camera.
            cone: further away, the step as a share of the distance.
            capacity: samples at most; the last rays lose theirs.
        """
        ...

    def merge(
        self,
        density: Float[Tensor, " samples"],
        samples: RaySamples,
        draws: Float[Tensor, " samples"],
        least_transmittance: float,
        quota: float,
        capacity: int,
    ) -> tuple[Float[Tensor, " samples"], Int[Tensor, " merged"], Float[Tensor, " merged"], Int[Tensor, " offsets"]]:
        """Fewer samples that let the same light through: neighbours are merged until they weigh `quota` together.

        Each group is represented by one member, drawn in proportion to optical thickness x_i = density_i step_i, with
        the step sum_j x_j / density_i. Transmittance stays exactly what it was, and so does every density's expected
        gradient of it: (x_i / sum_j x_j) (sum_j x_j / density_i) = step_i. Colour is right on average to first order
        in the group's opacity, which the quota keeps small.

        Args:
            density: of the samples.
            samples: from `march`.
            draws: a number from 0 to 1 for each sample.
            least_transmittance: where less of the light is left, samples are dropped.
            quota: render weight, 0 to 1; 0 merges nothing.
            capacity: groups at most; the last rays lose theirs.

        Returns:
            Render weights of all samples; for each group, the sample that stands for it and its step; and where each
            ray's groups begin.
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
        """Volume rendering (Max 1995), differentiable.

        The weights w_i = T_i (1 - exp(-density_i step_i)), and each ray's sums of w x value, w, and w x t.
        """
        ...

    def median(
        self,
        weight: Float[Tensor, " samples"],
        t: Float[Tensor, " samples"],
        step: Float[Tensor, " samples"],
        offsets: Int[Tensor, " offsets"],
    ) -> Float[Tensor, " rays"]:
        """The t before which half of a ray's weight lies, interpolated within a step; 0 for rays without weight."""
        ...

    def distortion(
        self,
        weight: Float[Tensor, " samples"],
        t: Float[Tensor, " samples"],
        step: Float[Tensor, " samples"],
        ray: Int[Tensor, " samples"],
        offsets: Int[Tensor, " offsets"],
    ) -> Float[Tensor, " rays"]:
        """Distortion loss (Barron et al. 2022, equation 15) of each ray; differentiable in the weights."""
        ...

    def scatter_max(
        self,
        cell: Int[Tensor, " samples"],
        weight: Float[Tensor, " samples"],
        value: Float[Tensor, "cascades cells cells cells"],
    ) -> None:
        """value[cell] = max(value[cell], weight), in place; `cell` counts as `RaySamples.cell` does."""
        ...
