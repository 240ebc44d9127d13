"""The tiny CLIP: its architecture, the training of its two towers, and the folder that open_clip loads.

The text tower is trained first: it is distilled from a sentence encoder, on sentences without images. Then all of it
but the last projection is frozen, and the image tower is trained on captions with two contrastive losses: the image's
vector against all captions of the batch, and the best-matching patches against each object in the captions. Both are
also classified among the names of all objects, since a batch contains only some of them. A caption is a negative of an
image only if it says something that no caption of the image says.

The image tower is a small ResNet. Its last feature map is averaged before the head, so the head can be applied to each
cell as well, which gives dense features in the joint space.

Each batch has two parts: small images, most of single objects, and larger views of rooms. The views are encoded with
the same weights at a smaller output stride, as in use (`finer`). Each of their cells is assigned to one of the names
in the captions (`losses.sharing_loss`); there are no labels of pixels.

The training takes two hours on two cores because of a convolutional tower (at equal time and images, a transformer of
half its size names four times fewer of them), small images first, small batches, and texts that are encoded once.
"""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ovseg3d.synth.captions import article
from scripts.training import augment
from scripts.training.captions import named, objects_of, pair_up, some
from scripts.training.distributed import ALONE, World, share_batch_norms
from scripts.training.losses import best_patches, caption_loss, naming_loss, sharing_loss
from scripts.training.optim import Optimiser, rate_at
from scripts.training.placing import Placing
from scripts.training.pool import Draw, Pool
from scripts.training.text import CONTEXT, Related, Words, distillation_loss, encode_ids, hidden_of

MEAN, STD = (0.45, 0.43, 0.42), (0.24, 0.23, 0.24)


@dataclass(frozen=True)
class ClipShape:
    """Sizes of both towers."""

    image_size: int = 96
    tower: str = "resnet10t"
    """A convolutional network of timm's."""
    head: str = "mlp"
    """The head after the average: "mlp" (two layers) or "linear"."""
    dim: int = 192
    vocabulary: int = 6000
    text_width: int = 192
    text_layers: int = 3
    text_heads: int = 3

    def config(self) -> dict:
        """open_clip's `model_cfg`."""
        return {
            "embed_dim": self.dim,
            "vision_cfg": {
                "image_size": self.image_size, "timm_model_name": self.tower, "timm_pool": "avg",
                "timm_proj": self.head,
            },
            "text_cfg": {
                "context_length": CONTEXT, "vocab_size": self.vocabulary, "width": self.text_width,
                "heads": self.text_heads, "layers": self.text_layers,
            },
        }  # fmt: skip

    def build(self) -> nn.Module:
        """open_clip's model with random weights."""
        import open_clip

        model = open_clip.model.CLIP(**self.config())
        model.visual.to(memory_format=torch.channels_last)
        return model


@dataclass(frozen=True)
class ClipRecipe:
    """Settings of the training."""

    shape: ClipShape = field(default_factory=ClipShape)
    seed: int = 0
    batch: int = 48
    """Small images per step."""
    fresh: float = 10.0
    """How many of these are new; the others were used before, in other crops."""
    sizes: tuple[tuple[float, int], ...] = ((0.0, 64), (0.4, 80), (0.75, 96))
    """(progress, pixels of a side): the size from that progress on."""
    views: int = 12
    """Larger views of rooms per step; 0: none."""
    fresh_views: float = 4.0
    view_sizes: tuple[tuple[float, int], ...] = ((0.0, 128), (0.3, 160))
    """As `sizes`, for views."""
    start: int = 1024
    """Images of each of both parts that are rendered before the first step."""
    rate: float = 3e-3
    decay: float = 0.05
    warm_steps: int = 200
    caption_weight: float = 0.5
    """Weight of the contrastive losses of images and patches with captions."""
    token_weight: float = 0.5
    """Weight of patches relative to whole images, in the losses of captions and names."""
    token_sharpness: float = 10.0
    """Inverse temperature of the softmax over a caption's patches, by cosine."""
    sharing_weight: float = 0.5
    """Weight of the assignment of cells to names."""
    pull_weight: float = 1.0
    """Weight of the cosine of an image of one object with its phrase (this and the next three: placing.py)."""
    pair_weight: float = 1.0
    """Weight of an object's phrase against other colours of it and other objects of its colour."""
    word_weight: float = 3.0
    """Weight of everyday words whose nearest name is that of the image's object."""
    presence_weight: float = 1.0
    """Weight of the decision whether an object is present, for images of one object."""
    even: float = 0.5
    """How equal the shares of a view's cells are among its names, 0 to 1, at the start; it falls to 0."""
    prior: float = 0.5
    """Weight of the log frequencies of names that are added to logits in training (logit adjustment)."""
    text_rate: float = 0.1
    """Learning rate of the text projection relative to the image tower's; 0: frozen."""
    keep_weight: float = 1.0
    """Weight of the penalty on the change of the text projection."""
    captions: int = 3
    """Captions per image and step: the first two, and others at random."""
    instances: int = 5
    """Number of objects of each image's captions that patches are compared with."""
    crop: tuple[float, float] = (0.6, 1.0)
    coarse: float = 0.3
    """Share of small images that are blurred, as if enlarged from between a quarter and half of their size."""
    bf16: bool = True

    @staticmethod
    def at(sizes: tuple[tuple[float, int], ...], progress: float) -> int:
        """Pixels of an image's side."""
        return [size for since, size in sizes if progress >= since][-1]


class TextStage:
    """Distil the teacher into the text tower."""

    name = "text"

    def __init__(self, model: nn.Module, words: Words, sentences: Sequence[str], targets: Tensor, recipe: ClipRecipe,
                 world: World = ALONE, batch: int = 384, rate: float = 2e-3) -> None:  # fmt: skip
        self.model, self.targets, self.recipe, self.world = model, targets, recipe, world
        self.device = world.device
        self.ids = [words([sentence])[0] for sentence in sentences]
        self.batch = min(batch, len(sentences))
        named = [(n, p) for n, p in model.named_parameters() if not n.startswith("visual.") and "logit" not in n]
        self.optimiser = Optimiser(named, rate, 0.01, muon=0.0)
        self.agreement = self.loss = torch.zeros(())

    def step(self, step: int, progress: float) -> None:
        random = torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + step)
        rows = torch.randperm(len(self.ids), generator=random)[: self.batch]
        own = [self.ids[row] for row in rows[self.world.own(self.batch)]]
        ids = nn.utils.rnn.pad_sequence(own, batch_first=True).to(self.device)
        found = self.world.gather(self.world.in_parts(self.encode, ids)[0], self.batch)
        target = self.targets[rows].to(self.device)
        loss = distillation_loss(found, target)
        loss.backward()
        self.world.average(self.model.parameters())
        self.agreement = F.cosine_similarity(found.detach().float(), target).mean()
        self.loss = loss.detach()
        self.optimiser.step(rate_at(step, progress, 20))

    def encode(self, ids: Tensor) -> tuple[Tensor]:
        """Vectors of texts (texts, dim), not normalised."""
        with computing(self.device), torch.autocast(kind_of(self.device), torch.bfloat16, enabled=self.recipe.bf16):
            return (encode_ids(self.model, ids).float(),)

    def measure(self) -> dict[str, float]:
        return {"cosine to teacher": float(self.agreement), "loss": float(self.loss)}

    def state(self) -> dict[str, Tensor]:
        return {**{f"model|{k}": v for k, v in self.model.state_dict().items()}, **self.optimiser.state()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        load_model(self.model, state)
        self.optimiser.load_state(state)

    def facts(self) -> dict:
        return {"shape": asdict(self.recipe.shape)}


class ImageStage:
    """Train the image tower on captions.

    Args:
        model: its text tower is trained already.
        words: its tokenizer.
        pools: small images with captions, and larger views of rooms.
        recipe: settings of the training.
        names: of all objects that captions may name, without articles.
        pairs: (colour, name) that occur in training.
        related: everyday words, which of `names` they mean, and which they do not mean.
        world: the processes that share a batch.
    """

    name = "image"

    def __init__(self, model: nn.Module, words: Words, pools: tuple[Pool, Pool], recipe: ClipRecipe,
                 names: Sequence[str], pairs: Sequence[tuple[str, str]], related: Related,
                 world: World = ALONE) -> None:  # fmt: skip
        device = world.device
        world.check_batch(batch=recipe.batch, views=recipe.views)
        self.model, self.words, self.pools, self.recipe, self.device = model.to(device), words, pools, recipe, device
        self.world = world
        share_batch_norms(model.visual.trunk, world)
        self.names, self.finer = tuple(names), finer(model.visual.trunk, recipe.shape.tower)
        share_batch_norms(self.finer, world)
        self.placing = Placing(names, pairs, related, device)
        self.kept = model.text_projection.detach().clone()
        for name, parameter in model.named_parameters():
            trained = name.startswith("visual.") or name in ("text_projection", "logit_scale")
            parameter.requires_grad_(trained and not (name == "text_projection" and recipe.text_rate == 0))
        # Temperatures of three losses: patches and captions, images and names, patches and names.
        self.scales = nn.Parameter(torch.tensor([15.0, 20.0, 15.0], device=device).log())
        with torch.no_grad():  # a scalar changes slowly: start from its value at the end of short trainings
            model.logit_scale.fill_(math.log(20.0))
        fast = [(n, p) for n, p in model.named_parameters() if n != "text_projection"] + [("scales", self.scales)]
        self.optimiser = Optimiser(fast, recipe.rate, recipe.decay, muon=0.0)
        slow = [("text_projection", model.text_projection)] if recipe.text_rate else []
        self.slow = Optimiser(slow, recipe.rate * recipe.text_rate, 0.0, 0.0) if slow else None
        self.draws = (
            Draw(recipe.batch, recipe.fresh, recipe.start, recipe.seed),
            Draw(recipe.views, recipe.fresh_views, recipe.start, recipe.seed + 1),
        )
        self.common: Tensor | None = None
        """Log frequencies of names, with mean 0."""
        self.figures: dict[str, Tensor] = {}
        self._hidden: dict[str, Tensor] = {}

    def step(self, step: int, progress: float) -> None:
        recipe, model = self.recipe, self.model
        random = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
        if self.common is None:
            self.common = self.commonness()
        images, captions = self.batch(0, step, recipe.at(recipe.sizes, progress), random)
        parts = [self.see(model.visual.trunk, images, recipe.batch)]
        if recipe.views:
            images, more = self.batch(1, step, recipe.at(recipe.view_sizes, progress), random)
            captions = captions + more
            parts.append(self.see(self.finer, images, recipe.views))
        vectors = F.normalize(torch.cat([whole for whole, _ in parts]), dim=-1)
        parts = [F.normalize(cells, dim=-1) for _, cells in parts]
        loss = self.name_loss(vectors, parts, captions, recipe.even * (1 - progress))
        if recipe.caption_weight:
            loss = loss + recipe.caption_weight * self.caption_loss(vectors, parts, captions, random)
        texts, scale = F.normalize(self.encode(self.placing.texts), dim=-1), self.scales[1].exp().clamp(max=100.0)
        placed, figures = self.placing(
            vectors, texts, captions, scale, pull=recipe.pull_weight, pair=recipe.pair_weight,
            word=recipe.word_weight, presence=recipe.presence_weight,
        )  # fmt: skip
        self.figures |= figures
        loss = loss + placed
        if self.slow is not None:
            drift = (model.text_projection - self.kept).square().sum() / self.kept.square().sum()
            loss = loss + recipe.keep_weight * drift
            self.figures["drift"] = drift
        loss.backward()
        self.world.average([*model.parameters(), self.scales])
        self.figures["loss"] = loss
        rate = rate_at(step, progress, recipe.warm_steps)
        nn.utils.clip_grad_norm_([p for p in model.parameters() if p.grad is not None], 5.0)
        self.optimiser.step(rate)
        if self.slow is not None:
            self.slow.step(rate)
        self.figures = {name: value.detach() for name, value in self.figures.items()}

    def see(self, trunk: nn.Module, images: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Vectors of all `count` images of the batch (count, dim), and of their cells (count, cells, dim); `images` are
        this process's."""

        def cells(images: Tensor) -> tuple[Tensor, Tensor]:
            with self.half():
                whole, cells = cells_of(self.model.visual, trunk, images)
            return whole.float(), cells.float()

        whole, parts = self.world.in_parts(cells, images)
        return self.world.gather(whole, count), self.world.gather(parts, count)

    def name_loss(
        self, vectors: Tensor, parts: Sequence[Tensor], captions: Sequence[Sequence[str]], even: float
    ) -> Tensor:
        """Images (images, dim) and their patches (images, patches, dim), unit length, against all names."""
        recipe = self.recipe
        shown, undecided = (mask.to(self.device) for mask in named(captions, self.names))
        names = F.normalize(self.encode([article(name) for name in self.names]), dim=-1)
        _, whole, fine = self.scales.exp().clamp(max=100.0)
        expected = recipe.prior * self.common
        scores = vectors @ names.T
        loss = naming_loss(whole * scores + expected, shown, undecided)
        hit = shown.gather(1, scores.masked_fill(undecided, -2.0).argmax(1, keepdim=True))[:, 0] | ~shown.any(1)
        self.figures |= {"naming loss": loss, "named": hit.float().mean()}
        best = torch.cat([best_patches(cells, names, recipe.token_sharpness) for cells in parts])
        loss = loss + recipe.token_weight * naming_loss(fine * best + expected, shown, undecided)
        if len(parts) > 1 and recipe.sharing_weight:
            cells = fine * torch.einsum("nkd,td->nkt", parts[1], names) + expected
            self.figures["sharing loss"] = sharing = sharing_loss(cells, shown[recipe.batch :], even)
            loss = loss + recipe.sharing_weight * sharing
        return loss

    def caption_loss(
        self, vectors: Tensor, parts: Sequence[Tensor], captions: Sequence[Sequence[str]], random: torch.Generator
    ) -> Tensor:
        """Contrastive losses of images with the batch's captions, and of patches with the objects in them."""
        recipe = self.recipe
        chosen = [own[:2] + some(own[2:], max(0, recipe.captions - 2), random) for own in captions]
        told = [some(objects_of(own), recipe.instances, random) for own in captions]
        texts, *masks = pair_up(chosen, captions)
        instances, *shown = pair_up(told, captions)
        positive, ignored, own, unsure = (mask.to(self.device) for mask in (*masks, *shown))
        phrases, names = F.normalize(self.encode([*texts, *instances]), dim=-1).split([len(texts), len(instances)])
        scale, fine = self.model.logit_scale.exp().clamp(max=100.0), self.scales[0].exp().clamp(max=100.0)
        scores = vectors @ phrases.T
        whole = caption_loss(scale * scores, positive, ignored)
        best = torch.cat([best_patches(cells, names, recipe.token_sharpness) for cells in parts])
        patches = caption_loss(fine * best, own, unsure)
        hit = positive.gather(1, scores.masked_fill(ignored, -2.0).argmax(1, keepdim=True)).float().mean()
        self.figures |= {"caption loss": whole, "patch loss": patches, "hit": hit}
        return whole + recipe.token_weight * patches

    def commonness(self) -> Tensor:
        """Log frequencies of names in the first images of both parts, weighted as in a batch."""
        recipe, shares = self.recipe, torch.zeros(len(self.names))
        for pool, count in zip(self.pools, (recipe.batch, recipe.views)):
            if count:
                _, captions = pool.get(range(recipe.start)[self.world.own(recipe.start)], recipe.start)
                shares += count * named(self.world.gather_list(captions), self.names)[0].float().mean(0)
        logs = (shares / (recipe.batch + recipe.views)).clamp(min=1e-3).log()
        return (logs - logs.mean()).to(self.device)

    def batch(self, sort: int, step: int, size: int, random: torch.Generator) -> tuple[Tensor, list[list[str]]]:
        """This process's images of one part of the batch, (own, 3, size, size), normalised, and the captions of all."""
        pool, draw = self.pools[sort], self.draws[sort]
        indices = draw(step, pool.window)
        images, captions = pool.get(indices[self.world.own(draw.batch)], draw.newest(step))
        rows = self.world.random(random, draw.batch)
        flip = rows.unit() < 0.5
        boxes = augment.random_boxes(self.recipe.crop, 1.2, rows)
        images = augment.to_float(torch.from_numpy(images).to(self.device))
        images = augment.crop(images, boxes.to(self.device), flip.to(self.device), size)
        if sort == 0:
            images = augment.coarse(images, self.recipe.coarse, rows)
        images = normalise(augment.light(images, 0.2, rows))
        flipped = flip.tolist()
        captions = [augment.mirror_words(own) if turn else own for own, turn in zip(captions, flipped)]
        return images, self.world.gather_list(captions)

    def encode(self, texts: Sequence[str]) -> Tensor:
        """(texts, dim): cached outputs of the frozen text tower, through the projection, which is trained."""
        new = list(dict.fromkeys(text for text in texts if text not in self._hidden))
        if len(self._hidden) + len(new) > _TEXTS_KEPT:
            self._hidden.clear()
            new = list(dict.fromkeys(texts))
        if new:
            ids = self.words(new)
            lengths = (ids != 0).sum(1)
            # Fixed shapes, so that the bits of a text do not depend on the other texts of its batch.
            for shortest, longest in zip((0, *_LENGTHS), _LENGTHS):
                rows = ((lengths > shortest) & (lengths <= longest)).nonzero()[:, 0]
                for part in rows.split(_TEXTS_AT_ONCE):
                    own = ids[part, :longest]
                    padded = F.pad(own, (0, longest - own.shape[1], 0, _TEXTS_AT_ONCE - len(part)))
                    with torch.no_grad(), computing(self.device), self.half():
                        hidden = hidden_of(self.model, padded.to(self.device)).float()
                    self._hidden |= {new[row]: vector for row, vector in zip(part.tolist(), hidden)}
        return torch.stack([self._hidden[text] for text in texts]) @ self.model.text_projection

    def half(self) -> AbstractContextManager:
        """Autocast to bfloat16, if the recipe has it."""
        return torch.autocast(kind_of(self.device), torch.bfloat16, enabled=self.recipe.bf16)

    def measure(self) -> dict[str, float]:
        return {name: float(value) for name, value in self.figures.items()} | {
            "waited s": sum(pool.waited for pool in self.pools)
        }

    def state(self) -> dict[str, Tensor]:
        held = {f"model|{k}": v for k, v in self.model.state_dict().items()}
        held |= {"kept": self.kept, "scales": self.scales.data}
        held |= {} if self.common is None else {"common": self.common}
        slow = {f"slow|{k}": v for k, v in self.slow.state().items()} if self.slow else {}
        return {**held, **self.optimiser.state(), **slow}

    def load_state(self, state: dict[str, Tensor]) -> None:
        load_model(self.model, state)
        self.kept = state["kept"].to(self.device)
        self.scales.data.copy_(state["scales"])
        self._hidden.clear()
        self.common = state["common"].to(self.device) if "common" in state else None
        self.optimiser.load_state(state)
        if self.slow is not None:
            self.slow.load_state({k.removeprefix("slow|"): v for k, v in state.items() if k.startswith("slow|")})

    def facts(self) -> dict:
        return {"recipe": asdict(self.recipe)}


def load_model(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Load the model's part of a checkpoint."""
    model.load_state_dict({k.removeprefix("model|"): v for k, v in state.items() if k.startswith("model|")})


def normalise(images: Tensor) -> Tensor:
    """Normalise rgb in 0..1 for the image tower."""
    return (images - images.new_tensor(MEAN).view(3, 1, 1)) / images.new_tensor(STD).view(3, 1, 1)


def cells_of(visual: nn.Module, trunk: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors of images, (images, dim), and of the cells of their last feature maps, (images, cells, dim), in the joint
    space; not normalised."""
    maps = trunk.forward_features(images.contiguous(memory_format=torch.channels_last)).flatten(2).transpose(1, 2)
    return visual.head(maps.mean(1)), visual.head(maps)


def finer(trunk: nn.Module, tower: str) -> nn.Module:
    """The same network at output stride 16; it shares the weights of `trunk`."""
    import timm

    twin = timm.create_model(tower, num_classes=0, output_stride=16)
    for name, module in twin.named_modules():
        if module._parameters or module._buffers:
            own = trunk.get_submodule(name)
            module._parameters, module._buffers = own._parameters, own._buffers
    return twin


def computing(device: str) -> AbstractContextManager:
    """A context for attention. On a CPU the plain kernel is several times as fast as the fused one for few tokens."""
    return sdpa_kernel(SDPBackend.MATH) if kind_of(device) == "cpu" else nullcontext()


def kind_of(device: str) -> str:
    """ "cpu" or "cuda"."""
    return device.split(":", maxsplit=1)[0]


_TEXTS_KEPT = 150_000
_TEXTS_AT_ONCE = 16
_LENGTHS = (8, 12, CONTEXT)


def save_clip(folder: Path, model: nn.Module, shape: ClipShape) -> None:
    """The folder for `open_clip.create_model_and_transforms("local-dir:FOLDER")`: configuration and fp16 weights."""
    from safetensors.torch import save_file

    from ovseg3d.files import write_atomic, write_json

    config = shape.config()
    config["text_cfg"]["hf_tokenizer_name"] = "tokenizer"  # any name: with local-dir, open_clip reads the folder's own
    preprocess = {"size": shape.image_size, "mode": "RGB", "mean": MEAN, "std": STD, "interpolation": "bicubic"}
    preprocess |= {"resize_mode": "shortest", "fill_color": 0}
    state = {k: v.detach().cpu() for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    state = {k: v.half().contiguous() for k, v in state.items()}
    write_atomic(folder / "open_clip_model.safetensors", lambda path: save_file(state, path, {"format": "pt"}))
    (folder / "open_clip_model.safetensors").chmod(0o644)  # safetensors makes it readable by its owner only
    write_json(folder / "open_clip_config.json", {"model_cfg": config, "preprocess_cfg": preprocess})
