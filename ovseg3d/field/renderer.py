"""Render a field: colour, depth, opacity and normals for any camera.

Lengths that leave this file are in input units, directions in the input frame; depth is z-depth, where half of a
ray's light is stopped. Distance along a ray stays inside.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ovseg3d.engine import Workers
from ovseg3d.field.box import FieldBox
from ovseg3d.field.config import FieldConfig
from ovseg3d.field.occupancy import OccupancyGrid
from ovseg3d.field.operators import FieldBackend
from ovseg3d.field.radiance import RadianceField, harmonics
from ovseg3d.field.sampling import MergedRays, RaySampler
from ovseg3d.scene import Camera, Cameras

RAYS_AT_ONCE = {"cpu": 1024, "cuda": 4096}
"""Few enough that a field without empty cells, as in the first steps, fits the memory."""
SAMPLES_AT_MOST = 512
"""A ray's samples on average over those rendered at once; rays seldom have a tenth of it."""
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
    termination: Float[Tensor, " rays"] | None = None
    """Share of the light that stops within `NEAR` of `distance`, from 0 to 1."""


@dataclass(frozen=True)
class RayStops:
    """Where the light of rays stops: a few places on each, one ray's after another's."""

    x: Float[Tensor, "samples 3"]
    """In the unit cube of the field's box, see `FieldBox.unit`."""
    weight: Float[Tensor, " samples"]
    """Share of the ray's light, its render weight; a ray's sum is its opacity."""
    ray: Int[Tensor, " samples"]
    offsets: Int[Tensor, " offsets"]
    """First sample of each ray, and the end of the last."""


class Renderer:
    """Renders one field.

    Args:
        field: parameters and networks.
        backend: operators of its grid.
        box: where it lies.
        occupancy: which of its cells are sampled.
        config: how far apart samples are.
        workers: what rays are shared among.
        white: composite on white (captures with transparency), else on grey.
    """

    def __init__(
        self,
        field: RadianceField,
        backend: FieldBackend,
        box: FieldBox,
        occupancy: OccupancyGrid,
        config: FieldConfig,
        workers: Workers,
        white: bool,
    ) -> None:
        self.field, self.backend, self.box, self.occupancy = field, backend, box, occupancy
        self.config, self.workers, self.white = config, workers, white
        self.sampler = RaySampler(field, backend, box, occupancy, config)

    @torch.no_grad()
    def render(self, camera: Camera, normals: bool = False, termination: bool = False) -> dict[str, np.ndarray]:
        """A picture.

        Args:
            camera: in the input frame; any size.
            normals: also render normals, at about twice the time.
            focus: also say how much of the light stops near one place.

        Returns:
            rgb [h, w, 3] from 0 to 1; depth_z [h, w], input units, 0 where nothing is; opacity [h, w] from 0 to 1;
            with `normals` normal [h, w, 3], unit vectors of the input frame; with `termination` focus [h, w] from 0 to 1.
        """
        # All of it with torch's threads at rest: those of an operation before `rays` would spin beside the workers.
        with self.workers.open():
            return self._render_image(camera, normals, termination)

    def _render_image(self, camera: Camera, normals: bool, termination: bool) -> dict[str, np.ndarray]:
        device = self.field.table.device
        cameras = Cameras.from_cameras([camera], self.box.field_from_input, device)
        origins, directions, z_per_distance = cameras.grid(0)
        met = self.rays(origins, directions, normals, termination)
        shown = {
            "rgb": met.rgb.clamp(0, 1),
            "depth_z": met.distance * z_per_distance * self.box.radius,
            "opacity": met.opacity,
        }
        if normals:
            shown["normal"] = met.normal @ torch.tensor(self.box.rotation, dtype=torch.float32, device=device)
        if termination:
            shown["focus"] = met.termination
        h, w = camera.height, camera.width
        return {name: values.view(h, w, *values.shape[1:]).cpu().numpy() for name, values in shown.items()}

    @torch.no_grad()
    def rays(
        self,
        origins: Float[Tensor, "rays 3"],
        directions: Float[Tensor, "rays 3"],
        normals: bool = False,
        termination: bool = False,
    ) -> RayColors:
        """What rays meet. Origins and unit directions in field units and axes."""
        at_once = RAYS_AT_ONCE[origins.device.type]
        chunks = list(zip(origins.split(at_once), directions.split(at_once)))
        with self.workers.open():
            pieces = self.workers.map(lambda chunk: self._rays(*chunk, normals, termination), chunks)
        columns = ([getattr(piece, name) for piece in pieces] for name in RayColors.__dataclass_fields__)
        return RayColors(*(None if column[0] is None else torch.cat(column) for column in columns))

    @torch.no_grad()
    def stops(
        self, origins: Float[Tensor, "rays 3"], directions: Float[Tensor, "rays 3"], quota: float = 0.2
    ) -> RayStops:
        """Where rays' light stops, for rendering anything else than colour; without gradients.

        Neighbouring samples are merged until they weigh `quota` together, so that a ray has about 1 / quota places at
        most; one member of each group stands for it, and a ray's opacity stays what it was. The number of places is
        asked of the device: not for use inside a training step on a GPU.

        Args:
            origins, directions: in field units and axes, directions of unit length.
            quota: 0 keeps every sample.
        """
        at_once = RAYS_AT_ONCE[origins.device.type]
        chunks = list(zip(origins.split(at_once), directions.split(at_once)))
        with self.workers.open():
            pieces = self.workers.map(lambda chunk: self._stops(*chunk, quota), chunks)
        firsts = [0]
        for piece in pieces:
            firsts.append(firsts[-1] + len(piece.x))
        offsets = [piece.offsets[:-1] + first for piece, first in zip(pieces, firsts)]
        ends = torch.full_like(pieces[0].offsets[:1], firsts[-1])
        return RayStops(
            torch.cat([piece.x for piece in pieces]),
            torch.cat([piece.weight for piece in pieces]),
            torch.cat([piece.ray + number * at_once for number, piece in enumerate(pieces)]),
            torch.cat([*offsets, ends]),
        )

    @torch.no_grad()
    def _stops(self, origins: Tensor, directions: Tensor, quota: float) -> RayStops:
        met = self._sample(origins, directions, quota)
        x, ray, t, density = met.kept(met.x, met.samples.ray, met.samples.t, met.density)
        weight, *_ = self.backend.composite(density, density[:, None], t, met.step, met.offsets)
        # Rows past the last ray's are spare on a GPU.
        end = int(met.offsets[-1])
        return RayStops(x[:end], weight[:end], ray[:end], met.offsets)

    def _sample(self, origins: Tensor, directions: Tensor, quota: float) -> MergedRays:
        return self.sampler.sample(origins, directions, quota, capacity=len(origins) * SAMPLES_AT_MOST)

    @torch.no_grad()
    def _rays(self, origins: Tensor, directions: Tensor, normals: bool, termination: bool) -> RayColors:
        field, backend = self.field, self.backend
        layers = field.layers(field.network)
        met = self._sample(origins, directions, MERGE)
        features, ray, t = met.kept(met.features, met.samples.ray, met.samples.t)
        density, geometry = field.geometry(features, layers)
        values = field.color(geometry, harmonics(directions).index_select(0, ray), layers)
        if normals:
            values = torch.cat([values, self._normals(*met.kept(met.x), layers)], -1)
        weight, values, opacity, _ = backend.composite(density, values, t, met.step, met.offsets)
        rgb = values[:, :3] + (1 - opacity)[:, None] * (1.0 if self.white else 0.5)
        distance = backend.median(weight, t, met.step, met.offsets)
        normal = torch.nn.functional.normalize(values[:, 3:], dim=-1) if normals else None
        near = None
        if termination:
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
