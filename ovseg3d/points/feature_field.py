"""The feature field: language features as a function of position, with a hash grid separate from the radiance field's.

grid features -> three small networks without biases: coefficients in the scene's `Basis`, reduced DINO, and (if photos
were encoded at several scales) a weight for each scale. Positions are in the unit cube of the radiance field's box.
Coefficients are the scene's mean plus the network's output, so untrained positions have the mean. Rendered features are
sums of render weight x feature and are compared by direction only. With `FieldShape.sized`, coefficients also depend on
a size, as in LERF; see `lerf`.

`FitStage` fits the field to the features lifted to surface points, in seconds. `refine.RefineStage` continues along
rays of photos. Both are stages of the engine. A run stores the field's features at its surface points, not the field.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import islice, pairwise
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ovseg3d.engine import Workers
from ovseg3d.field.backends import make_backend
from ovseg3d.field.levels import grid_levels
from ovseg3d.field.networks import as_layers, first_parameters, perceptron
from ovseg3d.field.optimizer import GridOptimizer, Schedule

HEADS = ("clip", "dino", "scales")
AT_ONCE = 65_536
"""Positions evaluated at once where gradients are not needed."""


@dataclass(frozen=True)
class FeatureFieldConfig:
    """The feature field: its grid, its networks, and how it is fitted to lifted features."""

    levels: int = 12
    """Levels of the hash grid."""
    features: int = 4
    """Features in each entry of a level's table."""
    log2_table: int = 16
    """log2 of the most entries of a level's table."""
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
    """Number of outputs of each head; 0: the head is absent."""

    clip: int
    dino: int = 0
    scales: int = 0
    sized: bool = False
    """Whether coefficients depend on a size, from 0 to 1; their network then has one more layer."""


class FeatureField:
    """The parameters of a feature field, and its evaluation.

    Args:
        config: sizes.
        shape: of the heads.
        device: device of the parameters.
        backend: `warp`, `torch` or `tcnn`.
        seed: of the initial values.
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
        self.levels = grid_levels(config)
        self.backend = make_backend(backend, self.levels, device)
        self.workers = Workers.for_device(device)
        table, network = first_parameters(self.levels, self._shapes(), seed)
        self.table, self.network = table.to(device), network.to(device)
        self.mean = torch.zeros(shape.clip, device=device)
        """The scene's mean: added to all coefficients, not trained."""

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
        """Outputs of the heads at encoded positions; `scales` from 0 to 1, before any softmax.

        Args:
            encoded: from the backend's `encode`.
            network: the flat weights: `self.network`, or a leaf in its place.
            only: names of heads; empty: all.
            size: of each sample, 0 to 1; only for a sized field.
        """
        said = {}
        for name, layers in self.layers(network).items():
            if not only or name in only:
                if self.shape.sized and name == "clip":
                    assert size is not None, "a sized field needs sizes"
                    said[name] = perceptron(with_size(encoded, size), *layers)
                else:
                    said[name] = perceptron(encoded, *layers)
        if "clip" in said:
            said["clip"] = said["clip"] + self.mean
        if "scales" in said:
            said["scales"] = torch.sigmoid(said["scales"])
        return said

    def layers(self, network: Float[Tensor, " weights"]) -> dict[str, list[Float[Tensor, "_ _"]]]:
        """The flat weights as matrices, for each head."""
        layers = iter(as_layers(network, self._shapes()))
        return {name: list(islice(layers, len(widths) - 1)) for name, widths in self._heads}

    @torch.no_grad()
    def encode(self, x: Float[Tensor, "samples 3"]) -> Float[Tensor, "samples width"]:
        """Grid features at positions in the unit cube, the input of the heads."""
        return torch.cat([self.backend.encode(part.contiguous(), self.table) for part in x.split(AT_ONCE)])

    @torch.no_grad()
    def at(self, x: Float[Tensor, "samples 3"], head: str = "clip") -> Float[Tensor, "samples out"]:
        """A head's output at positions in the unit cube."""
        chunks = [chunk.contiguous() for chunk in x.split(AT_ONCE)]
        with self.workers.open():
            said = self.workers.map(
                lambda part: self.heads(self.backend.encode(part, self.table), self.network, head)[head], chunks
            )
        return torch.cat(said)

    def tensors(self) -> dict[str, Tensor]:
        """All parameters by name, not copied."""
        return {"table": self.table, "network": self.network, "mean": self.mean}

    def facts(self) -> dict:
        """The settings that a field of the same shape is built from."""
        return {"config": asdict(self.config), "shape": asdict(self.shape)}


def with_size(encoded: Float[Tensor, "samples width"], size: Float[Tensor, " samples"]) -> Float[Tensor, "samples in"]:
    """Encoded positions with size and 1 - size appended, which replace the bias that the networks lack."""
    return torch.cat([encoded, size[:, None], 1 - size[:, None]], 1)


@runtime_checkable
class TrainingRates(Protocol):
    """Learning rates of a configuration."""

    @property
    def learning_rate(self) -> float: ...
    @property
    def network_learning_rate(self) -> float: ...
    @property
    def decay(self) -> float: ...


class FieldTrainer:
    """The update shared by the stages of a feature field, and their state: the field's tensors and the moments.

    Args:
        field: to be trained.
        config: learning rates.
    """

    def __init__(self, field: FeatureField, config: TrainingRates) -> None:
        rates = {"table": config.learning_rate, "network": config.network_learning_rate}
        schedule = Schedule(rates, config.decay, warmup=10)
        self._mean = field.mean
        self._optimizer = GridOptimizer(field.backend, field.workers, field.table, {"network": field.network}, schedule)

    def update(self, step: int, progress: float, pieces: list[tuple[Tensor, Tensor, Tensor]]) -> None:
        """One step of Adam.

        Args:
            step: from 0.
            progress: completed share of the training.
            pieces: positions, gradient of their encoding, and gradient of the network, for each piece of the step.
        """
        self._optimizer.update(
            step, progress, [(x, grad) for x, grad, _ in pieces], {"network": [grad for *_, grad in pieces]}
        )

    def state(self) -> dict[str, Tensor]:
        """All tensors, not copied."""
        return {**self._optimizer.state(), "mean": self._mean}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Copy the values of `state`."""
        self._optimizer.load_state(state)
        self._mean.copy_(state["mean"])


class FitStage:
    """Regression to features lifted to surface points.

    The loss is the squared error over the vectors' variance about their mean: 1 for a constant field, for any encoder
    and scene.

    Args:
        field: to be trained; its `mean` becomes that of the vectors.
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
        self._trainer = FieldTrainer(field, config)
        self._error = torch.ones((), device=device)

    def step(self, step: int, progress: float) -> None:
        generator = torch.Generator(self.field.device).manual_seed(self.seed * 1_000_003 + step)
        count = min(self.field.config.fit_points, len(self._x))
        chosen = torch.randint(len(self._x), (count,), generator=generator, device=self.field.device)
        results = self.workers.map(lambda part: self._piece(part, count), list(chosen.chunk(self.workers.pieces)))
        self._trainer.update(step, progress, [result[:3] for result in results])
        self._error = sum(result[3] for result in results)

    def _piece(self, chosen: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        own = self.field
        x = self._x.index_select(0, chosen)
        with torch.no_grad():
            encoded = own.backend.encode(x, own.table)
        encoded, network = encoded.requires_grad_(), own.network.detach().requires_grad_()
        error = own.heads(encoded, network, "clip")["clip"] - self._vectors.index_select(0, chosen)
        loss = error.square().sum() / (count * self._variance)
        grad_encoded, grad_network = torch.autograd.grad(loss, [encoded, network])
        return x, grad_encoded, grad_network, loss.detach()

    def measure(self) -> dict[str, float]:
        return {"unexplained": float(self._error)}

    def state(self) -> dict[str, Tensor]:
        return self._trainer.state()

    def load_state(self, state: dict[str, Tensor]) -> None:
        self._trainer.load_state(state)

    def facts(self) -> dict:
        return {**self.field.facts(), "seed": self.seed}
