"""Random crops, flips and photometric changes of batches. Random numbers are drawn for the whole batch, so that they
depend neither on when a step is repeated nor on how many processes share it.

Hue is kept where there are captions, because they name colours. Captions of a flipped image swap left and right.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from scripts.training.distributed import BatchRandom


def to_float(images: Tensor) -> Tensor:
    """Convert uint8 (views, h, w, 3) to rgb in 0..1, (views, 3, h, w)."""
    return images.permute(0, 3, 1, 2).float() / 255.0


def random_boxes(scale: tuple[float, float], stretch: float, random: BatchRandom) -> Tensor:
    """Random crop boxes (rows, 4): centre x, y and half width, half height, in -1..1 image coordinates.

    Args:
        scale: smallest and largest share of the image's area.
        stretch: largest aspect ratio; the ratio is log-uniform between 1 / stretch and stretch.
        random: source of randomness.
    """
    area = random.uniform(*scale)
    ratio = random.uniform(-1.0, 1.0).mul(torch.tensor(stretch).log()).exp().sqrt()
    half = torch.stack([(area.sqrt() * ratio).clamp(max=1.0), (area.sqrt() / ratio).clamp(max=1.0)], -1)
    centre = random.uniform(-1.0, 1.0, 2) * (1.0 - half)
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


def light(images: Tensor, strength: float, random: BatchRandom) -> Tensor:
    """Change brightness and contrast by random factors, log-uniform between exp(-strength) and exp(strength)."""
    gain = random.uniform(-strength, strength, 1, 1, 1).to(images).exp()
    contrast = random.uniform(-strength, strength, 1, 1, 1).to(images).exp()
    mean = images.mean((1, 2, 3), keepdim=True)
    return (((images - mean) * contrast + mean) * gain).clamp(0.0, 1.0)


def coarse(images: Tensor, share: float, random: BatchRandom) -> Tensor:
    """Downscale a random `share` of the images to 1/4 to 1/2 of their size and enlarge them again.

    It imitates distant objects, which have few pixels in a photo.
    """
    size, factors = images.shape[-2:], random.some_uniform(share, 0.25, 0.5)
    images = images.clone()
    for row, factor in factors.items():
        small = F.interpolate(images[row : row + 1], scale_factor=factor, mode="bilinear", antialias=True)
        images[row : row + 1] = F.interpolate(small, size, mode="bilinear", align_corners=False)
    return images


def hue(images: Tensor, random: BatchRandom, keep: float = 0.2) -> Tensor:
    """Mix the colour channels at random, sometimes to grey; a share `keep` of the images is not changed.

    Only for training without captions, because captions name colours.
    """
    mix = torch.eye(3) + random.uniform(-0.35, 0.35, 3, 3)
    mix = mix / mix.sum(-1, keepdim=True)
    grey = random.unit(1, 1) < 0.15
    mix = torch.where(grey, torch.tensor([0.3, 0.59, 0.11]).expand_as(mix), mix)
    mix = torch.where(random.unit(1, 1) < keep, torch.eye(3), mix)
    return torch.einsum("nij,njhw->nihw", mix.to(images), images).clamp(0.0, 1.0)


def mirror_words(captions: Sequence[str]) -> list[str]:
    """Captions of a mirrored image: left and right are swapped."""
    swap = {"left": "right", "right": "left"}
    return [" ".join(swap.get(word, word) for word in caption.split(" ")) for caption in captions]
