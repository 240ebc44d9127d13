"""Render a field: colour, depth, opacity and normals for any camera or any rays.

Lengths that leave this file are in input units; depth is z-depth, the median of the distribution of a ray's weight
along it; distance along a ray stays inside.
"""

import numpy as np
import torch
from torch import Tensor

from ovseg3d.engine import Workers
from ovseg3d.field.box import FieldBox
from ovseg3d.field.config import FieldConfig
from ovseg3d.field.occupancy import OccupancyGrid
from ovseg3d.field.radiance import RadianceField, harmonics
from ovseg3d.scene import Camera, Cameras

RAYS_AT_ONCE = 4096
LEAST_TRANSMITTANCE = 1e-3
MERGE = 1e-3
"""Samples are merged up to this render weight: far less than a picture shows."""


class Renderer:
    """Renders one field.

    Args:
        white: composite on white (captures with transparency), else on the mean of what is in view.
    """

    def __init__(
        self,
        field: RadianceField,
        backend: object,
        box: FieldBox,
        occupancy: OccupancyGrid,
        config: FieldConfig,
        workers: Workers,
        white: bool,
    ) -> None:
        self.field, self.backend, self.box, self.occupancy = field, backend, box, occupancy
        self.config, self.workers, self.white = config, workers, white

    @property
    def smallest_step(self) -> float:
        """Distance between samples near the camera, field units."""
        return self.config.step_size * 2.0 / self.config.occupancy_resolution

    @torch.no_grad()
    def render(self, camera: Camera) -> dict[str, np.ndarray]:
        """A picture: rgb [h, w, 3] from 0 to 1, depth_z [h, w] (input units, 0 where nothing is), opacity [h, w]."""
        device = self.field.table.device
        cameras = Cameras.from_cameras([camera], self.box.field_from_input, device)
        origins, directions, z_per_distance = cameras.grid(0)
        chunks = list(zip(origins.split(RAYS_AT_ONCE), directions.split(RAYS_AT_ONCE)))
        with self.workers.open():
            pieces = self.workers.map(lambda rays: self.render_rays(*rays), chunks)
        rgb, distance, opacity = (torch.cat(parts) for parts in zip(*pieces))
        h, w = camera.height, camera.width
        depth_z = distance * z_per_distance * self.box.radius
        return {
            "rgb": rgb.clamp(0, 1).view(h, w, 3).cpu().numpy(),
            "depth_z": depth_z.view(h, w).cpu().numpy(),
            "opacity": opacity.view(h, w).cpu().numpy(),
        }

    def render_rays(self, origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """rgb, distance and opacity of rays in field units."""
        field, backend, box = self.field, self.backend, self.box
        jitter = torch.full_like(origins[:, 0], 0.5)
        capacity = RAYS_AT_ONCE * 1024
        samples = backend.march(
            origins, directions, box.spans(origins, directions), jitter, self.occupancy.occupied,
            smallest_step=self.smallest_step, cone=self.config.cone, capacity=capacity,
        )  # fmt: skip
        layers = field.layers(field.network)
        x = box.unit(origins[samples.ray] + directions[samples.ray] * samples.t[:, None])
        features = backend.encode(x, field.table)
        density = field.density(features, layers)
        draws = torch.full_like(density, 0.5)
        _, index, length, offsets = backend.merge(density, samples, draws, LEAST_TRANSMITTANCE, MERGE, capacity)
        density, geometry = field.geometry(features[index], layers)
        color = field.color(geometry, harmonics(directions)[samples.ray[index]], layers)
        t = samples.t[index]
        weight, rgb, opacity, distance = backend.composite(density, color, t, length, offsets)
        distance = distance / opacity.clamp_min(1e-6)
        background = torch.ones(3, device=rgb.device) if self.white else torch.full((3,), 0.5, device=rgb.device)
        return rgb + (1 - opacity)[:, None] * background, distance, opacity
