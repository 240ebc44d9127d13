"""The two encoders as the evaluation uses them: the package's adapters, or the libraries where these are absent.

Patches of photos larger than the model come from overlapping windows of its own size, whose vectors are averaged.
"""

from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Judge(Protocol):
    """What the measures need of an encoder."""

    side: int
    patch: int

    def dense(self, images: Tensor) -> Tensor:
        """(views, 3, h, w) rgb in 0..1 to (views, dim, h / patch, w / patch), unit length."""


class Clip:
    """A tiny CLIP in a folder."""

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        import open_clip

        name = f"local-dir:{folder}"
        self.model = open_clip.create_model(name, require_pretrained=True).eval().to(device)
        self.tokens = open_clip.get_tokenizer(name)
        settings = self.model.visual.preprocess_cfg
        self.mean, self.std = (torch.tensor(settings[k]).view(3, 1, 1) for k in ("mean", "std"))
        self.side, self.patch = self.model.visual.image_size[0], self.model.visual.patch_size[0]
        self.scale, self.device = float(self.model.logit_scale.exp()), device

    @torch.no_grad()
    def text(self, phrases: list[str]) -> Tensor:
        """Unit vectors."""
        parts = self.tokens(phrases).to(self.device).split(256)
        return torch.cat([self.model.encode_text(part, normalize=True) for part in parts]).float().cpu()

    @torch.no_grad()
    def patches(self, images: Tensor) -> Tensor:
        """Patches in the joint space, (views, dim, rows, columns), before normalising; sides as the model's."""
        visual = self.model.visual
        prepared = ((images - self.mean) / self.std).to(self.device)
        hidden = visual.ln_post(visual.transformer(visual._embeds(prepared)))[:, 1:] @ visual.proj
        rows = self.side // self.patch
        return hidden.transpose(1, 2).unflatten(2, (rows, rows)).float().cpu()

    def image(self, images: Tensor) -> Tensor:
        """Unit vectors of pictures of any size."""
        found = [self.patches(resized(part, self.side)).mean((2, 3)) for part in images.split(128)]
        return F.normalize(torch.cat(found), dim=-1)

    def dense(self, images: Tensor) -> Tensor:
        return F.normalize(windows(lambda x: F.normalize(self.patches(x), dim=1), images, self.side, self.patch), dim=1)


class Dino:
    """A tiny DINOv2 in a folder; `untrained` gives the same network before training."""

    def __init__(self, folder: Path, device: str = "cpu", untrained: bool = False) -> None:
        import json

        from transformers import AutoConfig, AutoModel

        torch.manual_seed(0)
        config = AutoConfig.from_pretrained(folder)
        make = AutoModel.from_config if untrained else AutoModel.from_pretrained
        self.model: nn.Module = make(config if untrained else folder).eval().float().to(device)
        settings = json.loads((Path(folder) / "preprocessor_config.json").read_text())
        self.mean, self.std = (torch.tensor(settings[k]).view(3, 1, 1) for k in ("image_mean", "image_std"))
        self.side, self.patch, self.device = config.image_size, config.patch_size, device

    @torch.no_grad()
    def dense(self, images: Tensor) -> Tensor:
        def run(part: Tensor) -> Tensor:
            tokens = self.model(((part - self.mean) / self.std).to(self.device)).last_hidden_state[:, 1:]
            rows = self.side // self.patch
            return F.normalize(tokens.transpose(1, 2).unflatten(2, (rows, rows)).float().cpu(), dim=1)

        return F.normalize(windows(run, images, self.side, self.patch), dim=1)


class Colour:
    """The mean and the spread of a patch's colours: what a feature has to beat."""

    def __init__(self, patch: int) -> None:
        self.side, self.patch = patch, patch

    def dense(self, images: Tensor) -> Tensor:
        mean = F.avg_pool2d(images, self.patch)
        spread = (F.avg_pool2d(images.square(), self.patch) - mean.square()).clamp(min=0).sqrt()
        return torch.cat([mean, 0.5 * spread], 1)


def resized(images: Tensor, side: int) -> Tensor:
    """Squares of that side, antialiased."""
    if images.shape[-2:] == (side, side):
        return images
    return F.interpolate(images, size=(side, side), mode="bicubic", antialias=True).clamp(0.0, 1.0)


def windows(run, images: Tensor, side: int, patch: int) -> Tensor:
    """Average of overlapping windows, half a side apart; sides of the images are multiples of `patch`."""
    height, width = images.shape[-2:]
    stride = max(patch, side // 2 // patch * patch)
    tops, lefts = ([*range(0, max(span - side, 0), stride), max(span - side, 0)] for span in (height, width))
    places = [(top, left) for top in tops for left in lefts]
    cut = torch.cat([images[..., top : top + side, left : left + side] for top, left in places])
    found = torch.cat([run(part) for part in cut.split(128)]).unflatten(0, (len(places), len(images)))
    # A window's outer patches know less of what is around them.
    ramp = torch.minimum(torch.arange(side // patch), torch.arange(side // patch).flip(0)) + 1.0
    weight = torch.outer(ramp, ramp)
    total = torch.zeros(len(images), found.shape[2], height // patch, width // patch)
    share = torch.zeros(height // patch, width // patch)
    for (top, left), part in zip(places, found):
        rows = slice(top // patch, top // patch + side // patch)
        columns = slice(left // patch, left // patch + side // patch)
        total[..., rows, columns] += part * weight
        share[rows, columns] += weight
    return total / share


def to_patches(photo: np.ndarray, scale: float, patch: int, side: int) -> Tensor:
    """A photo (h, w, 3) uint8 enlarged by `scale`, its sides brought to multiples of `patch` and at least `side`."""
    image = torch.from_numpy(np.ascontiguousarray(photo)).permute(2, 0, 1)[None].float() / 255
    size = [max(side, round(length * scale / patch) * patch) for length in image.shape[-2:]]
    return F.interpolate(image, size=size, mode="bicubic", antialias=True).clamp(0.0, 1.0)
