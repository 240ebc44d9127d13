"""Render a field: colour, depth, opacity and normals for any camera.

`render` returns lengths in input units and directions in the input frame. Depth is z-depth at the median of a ray's
render weights. `rays` and `stops` use field units and field axes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ovseg3d.engine import Workers, out_of_memory_error
from ovseg3d.field.box import FieldBox
from ovseg3d.field.config import FieldConfig
from ovseg3d.field.occupancy import OccupancyGrid
from ovseg3d.field.operators import FieldBackend
from ovseg3d.field.radiance import RadianceField, harmonics
from ovseg3d.field.samples import padded
from ovseg3d.field.sampling import RaySampler
from ovseg3d.scene import Camera, Cameras

Piece = TypeVar("Piece")

RAYS_AT_ONCE = 1024
"""Rays of a chunk on the CPU, and of the first one on a GPU: a field without empty cells must fit the memory."""
SAMPLES_AT_ONCE = 2**20
"""Samples of a chunk that a GPU aims at."""
MAX_RAYS_AT_ONCE = 2**16
"""Largest number of rays of a chunk."""
NEAR = 0.02
"""Light stops near a distance if within this share of it, or within this many field units if that is more."""
MERGE = 1e-3
"""Samples are merged up to this render weight, which is invisible in an image."""


@dataclass(frozen=True)
class RayColors:
    """Rendered rays, in field units and field axes."""

    rgb: Float[Tensor, "rays 3"]
    distance: Float[Tensor, " rays"]
    """Median distance along the ray; 0 for rays without weight."""
    opacity: Float[Tensor, " rays"]
    normal: Float[Tensor, "rays 3"] | None = None
    """Unit vectors against the gradient of density; zero for rays without weight."""
    termination: Float[Tensor, " rays"] | None = None
    """Sum of the render weights within `NEAR` of `distance`, from 0 to 1."""


@dataclass(frozen=True)
class RayStops:
    """Where the light of rays stops: a few samples on each, packed ray after ray."""

    x: Float[Tensor, "samples 3"]
    """In the unit cube of the field's box, see `FieldBox.contract`."""
    weight: Float[Tensor, " samples"]
    """Render weight; the sum over a ray is its opacity."""
    ray: Int[Tensor, " samples"]
    offsets: Int[Tensor, " offsets"]
    """First sample of each ray, and the end of the last."""


class Renderer:
    """Renders one field.

    Args:
        field: parameters and networks.
        backend: operators of its grid.
        box: field coordinates.
        occupancy: cells to sample.
        config: distances between samples.
        workers: threads, which chunks of rays are shared among.
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
        self.packed = padded(self.device)
        """Whether chunks are cut by their numbers of samples; else into equal ones for the threads."""

    @property
    def device(self) -> torch.device:
        """Where rays are rendered."""
        return self.field.table.device

    @torch.no_grad()
    def render(self, camera: Camera, normals: bool = False, termination: bool = False) -> dict[str, np.ndarray]:
        """Render an image.

        Args:
            camera: in the input frame; any size.
            normals: also render normals; takes about twice the time.
            termination: also return the share of the light that stops near the depth.

        Returns:
            rgb [h, w, 3] from 0 to 1; depth_z [h, w], input units, 0 for rays without weight; opacity [h, w] from 0 to
            1; with `normals`, normal [h, w, 3], unit vectors of the input frame; with `termination`, termination
            [h, w] from 0 to 1.
        """
        # The workers are open for all of it: torch's own threads would spin beside them after an operation.
        with self.workers.open():
            return self._render_image(camera, normals, termination)

    def _render_image(self, camera: Camera, normals: bool, termination: bool) -> dict[str, np.ndarray]:
        device = self.device
        cameras = Cameras.from_cameras([camera], self.box.field_from_input, device)
        origins, directions, z_per_distance = cameras.grid(0)
        met = self.rays(origins, directions, normals, termination)
        shown = {
            "rgb": met.rgb.clamp(0, 1),
            "depth_z": met.distance * z_per_distance * self.box.radius,
            "opacity": met.opacity,
        }
        if met.normal is not None:
            shown["normal"] = met.normal @ torch.tensor(self.box.rotation, dtype=torch.float32, device=device)
        if met.termination is not None:
            shown["termination"] = met.termination
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
        """Render rays.

        Args:
            origins: field units and axes.
            directions: unit length, field axes.
            normals: also render normals.
            termination: also return the share of the light that stops near the distance.
        """
        pieces = self._in_chunks(origins, directions, lambda _, rays: self._rays(rays, normals, termination))
        names = [name for name in RayColors.__dataclass_fields__ if getattr(pieces[0], name) is not None]
        return RayColors(**{name: torch.cat([getattr(piece, name) for piece in pieces]) for name in names})

    @torch.no_grad()
    def stops(
        self, origins: Float[Tensor, "rays 3"], directions: Float[Tensor, "rays 3"], quota: float = 0.2
    ) -> RayStops:
        """Samples where the light of rays stops, to render other quantities than colour; without gradients.

        Neighbouring samples are merged until their weights add up to `quota`, so that a ray has at most about
        1 / quota of them. One member represents each group; the opacity of a ray is preserved.

        Args:
            origins: field units and axes.
            directions: unit length, field axes.
            quota: render weight of a group; 0 keeps every sample.
        """
        pieces = self._in_chunks(origins, directions, lambda first, rays: self._stops(rays, first, quota))
        firsts = [0]
        for piece in pieces:
            firsts.append(firsts[-1] + len(piece.x))
        offsets = [piece.offsets[:-1] + first for piece, first in zip(pieces, firsts)]
        ends = torch.full_like(pieces[0].offsets[:1], firsts[-1])
        return RayStops(
            torch.cat([piece.x for piece in pieces]),
            torch.cat([piece.weight for piece in pieces]),
            torch.cat([piece.ray for piece in pieces]),
            torch.cat([*offsets, ends]),
        )

    def _in_chunks(
        self, origins: Tensor, directions: Tensor, work: Callable[[int, tuple[Tensor, Tensor]], tuple[Piece, int]]
    ) -> list[Piece]:
        """Apply `work` to rays in chunks; it gets the first ray's number, and returns how many samples were marched.

        On a GPU the samples of a chunk say how many rays the next one has, so that a launch fills the device. It waits
        for the device twice per chunk, to give buffers as many rows as there are samples: do not use this inside a
        training step.
        """
        if not self.packed:
            starts = range(0, max(len(origins), 1), RAYS_AT_ONCE)
            chunks = zip(starts, zip(origins.split(RAYS_AT_ONCE), directions.split(RAYS_AT_ONCE)))
            with self.workers.open():
                return [piece for piece, _ in self.workers.map(lambda chunk: work(*chunk), chunks)]
        pieces, first, count, most = [], 0, RAYS_AT_ONCE, MAX_RAYS_AT_ONCE
        while first < len(origins) or not pieces:
            rows = slice(first, first + count)
            try:
                piece, samples = work(first, (origins[rows], directions[rows]))
            except torch.cuda.OutOfMemoryError as error:
                if count == 1:
                    raise out_of_memory_error() from error
                count = most = count // 2
                continue
            pieces.append(piece)
            first += count
            # Neighbouring rays may have more samples, so chunks grow slowly.
            count = min(int(count * min(SAMPLES_AT_ONCE / max(samples, 1), 4.0)) or 1, most)
        return pieces

    @torch.no_grad()
    def _stops(self, rays: tuple[Tensor, Tensor], first: int, quota: float) -> tuple[RayStops, int]:
        met = self.sampler.sample(*rays, quota=quota, capacity=None)
        x, ray, t, density = met.kept(met.x, met.samples.ray, met.samples.t, met.density)
        weight, *_ = self.backend.composite(density, density[:, None], t, met.step, met.offsets)
        return RayStops(x, weight, ray + first, met.offsets), len(met.density)

    @torch.no_grad()
    def _rays(self, rays: tuple[Tensor, Tensor], normals: bool, termination: bool) -> tuple[RayColors, int]:
        origins, directions = rays
        field, backend = self.field, self.backend
        layers = field.layers(field.network)
        met = self.sampler.sample(origins, directions, MERGE, capacity=None)
        features, ray, t = met.kept(met.features, met.samples.ray, met.samples.t)
        density, geometry = field.geometry(features, layers)
        values = field.color(geometry, harmonics(directions).index_select(0, ray), layers)
        if normals:
            at = origins.index_select(0, ray) + directions.index_select(0, ray) * t[:, None]
            values = torch.cat([values, self._normals(at, layers)], -1)
        weight, values, opacity, _ = backend.composite(density, values, t, met.step, met.offsets)
        rgb = values[:, :3] + (1 - opacity)[:, None] * (1.0 if self.white else 0.5)
        distance = backend.median(weight, t, met.step, met.offsets)
        normal = torch.nn.functional.normalize(values[:, 3:], dim=-1) if normals else None
        near = None
        if termination:
            surface = distance.index_select(0, ray)
            inside = (t - surface).abs() <= NEAR * surface.clamp_min(1.0)
            near = torch.zeros_like(opacity).index_add_(0, ray, weight * inside)
        return RayColors(rgb, distance, opacity, normal, near), len(met.density)

    def _normals(self, at: Float[Tensor, "samples 3"], layers: list[Tensor]) -> Float[Tensor, "samples 3"]:
        """Unit vectors against the gradient of density at positions in field units."""
        with torch.enable_grad():
            # Through the contraction, so that the gradient is that in field units.
            at = at.detach().requires_grad_()
            density, _ = self.field.geometry(self.backend.encode(self.box.contract(at), self.field.table), layers)
            (slope,) = torch.autograd.grad(density.sum(), at)
        return -torch.nn.functional.normalize(slope, dim=-1)
