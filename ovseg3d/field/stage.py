"""Train a radiance field: the stage `field`.

A step draws rays, cuts them into the workers' pieces, and for each piece: marches through occupied cells, encodes
the samples and looks at their density without gradients, keeps those that light reaches, and differentiates through
these alone. The encoded features are reused, so that nothing is looked up twice. Afterwards the pieces' gradients are
added in order, level by level for the grid. Everything random comes from (seed, step, piece): a step can be repeated
to the bit, and a resumed run goes on as if it had never stopped.
"""

import math
import time
from dataclasses import asdict, dataclass, fields, replace

import torch
from torch import Tensor

from ovseg3d.engine import Workers
from ovseg3d.errors import RunError
from ovseg3d.field.backends import make_backend
from ovseg3d.field.box import FieldBox
from ovseg3d.field.config import FieldConfig
from ovseg3d.field.occupancy import OccupancyGrid
from ovseg3d.field.place import find_box, seen_cells
from ovseg3d.field.radiance import RadianceField, harmonics
from ovseg3d.field.renderer import Renderer
from ovseg3d.scene import Cameras, PhotoPool, Scene

BETAS = (0.9, 0.99)
EPSILON = 1e-15
LEAST_TRANSMITTANCE = 1e-3
FEWEST_RAYS = 512
"""A step's gradient is too noisy with fewer."""


@dataclass(frozen=True)
class _Rays:
    """A piece of a step's rays, in field units, with what the photos say of them."""

    origins: Tensor
    directions: Tensor
    rgb: Tensor
    alpha: Tensor
    valid: Tensor
    view: Tensor
    distance: Tensor
    """Measured distance along the ray, field units; 0 is unknown."""


@dataclass(frozen=True)
class _Result:
    """What a piece hands back."""

    x: Tensor
    grad_features: Tensor
    grad_network: Tensor
    grad_photo: Tensor | None
    cell: Tensor
    weight: Tensor
    squared_error: Tensor
    marched: int
    kept: int


class FieldStage:
    """Fits the field to the training photos of a scene.

    Args:
        scene: the capture.
        config: settings of the field.
        device: where to train.
        backend: `warp`, `torch` or `tcnn`.
        seed: of everything random.
        use_depth: supervise with the scene's depth files.
        refine_poses: correct the cameras while training.
    """

    name = "field"

    def __init__(
        self,
        scene: Scene,
        config: FieldConfig,
        device: torch.device,
        backend: str = "warp",
        seed: int = 0,
        use_depth: bool = False,
        refine_poses: bool = False,
    ) -> None:
        self.config, self.device, self.seed = config, device, seed
        self.use_depth, self.refine_poses = use_depth, refine_poses
        self.box = find_box(scene, config, use_depth)
        self.field = RadianceField(config, device, seed)
        self.backend = make_backend(backend, self.field.levels, device)
        self.workers = Workers.for_device(device)
        self.occupancy = OccupancyGrid(seen_cells(scene, self.box, config).to(device), config.occupancy_threshold)
        self.background = "random" if scene.has_alpha else "none"
        self.renderer = Renderer(self.field, self.backend, self.box, self.occupancy, config, self.workers, scene.has_alpha)
        cameras = [frame.camera for frame in scene.frames]
        self._cameras = Cameras.from_cameras(cameras, self.box.field_from_input, device)
        self._pool = PhotoPool(scene, scene.train, seed=seed, with_depth=use_depth)
        self._rays = 1024
        self._moments = {
            name: torch.zeros_like(tensor)
            for name, tensor in self._trained().items()
            for name in (f"{name}.mean", f"{name}.square")
        }
        self._grad_table = torch.zeros_like(self.field.table)
        self._measures = {"squared_error": torch.zeros((), device=device), "steps": 0, "rays": 0}
        self._marched = self._kept = 0
        self._since = time.monotonic()

    # -- a step ------------------------------------------------------------------------------------------------

    def step(self, step: int, progress: float) -> None:
        config = self.config
        if step and step % config.occupancy_every == 0:
            if step == config.occupancy_warmup:
                self.occupancy.forget()
            self.occupancy.update(self._generator(step, 99), keep_all=step <= config.occupancy_warmup)
        rays = self._draw(step)
        count = len(rays.origins)
        pieces = [
            _Rays(**{f.name: chunk for f, chunk in zip(fields(_Rays), chunks)})
            for chunks in zip(*(getattr(rays, f.name).chunk(self.workers.pieces) for f in fields(_Rays)))
        ]
        results = self.workers.map(lambda item: self._piece(step, *item, count), list(enumerate(pieces)))
        self._update(step, progress, results)
        self._measures["squared_error"] += sum(result.squared_error for result in results) / (3 * count)
        self._measures["steps"] += 1
        self._measures["rays"] += count
        self._steady(results, count)

    def _generator(self, step: int, piece: int) -> torch.Generator:
        return torch.Generator(self.device).manual_seed((self.seed * 1_000_003 + step) * 128 + piece)

    def _stretch(self, step: int) -> float:
        """How much further apart samples are in the first steps, while the field is smooth and cells are full."""
        warmups = step / max(self.config.occupancy_warmup, 1)
        return 4.0 if warmups < 2 else 2.0 if warmups < 3 else 1.0

    @property
    def _capacity(self) -> int:
        """Most samples of a piece."""
        return 4 * self.config.samples // self.workers.pieces

    def _draw(self, step: int) -> _Rays:
        batch = self._pool.draw(step, self._rays)
        to = lambda tensor: tensor.to(self.device, non_blocking=True)  # noqa: E731
        view = to(batch.view)
        origins, directions, z_per_distance = self._cameras.rays(view, to(batch.xy))
        distance = to(batch.depth_z) / (z_per_distance * self.box.radius) if self.use_depth else z_per_distance * 0
        return _Rays(origins, directions, to(batch.rgb), to(batch.alpha), to(batch.valid).float(), view, distance)

    def _piece(self, step: int, piece: int, rays: _Rays, total: int) -> _Result:
        config, field, backend = self.config, self.field, self.backend
        generator = self._generator(step, piece)
        count = len(rays.origins)
        stretch = self._stretch(step)
        with torch.no_grad():
            samples = backend.march(
                rays.origins,
                rays.directions,
                self.box.spans(rays.origins, rays.directions),
                torch.rand(count, generator=generator, device=self.device),
                self.occupancy.occupied,
                smallest_step=self.renderer.smallest_step * stretch,
                cone=config.cone * stretch,
                capacity=self._capacity,
            )
            x = self.box.unit(rays.origins[samples.ray] + rays.directions[samples.ray] * samples.t[:, None])
            features = backend.encode(x, field.table)
            density = field.density(features, field.layers(field.network))
            draws = torch.rand(len(density), generator=generator, device=self.device)
            weight, index, length, offsets = backend.merge(
                density, samples, draws, LEAST_TRANSMITTANCE, config.merge, self._capacity
            )
        network = field.network.detach().requires_grad_()
        layers = field.layers(network)
        features = features[index].requires_grad_()
        t, ray = samples.t[index], samples.ray[index]
        density, geometry = field.geometry(features, layers)
        color = field.color(geometry, harmonics(rays.directions)[ray], layers)
        weights, rgb, opacity, distance = backend.composite(density, color, t, length, offsets)
        background = torch.rand(count, 3, generator=generator, device=self.device)
        rgb = rgb + (1.0 - opacity)[:, None] * background
        target = rays.rgb * rays.alpha[:, None] + (1.0 - rays.alpha)[:, None] * background
        error = (rgb - target) * rays.valid[:, None]
        loss = torch.nn.functional.smooth_l1_loss(error, torch.zeros_like(error), beta=0.1, reduction="sum") * 5 / 3
        if config.distortion and stretch == 1.0:
            loss = loss + config.distortion * backend.distortion(weights, t, length, ray, offsets).sum()
        if self.use_depth:
            known = (rays.distance > 0) * rays.valid
            loss = loss + config.depth_weight * (known * (distance - rays.distance * opacity).abs()).sum()
        grad_features, grad_network = torch.autograd.grad(loss / total, [features, network])
        return _Result(
            x[index], grad_features, grad_network, None, samples.cell, weight,
            error.detach().square().sum(), len(samples.t), len(index),
        )  # fmt: skip

    def _update(self, step: int, progress: float, results: list[_Result]) -> None:
        config = self.config
        for result in results:
            self.backend.strongest(result.cell, result.weight, self.occupancy.value)
        warmup = min(1.0, (step + 1) / 20)
        decay = warmup * config.decay**progress
        self.backend.add_table_gradient([(r.x, r.grad_features) for r in results], self._grad_table, self.workers)
        rates = {"rate": config.learning_rate * decay, "beta1": BETAS[0], "beta2": BETAS[1], "step": step + 1}
        moments = self._moments["table.mean"], self._moments["table.square"]
        self.backend.adam(self.field.table, self._grad_table, *moments, **rates, epsilon=EPSILON, workers=self.workers)
        grad = results[0].grad_network
        for result in results[1:]:
            grad = grad + result.grad_network
        _adam(
            self.field.network, grad, self._moments["network.mean"], self._moments["network.square"],
            config.network_learning_rate * decay, step + 1,
        )  # fmt: skip

    def _steady(self, results: list[_Result], count: int) -> None:
        """Choose the next step's number of rays, so that the number of samples stays about the same."""
        self._marched, self._kept = sum(r.marched for r in results), sum(r.kept for r in results)
        if self.device.type != "cpu":
            return
        # Unkept samples cost about a quarter of kept ones.
        load = 0.25 * self._marched + self._kept
        wanted = self._rays * self.config.samples / max(load, 1.0)
        wanted = min(max(wanted, 0.8 * self._rays, FEWEST_RAYS), 1.25 * self._rays, self.config.max_rays)
        self._rays = int(wanted) // 64 * 64

    # -- the outside -------------------------------------------------------------------------------------------

    def measure(self) -> dict[str, float]:
        now, measures = time.monotonic(), self._measures
        steps = max(measures["steps"], 1)
        error = float(measures["squared_error"]) / steps
        figures = {
            "psnr": -10.0 * math.log10(max(error, 1e-10)),
            "rays_per_second": measures["rays"] / max(now - self._since, 1e-9),
            "rays_per_step": measures["rays"] / steps,
            "samples_marched": float(self._marched),
            "samples_kept": float(self._kept),
            "occupied": self.occupancy.share,
        }
        self._measures = {"squared_error": torch.zeros((), device=self.device), "steps": 0, "rays": 0}
        self._since = now
        return figures

    def _trained(self) -> dict[str, Tensor]:
        return {"table": self.field.table, "network": self.field.network}

    def state(self) -> dict[str, Tensor]:
        occupancy = {f"occupancy.{name}": tensor for name, tensor in self.occupancy.state().items()}
        rays = torch.tensor(self._rays)
        return {**self._trained(), **self._moments, **occupancy, "rays": rays}

    def load_state(self, state: dict[str, Tensor]) -> None:
        for name, tensor in {**self._trained(), **self._moments}.items():
            tensor.copy_(state[name])
        prefix = "occupancy."
        loaded = {k.removeprefix(prefix): v.to(self.device) for k, v in state.items() if k.startswith(prefix)}
        self.occupancy.load_state(loaded)
        self._rays = int(state["rays"])

    def facts(self) -> dict:
        return {"config": asdict(self.config), "box": asdict(self.box)}

    def close(self) -> None:
        self._pool.close()


def _adam(parameter: Tensor, grad: Tensor, mean: Tensor, square: Tensor, rate: float, step: int) -> None:
    """Adam (Kingma and Ba 2015, algorithm 1) in place."""
    mean.lerp_(grad, 1 - BETAS[0])
    square.mul_(BETAS[1]).addcmul_(grad, grad, value=1 - BETAS[1])
    denominator = (square / (1 - BETAS[1] ** step)).sqrt_().add_(EPSILON)
    parameter.addcdiv_(mean, denominator, value=-rate / (1 - BETAS[0] ** step))
