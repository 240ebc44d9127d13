"""From rays to the few samples that are composited: march, encode, evaluate density, merge.

Everything here is without gradients. Only merged samples are differentiated; their encoded features are reused, so
that nothing is looked up twice in the grid.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ovseg3d.field.box import FieldBox
from ovseg3d.field.cell_bits import CellBits
from ovseg3d.field.config import FieldConfig
from ovseg3d.field.occupancy import OccupancyGrid
from ovseg3d.field.operators import FieldBackend
from ovseg3d.field.radiance import RadianceField
from ovseg3d.field.samples import RaySamples

MIN_TRANSMITTANCE = 1e-3
"""Samples are dropped where the transmittance of a ray is below this."""


@dataclass(frozen=True)
class MergedRays:
    """Samples along rays, and those that represent them after merging.

    The first five fields have a row for each marched sample, the others one for each kept sample.
    """

    samples: RaySamples
    x: Float[Tensor, "samples 3"]
    """In the unit cube."""
    features: Float[Tensor, "samples dim"]
    """Encoded positions."""
    density: Float[Tensor, " samples"]
    weight: Float[Tensor, " samples"]
    """Render weight."""
    index: Int[Tensor, " merged"]
    """Rows of the kept samples."""
    step: Float[Tensor, " merged"]
    """Step of each kept sample, which includes the samples merged into it."""
    offsets: Int[Tensor, " offsets"]
    """First kept sample of each ray, and the end of the last."""

    @property
    def transmittance(self) -> Float[Tensor, " samples"]:
        """Share of each ray's light that reaches each marched sample; 0 in unused rows."""
        # The running sum goes over all rays; the part of earlier rays is subtracted.
        total = torch.nn.functional.pad(self.weight.double().cumsum(0), (1, 0))
        before = total[:-1] - total.index_select(0, self.samples.offsets.index_select(0, self.samples.ray))
        in_use = torch.arange(len(before), device=before.device) < self.samples.offsets[-1]
        return ((1.0 - before) * in_use).to(self.weight.dtype)

    def kept(self, *columns: Tensor) -> list[Tensor]:
        """The columns' rows of the kept samples."""
        return [column.index_select(0, self.index) for column in columns]


class RaySampler:
    """Samples the rays of one field.

    Args:
        field: parameters and networks.
        backend: operators of its grid.
        box: field coordinates.
        occupancy: cells to sample.
        config: distances between samples.
    """

    def __init__(
        self, field: RadianceField, backend: FieldBackend, box: FieldBox, occupancy: OccupancyGrid, config: FieldConfig
    ) -> None:
        self._field, self._backend, self._box, self._occupancy = field, backend, box, occupancy
        self._config = config

    @torch.no_grad()
    def sample(
        self,
        origins: Float[Tensor, "rays 3"],
        directions: Float[Tensor, "rays 3"],
        quota: float,
        capacity: int | None,
        kept: int | None = None,
        spread: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> MergedRays:
        """Samples in occupied cells, merged.

        Args:
            origins, directions: field units and axes, directions of unit length.
            quota: neighbours are merged up to this render weight.
            capacity: largest number of samples; None: no limit, but a GPU is waited for.
            kept: the same after merging.
            spread: factor on the distance between samples.
            generator: of the jitter and of the choice of kept samples; None uses 0.5 throughout.
        """
        field = self._field

        def draw(like: Tensor) -> Tensor:
            if generator is None:
                return torch.full_like(like, 0.5)
            return torch.rand(len(like), generator=generator, device=like.device)

        origins, directions = origins.detach().contiguous(), directions.detach().contiguous()
        spans = self._box.spans(origins, directions)
        cells, jitter = self._occupancy.bits, draw(origins[:, 0])
        samples = self._march(origins, directions, spans, jitter, cells, spread, capacity)
        x = self._box.along(origins, directions, samples.ray, samples.t)
        features = self._backend.encode(x, field.table)
        density = field.density(features, field.layers(field.network))
        merged = self._backend.merge(density, samples, draw(density), MIN_TRANSMITTANCE, quota, kept)
        return MergedRays(samples, x, features, density, *merged)

    @torch.no_grad()
    def try_cells(
        self,
        origins: Float[Tensor, "rays 3"],
        directions: Float[Tensor, "rays 3"],
        end: Float[Tensor, " rays"],
        capacity: int,
    ) -> None:
        """Put the cells along rays on trial, where any camera sees them.

        Args:
            origins, directions: field units and axes, directions of unit length.
            end: distance at which rays end, field units.
            capacity: largest number of samples.
        """
        grid = self._occupancy
        origins, directions = origins.detach().contiguous(), directions.detach().contiguous()
        spans = torch.minimum(self._box.spans(origins, directions), end[:, None])
        jitter = torch.full_like(end, 0.5)
        samples = self._march(origins, directions, spans, jitter, CellBits.pack(grid.seen), 1.0, capacity)
        # On a GPU rows after the last ray's are unused.
        in_use = torch.arange(len(samples.cell), device=end.device) < samples.offsets[-1]
        self._backend.scatter_max(samples.cell, grid.trial * in_use, grid.value)

    def _march(
        self,
        origins: Tensor,
        directions: Tensor,
        spans: Tensor,
        jitter: Tensor,
        cells: CellBits,
        spread: float,
        capacity: int | None,
    ) -> RaySamples:
        smallest = self._config.step_size * 2.0 / self._config.occupancy_resolution
        return self._backend.march(
            origins, directions, spans, jitter, cells,
            smallest_step=smallest * spread, cone=self._config.cone * spread, capacity=capacity,
        )  # fmt: skip
