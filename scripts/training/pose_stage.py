"""The training stage of the photo head, on features that a frozen encoder computed once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ovseg3d.encoders import DenseEncoder, TextImageEncoder, load_clip, load_dino
from ovseg3d.errors import ConfigError
from ovseg3d.files import write_atomic
from ovseg3d.heads.pose.features import crop_features
from ovseg3d.heads.pose.network import PoseNetwork, PosePredictions, PoseShape, pose_loss
from scripts.training.distributed import ALONE, BatchDropout, World
from scripts.training.optim import warm_cosine
from scripts.training.pose_crops import NAMES, CropSet

WARMUP = 0.05
"""Share of the training over which the learning rate rises."""


@dataclass(frozen=True)
class PoseRecipe:
    """Settings of the training."""

    seed: int = 0
    rate: float = 2e-3
    """Highest learning rate."""
    decay: float = 0.3
    """Weight decay."""
    batch: int = 192
    named: float = 0.5
    """Share of crops of which the phrase is told."""
    symmetric: bool = True
    """Whether equal azimuths of symmetric objects are equally right."""


def load_encoder(name: str) -> TextImageEncoder | DenseEncoder:
    """Of "clip:NAME", "dino:NAME", or "random" (the built-in DINO with random weights).

    Raises:
        EncoderError, ConfigError: there is none.
    """
    kind, _, what = name.partition(":")
    if kind == "clip":
        return load_clip(what)
    if kind == "dino":
        return load_dino(what)
    if name != "random":
        raise ConfigError(f"There is no encoder {name!r}", fix="clip:NAME, dino:NAME, or random")
    encoder: Any = load_dino("builtin")
    torch.manual_seed(0)
    for module in encoder.model.modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
            torch.nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
    return encoder


def cached_features(
    folder: Path, name: str, key: str, crops: CropSet, grid: int = 6
) -> Float[Tensor, "crops channels {grid} {grid}"]:
    """Features of a set of crops, computed once and kept in half precision.

    Args:
        folder: of the cache.
        name: of the encoder, see `load_encoder`.
        key: names the set.
        crops: the set.
        grid: patches along a side.
    """
    path = folder / f"{name.replace(':', '-')}-{key}-{len(crops.kind)}-{grid}.npy"
    if not path.exists():
        made = crop_features(load_encoder(name), crops.image, grid).half().numpy()

        def write(to: Path) -> None:
            with open(to, "wb") as file:
                np.save(file, made)

        write_atomic(path, write)
    return torch.from_numpy(np.load(path))


class PoseStage:
    """One batch of crops a step.

    Args:
        crops: the labels.
        features: of the crops.
        recipe: settings.
        shape: of the network.
        world: the processes that share a batch.
    """

    name = "pose"

    def __init__(
        self, crops: CropSet, features: Tensor, recipe: PoseRecipe, shape: PoseShape, world: World = ALONE
    ) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.features, self.world = recipe, features, world
        self.angles = torch.from_numpy(crops.angles).float()
        self.order, self.kind = torch.from_numpy(crops.order), torch.from_numpy(crops.kind)
        text = torch.as_tensor(load_clip("builtin").encode_text([phrase(name) for name in NAMES])).float()
        self.text = torch.cat([text, torch.zeros(1, text.shape[1])])  # the last row, -1, is for none
        self.network = PoseNetwork(shape)
        self.network.drop = self.drop = BatchDropout(self.network.drop.p)
        parameters = list(self.network.parameters())
        matrices, vectors = [p for p in parameters if p.ndim > 1], [p for p in parameters if p.ndim < 2]
        groups = [{"params": matrices, "weight_decay": recipe.decay}, {"params": vectors, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=recipe.rate, betas=(0.9, 0.98))
        self.loss = 0.0

    def step(self, step: int, progress: float) -> None:
        """One batch."""
        rng = np.random.default_rng([self.recipe.seed, step])
        batch, world, dropout_seed = self.recipe.batch, self.world, int(rng.integers(1 << 62))
        rows = torch.from_numpy(rng.integers(0, len(self.kind), batch))
        named = torch.from_numpy(rng.random(batch) < self.recipe.named)
        kind = self.kind[rows]
        phrases = self.text[torch.where(named, kind, -1)]
        self.network.train()

        def predict(own: Tensor) -> tuple[Tensor, ...]:
            torch.manual_seed(dropout_seed)
            self.drop.count, self.drop.rows = batch, own
            found = self.network(self.features[rows[own]].float(), phrases[own])
            return (*found.angles, found.symmetry, found.present)

        outputs = world.in_parts(predict, torch.arange(batch)[world.own(batch)])
        azimuth, elevation, theta, symmetry, present = (world.gather(value, batch) for value in outputs)
        found = PosePredictions(azimuth, elevation, theta, symmetry, present, not self.network.shape.waves)
        present = kind >= 0
        loss = pose_loss(found, self.angles[rows], self.order[rows], present, symmetric=self.recipe.symmetric)
        self.optimizer.zero_grad()
        loss.backward()
        world.average(self.network.parameters())
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate * warm_cosine(progress, WARMUP)
        self.optimizer.step()
        self.loss = 0.98 * self.loss + 0.02 * loss.item()

    def measure(self) -> dict[str, float]:
        """Running mean of the loss."""
        return {"loss": self.loss}

    def state(self) -> dict[str, Tensor]:
        """Weights and the optimiser's moments."""
        state = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        for name, parameter in self.network.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                state[f"moments.{name}|{key}"] = value
        return state

    def load_state(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state`."""
        kept = {name.removeprefix("network."): value for name, value in state.items() if name.startswith("network.")}
        self.network.load_state_dict(kept)
        for name, parameter in self.network.named_parameters():
            start = f"moments.{name}|"
            self.optimizer.state[parameter] = {
                key.removeprefix(start): value for key, value in state.items() if key.startswith(start)
            }

    def facts(self) -> dict[str, Any]:
        """Settings that a checkpoint depends on."""
        return {"recipe": vars(self.recipe), "shape": self.network.facts(), "crops": len(self.kind)}


def phrase(kind: str) -> str:
    """With its article, as captions have it."""
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"
