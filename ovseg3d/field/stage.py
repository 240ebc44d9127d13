"""Train a radiance field: the stage `field`.

A step draws rays and splits them into one piece for each worker. Each piece marches through occupied cells, encodes
the samples, evaluates their density without gradients, merges neighbours of little weight, and differentiates the
merged samples only. Their encoded features are reused. Then the gradients of the pieces are added in order, level by
level for the grid. All random numbers come from (seed, step, piece): a step can be repeated bit by bit, and a resumed
run continues exactly.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ovseg3d.engine import Workers, tf32_matmul
from ovseg3d.field.backends import make_backend
from ovseg3d.field.config import FieldConfig
from ovseg3d.field.corrections import PhotoCorrections
from ovseg3d.field.depth_rays import DepthRays
from ovseg3d.field.graphs import CudaGraphs
from ovseg3d.field.levels import grid_levels
from ovseg3d.field.measured import LaggedCounts, Measured
from ovseg3d.field.occupancy import OccupancyGrid
from ovseg3d.field.optimizer import GridOptimizer, Schedule, scale_gradient
from ovseg3d.field.radiance import RadianceField, harmonics
from ovseg3d.field.renderer import Renderer
from ovseg3d.field.samples import padded
from ovseg3d.field.scene_bounds import find_box, seen_cells
from ovseg3d.scene import Cameras, PhotoPool, PixelBatch, Scene
from ovseg3d.scene.sparse import SparseDepth

MIN_RAYS = 512
"""Smallest number of rays in a step; the gradient is too noisy with fewer."""
TRIAL_RAYS = 64
"""Largest number of rays along which cells are put on trial before an update of the occupancy grid."""
MISSING = 0.1
"""Squared error of a ray's colour from which on content may be missing."""
BEND = 0.02
"""Relative second difference of disparity from which on the planarity loss is linear."""
MARCHED_COST = 0.25
"""Cost of a sample of which only the density is evaluated, as a share of one that is differentiated."""
MARCHED_ROWS = 6
"""Rows of a GPU's buffer of marched samples for each row of that of differentiated ones."""
FILL_SHARE = 0.8
"""Share of the fuller buffer that a GPU's steps aim to fill; what does not fit is dropped."""
COUNTS_PER_DOUBLING = 4
"""Numbers of rays of a GPU's steps, for each doubling: each has CUDA graphs of its own."""
MAX_GROWTH = 1.25
"""Largest factor by which the number of rays grows or shrinks from step to step."""
LAG = 8
"""Steps after which a GPU's numbers of samples are read."""


@dataclass(frozen=True)
class _Result:
    """Result of a piece of a step."""

    x: Tensor
    grad_features: Tensor
    grad_network: Tensor
    grad_photos: Tensor | None
    cell: Tensor
    weight: Tensor
    transmittance: Tensor | None
    """At the marched samples, if only a share of the photos is in memory."""
    squared_error: Tensor
    """Of each ray."""
    end: Tensor
    """Distance at which each ray is opaque, with a margin; infinite if it is not opaque."""
    used: Tensor
    """Numbers of marched and of differentiated samples (on the device)."""


@dataclass(frozen=True)
class CaptureUse:
    """What training uses of a capture besides its photos and poses."""

    depth: bool = False
    """A loss on its depth files."""
    exposure: bool = False
    """A gain and an offset of each colour channel for each photo."""
    refine_poses: bool = False
    """Optimise the camera poses."""
    sparse: SparseDepth | None = None
    """Sparse points, depth completed between them, adjusted poses and lenses."""


class FieldStage:
    """Fits the field to the training photos of a scene.

    Args:
        scene: the capture.
        config: settings of the field.
        device: to train on.
        backend: `warp`, `torch` or `tcnn`.
        seed: of all random numbers.
        use: what it uses of the capture besides photos.
        steps: planned number of steps, None if unknown; captures that don't fit the memory turn over in it.
    """

    name = "field"

    def __init__(
        self,
        scene: Scene,
        config: FieldConfig,
        device: torch.device,
        backend: str = "warp",
        seed: int = 0,
        steps: int | None = None,
        use: CaptureUse = CaptureUse(),
    ) -> None:
        self.config, self.device, self.seed = config, device, seed
        sparse, use_depth = use.sparse, use.depth
        self._padded = padded(device)
        drawn_on = device if self._padded else None
        self._depth = None if sparse is None else DepthRays(sparse, config.completion_weight, seed, drawn_on)
        self._has_depth = use_depth or sparse is not None
        pinholes = all(frame.camera.model != "OPENCV_FISHEYE" for frame in scene.frames)
        self._lines = sparse is not None and config.planarity > 0 and pinholes
        if sparse is not None:
            scene = sparse.applied(scene)
        # Held-out views are removed, so that nothing of them can reach the field or its checkpoints.
        frames = tuple(scene.frames[view] for view in scene.train)
        scene = replace(scene, frames=frames, train=tuple(range(len(frames))), test=())
        self.box = find_box(scene, config, use_depth)
        self.backend = make_backend(backend, grid_levels(config), device)
        self.field = RadianceField(config, device, seed, self.backend.perceptron)
        self.workers = Workers.for_device(device)
        self.occupancy = OccupancyGrid(seen_cells(scene, self.box, config).to(device), config.occupancy_threshold)
        self.white = scene.has_alpha
        self.renderer = self._renderer()
        self._cameras = Cameras.from_cameras(
            [frame.camera for frame in scene.frames], self.box.field_from_input, device
        )
        self.photos = PhotoCorrections(len(scene.frames), use.exposure, use.refine_poses, device)
        self._pool = PhotoPool(
            scene, scene.train, seed=seed, steps=steps, with_depth=use_depth, lines=self._lines, device=drawn_on
        )
        rates = {
            "table": config.learning_rate,
            "network": config.network_learning_rate,
            "photos": config.photo_learning_rate,
        }
        small = {"network": self.field.network, "photos": self.photos.values}
        schedule = Schedule(rates, config.decay, warmup=20)
        self._optimizer = GridOptimizer(self.backend, self.workers, self.field.table, small, schedule)
        # Every piece has whole lines of three rays.
        self._ray_unit = 192 if self._lines else 64
        self._ray_count = 1024 // self._ray_unit * self._ray_unit
        self._counts = LaggedCounts(LAG if self._padded else 0)
        self._graphs: CudaGraphs[_Result] | None = None
        if device.type == "cuda" and self.backend.name == "warp":  # the others wait for the device
            self._graphs = CudaGraphs(device)
        self._load = [0, 0]
        self._measured = Measured(device)

    def _renderer(self) -> Renderer:
        return Renderer(self.field, self.backend, self.box, self.occupancy, self.config, self.workers, self.white)

    # -- a step ------------------------------------------------------------------------------------------------

    def step(self, step: int, progress: float) -> None:
        config = self.config
        if step and step % config.occupancy_every == 0:
            if step == config.occupancy_warmup // config.occupancy_every * config.occupancy_every:
                self.occupancy.forget()
            self.occupancy.update(
                self._generator(step, 99), keep_all=step <= config.occupancy_warmup, share=self._pool.share
            )
        pieces = self._draw(step)
        results = self.workers.map(lambda item: self._replayed(step, *item), list(enumerate(pieces)))
        self._update(step, progress, results)
        error = torch.cat([result.squared_error for result in results])
        if (step + 1) % config.occupancy_every == 0:
            batch = functools.reduce(_joined, pieces)
            self._try_cells(batch, error, torch.cat([result.end for result in results]))
        self._measured.add(error.sum() / (3 * self._ray_count), self._ray_count)
        self._counts.put(self._ray_count, torch.stack([result.used for result in results]).sum(0))
        self._adapt_ray_count()

    def _draw(self, step: int) -> list[PixelBatch]:
        """The rays of a step for each piece: pixels of photos, then sparse points."""
        batch = self._pool.draw(step, self._ray_count)
        if self._depth is None:
            return self._cut(batch)
        points = self._depth.draw(step, int(self._ray_count * self.config.point_share))
        return [_joined(*parts) for parts in zip(self._cut(self._depth.fill(batch)), self._cut(points), strict=True)]

    def _cut(self, batch: PixelBatch) -> list[PixelBatch]:
        pieces = self.workers.pieces
        columns = (getattr(batch, name).tensor_split(pieces) for name in PixelBatch.__dataclass_fields__)
        return [PixelBatch(*column) for column in zip(*columns)]

    def _seed(self, step: int, piece: int) -> int:
        return (self.seed * 1_000_003 + step) * 128 + piece

    def _generator(self, step: int, piece: int) -> torch.Generator:
        return torch.Generator(self.device).manual_seed(self._seed(step, piece))

    def _step_scale(self, step: int) -> float:
        """Factor on the distance between samples: larger in the first steps, when the field is smooth."""
        warmups = step / max(self.config.occupancy_warmup, 1)
        return 4.0 if warmups < 2 else 2.0 if warmups < 3 else 1.0

    @property
    def _capacity(self) -> int:
        """Largest number of marched samples of a piece; only reached in the first steps."""
        if self._padded:
            return self.config.samples * MARCHED_ROWS
        return int(self.config.samples / MARCHED_COST) // self.workers.pieces

    @property
    def _kept_capacity(self) -> int | None:
        """Largest number of merged samples of a piece; None: no limit."""
        return self.config.samples if self._padded else None

    def _replayed(self, step: int, piece: int, batch: PixelBatch) -> _Result:
        """The piece of a step; on a GPU as a CUDA graph, with TF32 in matrix products."""
        step_scale, total = self._step_scale(step), self._ray_count
        if self._graphs is None:
            return self._piece(batch, step_scale, total, self._generator(step, piece))

        def work(columns: Sequence[Tensor], generator: torch.Generator) -> _Result:
            return self._piece(PixelBatch(*columns), step_scale, total, generator)

        columns = [getattr(batch, name) for name in PixelBatch.__dataclass_fields__]
        with tf32_matmul():
            return self._graphs.run((total, step_scale), columns, self._seed(step, piece), work)

    def _piece(self, batch: PixelBatch, step_scale: float, total: int, generator: torch.Generator) -> _Result:
        """The gradients of some of a step's `total` rays. On a GPU it must not wait for the device."""
        config, field, backend = self.config, self.field, self.backend
        count = len(batch.view)
        photos = self.photos.leaf()
        c2w = self.photos.poses(self._cameras.c2w, photos)
        ray_origins, ray_directions, z_per_distance = self._cameras.rays(batch.view, batch.xy, c2w)
        met = self.renderer.sampler.sample(
            ray_origins, ray_directions, config.merge, self._capacity, self._kept_capacity, step_scale, generator
        )
        samples, offsets, length = met.samples, met.offsets, met.step
        t, ray, features, x = met.kept(samples.t, samples.ray, met.features, met.x)
        network = field.network.detach().requires_grad_()
        layers = field.layers(network)
        features.requires_grad_()
        density, geometry = field.geometry(features, layers)
        color = field.color(geometry, harmonics(ray_directions.detach()).index_select(0, ray), layers)
        if config.near_gradient > 0 and self.box.open:
            scale = (t / config.near_gradient).square_().clamp_(max=1.0)
            density, color = scale_gradient(density, scale), scale_gradient(color, scale[:, None])
        values = color
        if self._has_depth:
            known = (batch.depth_z / (z_per_distance.detach() * self.box.radius)).clamp_min(1e-6).index_select(0, ray)
            values = torch.cat([color, ((t - known).abs() / known).clamp(max=1.0)[:, None]], -1)
        weights, rendered, opacity, distance = backend.composite(density, values, t, length, offsets)
        rgb = rendered[:, :3]
        rgb = self.photos.expose(rgb, batch.view, photos)
        # A random background: opacity cannot imitate the background's colour.
        background = torch.rand(count, 3, generator=generator, device=self.device)
        rgb = rgb + (1.0 - opacity)[:, None] * background
        target = batch.rgb * batch.alpha[:, None] + (1.0 - batch.alpha)[:, None] * background
        error = (rgb - target) * batch.valid[:, None]
        loss = 5.0 / 3.0 * torch.nn.functional.huber_loss(error, torch.zeros_like(error), reduction="sum", delta=0.1)
        if config.distortion and step_scale == 1.0:
            s, extent = self._normalized(t, length)
            loss = loss + config.distortion * backend.distortion(weights, s, extent, ray, offsets).sum()
        if self._has_depth:
            # The mean error of the light that stops, so that opacity cannot lower it.
            off = rendered[:, 3] / opacity.clamp_min(1e-3)
            loss = loss + config.depth_weight * (off * batch.depth_weight).sum()
        if self._lines:
            mean = distance / opacity.clamp_min(1e-3)
            loss = loss + config.planarity * _bend(mean, z_per_distance, batch.flatness * opacity.detach())
        loss = (loss + self.photos.penalty(photos, batch.view)) / total
        leaves = [features, network, *([photos] if photos.requires_grad else [])]
        grad_features, grad_network, *grads = torch.autograd.grad(loss, leaves)
        grad_photos = grads[0] if grads else None
        # Poses also act through the positions of the samples; encoding has its own gradient for that.
        if self.photos.refine and step_scale == 1.0:
            grad_x = backend.position_gradient(x, field.table, grad_features)
            there = self.box.along(ray_origins, ray_directions, ray, t)
            (moved,) = torch.autograd.grad(there, photos, grad_x)
            grad_photos = grads[0] + moved
        squared = error.detach().square().sum(-1)
        end = torch.where(opacity > 0.9, 1.1 * distance / opacity, torch.inf).detach()
        used = torch.stack([samples.offsets[-1], offsets[-1]])
        clear = met.transmittance if self._pool.rotates else None
        return _Result(x, grad_features, grad_network, grad_photos, samples.cell, met.weight, clear, squared, end, used)

    def _normalized(self, t: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Positions and lengths of samples in normalised distance; merged intervals may begin behind the camera."""
        begin, end = (t - 0.5 * length).clamp_min(0.0), t + 0.5 * length
        return self.box.normalized(t), self.box.normalized(end) - self.box.normalized(begin)

    def _update(self, step: int, progress: float, results: list[_Result]) -> None:
        for result in results:
            if result.transmittance is not None:
                self.occupancy.passed(result.cell, result.transmittance, 1 / self.config.occupancy_every)
            self.backend.scatter_max(result.cell, result.weight, self.occupancy.value)
        small = {"network": [result.grad_network for result in results]}
        photos = [result.grad_photos for result in results if result.grad_photos is not None]
        if photos:
            small["photos"] = photos
        self._optimizer.update(step, progress, [(r.x, r.grad_features) for r in results], small)

    def _try_cells(self, batch: PixelBatch, error: Tensor, end: Tensor) -> None:
        """Put the cells along the worst rays on trial, if they are so bad that content may be missing."""
        error, worst = error.topk(TRIAL_RAYS)
        c2w = self.photos.poses(self._cameras.c2w, self.photos.leaf())
        origins, directions, _ = self._cameras.rays(batch.view[worst], batch.xy[worst], c2w)
        end = torch.where(error > MISSING, end[worst], 0.0)
        self.renderer.sampler.try_cells(origins, directions, end, self._capacity)

    def _adapt_ray_count(self) -> None:
        """Choose the number of rays of the next step, to keep the work of a step about constant."""
        if (counted := self._counts.take()) is None:
            return
        rays, self._load = counted
        most = max(self.config.max_rays, self._ray_unit)
        if self._padded:
            wanted = float(min(max(self._wanted(rays), MIN_RAYS), most))
            self._ray_count = next_count(self._ray_count, wanted, self._ray_unit)
            return
        # An outlier has little effect.
        wanted = min(max(self._wanted(rays), self._ray_count / MAX_GROWTH), self._ray_count * MAX_GROWTH)
        self._ray_count = int(min(max(wanted, MIN_RAYS), most)) // self._ray_unit * self._ray_unit

    def _wanted(self, rays: int) -> float:
        """Number of rays with the work of a step, from the load of a step with `rays`."""
        marched, kept = self._load
        if self._kept_capacity is None:
            return rays * self.config.samples / max(MARCHED_COST * marched + kept, 1.0)
        # A GPU works on all rows of its buffers, whether they are used or not.
        return rays * FILL_SHARE / max(marched / self._capacity, kept / self._kept_capacity, 1e-6)

    # -- interface of a stage ---------------------------------------------------------------------------------

    def measure(self) -> dict[str, float]:
        marched, kept = self._load
        return {
            **self._measured.take(),
            "samples_marched": float(marched),
            "samples_kept": float(kept),
            "occupied": self.occupancy.share,
        }

    def state(self) -> dict[str, Tensor]:
        occupancy = {f"occupancy.{name}": tensor for name, tensor in self.occupancy.state().items()}
        return {**self._optimizer.state(), **occupancy, "rays": torch.tensor(self._ray_count)}

    def load_state(self, state: dict[str, Tensor]) -> None:
        self._optimizer.load_state(state)
        prefix = "occupancy."
        self.occupancy.load_state(
            {k.removeprefix(prefix): v.to(self.device) for k, v in state.items() if k.startswith(prefix)}
        )
        self._ray_count = int(state["rays"])

    def facts(self) -> dict[str, Any]:
        return {"config": asdict(self.config), "box": asdict(self.box), "white": self.white}

    def close(self) -> None:
        """Stop the background thread that reads photos."""
        self._pool.close()


def next_count(count: int, wanted: float, unit: int) -> int:
    """A GPU's next number of rays, at most one rung from `count` towards `wanted`.

    Rung r of the ladder has 2^(r / `COUNTS_PER_DOUBLING`) rays, rounded down to a multiple of `unit`, at least one.
    """
    rung = math.ceil(COUNTS_PER_DOUBLING * math.log2(count) - 1e-6)
    aim = math.floor(COUNTS_PER_DOUBLING * math.log2(wanted) + 1e-6)
    aim = min(max(aim, rung - 1), rung + 1)
    return max(int(2 ** (aim / COUNTS_PER_DOUBLING) + 1e-6) // unit, 1) * unit


def _joined(a: PixelBatch, b: PixelBatch) -> PixelBatch:
    return PixelBatch(*(torch.cat([getattr(a, name), getattr(b, name)]) for name in PixelBatch.__dataclass_fields__))


def _bend(
    distance: Float[Tensor, " rays"], z_per_distance: Float[Tensor, " rays"], flatness: Float[Tensor, " rays"]
) -> Tensor:
    """Planarity loss of rays that come in threes, in line, summed over the lines.

    The disparity 1 / z of a plane is linear along a line of the image, so its second difference is zero. Lines count
    as far as their colour is constant.
    """
    count = len(distance) // 3 * 3
    disparity = 1.0 / (distance * z_per_distance.detach())[:count].view(-1, 3).clamp_min(1e-3)
    first, middle, last = disparity.unbind(1)
    bend = (first - 2.0 * middle + last) / middle.detach()
    loss = torch.nn.functional.huber_loss(bend, torch.zeros_like(bend), reduction="none", delta=BEND)
    return (loss / BEND * flatness[:count].view(-1, 3).amin(1)).sum()
