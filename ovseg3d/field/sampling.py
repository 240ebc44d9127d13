"""From rays to the few samples that a pixel is made of: march, encode, look at density, merge.

All of it is without gradients: what is differentiated is differentiated through the merged samples alone, whose
encoded features are reused, so that nothing is looked up twice.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ovseg3d.field.box import FieldBox
from ovseg3d.field.config import FieldConfig
from ovseg3d.field.occupancy import OccupancyGrid
from ovseg3d.field.operators import FieldBackend
from ovseg3d.field.radiance import RadianceField
from ovseg3d.field.samples import RaySamples

LEAST_TRANSMITTANCE = 1e-3
"""Behind the place where less of a ray's light is left there are no samples."""


@dataclass(frozen=True)
class MergedRays:
    """What was found along rays, and which of it stands for the rest.

    The first five have a row for each sample that was marched; the others one for each that was kept.
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
    """The samples kept."""
    step: Float[Tensor, " merged"]
    """Their steps, which stand for their neighbours' too."""
    offsets: Int[Tensor, " offsets"]
    """First kept sample of each ray, and the end of the last."""

    def kept(self, *columns: Tensor) -> list[Tensor]:
        """Rows of the samples kept."""
        return [column.index_select(0, self.index) for column in columns]


class RaySampler:
    """Samples the rays of one field."""

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
        capacity: int,
        spread: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> MergedRays:
        """Samples in occupied cells, merged.

        Args:
            origins, directions: field units and axes, directions of unit length.
            quota: render weight up to which neighbours are merged.
            capacity: samples at most, before and after merging.
            spread: how much further apart samples are than the configuration says.
            generator: of the jitter and the draws; without one all are 0.5.
        """
        field, config = self._field, self._config

        def draw(like: Tensor) -> Tensor:
            if generator is None:
                return torch.full_like(like, 0.5)
            return torch.rand(len(like), generator=generator, device=like.device)

        origins, directions = origins.detach().contiguous(), directions.detach().contiguous()
        smallest = config.step_size * 2.0 / config.occupancy_resolution
        samples = self._backend.march(
            origins, directions, self._box.spans(origins, directions), draw(origins[:, 0]), self._occupancy.occupied,
            smallest_step=smallest * spread, cone=config.cone * spread, capacity=capacity,
        )  # fmt: skip
        x = self._box.along(origins, directions, samples.ray, samples.t)
        features = self._backend.encode(x, field.table)
        density = field.density(features, field.layers(field.network))
        merged = self._backend.merge(density, samples, draw(density), LEAST_TRANSMITTANCE, quota, capacity)
        return MergedRays(samples, x, features, density, *merged)
