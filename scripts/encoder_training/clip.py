"""The tiny CLIP: its shape, how its two towers learn, and the folder that open_clip loads.

Text first: the tower learns the teacher's sentence space from sentences alone. Then it stands still but for its last
projection, and the image tower learns from captions to meet it. Two losses, both between pictures and captions:
the picture's vector against all captions of the batch, and the best-matching patches against each caption, so that
patches come to mean what they show. The image tower pools by averaging its normalised patch tokens, so a patch's
place in the joint space is `ln_post(token) @ proj`, and the picture's vector is the mean of these: dense features
need no detour. A caption is negative for a picture only if it says something that no caption of the picture says.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encoder_training import augment
from encoder_training.optim import Optimiser, rate_at
from encoder_training.pool import Draw, Pool
from encoder_training.text import CONTEXT, JointSpace, Words, distillation_loss, encode_ids, hidden_of

MEAN, STD = (0.45, 0.43, 0.42), (0.24, 0.23, 0.24)


@dataclass(frozen=True)
class ClipShape:
    """Sizes of both towers."""

    image_size: int = 80
    patch: int = 8
    width: int = 192
    layers: int = 6
    head_width: int = 64
    dim: int = 192
    vocabulary: int = 6000
    text_width: int = 192
    text_layers: int = 3
    text_heads: int = 3

    def config(self, dropout: float = 0.0) -> dict:
        """open_clip's `model_cfg`."""
        return {
            "embed_dim": self.dim,
            "vision_cfg": {
                "image_size": self.image_size, "patch_size": self.patch, "width": self.width, "layers": self.layers,
                "head_width": self.head_width, "pool_type": "avg", "patch_dropout": dropout,
            },
            "text_cfg": {
                "context_length": CONTEXT, "vocab_size": self.vocabulary, "width": self.text_width,
                "heads": self.text_heads, "layers": self.text_layers,
            },
        }  # fmt: skip

    def build(self, dropout: float = 0.0) -> nn.Module:
        """The model, with open_clip's own random weights."""
        import open_clip

        return open_clip.model.CLIP(**self.config(dropout))


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
    rate: float = 1e-3
    decay: float = 0.05
    muon: float = 1.0
    warm_steps: int = 100
    dropout: float = 0.5
    """Share of patches left out of a picture while training: nearly twice as many pictures in the same time."""
    full_from: float = 0.8
    """Progress from which no patch is left out."""
    loss: str = "clip"
    """"clip": softmax over the batch. "siglip": yes or no for every pair."""
    token_weight: float = 0.5
    """Of the loss between patches and captions."""
    token_sharpness: float = 10.0
    """How much the best patch of a caption outweighs the others (by cosine)."""
    text_rate: float = 0.1
    """Rate of the text projection, beside the image tower's; 0 leaves it alone."""
    keep_weight: float = 1.0
    """How firmly the text projection keeps the sentence space that was distilled."""
    captions: int = 4
    """Captions of each picture in a step: the two plainest and others at random."""
    things: int = 5
    """Things of each picture's captions that patches are compared with."""
    crop: tuple[float, float] = (0.6, 1.0)
    bf16: bool = True


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
        with torch.autocast(self.device.split(":")[0], torch.bfloat16, enabled=self.recipe.bf16):
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
    """Let the image tower meet the text tower over captions."""

    name = "image"

    def __init__(self, model: nn.Module, words: Words, pool: Pool, recipe: ClipRecipe, device: str = "cpu") -> None:
        self.model, self.words, self.pool, self.recipe, self.device = model.to(device), words, pool, recipe, device
        self.kept = model.text_projection.detach().clone()
        for name, parameter in model.named_parameters():
            trained = name.startswith("visual.") or name in ("text_projection", "logit_scale", "logit_bias")
            parameter.requires_grad_(trained and not (name == "text_projection" and recipe.text_rate == 0))
        # Cosines of patches spread less than those of pictures; each loss has a temperature of its own.
        self.token_scale = nn.Parameter(torch.tensor(15.0).log().to(device))
        with torch.no_grad():  # a single number moves slowly: begin where short trainings end
            model.logit_scale.fill_(math.log(20.0))
        self.siglip_bias = nn.Parameter(torch.tensor([-6.0, -4.0], device=device))
        extra = [("token_scale", self.token_scale), ("siglip_bias", self.siglip_bias)]
        fast = [(n, p) for n, p in model.named_parameters() if n != "text_projection"] + extra
        self.optimiser = Optimiser(fast, recipe.rate, recipe.decay, recipe.muon)
        slow = [("text_projection", model.text_projection)] if recipe.text_rate else []
        self.slow = Optimiser(slow, recipe.rate * recipe.text_rate, 0.0, 0.0) if slow else None
        self.draw = Draw(recipe.batch, recipe.fresh, recipe.start, recipe.seed)
        self.figures: dict[str, Tensor] = {}

    def step(self, step: int, progress: float) -> None:
        recipe = self.recipe
        images, captions = self.batch(step)
        random = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step + 500_000)
        chosen = [own[:2] + some(own[2:], recipe.captions - 2, random) for own in captions]
        named = [some(things_of(own), recipe.things, random) for own in captions]
        self.model.visual.patch_dropout.train(progress < recipe.full_from)
        torch.manual_seed(recipe.seed * 1_000_003 + step)  # open_clip drops patches by torch's own generator
        texts, positive, ignored = pair_up(chosen, captions)
        things, shown, unsure = pair_up(named, captions)
        with torch.autocast(self.device.split(":")[0], torch.bfloat16, enabled=recipe.bf16):
            tokens = dense_tokens(self.model.visual, images)
        vectors, tokens = F.normalize(tokens.float().mean(1), dim=-1), F.normalize(tokens.float(), dim=-1)
        phrases, names = F.normalize(self.encode([*texts, *things]), dim=-1).split([len(texts), len(things)])
        positive, ignored = positive.to(self.device), ignored.to(self.device)
        scale, fine = self.model.logit_scale.exp().clamp(max=100.0), self.token_scale.exp().clamp(max=100.0)
        loss_of = multi_clip_loss if recipe.loss == "clip" else multi_siglip_loss
        scores = vectors @ phrases.T
        whole = loss_of(scale * scores, positive, ignored, self.siglip_bias[0])
        loss = whole
        if recipe.token_weight:
            best = best_patches(tokens, names, recipe.token_sharpness)
            parts = loss_of(fine * best, shown.to(self.device), unsure.to(self.device), self.siglip_bias[1])
            loss = loss + recipe.token_weight * parts
            self.figures["patch loss"] = parts.detach()
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
        hit = positive.gather(1, scores.masked_fill(ignored, -2.0).argmax(1, keepdim=True)).float().mean()
        self.figures |= {"loss": whole.detach(), "hit": hit, "scale": scale.detach()}

    def batch(self, step: int) -> tuple[Tensor, list[list[str]]]:
        """Pictures (batch, 3, side, side), normalised, and all captions of each."""
        recipe = self.recipe
        indices = self.draw(step, self.pool.window)
        pictures, captions = self.pool.get(indices, self.draw.newest(step))
        random = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
        count = len(indices)
        flip = torch.rand(count, generator=random) < 0.5
        boxes = augment.random_boxes(count, recipe.crop, 1.2, random)
        images = augment.to_float(torch.from_numpy(pictures).to(self.device))
        images = augment.crop(images, boxes.to(self.device), flip.to(self.device), recipe.shape.image_size)
        images = normalise(augment.light(images, 0.2, random))
        flipped = flip.tolist()
        return images, [augment.mirror_words(own) if turn else own for own, turn in zip(captions, flipped)]

    def encode(self, texts: Sequence[str]) -> Tensor:
        """(texts, dim) of the tower that stands still, through the projection that does not."""
        with torch.no_grad():
            hidden = hidden_of(self.model, self.words(texts).to(self.device))
        return hidden @ self.model.text_projection

    def measure(self) -> dict[str, float]:
        return {name: float(value) for name, value in self.figures.items()} | {"waited s": self.pool.waited}

    def state(self) -> dict[str, Tensor]:
        held = {f"model|{k}": v for k, v in self.model.state_dict().items()}
        held |= {"kept": self.kept, "token_scale": self.token_scale.data, "siglip_bias": self.siglip_bias.data}
        slow = {f"slow|{k}": v for k, v in self.slow.state().items()} if self.slow else {}
        return {**held, **self.optimiser.state(), **slow}

    def load_state(self, state: dict[str, Tensor]) -> None:
        load_model(self.model, state)
        self.kept = state["kept"].to(self.device)
        self.token_scale.data.copy_(state["token_scale"])
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
    """Patches in the joint space, (views, patches, dim), not normalised; their mean is the picture's vector."""
    hidden = visual.ln_post(visual.transformer(visual._embeds(images)))
    return hidden[:, 1:] @ visual.proj


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
    return list(dict.fromkeys(f"{'an' if name[0] in 'aeiou' else 'a'} {name}" for name in named if name))


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
    for row, mine in enumerate(captions):
        own[row, [place[text] for text in mine]] = True
        known = frozenset().union(*(parse(text) for text in (known_of[row] if known_of else mine)))
        true = {thing: any(thing <= other for other in known) for thing in frozenset().union(*said)}
        implied[row] = torch.tensor([all(true[thing] for thing in parts) for parts in said])
    return texts, own, implied & ~own


def save_clip(folder: Path, model: nn.Module, shape: ClipShape) -> None:
    """The folder for `open_clip.create_model_and_transforms("local-dir:FOLDER")`: configuration and fp16 weights."""
    from safetensors.torch import save_file

    from ovseg3d.files import write_atomic, write_json

    config = shape.config()
    config["text_cfg"]["hf_tokenizer_name"] = "tokenizer"  # any name: with local-dir, open_clip takes the folder's own
    preprocess = {"size": shape.image_size, "mode": "RGB", "mean": MEAN, "std": STD, "interpolation": "bicubic"}
    preprocess |= {"resize_mode": "shortest", "fill_color": 0}
    state = {k: v.detach().cpu().half().contiguous() for k, v in model.state_dict().items()}
    write_atomic(folder / "open_clip_model.safetensors", lambda path: save_file(state, path, {"format": "pt"}))
    (folder / "open_clip_model.safetensors").chmod(0o644)  # the library lets only its owner read
    write_json(folder / "open_clip_config.json", {"model_cfg": config, "preprocess_cfg": preprocess})


def quick_recipe(recipe: ClipRecipe, **changes: object) -> ClipRecipe:
    """A recipe with other values; those of the shape by their own names."""
    inner = {k: changes.pop(k) for k in list(changes) if k in ClipShape.__dataclass_fields__}
    return replace(recipe, shape=replace(recipe.shape, **inner), **changes)


__all__ = [
    "ClipRecipe", "ClipShape", "ImageStage", "JointSpace", "TextStage", "dense_tokens", "multi_clip_loss",
    "multi_siglip_loss", "normalise", "pair_up", "parse", "quick_recipe", "save_clip", "things_of",
]  # fmt: skip
