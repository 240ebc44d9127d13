"""The two interfaces of frozen 2D encoders, an optional extension, and preprocessing.

Inputs are rgb images from 0 to 1, float32, channels first, on any device. `encode_image` takes any size (even 1 x 1)
and preprocesses it; `encode_dense` takes sides that are multiples of `patch` and only normalises values. Outputs are on
the encoder's device, float32 and of unit length; grids are row by row from the upper left corner, one vector per patch.
Gradients stay enabled: the weights are frozen, but an inserted block may be trained.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ovseg3d.errors import EncoderError

Interpolation = Literal["bicubic", "bilinear", "nearest"]
ResizeMode = Literal["shortest", "longest", "squash"]

_LONG = 4.0
"""Longer images are cropped before they are enlarged, or a strip of 1 x 10000 pixels would exhaust the memory."""


@dataclass(frozen=True)
class Preprocess:
    """A model's preprocessing of images, read from its configuration."""

    size: tuple[int, int]
    """Height and width at model resolution, pixels."""
    mean: tuple[float, float, float]
    """Mean that is subtracted from rgb in 0..1."""
    std: tuple[float, float, float]
    """Standard deviation by which the result is divided."""
    interpolation: Interpolation = "bicubic"
    """Interpolation for resizing; always with antialiasing, except for "nearest"."""
    resize_mode: ResizeMode = "shortest"
    """"shortest": fit the shorter side and crop the centre. "longest": fit the longer side and pad with `fill`.
    "squash": fit both sides, without keeping the aspect ratio."""
    fill: float = 0.0
    """Colour of the padding of "longest", rgb in 0..1."""

    def __post_init__(self) -> None:
        """Check the settings. Raises ValueError: they are invalid."""
        if any(not 1 <= side <= 8192 for side in self.size) or len(self.mean) != 3 or len(self.std) != 3:
            raise ValueError("images need two sides and three channels")
        if any(not abs(value) <= 1e6 for value in (*self.mean, *self.std, self.fill)) or not min(self.std) > 0:
            raise ValueError("mean and deviation are no colours")
        if self.resize_mode not in get_args(ResizeMode):
            raise ValueError(f"no way to resize is called {self.resize_mode!r}")

    def normalize(self, images: Float[Tensor, "views 3 h w"]) -> Float[Tensor, "views 3 h w"]:
        """Subtract the mean, divide by the deviation."""
        mean = images.new_tensor(self.mean).view(3, 1, 1)
        std = images.new_tensor(self.std).view(3, 1, 1)
        return (images - mean) / std

    def resize(self, images: Float[Tensor, "views 3 h w"]) -> Float[Tensor, "views 3 height width"]:
        """Resize images to `size`, without normalising; values stay within 0 and 1."""
        height, width = self.size
        if self.resize_mode == "squash":
            return self._to(images, height, width)
        images = _without_excess(images, height / width) if self.resize_mode == "shortest" else images
        ratios = height / images.shape[-2], width / images.shape[-1]
        scale = max(ratios) if self.resize_mode == "shortest" else min(ratios)
        # "shortest" truncates fractions, as torchvision does; the small term is for the side that has to fit exactly.
        whole = (lambda side: int(side + 1e-6)) if self.resize_mode == "shortest" else round
        inner = [max(1, whole(side * scale)) for side in images.shape[-2:]]
        resized = self._to(images, *inner)
        if self.resize_mode == "shortest":
            top, left = (round((have - want) / 2) for have, want in zip(inner, self.size))
            return resized[..., top : top + height, left : left + width]
        top, left = ((want - have) // 2 for have, want in zip(inner, self.size))
        border = (left, width - inner[1] - left, top, height - inner[0] - top)
        return F.pad(resized, border, value=self.fill)

    def __call__(self, images: Float[Tensor, "views 3 h w"]) -> Float[Tensor, "views 3 height width"]:
        """Resize, then normalise."""
        return self.normalize(self.resize(images))

    def _to(self, images: Tensor, height: int, width: int) -> Tensor:
        if images.shape[-2:] == (height, width):
            return images
        if self.interpolation == "nearest":
            return F.interpolate(images, size=(height, width), mode="nearest-exact")
        resized = F.interpolate(images, size=(height, width), mode=self.interpolation, antialias=True)
        return resized.clamp(0.0, 1.0)


def _without_excess(images: Tensor, target: float) -> Tensor:
    """Crop the centre of a very long image; the rest would be cropped after resizing anyway."""
    height, width = images.shape[-2:]
    if width * target > _LONG * height:
        keep = max(1, round(_LONG * height / target))
        left = (width - keep) // 2
        return images[..., left : left + keep]
    if height > _LONG * width * target:
        keep = max(1, round(_LONG * width * target))
        top = (height - keep) // 2
        return images[..., top : top + keep, :]
    return images


@runtime_checkable
class TextImageEncoder(Protocol):
    """A model that embeds images and phrases in one space, such as CLIP and SigLIP."""

    id: str
    """Model and weights, e.g. "open_clip:ViT-B-16:laion2b_s34b_b88k", "builtin"."""
    dim: int
    """Length of a vector in the joint space."""
    preprocess: Preprocess
    logit_scale: float
    """Factor of cosines (exp of the stored parameter)."""
    logit_bias: float | None
    """Offset that is then added (SigLIP), or None."""

    @property
    def weight_hash(self) -> str:
        """16 hexadecimal digits over the weights' content."""
        ...

    @property
    def patch(self) -> int:
        """Pixels that a patch token covers at model resolution."""
        ...

    @property
    def dense(self) -> bool:
        """Whether `encode_dense` is supported. If not, local features are computed from crops with `encode_image`."""
        ...

    def encode_text(self, phrases: Sequence[str]) -> Float[Tensor, "phrases dim"]:
        """Unit vectors of phrases, used as they are (no template). Raises EncoderError: an empty or too long one."""
        ...

    def encode_image(self, images: Float[Tensor, "views 3 h w"]) -> Float[Tensor, "views dim"]:
        """Unit vectors of whole images of any size, rgb 0..1; they are resized and normalised inside."""
        ...

    def encode_dense(self, images: Float[Tensor, "views 3 h w"]) -> Float[Tensor, "views dim gh gw"]:
        """Unit vectors of patches in the joint space. Raises EncoderError: sides are not multiples of `patch`, or
        the model has no dense features."""
        ...


@runtime_checkable
class TokenEncoder(TextImageEncoder, Protocol):
    """A text-image encoder that exposes its image tower, for tuning a block of it.

    Features and queries do not need this; OpenDlign's depth views do. open_clip's ViTs are such encoders.
    """

    def tokens(self, images: Float[Tensor, "views 3 h w"]) -> Float[Tensor, "views gh gw width"]:
        """Patch tokens after the last block, before pooling, last norm and projection; not normalised."""
        ...

    def replace_block(self, index: int, module: nn.Module) -> None:
        """Replace a block of the image tower by `module`; negative indices count from the end."""
        ...

    def double_block(self, index: int) -> nn.Module:
        """Add a copy in parallel to a block, with averaged outputs; returns the copy, which can be trained."""
        ...


@runtime_checkable
class DenseEncoder(Protocol):
    """A self-supervised image model, such as DINO."""

    id: str
    dim: int
    patch: int
    preprocess: Preprocess

    @property
    def weight_hash(self) -> str:
        """16 hexadecimal digits over the weights' content."""
        ...

    def encode_dense(self, images: Float[Tensor, "views 3 h w"]) -> Float[Tensor, "views dim gh gw"]:
        """Unit vectors of patches. Raises EncoderError: sides are not multiples of `patch`."""
        ...


def facts(interface: type) -> tuple[str, ...]:
    """The names of an interface's attributes, without methods."""
    stated = [name for base in interface.__mro__ for name, value in vars(base).items() if isinstance(value, property)]
    return (*interface.__annotations__, *stated)


def triple(values: Iterable[Any]) -> tuple[float, float, float]:
    """Three numbers of a configuration. Raises ValueError, TypeError: they are not three numbers."""
    numbers = [float(value) for value in values]
    if len(numbers) != 3:
        raise ValueError("images need two sides and three channels")
    return numbers[0], numbers[1], numbers[2]


def unit(vectors: Float[Tensor, "*rows dim"]) -> Float[Tensor, "*rows dim"]:
    """Vectors at unit length; a zero vector stays zero."""
    return F.normalize(vectors.float(), dim=-1)


def check_sides(images: Tensor, patch: int) -> None:
    """Check the sides of images. Raises EncoderError: they are not positive multiples of `patch`."""
    height, width = images.shape[-2:]
    if min(height, width) < patch or height % patch or width % patch:
        raise EncoderError(
            f"Dense features need sides that are multiples of {patch} pixels; this image has {width} x {height}",
            fix=f"resize it to {max(1, round(width / patch)) * patch} x {max(1, round(height / patch)) * patch}",
        )


__all__ = [
    "DenseEncoder",
    "Interpolation",
    "Preprocess",
    "ResizeMode",
    "TextImageEncoder",
    "TokenEncoder",
    "check_sides",
    "facts",
    "triple",
    "unit",
]
