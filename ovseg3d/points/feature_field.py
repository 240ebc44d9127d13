"""The feature field: language features as a function of position, with a hash grid separate from the radiance field's.

grid features -> three small networks without biases: coefficients in the scene's `Basis`, reduced DINO, and (if photos
were encoded at several scales) a weight for each scale. Positions are in the unit cube of the radiance field's box.
Coefficients are the scene's mean plus the network's output, so untrained positions have the mean. Rendered features are
sums of render weight x feature and are compared by direction only. With `FieldShape.sized`, coefficients also depend on
a size, as in LERF; see `lerf`.

`refine.RefineStage` trains it along rays of photos. A run stores the field's features at its surface points, not the
field.
"""

from dataclasses import asdict, dataclass
from itertools import islice, pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from ovseg3d.engine import Workers
from ovseg3d.field.backends import make_backend
from ovseg3d.field.levels import grid_levels
from ovseg3d.field.networks import as_layers, first_parameters, perceptron

HEADS = ("clip", "dino", "scales")
AT_ONCE = 65_536
"""Positions evaluated at once where gradients are not needed."""


@dataclass(frozen=True)
class FeatureFieldConfig:
    """The feature field: its grid and its networks."""

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
        outputs = {}
        for name, layers in self.layers(network).items():
            if not only or name in only:
                if self.shape.sized and name == "clip":
                    assert size is not None, "a sized field needs sizes"
                    outputs[name] = perceptron(with_size(encoded, size), *layers)
                else:
                    outputs[name] = perceptron(encoded, *layers)
        if "clip" in outputs:
            outputs["clip"] = outputs["clip"] + self.mean
        if "scales" in outputs:
            outputs["scales"] = torch.sigmoid(outputs["scales"])
        return outputs

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
            outputs = self.workers.map(
                lambda part: self.heads(self.backend.encode(part, self.table), self.network, head)[head], chunks
            )
        return torch.cat(outputs)

    def tensors(self) -> dict[str, Tensor]:
        """All parameters by name, not copied."""
        return {"table": self.table, "network": self.network, "mean": self.mean}

    def facts(self) -> dict:
        """The settings that a field of the same shape is built from."""
        return {"config": asdict(self.config), "shape": asdict(self.shape)}


def with_size(encoded: Float[Tensor, "samples width"], size: Float[Tensor, " samples"]) -> Float[Tensor, "samples in"]:
    """Encoded positions with size and 1 - size appended, which replace the bias that the networks lack."""
    return torch.cat([encoded, size[:, None], 1 - size[:, None]], 1)
