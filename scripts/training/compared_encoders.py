"""The two encoders as the evaluation uses them, and the colour baseline.

DINO's patches of photos larger than the model come from overlapping windows of its own size, whose vectors are
averaged; CLIP's tower is a convolution, which takes a photo as it is.
"""

from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PatchEncoder(Protocol):
    """Interface of an encoder for the measures."""

    side: int
    patch: int

    def dense(self, images: Tensor) -> Tensor:
        """(views, 3, h, w) rgb in 0..1 to (views, dim, h / patch, w / patch), unit length."""


class Clip:
    """A tiny CLIP in a folder, through the package's own adapter."""

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        from ovseg3d.encoders import load_clip

        self.encoder = load_clip(f"local-dir:{folder}", device)
        self.side, self.patch = self.encoder.preprocess.size[0], self.encoder.patch
        self.scale, self.device = self.encoder.logit_scale, device

    @torch.no_grad()
    def text(self, phrases: list[str]) -> Tensor:
        """Unit vectors."""
        return self.encoder.encode_text(phrases).cpu()

    @torch.no_grad()
    def image(self, images: Tensor) -> Tensor:
        """Unit vectors of images of any size."""
        return torch.cat([self.encoder.encode_image(part.to(self.device)) for part in images.split(128)]).cpu()

    @torch.no_grad()
    def dense(self, images: Tensor) -> Tensor:
        return torch.cat([self.encoder.encode_dense(part.to(self.device)) for part in images.split(8)]).cpu()


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
    """Baseline: mean and standard deviation of a patch's colours."""

    def __init__(self, patch: int) -> None:
        self.side, self.patch = patch, patch

    def dense(self, images: Tensor) -> Tensor:
        mean = F.avg_pool2d(images, self.patch)
        spread = (F.avg_pool2d(images.square(), self.patch) - mean.square()).clamp(min=0).sqrt()
        return torch.cat([mean, 0.5 * spread], 1)


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
