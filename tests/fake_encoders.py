"""Encoders with known answers: a vector is the mean colour of what is looked at, so that every feature can be told.

`MeanColour` stands for a CLIP and `MeanPatch` for a DINO. Vectors have `dim` numbers: r, g, b, and a constant that
keeps black from having no direction, then zeros; unit length. Both count what they are asked.
"""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ovseg3d.encoders.base import Preprocess

CONSTANT = 0.5
WORDS = {"red": (0.75, 0.15, 0.1), "blue": (0.1, 0.25, 0.75), "sand": (0.75, 0.7, 0.6), "green": (0.1, 0.9, 0.1)}
"""Colours that phrases may name: those of the scene in tiny.py, and one that it lacks."""


def direction(colours: Float[Tensor, "*rows 3"], dim: int = 4) -> Float[Tensor, "*rows dim"]:
    """The vector that stands for a mean colour."""
    vectors = colours.new_zeros(*colours.shape[:-1], dim)
    vectors[..., :3] = colours
    vectors[..., 3] = CONSTANT
    return F.normalize(vectors, dim=-1)


@dataclass
class MeanPatch:
    """A DINO whose patches say what colour they are."""

    patch: int = 4
    dim: int = 4
    native: int = 16
    id: str = "mean-patch"
    weight_hash: str = "0" * 16
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    """Shapes of the batches that were encoded."""

    @property
    def preprocess(self) -> Preprocess:
        return Preprocess((self.native, self.native), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), resize_mode="squash")

    def encode_dense(self, images: Float[Tensor, "views 3 h w"]) -> Float[Tensor, "views dim gh gw"]:
        assert images.shape[-1] % self.patch == 0 and images.shape[-2] % self.patch == 0
        assert 0 <= images.min() and images.max() <= 1
        self.shapes.append(tuple(images.shape))
        means = F.avg_pool2d(images, self.patch)
        return direction(means.permute(0, 2, 3, 1), self.dim).permute(0, 3, 1, 2)


@dataclass
class MeanColour(MeanPatch):
    """A CLIP whose pictures and patches say what colour they are."""

    id: str = "mean-colour"
    dense: bool = True
    logit_scale: float = 10.0
    logit_bias: float | None = None
    crops: list[tuple[int, ...]] = field(default_factory=list)
    """Shapes of the batches of whole pictures."""

    def encode_image(self, images: Float[Tensor, "views 3 h w"]) -> Float[Tensor, "views dim"]:
        self.crops.append(tuple(images.shape))
        return direction(images.mean(dim=(2, 3)), self.dim)

    def encode_text(self, phrases: list[str]) -> Float[Tensor, "phrases dim"]:
        """The colour that a phrase names by a word of `WORDS`; grey for any other phrase."""
        named = [[WORDS[word] for word in phrase.split() if word in WORDS] for phrase in phrases]
        return direction(torch.tensor([found[0] if found else (0.5, 0.5, 0.5) for found in named]), self.dim)
