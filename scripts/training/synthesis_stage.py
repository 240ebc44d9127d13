"""The training stage of neural meshes, on features that a frozen encoder computed once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ovseg3d.encoders import load_clip
from ovseg3d.errors import ConfigError
from ovseg3d.heads.pose.meshes import vertex_weights
from ovseg3d.heads.pose.network import SYMMETRY_ORDERS
from ovseg3d.heads.pose.synthesis import (
    AZIMUTHS,
    ELEVATIONS,
    THETAS,
    MeshesShape,
    NeuralMeshes,
    kind_log_likelihoods,
    log_likelihoods,
    rendered_grid,
    rotations_of,
)
from ovseg3d.synth.holdout import SEEN
from ovseg3d.synth.still import some_thing
from scripts.training.distributed import ALONE, BatchDropout2d, World
from scripts.training.optim import warm_cosine
from scripts.training.pose_crops import NAMES, CropSet
from scripts.training.pose_stage import phrase

WARMUP = 0.1
"""Share of the training over which the learning rate rises."""
BOXES = 24
"""Individuals whose sizes give a kind's proportions."""
PRIOR_COUNT = 50.0
"""Crops of all kinds that count beside a kind's own in its prior of poses."""


@dataclass(frozen=True)
class SynthesisRecipe:
    """Settings of the training."""

    seed: int = 0
    rate: float = 3e-3
    """Highest learning rate."""
    decay: float = 0.05
    """Weight decay of the network."""
    kinds: int = 6
    """Of each batch."""
    crops: int = 8
    """Of each of these kinds."""
    naming: float = 1.0
    """Weight of the cross entropy of kinds beside that of poses."""


class SynthesisStage:
    """One batch of crops a step: cross entropies of the true pose among those of the grid, under the true kind, and of
    the true kind among those of the batch, at the true pose.

    NeMo contrasts vertices one by one instead. With spheres, trained on 8,640 crops and told the kind, that was right
    within 30 degrees in 43 of 100 known development crops, the cross entropy of poses in 47, and means of whitened
    features on the vertices, without a network, in 39.

    Args:
        crops: the labels.
        features: of the crops.
        shape: of the meshes; crops of other kinds are not used.
        recipe: settings.
        world: the processes that share a batch, each some crops of every kind.
        names: of the kinds, in the order of their numbers in `crops`.

    Raises:
        ConfigError: a kind has no crop, features are not finite, or there are more processes than crops of a kind.
    """

    name = "synthesis"

    def __init__(
        self, crops: CropSet, features: Float[Tensor, "crops channels grid grid"], shape: MeshesShape,
        recipe: SynthesisRecipe, world: World = ALONE, names: Sequence[str] = NAMES,
    ) -> None:  # fmt: skip
        torch.manual_seed(recipe.seed)
        if recipe.crops < world.size:
            raise ConfigError(
                f"{world.size} processes cannot share {recipe.crops} crops of a kind",
                where="--recipe.crops",
                fix=f"give at least {world.size}, or use fewer processes",
            )
        self.recipe, self.features, self.world = recipe, features, world
        self.rows = [np.flatnonzero(crops.kind == names.index(name)) for name in shape.kinds]
        missing = [name for name, rows in zip(shape.kinds, self.rows) if not len(rows)]
        if missing:
            raise ConfigError(f"There is no crop of {', '.join(missing)} to train on", fix="make more crops")
        if not torch.isfinite(features).all():
            raise ConfigError("Features of crops have numbers that are not finite", fix="remove their cache")
        self.rotations = rotations_of(crops.angles.astype(np.float64))
        self.targets = pose_targets(crops.angles, crops.order)
        self.meshes = NeuralMeshes(shape)
        self.drop = BatchDropout2d(self.meshes.drop.p)
        self.meshes.set_submodule("drop", self.drop)
        self._fill(crops)
        self.log_temperature = torch.nn.Parameter(torch.tensor(4.0).log())
        network = [p for name, p in self.meshes.named_parameters() if name not in ("shared", "own", "clutter")]
        vectors = [self.meshes.shared, self.meshes.own, self.meshes.clutter, self.log_temperature]
        groups = [{"params": network, "weight_decay": recipe.decay}, {"params": vectors, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=recipe.rate)
        self.loss = 0.0

    def _fill(self, crops: CropSet) -> None:
        """What training crops say beside the features."""
        kinds = self.meshes.shape.kinds
        every = self.targets[np.concatenate(self.rows)].mean(0)
        for k, rows in enumerate(self.rows):
            own = (self.targets[rows].sum(0) + PRIOR_COUNT * every) / (len(rows) + PRIOR_COUNT)
            self.meshes.poses[k] = (0.99 * own + 0.01 / len(own)).log()
            self.meshes.orders[k] = torch.tensor([float((crops.order[rows] == n).mean()) for n in SYMMETRY_ORDERS])
        texts = load_clip("builtin").encode_text([phrase(name) for name in kinds])
        self.meshes.texts.copy_(torch.as_tensor(texts))

    def step(self, step: int, progress: float) -> None:
        """One batch."""
        recipe, shape, world = self.recipe, self.meshes.shape, self.world
        rng = np.random.default_rng([recipe.seed, step])
        torch.manual_seed(int(rng.integers(1 << 62)))
        kinds = rng.choice(len(self.rows), min(recipe.kinds, len(self.rows)), replace=False)
        rows = torch.from_numpy(np.stack([rng.choice(self.rows[kind], recipe.crops) for kind in kinds]))
        places = torch.arange(rows.numel()).view(rows.shape)[:, world.own(recipe.crops)]
        self.drop.count, self.drop.rows = rows.numel(), places.flatten()
        rows = rows[:, world.own(recipe.crops)]
        self.meshes.train()
        vectors = self.meshes(self.features[rows.flatten()].float()).unflatten(0, rows.shape)
        poses, seen = torch.zeros(()), []
        for own, kind, few in zip(vectors, kinds.tolist(), rows):
            surface = self.meshes.surface(kind)
            likely = log_likelihoods(self.meshes, own, kind, rendered_grid(surface, shape.grid))
            chance = (likely / self.log_temperature.exp() + self.meshes.poses[kind]).log_softmax(1)
            poses = poses - world.gather((self.targets[few] * chance).sum(1), recipe.crops).mean() / len(kinds)
            seen.append(vertex_weights(surface, self.rotations[few], shape.grid))
        found = kind_log_likelihoods(
            self.meshes, vectors.flatten(0, 1), torch.from_numpy(kinds), torch.cat(seen)
        ) / self.log_temperature.exp()  # fmt: skip
        # Crops come first in what is gathered, and kinds in the batch.
        found = world.gather(found.unflatten(0, rows.shape).transpose(0, 1), recipe.crops).transpose(0, 1).flatten(0, 1)
        naming = F.cross_entropy(found, torch.arange(len(kinds)).repeat_interleave(recipe.crops))
        loss = poses + recipe.naming * naming
        self.optimizer.zero_grad()
        loss.backward()
        world.average(parameter for _, parameter in self._trained())
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.rate * warm_cosine(progress, WARMUP)
        self.optimizer.step()
        self.meshes.temperature.copy_(self.log_temperature.detach().exp())
        self.loss = 0.98 * self.loss + 0.02 * loss.item()

    def measure(self) -> dict[str, float]:
        """Running mean of the loss."""
        return {"loss": self.loss}

    def state(self) -> dict[str, Tensor]:
        """Weights, buffers and the optimiser's moments."""
        state = {f"meshes.{name}": value for name, value in self.meshes.state_dict().items()}
        state["log_temperature"] = self.log_temperature.detach()
        for name, parameter in self._trained():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                state[f"moments.{name}|{key}"] = value
        return state

    def load_state(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state`."""
        kept = {name.removeprefix("meshes."): value for name, value in state.items() if name.startswith("meshes.")}
        self.meshes.load_state_dict(kept)
        with torch.no_grad():
            self.log_temperature.copy_(state["log_temperature"])
        for name, parameter in self._trained():
            start = f"moments.{name}|"
            self.optimizer.state[parameter] = {
                key.removeprefix(start): value for key, value in state.items() if key.startswith(start)
            }

    def _trained(self) -> list[tuple[str, torch.nn.Parameter]]:
        return [*self.meshes.named_parameters(), ("log_temperature", self.log_temperature)]

    def facts(self) -> dict[str, Any]:
        """Settings that a checkpoint depends on."""
        return {"recipe": vars(self.recipe), "shape": self.meshes.facts(), "crops": sum(map(len, self.rows))}


def pose_targets(
    angles: Float[np.ndarray, "crops 3"], orders: Int[np.ndarray, " crops"]
) -> Float[Tensor, "crops poses"]:
    """The true pose as a distribution on the grid of poses, linearly between its neighbours; of a symmetric object all
    equal azimuths in equal parts, of a round one all azimuths.

    Args:
        angles: azimuth, elevation, theta, radians; those beyond the grid are taken to its edge.
        orders: of the symmetry.
    """
    degrees = np.degrees(angles.astype(np.float64))
    step = AZIMUTHS[1] - AZIMUTHS[0]
    azimuth = np.full((len(angles), len(AZIMUTHS)), 1 / len(AZIMUTHS))
    for order in set(orders.tolist()) - {0}:
        turns = np.arange(order) * 360 / order
        away = degrees[orders == order, 0][:, None, None] + turns[:, None] - np.array(AZIMUTHS)
        azimuth[orders == order] = np.clip(1 - np.abs((away + 180) % 360 - 180) / step, 0, None).mean(1)
    elevation, theta = (_between(degrees[:, k], grid) for k, grid in ((1, ELEVATIONS), (2, THETAS)))
    joint = azimuth[:, :, None, None] * elevation[:, None, :, None] * theta[:, None, None, :]
    return torch.from_numpy(joint.reshape(len(angles), -1)).float()


def _between(degrees: np.ndarray, grid: tuple[int, ...]) -> np.ndarray:
    place = np.clip((degrees + 180) % 360 - 180, grid[0], grid[-1])
    return np.clip(1 - np.abs(place[:, None] - np.array(grid)) / (grid[1] - grid[0]), 0, None)


def mean_halves(kind: str) -> tuple[float, float, float]:
    """Half of the geometric mean of the sizes of some training individuals."""
    rng = np.random.default_rng(0)
    things = [some_thing(rng, kind, SEEN) for _ in range(BOXES)]
    x, y, z = (np.exp(np.log([thing.high - thing.low for thing in things]).mean(0)) / 2).tolist()
    return x, y, z
