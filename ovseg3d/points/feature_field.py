"""The feature field: meaning as a function of place, with a hash grid of its own beside the radiance field's.

grid features -> three small networks without biases: coefficients in the scene's `Basis`, reduced DINO, and (where
photos were encoded at several scales) a weight for each scale. Positions are those of the radiance field's box, in
the unit cube. Coefficients are the scene's mean plus what the network says, so that a place that nobody taught says
nothing in particular. Rendered features are sums of render weight x feature and are compared by direction only.
With `FieldShape.sized` coefficients also depend on a size, as in LERF; see `sizes`.

`FitStage` begins with what was lifted to the surface points: a regression, seconds. `refine.RefineStage` goes on along
the rays of photos. Both are stages of the engine. A run keeps what a field says at its surface points, not the field.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from ovseg3d.engine import Workers
from ovseg3d.field.backends import make_backend
from ovseg3d.field.levels import GridLevels
from ovseg3d.field.optimizer import BETAS, EPSILON, adam
from ovseg3d.field.radiance import perceptron

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
    fit_points: int = 16_384
    """Surface points in a step of the fit."""


@dataclass(frozen=True)
class FieldShape:
    """How many numbers each head gives; 0: there is no such head."""

    clip: int
    dino: int = 0
    scales: int = 0
    sized: bool = False
    """Whether coefficients depend on a size, from 0 to 1; their network then has a layer more."""


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
        hidden, found = self.config.hidden, []
        for name in HEADS:
            sized = self.shape.sized and name == "clip"
            before = [self.levels.width + 2, hidden, hidden] if sized else [self.levels.width, hidden]
            if width := getattr(self.shape, name):
                found.append((name, [*before, width]))
        return found

    def _shapes(self) -> list[tuple[int, int]]:
        return [shape for _, widths in self._heads for shape in pairwise(widths)]

    def heads(
        self,
        encoded: Float[Tensor, "samples width"],
        network: Float[Tensor, " weights"],
        *only: str,
        size: Float[Tensor, " samples"] | None = None,
    ) -> dict[str, Float[Tensor, "samples out"]]:
        """What the heads say about encoded places; `scales` from 0 to 1, before any softmax.

        Args:
            encoded: from the backend's `encode`.
            network: the flat weights, `self.network` or a leaf in its stead.
            only: which heads; none named: all that there are.
            size: of each sample, 0 to 1, where the field is sized.
        """
        said = {}
        for name, layers in self.layers(network).items():
            if not only or name in only:
                sized = self.shape.sized and name == "clip"
                said[name] = perceptron(with_size(encoded, size) if sized else encoded, *layers)
        if "clip" in said:
            said["clip"] = said["clip"] + self.mean
        if "scales" in said:
            said["scales"] = torch.sigmoid(said["scales"])
        return said

    def layers(self, network: Float[Tensor, " weights"]) -> dict[str, list[Float[Tensor, "_ _"]]]:
        """The flat weights as matrices, those of each head."""
        flat = iter(network.split([inputs * outputs for inputs, outputs in self._shapes()]))
        return {name: [next(flat).view(shape) for shape in pairwise(widths)] for name, widths in self._heads}

    @torch.no_grad()
    def encode(self, x: Float[Tensor, "samples 3"]) -> Float[Tensor, "samples width"]:
        """Grid features at places of the unit cube: all that heads know of a place."""
        return torch.cat([self.backend.encode(part.contiguous(), self.table) for part in x.split(AT_ONCE)])

    @torch.no_grad()
    def at(self, x: Float[Tensor, "samples 3"], head: str = "clip") -> Float[Tensor, "samples out"]:
        """What a head says at places of the unit cube."""
        chunks = [chunk.contiguous() for chunk in x.split(AT_ONCE)]
        with self.workers.open():
            said = self.workers.map(
                lambda part: self.heads(self.backend.encode(part, self.table), self.network, head)[head], chunks
            )
        return torch.cat(said)

    def tensors(self) -> dict[str, Tensor]:
        """All parameters, by name, as they are."""
        return {"table": self.table, "network": self.network, "mean": self.mean}

    def facts(self) -> dict:
        """What a field of the same shape is built from."""
        return {"config": asdict(self.config), "shape": asdict(self.shape)}


def with_size(encoded: Float[Tensor, "samples width"], size: Float[Tensor, " samples"]) -> Float[Tensor, "samples in"]:
    """Encoded places with a size and what it lacks to 1: together they stand for the bias that networks do not have."""
    return torch.cat([encoded, size[:, None], 1 - size[:, None]], 1)


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
        for name, tensor in self.state().items():
            tensor.copy_(state[name])


class FitStage:
    """Regression to features lifted to surface points.

    The loss is the squared error over the vectors' variance about their mean: 1 for a field that only knows the mean,
    for any encoder and scene.

    Args:
        field: to be taught; its `mean` becomes that of the vectors.
        x: the points, in the unit cube.
        vectors: their coefficients.
        seed: of the points' order.
    """

    name = "fit"

    def __init__(
        self,
        field: FeatureField,
        x: Float[Tensor, "points 3"],
        vectors: Float[Tensor, "points kept"],
        seed: int = 0,
    ) -> None:
        self.field, self.seed, self.workers = field, seed, field.workers
        device, config = field.device, field.config
        self._x, self._vectors = x.float().to(device).contiguous(), vectors.float().to(device)
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
        loss = error.square().sum() / (count * self._variance)
        return x, *torch.autograd.grad(loss, [encoded, network]), loss.detach()

    def measure(self) -> dict[str, float]:
        return {"unexplained": float(self._error)}

    def state(self) -> dict[str, Tensor]:
        return self._learner.state()

    def load_state(self, state: dict[str, Tensor]) -> None:
        self._learner.load_state(state)

    def facts(self) -> dict:
        return {**self.field.facts(), "seed": self.seed}
