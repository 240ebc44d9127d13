"""The tiny DINOv2: its training by self-distillation, and the folder that transformers loads.

The student gets two large and some small crops of an image with random colours and light. The teacher, an exponential
moving average of the student, gets the large crops. Outputs are distributions over prototypes; the teacher's are
balanced over prototypes by Sinkhorn's iterations, which prevents collapse. The student learns to predict

- of each crop, the teacher's [CLS] output for the other large crop;
- of masked patches, the teacher's output for the same patches, unmasked;
- of patches in the overlap of the large crops, the teacher's output for the same place in the other crop.

There are no captions and no labels.
"""

import math
import re
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scripts.training import augment
from scripts.training.clip import MEAN, STD, computing, kind_of, normalise
from scripts.training.distributed import ALONE, BatchRandom, World
from scripts.training.local_start import start_local
from scripts.training.optim import Optimiser, rate_at
from scripts.training.pool import Draw, Pool


@dataclass(frozen=True)
class DinoShape:
    """Sizes of the network."""

    image_size: int = 64
    """Pixels of a large crop's side; positions are interpolated for other sizes."""
    patch: int = 8
    width: int = 144
    layers: int = 4
    heads: int = 6

    def build(self) -> nn.Module:
        """transformers' network with random weights; its attention is initialised to be local."""
        from transformers import Dinov2Config, Dinov2Model

        config = Dinov2Config(
            hidden_size=self.width, num_hidden_layers=self.layers, num_attention_heads=self.heads, mlp_ratio=4,
            image_size=self.image_size, patch_size=self.patch, layerscale_value=0.1, drop_path_rate=0.0,
        )  # fmt: skip
        model = Dinov2Model(config)
        embed = model.embeddings
        layers = [layer.attention for layer in model.encoder.layer]
        heads = [list(zip(*(p.weight.data.chunk(self.heads) for p in (a.q_proj, a.k_proj)))) for a in layers]
        patches = embed.patch_embeddings.projection
        start_local(embed.position_embeddings.data[0], patches, heads, torch.Generator().manual_seed(0))
        return model


@dataclass(frozen=True)
class DinoRecipe:
    """Settings of the training."""

    shape: DinoShape = field(default_factory=DinoShape)
    seed: int = 0
    batch: int = 32
    fresh: float = 8.0
    """New images per batch; the others were used before, in other crops."""
    start: int = 1024
    rate: float = 3e-3
    decay: float = 0.05
    muon: float = 1.0
    warm_steps: int = 150
    small_size: int = 32
    """Pixels of a small crop's side."""
    small_crops: int = 4
    prototypes: int = 1024
    bottleneck: int = 96
    hidden: int = 384
    student_temperature: float = 0.1
    teacher_temperature: float = 0.015
    """Cosines with random prototypes have a standard deviation of about 0.1: at a much higher temperature the teacher's
    first outputs are nearly uniform."""
    momentum: float = 0.99
    """Of the teacher's moving average, at the start; it rises to 1."""
    mask_share: float = 0.5
    """Share of large crops with masked patches."""
    whole_weight: float = 1.0
    masked_weight: float = 1.0
    place_weight: float = 1.0
    """Weight of the loss of patches at the same place in the other crop."""
    bf16: bool = True


class Head(nn.Module):
    """From tokens to cosines with prototypes."""

    def __init__(self, width: int, recipe: DinoRecipe) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(width, recipe.hidden), nn.GELU(), nn.Linear(recipe.hidden, recipe.bottleneck)
        )
        self.prototypes = nn.Parameter(torch.randn(recipe.prototypes, recipe.bottleneck))

    def forward(self, tokens: Tensor) -> Tensor:
        return F.normalize(self.mlp(tokens).float(), dim=-1) @ F.normalize(self.prototypes, dim=-1).T


class Network(nn.Module):
    """Backbone with its two heads."""

    def __init__(self, recipe: DinoRecipe) -> None:
        super().__init__()
        self.backbone = recipe.shape.build()
        self.whole, self.patches = (Head(recipe.shape.width, recipe) for _ in range(2))

    def forward(
        self, images: Tensor, hidden: Tensor | None = None, corner: tuple[int, int] = (0, 0)
    ) -> tuple[Tensor, Tensor]:
        """[CLS] tokens (views, width) and patch tokens (views, patches, width).

        Small images use a window of the position table that begins at `corner` (row, column). transformers would
        resize the table instead, which changes the differences between neighbours.
        """
        embed = self.backbone.embeddings
        patches = embed.patch_embeddings(images)
        if hidden is not None:
            patches = torch.where(hidden[..., None], embed.mask_token.to(patches.dtype)[None], patches)
        side, table = math.isqrt(patches.shape[1]), embed.position_embeddings[0]
        grid, (top, left) = math.isqrt(len(table) - 1), corner
        part = table[1:].unflatten(0, (grid, grid))[top : top + side, left : left + side].flatten(0, 1)
        first = (embed.cls_token[0] + table[:1]).expand(len(images), 1, -1)
        tokens = torch.cat([first.to(patches.dtype), patches + part.to(patches.dtype)], 1)
        for layer in self.backbone.encoder.layer:
            tokens = layer(tokens)
        tokens = self.backbone.layernorm(tokens)
        return tokens[:, 0], tokens[:, 1:]


class DinoStage:
    """Trains a student and its teacher by self-distillation."""

    name = "dino"

    def __init__(self, pool: Pool, recipe: DinoRecipe, world: World = ALONE) -> None:
        world.check_batch(batch=recipe.batch)
        torch.manual_seed(recipe.seed)
        device = world.device
        self.student, self.teacher = Network(recipe).to(device), Network(recipe).to(device)
        self.teacher.load_state_dict(self.student.state_dict())
        self.teacher.requires_grad_(False)
        self.pool, self.recipe, self.world, self.device = pool, recipe, world, device
        self.optimiser = Optimiser(self.student.named_parameters(), recipe.rate, recipe.decay, recipe.muon)
        self.draw = Draw(recipe.batch, recipe.fresh, recipe.start, recipe.seed + 1)
        self.figures: dict[str, Tensor] = {}

    def step(self, step: int, progress: float) -> None:
        recipe, world = self.recipe, self.world
        random = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
        large, small, boxes, flip = self.crops(step, random)
        grid, count = recipe.shape.image_size // recipe.shape.patch, len(large) // 2
        hidden = hide(grid, recipe.mask_share, world.random(random, recipe.batch, 2)).to(self.device)
        spare = grid - recipe.small_size // recipe.shape.patch + 1
        corner = tuple(torch.randint(spare, (2,), generator=random).tolist())
        with self.computing():  # around all, so that autocast converts each weight once
            with torch.no_grad():
                whole_says, patches_say = world.in_parts(partial(self.say, self.teacher), large)
            from_large, shown = world.in_parts(partial(self.say, self.student), large, hidden)
            from_small = world.in_parts(partial(self.say_whole, corner=corner), small)[0]
        target = sinkhorn(whole_says, recipe.teacher_temperature, world=world)
        target_patches = sinkhorn(patches_say.flatten(0, 1), recipe.teacher_temperature, world=world)
        target_patches = target_patches.view_as(patches_say)
        temperature = recipe.student_temperature
        crossed = torch.cat([target[count:], target[:count]])
        loss_whole = world.mean(entropy(crossed, from_large, temperature).mean())
        every = from_small.view(recipe.small_crops, 1, count, -1)
        loss_whole = loss_whole + world.mean(entropy(target.view(1, 2, count, -1), every, temperature).mean())
        each = entropy(target_patches, shown, temperature)
        loss_masked = world.total((each * hidden).sum()) / world.total(hidden.sum()).clamp(min=1)
        place, valid = same_place(boxes, flip, grid)
        other = torch.cat([target_patches[count:], target_patches[:count]])
        other = other.gather(1, place[..., None].expand(-1, -1, other.shape[-1]))
        loss_place = world.total((entropy(other, shown, temperature) * valid).sum())
        loss_place = loss_place / world.total(valid.sum()).clamp(min=1)
        loss = recipe.whole_weight * loss_whole + recipe.masked_weight * loss_masked
        (loss + recipe.place_weight * loss_place).backward()
        world.average(self.student.parameters())
        nn.utils.clip_grad_norm_(self.student.parameters(), 3.0)
        self.optimiser.step(rate_at(step, progress, recipe.warm_steps))
        momentum = 1 - (1 - recipe.momentum) * 0.5 * (1 + math.cos(math.pi * progress)) - 1e-4
        with torch.no_grad():
            torch._foreach_lerp_(list(self.teacher.parameters()), list(self.student.parameters()), 1 - momentum)
        usage = world.mean(target_patches.flatten(0, 1).mean(0))
        self.figures = {
            "whole": loss_whole.detach(), "masked": loss_masked.detach(), "place": loss_place.detach(),
            "prototypes in use": (usage * -usage.clamp(min=1e-9).log()).sum().exp(),
            "sureness": world.mean(target_patches.amax(-1).mean()),
        }  # fmt: skip

    def say(self, network: Network, images: Tensor, hidden: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Cosines of images (views, prototypes) and of their patches (views, patches, prototypes)."""
        with self.computing():
            whole, patches = network(images, hidden)
            return network.whole(whole), network.patches(patches)

    def say_whole(self, images: Tensor, corner: tuple[int, int]) -> tuple[Tensor]:
        """The student's cosines of small images, (views, prototypes)."""
        with self.computing():
            return (self.student.whole(self.student(images, corner=corner)[0]),)

    @contextmanager
    def computing(self) -> Generator[None, None, None]:
        """The attention's kernel, and autocast to bfloat16, if the recipe has it."""
        with computing(self.device), torch.autocast(kind_of(self.device), torch.bfloat16, enabled=self.recipe.bf16):
            yield

    def crops(self, step: int, random: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Two large crops of each of this process's images (all first ones, then all second ones), small crops, and
        boxes and flips of the large ones."""
        recipe = self.recipe
        indices = self.draw(step, self.pool.window)[self.world.own(recipe.batch)]
        images, _ = self.pool.get(indices, self.draw.newest(step))
        images = augment.to_float(torch.from_numpy(images).to(self.device))

        def cut(times: int, scale: tuple[float, float], size: int) -> tuple[Tensor, Tensor, Tensor]:
            rows = self.world.random(random, recipe.batch, times)
            boxes = augment.random_boxes(scale, 1.3, rows).to(self.device)
            flip = (rows.unit() < 0.5).to(self.device)
            found = augment.crop(images.repeat(times, 1, 1, 1), boxes, flip, size)
            found = augment.hue(augment.light(found, 0.35, rows), rows)
            return normalise(found), boxes, flip

        large, boxes, flip = cut(2, (0.3, 1.0), recipe.shape.image_size)
        small, _, _ = cut(recipe.small_crops, (0.06, 0.3), recipe.small_size)
        return large, small, boxes, flip

    def measure(self) -> dict[str, float]:
        return {name: float(value) for name, value in self.figures.items()} | {"waited s": self.pool.waited}

    def state(self) -> dict[str, Tensor]:
        held = {f"student|{k}": v for k, v in self.student.state_dict().items()}
        held |= {f"teacher|{k}": v for k, v in self.teacher.state_dict().items()}
        return {**held, **{f"optimiser|{k}": v for k, v in self.optimiser.state().items()}}

    def load_state(self, state: dict[str, Tensor]) -> None:
        def part(name: str) -> dict[str, Tensor]:
            return {k.removeprefix(f"{name}|"): v for k, v in state.items() if k.startswith(f"{name}|")}

        self.student.load_state_dict(part("student"))
        self.teacher.load_state_dict(part("teacher"))
        self.optimiser.load_state(part("optimiser"))

    def facts(self) -> dict:
        return {"recipe": asdict(self.recipe)}


def entropy(target: Tensor, cosines: Tensor, temperature: float) -> Tensor:
    """Cross entropy of the student's distribution with the target, over the last axis."""
    return -(target * (cosines / temperature).log_softmax(-1)).sum(-1)


@torch.no_grad()
def sinkhorn(cosines: Tensor, temperature: float, rounds: int = 3, world: World = ALONE) -> Tensor:
    """Distributions (tokens, prototypes) whose mean over the batch is uniform; processes have equally many tokens."""
    shares = ((cosines.float() - world.largest(cosines.float().max())) / temperature).exp()
    tokens = world.size * shares.shape[0]
    for _ in range(rounds):
        shares = shares / world.total(shares.sum(0, keepdim=True)).clamp(min=1e-12) / shares.shape[1]
        shares = shares / shares.sum(1, keepdim=True).clamp(min=1e-12) / tokens
    return shares * tokens


def hide(grid: int, share: float, rows: BatchRandom) -> Tensor:
    """Mask of the patches to hide, (rows, grid * grid): in some images, a block and a few random patches."""
    count, random = rows.count, rows.generator
    hidden = torch.zeros(count, grid, grid, dtype=torch.bool)
    chosen = torch.rand(count, generator=random) < share
    for view in chosen.nonzero()[:, 0].tolist():
        height, width = torch.randint(max(1, grid // 4), max(2, grid * 3 // 4), (2,), generator=random).tolist()
        top = int(torch.randint(0, grid - height + 1, (1,), generator=random))
        left = int(torch.randint(0, grid - width + 1, (1,), generator=random))
        hidden[view, top : top + height, left : left + width] = True
        hidden[view] |= torch.rand(grid, grid, generator=random) < 0.1
    return hidden.flatten(1)[rows.own]


def same_place(boxes: Tensor, flip: Tensor, grid: int) -> tuple[Tensor, Tensor]:
    """For each patch of a large crop, the patch of the image's other large crop that shows the same place.

    Args:
        boxes: (2 * views, 4), centre and half size; the first halves of the views come first.
        flip: (2 * views,).
        grid: patches of a side.

    Returns:
        indices (2 * views, patches), and whether the place lies within the other crop.
    """
    half = len(boxes) // 2
    line = (torch.arange(grid, device=boxes.device) + 0.5) / grid * 2 - 1
    y, x = (part.flatten() for part in torch.meshgrid(line, line, indexing="ij"))
    sign = torch.where(flip, -1.0, 1.0).to(boxes)[:, None]
    at_x, at_y = boxes[:, :1] + boxes[:, 2:3] * x * sign, boxes[:, 1:2] + boxes[:, 3:4] * y
    other, other_sign = torch.cat([boxes[half:], boxes[:half]]), torch.cat([sign[half:], sign[:half]])
    column = ((at_x - other[:, :1]) / other[:, 2:3] * other_sign + 1) / 2 * grid
    row = ((at_y - other[:, 1:2]) / other[:, 3:4] + 1) / 2 * grid
    valid = (column >= 0) & (column < grid) & (row >= 0) & (row < grid)
    place = row.floor().clamp(0, grid - 1) * grid + column.floor().clamp(0, grid - 1)
    return place.long(), valid


_IN_FILES = {
    "q_proj": "attention.query",
    "k_proj": "attention.key",
    "v_proj": "attention.value",
    "o_proj": "output.dense",
}


def _in_file(key: str) -> str:
    """A tensor's name in the hub's files, which all releases of transformers read; newer ones rename in memory."""
    return re.sub(r"(?<=\.attention\.)[qkvo]_proj", lambda found: _IN_FILES[found[0]], key)


def save_dino(folder: Path, backbone: nn.Module, shape: DinoShape) -> None:
    """The folder for `transformers.AutoModel.from_pretrained`: fp16 weights that are loaded as fp32."""
    from safetensors.torch import save_file

    from ovseg3d.files import write_atomic, write_json

    state = {_in_file(k): v.detach().cpu().half().contiguous() for k, v in backbone.state_dict().items()}
    write_atomic(folder / "model.safetensors", lambda path: save_file(state, path, {"format": "pt"}))
    (folder / "model.safetensors").chmod(0o644)  # safetensors makes it readable by its owner only
    config = backbone.config.to_dict() | {"architectures": ["Dinov2Model"], "dtype": "float32"}
    write_json(folder / "config.json", config)
    side = {"height": shape.image_size, "width": shape.image_size}
    write_json(
        folder / "preprocessor_config.json",
        {
            "image_processor_type": "BitImageProcessor", "do_resize": True, "size": {"shortest_edge": shape.image_size},
            "do_center_crop": True, "crop_size": side, "resample": 3, "do_rescale": True, "rescale_factor": 1 / 255,
            "do_normalize": True, "image_mean": MEAN, "image_std": STD, "do_convert_rgb": True,
        },
    )  # fmt: skip
