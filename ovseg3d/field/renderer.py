"""Render a field: colour, depth, opacity and normals for any camera.

Lengths that leave this file are in input units, directions in the input frame; depth is z-depth, where half of a
ray's light is stopped. Distance along a ray stays inside.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ovseg3d.engine import Workers
from ovseg3d.field.box import FieldBox
from ovseg3d.field.config import FieldConfig
from ovseg3d.field.occupancy import OccupancyGrid
from ovseg3d.field.radiance import RadianceField, harmonics
from ovseg3d.scene import Camera, Cameras

RAYS_AT_ONCE = {"cpu": 1024, "cuda": 4096}
"""Few enough that a field without empty cells, as in the first steps, fits the memory."""
SAMPLES_AT_MOST = 512
"""A ray's samples on average over those rendered at once; rays seldom have a tenth of it."""
LEAST_TRANSMITTANCE = 1e-3
NEAR = 0.02
"""What counts as one place along a ray: this share of the distance, and at least so many field units."""
MERGE = 1e-3
"""Samples are merged up to this render weight: far less than a picture shows."""


@dataclass(frozen=True)
class RayColors:
    """What rays meet, in field units and field axes."""

    rgb: Float[Tensor, "rays 3"]
    distance: Float[Tensor, " rays"]
    """Along the ray; 0 where nothing is."""
    opacity: Float[Tensor, " rays"]
    normal: Float[Tensor, "rays 3"] | None = None
    """Unit vectors against the gradient of density, or zero where nothing is."""
    focus: Float[Tensor, " rays"] | None = None
    """Share of the light that stops within `NEAR` of `distance`, from 0 to 1."""


class Renderer:
    """Renders one field.

    Args:
        white: composite on white (captures with transparency), else on grey.
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
    def render(self, camera: Camera, normals: bool = False, focus: bool = False) -> dict[str, np.ndarray]:
        """A picture.

        Args:
            camera: in the input frame; any size.
            normals: also render normals, at about twice the time.
            focus: also say how much of the light stops near one place.

        Returns:
            rgb [h, w, 3] from 0 to 1; depth_z [h, w], input units, 0 where nothing is; opacity [h, w] from 0 to 1;
            with `normals` normal [h, w, 3], unit vectors of the input frame; with `focus` focus [h, w] from 0 to 1.
        """
        device = self.field.table.device
        cameras = Cameras.from_cameras([camera], self.box.field_from_input, device)
        origins, directions, z_per_distance = cameras.grid(0)
        met = self.rays(origins, directions, normals, focus)
        shown = {
            "rgb": met.rgb.clamp(0, 1),
            "depth_z": met.distance * z_per_distance * self.box.radius,
            "opacity": met.opacity,
        }
        if normals:
            shown["normal"] = met.normal @ torch.tensor(self.box.rotation, dtype=torch.float32, device=device)
        if focus:
            shown["focus"] = met.focus
        h, w = camera.height, camera.width
        return {name: values.view(h, w, *values.shape[1:]).cpu().numpy() for name, values in shown.items()}

    @torch.no_grad()
    def rays(
        self,
        origins: Float[Tensor, "rays 3"],
        directions: Float[Tensor, "rays 3"],
        normals: bool = False,
        focus: bool = False,
    ) -> RayColors:
        """What rays meet. Origins and unit directions in field units and axes."""
        at_once = RAYS_AT_ONCE[origins.device.type]
        chunks = list(zip(origins.split(at_once), directions.split(at_once)))
        with self.workers.open():
            pieces = self.workers.map(lambda chunk: self._rays(*chunk, normals, focus), chunks)
        columns = ([getattr(piece, name) for piece in pieces] for name in RayColors.__dataclass_fields__)
        return RayColors(*(None if column[0] is None else torch.cat(column) for column in columns))

    @torch.no_grad()
    def _rays(self, origins: Tensor, directions: Tensor, normals: bool, focus: bool) -> RayColors:
        field, backend, box = self.field, self.backend, self.box
        origins, directions = origins.contiguous(), directions.contiguous()
        samples = backend.march(
            origins, directions, box.spans(origins, directions), torch.full_like(origins[:, 0], 0.5),
            self.occupancy.occupied, smallest_step=self.smallest_step, cone=self.config.cone,
            capacity=len(origins) * SAMPLES_AT_MOST,
        )  # fmt: skip
        layers = field.layers(field.network)
        x = box.along(origins, directions, samples.ray, samples.t)
        features = backend.encode(x, field.table)
        density = field.density(features, layers)
        _, index, step, offsets = backend.merge(
            density, samples, torch.full_like(density, 0.5), LEAST_TRANSMITTANCE, MERGE, len(density)
        )
        features, ray, t = (v.index_select(0, index) for v in (features, samples.ray, samples.t))
        density, geometry = field.geometry(features, layers)
        values = field.color(geometry, harmonics(directions).index_select(0, ray), layers)
        if normals:
            values = torch.cat([values, self._normals(x.index_select(0, index), layers)], -1)
        weight, values, opacity, _ = backend.composite(density, values, t, step, offsets)
        rgb = values[:, :3] + (1 - opacity)[:, None] * (1.0 if self.white else 0.5)
        distance = backend.median(weight, t, step, offsets)
        normal = torch.nn.functional.normalize(values[:, 3:], dim=-1) if normals else None
        near = None
        if focus:
            place = distance.index_select(0, ray)
            inside = (t - place).abs() <= NEAR * place.clamp_min(1.0)
            near = torch.zeros_like(opacity).index_add_(0, ray, weight * inside)
        return RayColors(rgb, distance, opacity, normal, near)

    def _normals(self, x: Float[Tensor, "samples 3"], layers: list[Tensor]) -> Float[Tensor, "samples 3"]:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            density, _ = self.field.geometry(self.backend.encode(x, self.field.table), layers)
            (slope,) = torch.autograd.grad(density.sum(), x)
        # Contraction changes lengths, and directions little where normals are asked for.
        return -torch.nn.functional.normalize(slope, dim=-1)
