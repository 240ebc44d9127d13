"""The feature field: meaning as a function of place, with a hash grid of its own beside the radiance field's.

grid features -> three small networks without biases: coefficients in the scene's `Basis`, reduced DINO, and (where
photos were encoded at several scales) a weight for each scale. Positions are those of the radiance field's box, in
the unit cube. Coefficients are the scene's mean plus what the network says, so that a place that nobody taught says
nothing in particular. Rendered features are sums of render weight x feature and are compared by direction only.

`FitStage` begins with what was lifted to the surface points: a regression, seconds. `refine.RefineStage` goes on along
the rays of photos. Both are stages of the engine; the field itself keeps to a few megabytes (`arrays`, float16).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ovseg3d.engine import Workers
from ovseg3d.errors import RunError
from ovseg3d.field.backends import make_backend
from ovseg3d.field.levels import GridLevels
from ovseg3d.field.optimizer import BETAS, EPSILON, adam
from ovseg3d.field.radiance import perceptron
from ovseg3d.field.renderer import RayStops

HEADS = ("clip", "dino", "scales")
AT_ONCE = 65_536
"""Places that are looked up at once where gradients are not needed."""


@dataclass(frozen=True)
class FeatureFieldConfig:
    """The feature field: its grid, its networks, and how it is fitted to lifted features."""

    levels: int = 12
    """Levels of the hash grid."""
    features: int = 4
    """Features in each entry of a level's table."""
    log2_table: int = 16
    """log2 of the most entries that a level's table holds."""
    base_resolution: int = 16
    """Resolution of the coarsest level over the whole grid."""
    max_resolution: int = 512
    """Resolution of the finest level over the whole grid."""
    hidden: int = 128
    """Width of the hidden layer of each network."""
    learning_rate: float = 2e-2
    """Rate of the grid at the start."""
    network_learning_rate: float = 5e-3
    """Rate of the networks at the start."""
    decay: float = 0.05
    """Rates end at this share of their start."""
    fit_steps: int = 300
    """Steps of the fit, as a rule."""
    fit_points: int = 16_384
    """Surface points in a step of the fit."""


@dataclass(frozen=True)
class FieldShape:
    """How many numbers each head gives; 0: there is no such head."""

    clip: int
    dino: int = 0
    scales: int = 0


class FeatureField:
    """Parameters, and what they say about places.

    Args:
        config: sizes.
        shape: of the heads.
        device: where the parameters live.
        backend: `warp`, `torch` or `tcnn`.
        seed: of the first values.
    """

    def __init__(
        self,
        config: FeatureFieldConfig,
        shape: FieldShape,
        device: torch.device,
        backend: str = "warp",
        seed: int = 0,
    ) -> None:
        self.config, self.shape, self.device = config, shape, device
        self.levels = GridLevels.build(
            config.levels, config.features, config.log2_table, config.base_resolution, config.max_resolution
        )
        self.backend = make_backend(backend, self.levels, device)
        self.workers = Workers.for_device(device)
        generator = torch.Generator().manual_seed(seed)
        table = torch.rand(self.levels.entries, config.features, generator=generator) * 2e-4 - 1e-4
        layers = []
        for inputs, outputs in self._shapes():
            bound = (6.0 / (inputs + outputs)) ** 0.5
            layers.append(torch.rand(inputs * outputs, generator=generator) * 2 * bound - bound)
        self.table, self.network = table.to(device), torch.cat(layers).to(device)
        self.mean = torch.zeros(shape.clip, device=device)
        """What all of the scene has in common: added to every coefficient, not trained."""

    @property
    def _heads(self) -> list[tuple[str, list[int]]]:
        widths = ((name, getattr(self.shape, name)) for name in HEADS)
        return [(name, [self.levels.width, self.config.hidden, width]) for name, width in widths if width]

    def _shapes(self) -> list[tuple[int, int]]:
        return [shape for _, widths in self._heads for shape in pairwise(widths)]

    def heads(
        self, encoded: Float[Tensor, "samples width"], network: Float[Tensor, " weights"], *only: str
    ) -> dict[str, Float[Tensor, "samples out"]]:
        """What the heads say about encoded places; `scales` before any softmax.

        Args:
            encoded: from the backend's `encode`.
            network: the flat weights, `self.network` or a leaf in its stead.
            only: which heads; none named: all that there are.
        """
        flat = iter(network.split([inputs * outputs for inputs, outputs in self._shapes()]))
        said = {}
        for name, widths in self._heads:
            layers = [next(flat).view(shape) for shape in pairwise(widths)]
            if not only or name in only:
                said[name] = perceptron(encoded, *layers)
        if "clip" in said:
            said["clip"] = said["clip"] + self.mean
        return said

    @torch.no_grad()
    def at(self, x: Float[Tensor, "samples 3"], head: str = "clip") -> Float[Tensor, "samples out"]:
        """What a head says at places of the unit cube."""
        chunks = [chunk.contiguous() for chunk in x.split(AT_ONCE)]
        with self.workers.open():
            said = self.workers.map(
                lambda part: self.heads(self.backend.encode(part, self.table), self.network, head)[head], chunks
            )
        return torch.cat(said)

    @torch.no_grad()
    def render(self, stops: RayStops, head: str = "clip") -> Float[Tensor, "rays out"]:
        """What a head says along rays: sums of render weight x feature; zero for rays that met nothing."""
        rays, out = len(stops.offsets) - 1, getattr(self.shape, head)
        total = torch.zeros(rays, out, device=self.device)
        for first in range(0, len(stops.x), AT_ONCE):
            part = slice(first, first + AT_ONCE)
            total.index_add_(0, stops.ray[part], self.at(stops.x[part], head) * stops.weight[part, None])
        return total

    # -- keeping -----------------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """All parameters, by name, as they are."""
        return {"table": self.table, "network": self.network, "mean": self.mean}

    def arrays(self) -> dict[str, np.ndarray]:
        """All parameters for a file, float16: far finer than photos agree."""
        return {name: tensor.cpu().numpy().astype(np.float16) for name, tensor in self.tensors().items()}

    def load(self, arrays: Mapping[str, np.ndarray | Tensor]) -> None:
        """Take over what `arrays` or `tensors` gave.

        Raises:
            RunError: something is missing or has another shape.
        """
        for name, tensor in self.tensors().items():
            given = arrays.get(name)
            if given is None or tuple(given.shape) != tuple(tensor.shape):
                raise RunError(
                    f"The stored feature field does not fit its settings: {name!r} is missing or has another shape",
                    fix="train the semantics of this run again",
                )
        for name, tensor in self.tensors().items():
            tensor.copy_(torch.as_tensor(arrays[name]))

    def facts(self) -> dict:
        """What builds a field of the same shape: `FeatureField(FeatureFieldConfig(**...), FieldShape(**...), ...)`."""
        return {"config": asdict(self.config), "shape": asdict(self.shape)}


@dataclass
class Learner:
    """Adam for a feature field: one set of moments, and the update that both stages share."""

    field: FeatureField
    learning_rate: float
    network_learning_rate: float
    decay: float
    moments: dict[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        own = {"table": self.field.table, "network": self.field.network}
        self.moments = {
            f"{name}.{moment}": torch.zeros_like(tensor)
            for name, tensor in own.items()
            for moment in ("mean", "square")
        }
        self._grad_table = torch.zeros_like(self.field.table)

    def update(self, step: int, progress: float, pieces: list[tuple[Tensor, Tensor, Tensor]]) -> None:
        """One step of Adam.

        Args:
            pieces: positions, gradient of their encoding, and gradient of the network, of each piece of the step.
        """
        own, moments = self.field, self.moments
        rate = min(1.0, (step + 1) / 10) * self.decay**progress
        own.backend.add_table_gradient([(x, grad) for x, grad, _ in pieces], self._grad_table, own.workers)
        own.backend.adam(
            own.table, self._grad_table, moments["table.mean"], moments["table.square"],
            rate=self.learning_rate * rate, beta1=BETAS[0], beta2=BETAS[1], step=step + 1, epsilon=EPSILON,
            workers=own.workers,
        )  # fmt: skip
        grad = torch.stack([grad for *_, grad in pieces]).sum(0)
        adam(
            own.network, grad, moments["network.mean"], moments["network.square"],
            self.network_learning_rate * rate, step + 1,
        )  # fmt: skip

    def state(self) -> dict[str, Tensor]:
        return {**self.field.tensors(), **self.moments}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.field.load(state)
        for name, tensor in self.moments.items():
            tensor.copy_(state[name])


class FitStage:
    """Regression to features lifted to surface points.

    The loss is the squared error over the vectors' variance about their mean: 1 for a field that only knows the mean,
    for any encoder and scene. Lengths are fitted too: they say how much the photos agree.

    Args:
        field: to be taught; its `mean` becomes that of the vectors.
        x: the points, in the unit cube.
        vectors: their coefficients.
        weight: how much each counts, 0 to 1 (such as how many photos saw it); None: all alike.
        seed: of the points' order.
    """

    name = "features"

    def __init__(
        self,
        field: FeatureField,
        x: Float[Tensor, "points 3"],
        vectors: Float[Tensor, "points kept"],
        weight: Float[Tensor, " points"] | None = None,
        seed: int = 0,
    ) -> None:
        self.field, self.seed, self.workers = field, seed, field.workers
        device, config = field.device, field.config
        self._x, self._vectors = x.float().to(device).contiguous(), vectors.float().to(device)
        self._weight = torch.ones(len(x), device=device) if weight is None else weight.float().to(device)
        field.mean.copy_(self._vectors.mean(0))
        self._variance = (self._vectors - field.mean).square().sum(-1).mean().clamp_min(1e-12)
        self._learner = Learner(field, config.learning_rate, config.network_learning_rate, config.decay)
        self._error = torch.ones((), device=device)

    def step(self, step: int, progress: float) -> None:
        generator = torch.Generator(self.field.device).manual_seed(self.seed * 1_000_003 + step)
        count = min(self.field.config.fit_points, len(self._x))
        chosen = torch.randint(len(self._x), (count,), generator=generator, device=self.field.device)
        results = self.workers.map(lambda part: self._piece(part, count), list(chosen.chunk(self.workers.pieces)))
        self._learner.update(step, progress, [result[:3] for result in results])
        self._error = sum(result[3] for result in results)

    def _piece(self, chosen: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        own = self.field
        x = self._x.index_select(0, chosen)
        with torch.no_grad():
            encoded = own.backend.encode(x, own.table)
        encoded, network = encoded.requires_grad_(), own.network.detach().requires_grad_()
        error = own.heads(encoded, network, "clip")["clip"] - self._vectors.index_select(0, chosen)
        loss = (error.square().sum(-1) * self._weight.index_select(0, chosen)).sum() / (count * self._variance)
        return x, *torch.autograd.grad(loss, [encoded, network]), loss.detach()

    def measure(self) -> dict[str, float]:
        return {"unexplained": float(self._error)}

    def state(self) -> dict[str, Tensor]:
        return self._learner.state()

    def load_state(self, state: dict[str, Tensor]) -> None:
        self._learner.load_state(state)

    def facts(self) -> dict:
        return self.field.facts()
