"""The tiny CLIP: its shape, how its two towers learn, and the folder that open_clip loads.

Text first: the tower learns the teacher's sentence space from sentences alone. Then it stands still but for its last
projection, and the image tower learns from captions to meet it. Two losses, both between pictures and captions:
the picture's vector against all captions of the batch, and the best-matching patches against each caption, so that
patches come to mean what they show. Both are also asked for the names of the things in the captions among all names,
since a batch holds only some of them. The image tower is a small ResNet whose last map is averaged and then projected,
so a cell's place in the joint space is its projection, and the picture's vector is the mean of these: dense features
need no detour. A caption is negative for a picture only if it says something that no caption of the picture says.

What makes two hours on two cores enough: a convolutional tower (at equal time and pictures a transformer of half its
size names four times fewer of them), small pictures first, small batches, and texts that are encoded once.
"""

import math
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from encoder_training import augment
from encoder_training.optim import Optimiser, rate_at
from encoder_training.pool import Draw, Pool
from encoder_training.text import CONTEXT, Words, distillation_loss, encode_ids, hidden_of

MEAN, STD = (0.45, 0.43, 0.42), (0.24, 0.23, 0.24)


@dataclass(frozen=True)
class ClipShape:
    """Sizes of both towers."""

    image_size: int = 96
    tower: str = "resnet10t"
    """A convolutional network of timm's."""
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
                "timm_proj": "linear",
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
    """How it learns."""

    shape: ClipShape = field(default_factory=ClipShape)
    seed: int = 0
    batch: int = 64
    fresh: float = 10.0
    """New pictures of a batch; the others were seen before, in other crops."""
    start: int = 1024
    """Pictures rendered before the first step."""
    rate: float = 3e-3
    decay: float = 0.05
    warm_steps: int = 200
    sizes: tuple[tuple[float, int], ...] = ((0.0, 64), (0.4, 80), (0.75, 96))
    """From which progress on pictures have how many pixels."""
    loss: str = "clip"
    """"clip": softmax over the batch. "siglip": yes or no for every pair."""
    caption_weight: float = 0.5
    """Of the losses between pictures, their patches and the batch's captions."""
    token_weight: float = 0.5
    """Of patches, beside whole pictures, in every loss."""
    token_sharpness: float = 10.0
    """How much the best patch of a caption outweighs the others (by cosine)."""
    text_rate: float = 0.1
    """Rate of the text projection, beside the image tower's; 0 leaves it alone."""
    keep_weight: float = 1.0
    """How firmly the text projection keeps the sentence space that was distilled."""
    captions: int = 3
    """Captions of each picture in a step: the two plainest and others at random."""
    things: int = 5
    """Things of each picture's captions that patches are compared with."""
    crop: tuple[float, float] = (0.6, 1.0)
    bf16: bool = True

    def size_at(self, progress: float) -> int:
        """Pixels of a picture's side."""
        return [size for since, size in self.sizes if progress >= since][-1]


class TextStage:
    """Distil the teacher into the text tower."""

    name = "text"

    def __init__(self, model: nn.Module, words: Words, sentences: Sequence[str], targets: Tensor, recipe: ClipRecipe,
                 device: str = "cpu", batch: int = 384, rate: float = 2e-3) -> None:  # fmt: skip
        self.model, self.targets, self.recipe, self.device = model, targets, recipe, device
        self.ids = [words([sentence])[0] for sentence in sentences]
        self.batch = min(batch, len(sentences))
        named = [(n, p) for n, p in model.named_parameters() if not n.startswith("visual.") and "logit" not in n]
        self.optimiser = Optimiser(named, rate, 0.01, muon=0.0)
        self.agreement = torch.zeros(())

    def step(self, step: int, progress: float) -> None:
        random = torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + step)
        rows = torch.randperm(len(self.ids), generator=random)[: self.batch]
        ids = nn.utils.rnn.pad_sequence([self.ids[row] for row in rows], batch_first=True).to(self.device)
        with computing(self.device), torch.autocast(kind_of(self.device), torch.bfloat16, enabled=self.recipe.bf16):
            found = encode_ids(self.model, ids)
        target = self.targets[rows].to(self.device)
        loss = distillation_loss(found.float(), target)
        loss.backward()
        self.agreement = F.cosine_similarity(found.detach().float(), target).mean()
        self.optimiser.step(rate_at(step, progress, 20))

    def measure(self) -> dict[str, float]:
        return {"cosine to teacher": float(self.agreement)}

    def state(self) -> dict[str, Tensor]:
        return {**{f"model|{k}": v for k, v in self.model.state_dict().items()}, **self.optimiser.state()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        load_model(self.model, state)
        self.optimiser.load_state(state)

    def facts(self) -> dict:
        return {"shape": asdict(self.recipe.shape)}


class ImageStage:
    """Let the image tower meet the text tower over captions.

    Args:
        model: whose text tower has learned already.
        words: its tokenizer.
        pool: pictures with captions.
        recipe: how to learn.
        names: of all things that captions may name, without articles.
        device: where to compute.
    """

    name = "image"

    def __init__(self, model: nn.Module, words: Words, pool: Pool, recipe: ClipRecipe, names: Sequence[str],
                 device: str = "cpu") -> None:  # fmt: skip
        self.model, self.words, self.pool, self.recipe, self.device = model.to(device), words, pool, recipe, device
        self.names = tuple(names)
        self.kept = model.text_projection.detach().clone()
        for name, parameter in model.named_parameters():
            trained = name.startswith("visual.") or name in ("text_projection", "logit_scale", "logit_bias")
            parameter.requires_grad_(trained and not (name == "text_projection" and recipe.text_rate == 0))
        # Each loss has a temperature of its own: patches and captions, pictures and names, patches and names.
        self.scales = nn.Parameter(torch.tensor([15.0, 20.0, 15.0], device=device).log())
        with torch.no_grad():  # a single number moves slowly: begin where short trainings end
            model.logit_scale.fill_(math.log(20.0))
        self.siglip_bias = nn.Parameter(torch.tensor([-6.0, -4.0], device=device))
        extra = [("scales", self.scales), ("siglip_bias", self.siglip_bias)]
        fast = [(n, p) for n, p in model.named_parameters() if n != "text_projection"] + extra
        self.optimiser = Optimiser(fast, recipe.rate, recipe.decay, muon=0.0)
        slow = [("text_projection", model.text_projection)] if recipe.text_rate else []
        self.slow = Optimiser(slow, recipe.rate * recipe.text_rate, 0.0, 0.0) if slow else None
        self.draw = Draw(recipe.batch, recipe.fresh, recipe.start, recipe.seed)
        self.figures: dict[str, Tensor] = {}
        self._hidden: dict[str, Tensor] = {}

    def step(self, step: int, progress: float) -> None:
        recipe = self.recipe
        random = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
        images, captions = self.batch(step, recipe.size_at(progress), random)
        with self.half():
            tokens = dense_tokens(self.model.visual, images)
        vectors, tokens = F.normalize(tokens.float().mean(1), dim=-1), F.normalize(tokens.float(), dim=-1)
        loss = self.name_loss(vectors, tokens, captions)
        if recipe.caption_weight:
            loss = loss + recipe.caption_weight * self.caption_loss(vectors, tokens, captions, random)
        if self.slow is not None:
            drift = (self.model.text_projection - self.kept).square().sum() / self.kept.square().sum()
            loss = loss + recipe.keep_weight * drift
            self.figures["drift"] = drift.detach()
        loss.backward()
        rate = rate_at(step, progress, recipe.warm_steps)
        nn.utils.clip_grad_norm_([p for p in self.model.parameters() if p.grad is not None], 5.0)
        self.optimiser.step(rate)
        if self.slow is not None:
            self.slow.step(rate)

    def name_loss(self, vectors: Tensor, tokens: Tensor, captions: Sequence[Sequence[str]]) -> Tensor:
        """Pictures (views, dim) and their patches (views, patches, dim), unit length, against all names."""
        shown = named(captions, self.names).to(self.device)
        names = F.normalize(self.encode([article(name) for name in self.names]), dim=-1)
        _, whole, fine = self.scales.exp().clamp(max=100.0)
        scores = vectors @ names.T
        loss = naming_loss(whole * scores, shown)
        best = best_patches(tokens, names, self.recipe.token_sharpness)
        hit = shown.gather(1, scores.argmax(1, keepdim=True))[:, 0] | ~shown.any(1)
        self.figures |= {"naming loss": loss.detach(), "named": hit.float().mean()}
        return loss + self.recipe.token_weight * naming_loss(fine * best, shown)

    def caption_loss(
        self, vectors: Tensor, tokens: Tensor, captions: Sequence[Sequence[str]], random: torch.Generator
    ) -> Tensor:
        """Pictures against the batch's captions, patches against the things in them."""
        recipe = self.recipe
        chosen = [own[:2] + some(own[2:], recipe.captions - 2, random) for own in captions]
        parts = [some(things_of(own), recipe.things, random) for own in captions]
        texts, positive, ignored = (x if isinstance(x, list) else x.to(self.device) for x in pair_up(chosen, captions))
        things, shown, unsure = (x if isinstance(x, list) else x.to(self.device) for x in pair_up(parts, captions))
        phrases, names = F.normalize(self.encode([*texts, *things]), dim=-1).split([len(texts), len(things)])
        scale, fine = self.model.logit_scale.exp().clamp(max=100.0), self.scales[0].exp().clamp(max=100.0)
        loss_of = multi_clip_loss if recipe.loss == "clip" else multi_siglip_loss
        scores = vectors @ phrases.T
        whole = loss_of(scale * scores, positive, ignored, self.siglip_bias[0])
        best = best_patches(tokens, names, recipe.token_sharpness)
        patches = loss_of(fine * best, shown, unsure, self.siglip_bias[1])
        hit = positive.gather(1, scores.masked_fill(ignored, -2.0).argmax(1, keepdim=True)).float().mean()
        self.figures |= {"caption loss": whole.detach(), "patch loss": patches.detach(), "hit": hit}
        return whole + recipe.token_weight * patches

    def batch(self, step: int, size: int, random: torch.Generator) -> tuple[Tensor, list[list[str]]]:
        """Pictures (batch, 3, size, size), normalised, and all captions of each."""
        recipe = self.recipe
        indices = self.draw(step, self.pool.window)
        pictures, captions = self.pool.get(indices, self.draw.newest(step))
        count = len(indices)
        flip = torch.rand(count, generator=random) < 0.5
        boxes = augment.random_boxes(count, recipe.crop, 1.2, random)
        images = augment.to_float(torch.from_numpy(pictures).to(self.device))
        images = augment.crop(images, boxes.to(self.device), flip.to(self.device), size)
        images = normalise(augment.light(images, 0.2, random))
        flipped = flip.tolist()
        return images, [augment.mirror_words(own) if turn else own for own, turn in zip(captions, flipped)]

    def encode(self, texts: Sequence[str]) -> Tensor:
        """(texts, dim) of the tower that stands still, through the projection that does not."""
        new = list(dict.fromkeys(text for text in texts if text not in self._hidden))
        if len(self._hidden) + len(new) > _TEXTS_KEPT:
            self._hidden.clear()
            new = list(dict.fromkeys(texts))
        if new:
            ids = self.words(new)
            lengths = (ids != 0).sum(1)
            # Always the same shapes, so that a text has the same bits in whatever company it is encoded.
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
        """Products in bfloat16, where the recipe wants it."""
        return torch.autocast(kind_of(self.device), torch.bfloat16, enabled=self.recipe.bf16)

    def measure(self) -> dict[str, float]:
        return {name: float(value) for name, value in self.figures.items()} | {"waited s": self.pool.waited}

    def state(self) -> dict[str, Tensor]:
        held = {f"model|{k}": v for k, v in self.model.state_dict().items()}
        held |= {"kept": self.kept, "scales": self.scales.data, "siglip_bias": self.siglip_bias.data}
        slow = {f"slow|{k}": v for k, v in self.slow.state().items()} if self.slow else {}
        return {**held, **self.optimiser.state(), **slow}

    def load_state(self, state: dict[str, Tensor]) -> None:
        load_model(self.model, state)
        self.kept = state["kept"].to(self.device)
        self.scales.data.copy_(state["scales"])
        self._hidden.clear()
        self.siglip_bias.data.copy_(state["siglip_bias"])
        self.optimiser.load_state(state)
        if self.slow is not None:
            self.slow.load_state({k.removeprefix("slow|"): v for k, v in state.items() if k.startswith("slow|")})

    def facts(self) -> dict:
        return {"recipe": asdict(self.recipe)}


def load_model(model: nn.Module, state: dict[str, Tensor]) -> None:
    """The model's part of a checkpoint."""
    model.load_state_dict({k.removeprefix("model|"): v for k, v in state.items() if k.startswith("model|")})


def normalise(images: Tensor) -> Tensor:
    """rgb in 0..1 to what the tower sees."""
    return (images - images.new_tensor(MEAN).view(3, 1, 1)) / images.new_tensor(STD).view(3, 1, 1)


def dense_tokens(visual: nn.Module, images: Tensor) -> Tensor:
    """Cells of the last map in the joint space, (views, cells, dim), not normalised; their mean is the picture's
    vector."""
    maps = visual.trunk.forward_features(images.contiguous(memory_format=torch.channels_last))
    return visual.head(maps.flatten(2).transpose(1, 2))


def computing(device: str) -> AbstractContextManager:
    """On a CPU the plain form of attention is several times as fast as the fused one for so few tokens."""
    return sdpa_kernel(SDPBackend.MATH) if kind_of(device) == "cpu" else nullcontext()


def kind_of(device: str) -> str:
    """ "cpu" or "cuda"."""
    return device.split(":", maxsplit=1)[0]


def best_patches(tokens: Tensor, phrases: Tensor, sharpness: float) -> Tensor:
    """Cosine of each phrase with the patches that match it best, (views, phrases): a mean weighted by the cosine."""
    cosines = torch.einsum("nkd,td->ntk", tokens, phrases)
    return ((cosines.detach() * sharpness).softmax(-1) * cosines).sum(-1)


def multi_clip_loss(logits: Tensor, positive: Tensor, ignored: Tensor, bias: Tensor) -> Tensor:
    """CLIP's loss where a picture has several captions and a caption several pictures: each against all negatives."""

    def one_way(logits: Tensor, positive: Tensor, ignored: Tensor) -> Tensor:
        others = logits.masked_fill(positive | ignored, -torch.inf).logsumexp(1, keepdim=True)
        losses = F.softplus(others - logits)
        return (losses * positive).sum(1).div(positive.sum(1).clamp(min=1)).mean()

    return 0.5 * (one_way(logits, positive, ignored) + one_way(logits.T, positive.T, ignored.T))


def multi_siglip_loss(logits: Tensor, positive: Tensor, ignored: Tensor, bias: Tensor) -> Tensor:
    """SigLIP's: each pair by itself, yes or no; summed over captions, averaged over pictures and their captions."""
    losses = F.softplus(torch.where(positive, -1.0, 1.0) * (logits + bias)).masked_fill(ignored, 0.0)
    return losses.sum() / positive.sum()


def naming_loss(logits: Tensor, shown: Tensor) -> Tensor:
    """Each name that is shown against all that are not, (views, names) both; a mean over pictures with names."""
    others = logits.masked_fill(shown, -torch.inf).logsumexp(1, keepdim=True)
    losses = (F.softplus(others - logits) * shown).sum(1) / shown.sum(1).clamp(min=1)
    return losses.sum() / shown.any(1).sum().clamp(min=1)


_TEXTS_KEPT = 150_000
_TEXTS_AT_ONCE = 16
_LENGTHS = (8, 12, CONTEXT)
_BETWEEN = re.compile(
    r" next to | in front of | to the left of | to the right of | on top of | hanging on | with | behind | beside | on"
    r" | under | above | near | and | in |, | of "
)
_EMPTY = {"a", "an", "the", "this", "is", "here", "some", "there", "photo", "view", "close", "picture"}


@lru_cache(maxsize=200_000)
def parse(caption: str) -> frozenset[frozenset[str]]:
    """What a caption says: its things, each as the set of its words."""
    parts = [frozenset(part.split()) - _EMPTY for part in _BETWEEN.split(caption)]
    return frozenset(part for part in parts if part)


def things_of(captions: Sequence[str]) -> list[str]:
    """The things that captions name, each once, with its words in their order: "a red chair"."""
    parts = (part.split() for caption in captions for part in _BETWEEN.split(caption))
    named = (" ".join(word for word in part if word not in _EMPTY) for part in parts)
    return list(dict.fromkeys(article(name) for name in named if name))


def article(name: str) -> str:
    """With "a" or "an"."""
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def named(captions: Sequence[Sequence[str]], names: Sequence[str]) -> Tensor:
    """Which names (views, names) the captions of each picture call things by: "a red office chair" is a chair."""
    return torch.stack([_named(tuple(own), tuple(names)) for own in captions])


@lru_cache(maxsize=100_000)
def _named(captions: tuple[str, ...], names: tuple[str, ...]) -> Tensor:
    things = [f" {thing}" for thing in things_of(captions)]
    # "curtain" is not said of a "shower curtain", which is a name itself.
    longest = [max((name for name in names if thing.endswith(f" {name}")), key=len, default="") for thing in things]
    return torch.tensor([name in longest for name in names])


def some(items: Sequence[str], count: int, random: torch.Generator) -> list[str]:
    """At most `count` of them, in a random order."""
    return [items[i] for i in torch.randperm(len(items), generator=random)[:count].tolist()]


def pair_up(
    captions: Sequence[Sequence[str]], known_of: Sequence[Sequence[str]] | None = None
) -> tuple[list[str], Tensor, Tensor]:
    """The batch's different captions, which are whose own, and which say nothing that may be untrue of a picture.

    Args:
        captions: of each picture.
        known_of: all that is known of each picture, where that is more than `captions`.

    Returns:
        texts, own (views, texts), and undecided (views, texts): true where every thing of the caption, with all its
        words, is in a caption of the picture, though it is not one of these.
    """
    texts = list(dict.fromkeys(caption for own in captions for caption in own))
    place = {text: column for column, text in enumerate(texts)}
    own = torch.zeros(len(captions), len(texts), dtype=torch.bool)
    implied = torch.zeros_like(own)
    said = [parse(text) for text in texts]
    things = frozenset().union(*said)
    for row, mine in enumerate(captions):
        own[row, [place[text] for text in mine]] = True
        known = frozenset().union(*(parse(text) for text in (known_of[row] if known_of else mine)))
        words = frozenset().union(*known)
        true = {thing for thing in things if thing <= words and any(thing <= other for other in known)}
        implied[row] = torch.tensor([parts <= true for parts in said])
    return texts, own, implied & ~own


def save_clip(folder: Path, model: nn.Module, shape: ClipShape) -> None:
    """The folder for `open_clip.create_model_and_transforms("local-dir:FOLDER")`: configuration and fp16 weights."""
    from safetensors.torch import save_file

    from ovseg3d.files import write_atomic, write_json

    config = shape.config()
    config["text_cfg"]["hf_tokenizer_name"] = "tokenizer"  # any name: with local-dir, open_clip takes the folder's own
    preprocess = {"size": shape.image_size, "mode": "RGB", "mean": MEAN, "std": STD, "interpolation": "bicubic"}
    preprocess |= {"resize_mode": "shortest", "fill_color": 0}
    state = {k: v.detach().cpu() for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    state = {k: v.half().contiguous() for k, v in state.items()}
    write_atomic(folder / "open_clip_model.safetensors", lambda path: save_file(state, path, {"format": "pt"}))
    (folder / "open_clip_model.safetensors").chmod(0o644)  # the library lets only its owner read
    write_json(folder / "open_clip_config.json", {"model_cfg": config, "preprocess_cfg": preprocess})
