"""The two towers that see depth views: CLIP's frozen one, and one whose last stage was tuned beside a frozen copy.

As in OpenDlign (Mao et al. 2024), a copy of the last block runs in parallel to it, starts as the same weights, and
their outputs are averaged: what the frozen block knows is kept. In ViTs only the copy's attention is trained. In
convolutional towers the last stage is doubled, and its convolutions are trained (ConvNeXts write some as linear maps).
"""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ovseg3d.encoders import TextImageEncoder
from ovseg3d.encoders.base import unit
from ovseg3d.encoders.openclip import OpenClipEncoder
from ovseg3d.encoders.towers import Doubled, Tower
from ovseg3d.errors import EncoderError

_LAST_STAGE, _LISTS_OF_STAGES = "layer4", ("stages", "blocks")
"""What convolutional networks call their last stage (ResNets), or the list of all (ConvNeXts, EfficientNets)."""
_IMAGES_AT_ONCE = 64


class Branch(Doubled):
    """A block and its tuned copy; `share` is the copy's part of the output, 0 for the frozen block alone."""

    share: float = 0.5

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """The weighted mean of both outputs."""
        if not self.share:
            return self.block(*args, **kwargs)
        return (1 - self.share) * self.block(*args, **kwargs) + self.share * self.copy(*args, **kwargs)


class AlignedTower:
    """The image tower of an open_clip encoder with its last stage doubled.

    Args:
        encoder: its tower is changed in place, so it should serve nothing else.

    Raises:
        EncoderError: the encoder is not open_clip's, or its tower has no known last stage.
    """

    def __init__(self, encoder: TextImageEncoder) -> None:
        if not isinstance(encoder, OpenClipEncoder):
            raise EncoderError(f"The encoder {encoder.id!r} has no tower that can be tuned", fix="use --clip builtin")
        self.encoder = encoder
        self._visual = encoder.model.visual
        self._tower = Tower(self._visual)
        self.branch = self._double()
        self.branch.requires_grad_(False)

    def encode(self, images: Float[Tensor, "views 3 h w"], share: float = 0.5) -> Float[Tensor, "views dim"]:
        """Unit vectors of pictures; `share` is the tuned copy's part of the last stage, 0 for the frozen tower."""
        self.branch.share = share
        return torch.cat([self.encoder.encode_image(part) for part in images.split(_IMAGES_AT_ONCE)])

    def stem(self, images: Float[Tensor, "views 3 h w"]) -> Tensor:
        """What enters the last stage; it does not depend on the tuned copy."""
        seen: list[Tensor] = []
        handle = self.branch.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
        try:
            self.encode(images, 0.0)
        finally:
            handle.remove()
        return torch.cat(seen)

    def finish(self, stem: Tensor, share: float = 0.5) -> Float[Tensor, "views dim"]:
        """Unit vectors from what enters the last stage.

        The tower sees one empty picture, and its last stage gets `stem` instead: so what comes after that stage need
        not be known.
        """
        self.branch.share = share
        frozen = next(self.branch.block.parameters())
        empty = torch.zeros(1, 3, *self.encoder.preprocess.size, dtype=frozen.dtype, device=frozen.device)
        handle = self.branch.register_forward_pre_hook(
            lambda module, args, kwargs: ((stem, *args[1:]), kwargs), with_kwargs=True
        )
        try:
            found = self._visual(empty)
        finally:
            handle.remove()
        return unit(found[0] if isinstance(found, tuple) else found)

    def trained(self) -> dict[str, nn.Parameter]:
        """The parameters that are tuned, by name: attention of a ViT's block, convolutions of a stage."""
        named = dict(self.branch.copy.named_parameters())
        attention = {} if self._tower.blocks is None else {name: p for name, p in named.items() if "att" in name}
        # Vectors belong to norms.
        return attention or {name: parameter for name, parameter in named.items() if parameter.ndim > 1}

    def load(self, tensors: Mapping[str, Tensor], strength: float = 1.0) -> None:
        """Load tuned parameters.

        Args:
            tensors: by the names of `trained`.
            strength: 1 takes them as they are, 0 keeps CLIP's, between is an interpolation of weights.

        Raises:
            EncoderError: names or shapes do not fit this tower.
        """
        trained, frozen = self.trained(), dict(self.branch.block.named_parameters())
        if {name: tuple(p.shape) for name, p in trained.items()} != {k: tuple(t.shape) for k, t in tensors.items()}:
            raise EncoderError(
                "The tuned weights belong to another tower", fix="tune this one: scripts.training.train_naming --clip"
            )
        with torch.no_grad():
            for name, parameter in trained.items():
                parameter.copy_(torch.lerp(frozen[name], tensors[name].to(parameter), strength))

    def _double(self) -> Branch:
        if self._tower.blocks is not None:
            branch = Branch(self._tower.blocks[-1])
            self._tower.replace(-1, branch)
            return branch
        root: Any = getattr(self._visual, "trunk", self._visual)
        for name in _LISTS_OF_STAGES:
            stages = getattr(root, name, None)
            if isinstance(stages, nn.Sequential):
                stages[-1] = branch = Branch(stages[-1])
                return branch
        if isinstance(getattr(root, _LAST_STAGE, None), nn.Module):
            branch = Branch(root.get_submodule(_LAST_STAGE))
            setattr(root, _LAST_STAGE, branch)
            return branch
        raise EncoderError("The last stage of this tower is not known", fix="use a ViT, a ResNet or a ConvNeXt")
