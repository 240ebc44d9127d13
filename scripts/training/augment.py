"""Random crops, flips and photometric changes of whole batches, all from one generator, so that steps are repeatable.

Hue is kept where there are captions, because they name colours. Captions of a flipped image swap left and right.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def to_float(images: Tensor) -> Tensor:
    """Convert uint8 (views, h, w, 3) to rgb in 0..1, (views, 3, h, w)."""
    return images.permute(0, 3, 1, 2).float() / 255.0


def random_boxes(count: int, scale: tuple[float, float], stretch: float, random: torch.Generator) -> Tensor:
    """Random crop boxes (count, 4): centre x, y and half width, half height, in -1..1 image coordinates.

    Args:
        count: number of boxes.
        scale: smallest and largest share of the image's area.
        stretch: largest aspect ratio; the ratio is log-uniform between 1 / stretch and stretch.
        random: source of randomness.
    """
    area = torch.empty(count).uniform_(*scale, generator=random)
    ratio = torch.empty(count).uniform_(-1.0, 1.0, generator=random).mul(torch.tensor(stretch).log()).exp().sqrt()
    half = torch.stack([(area.sqrt() * ratio).clamp(max=1.0), (area.sqrt() / ratio).clamp(max=1.0)], -1)
    centre = torch.empty(count, 2).uniform_(-1.0, 1.0, generator=random) * (1.0 - half)
    return torch.cat([centre, half], -1)


def crop(images: Tensor, boxes: Tensor, flip: Tensor, size: int) -> Tensor:
    """Crop one box from each image, (views, 3, size, size), bilinear.

    Args:
        images: (views, 3, h, w).
        boxes: centre and half size in -1..1, (views, 4).
        flip: whether to mirror left and right, (views,).
        size: side of the result in pixels.
    """
    line = (torch.arange(size, device=images.device) + 0.5) / size * 2 - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    sign = torch.where(flip, -1.0, 1.0).to(images)[:, None, None]
    grid_x = boxes[:, 0, None, None] + boxes[:, 2, None, None] * x * sign
    grid_y = boxes[:, 1, None, None] + boxes[:, 3, None, None] * y
    return F.grid_sample(images, torch.stack([grid_x, grid_y], -1), padding_mode="border", align_corners=False)


def light(images: Tensor, strength: float, random: torch.Generator) -> Tensor:
    """Change brightness and contrast by random factors, log-uniform between exp(-strength) and exp(strength)."""
    count = len(images)
    gain = torch.empty(count, 1, 1, 1).uniform_(-strength, strength, generator=random).to(images).exp()
    contrast = torch.empty(count, 1, 1, 1).uniform_(-strength, strength, generator=random).to(images).exp()
    mean = images.mean((1, 2, 3), keepdim=True)
    return (((images - mean) * contrast + mean) * gain).clamp(0.0, 1.0)


def coarse(images: Tensor, share: float, random: torch.Generator) -> Tensor:
    """Downscale a random `share` of the images to 1/4 to 1/2 of their size and enlarge them again.

    It imitates distant objects, which have few pixels in a photo.
    """
    size, rows = images.shape[-2:], (torch.rand(len(images), generator=random) < share).nonzero()[:, 0].tolist()
    images = images.clone()
    for row in rows:
        factor = float(torch.empty(()).uniform_(0.25, 0.5, generator=random))
        small = F.interpolate(images[row : row + 1], scale_factor=factor, mode="bilinear", antialias=True)
        images[row : row + 1] = F.interpolate(small, size, mode="bilinear", align_corners=False)
    return images


def hue(images: Tensor, random: torch.Generator, keep: float = 0.2) -> Tensor:
    """Mix the colour channels at random, sometimes to grey; a share `keep` of the images is not changed.

    Only for training without captions, because captions name colours.
    """
    count = len(images)
    mix = torch.eye(3) + torch.empty(count, 3, 3).uniform_(-0.35, 0.35, generator=random)
    mix = mix / mix.sum(-1, keepdim=True)
    grey = torch.rand(count, 1, 1, generator=random) < 0.15
    mix = torch.where(grey, torch.tensor([0.3, 0.59, 0.11]).expand(count, 3, 3), mix)
    mix = torch.where(torch.rand(count, 1, 1, generator=random) < keep, torch.eye(3), mix)
    return torch.einsum("nij,njhw->nihw", mix.to(images), images).clamp(0.0, 1.0)


def mirror_words(captions: Sequence[str]) -> list[str]:
    """Captions of a mirrored image: left and right are swapped."""
    swap = {"left": "right", "right": "left"}
    return [" ".join(swap.get(word, word) for word in caption.split(" ")) for caption in captions]
