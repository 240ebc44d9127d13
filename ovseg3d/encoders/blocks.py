"""What each block of an image tower says of an image: its class token and the mean of its patch tokens.

    blocks = block_tokens(load_dino("builtin"), images)

They are raw: after a block, before the last norm and any projection, as linear probing reads them. A convolutional
tower has stages instead of blocks, one for each size of its maps, and no class token.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ovseg3d.encoders.base import DenseEncoder, TextImageEncoder
from ovseg3d.errors import EncoderError


@dataclass(frozen=True)
class BlockTokens:
    """Of one block."""

    class_token: Float[Tensor, "views width"] | None
    """None where the tower has none."""
    mean: Float[Tensor, "views width"]
    """Of the patches, or of the cells of a map."""


def block_tokens(
    encoder: TextImageEncoder | DenseEncoder, images: Float[Tensor, "views 3 h w"]
) -> Sequence[BlockTokens]:
    """All blocks of an encoder's image tower, the first first.

    Args:
        encoder: of transformers, open_clip or timm: built in, by name, from a folder, or `imagenet`.
        images: of any size, rgb 0..1; they are resized and normalised as the encoder does.

    Raises:
        EncoderError: the encoder does not show its blocks.
    """
    model: Any = getattr(encoder, "model", encoder)
    visual: Any = getattr(model, "visual", model)
    if hasattr(visual, "trunk"):
        read = _of_timm
    elif hasattr(getattr(visual, "transformer", None), "resblocks"):
        read = _of_open_clip
    elif hasattr(getattr(visual, "config", None), "num_hidden_layers"):
        read = _of_transformers
    else:
        raise EncoderError(
            f"{encoder.id} does not show the blocks of its image tower", fix="use a ViT, or a tower of timm"
        )
    with torch.no_grad():
        return read(visual, encoder.preprocess(images.to(next(visual.parameters()).device)))


def _of_transformers(model: Any, pixels: Tensor) -> list[BlockTokens]:
    states = model(pixel_values=pixels, output_hidden_states=True).hidden_states[1:]
    registers = int(getattr(model.config, "num_register_tokens", 0) or 0)
    return [_split(state, 1 + registers) for state in states]


def _of_open_clip(visual: Any, pixels: Tensor) -> list[BlockTokens]:
    caught: list[Tensor] = []
    blocks = visual.transformer.resblocks
    handles = [block.register_forward_hook(lambda _module, _args, output: caught.append(output)) for block in blocks]
    try:
        visual(pixels)
    finally:
        for handle in handles:
            handle.remove()
    if not getattr(visual.transformer, "batch_first", True):
        caught = [state.transpose(0, 1) for state in caught]
    return [_split(state, 1) for state in caught]


def _of_timm(visual: Any, pixels: Tensor) -> list[BlockTokens]:
    trunk = visual.trunk
    if not getattr(trunk, "num_prefix_tokens", 0):
        maps = trunk.forward_intermediates(pixels, intermediates_only=True)
        return [BlockTokens(None, found.flatten(2).mean(2)) for found in maps]
    found = trunk.forward_intermediates(pixels, intermediates_only=True, return_prefix_tokens=True, output_fmt="NLC")
    return [BlockTokens(first[:, 0], patches.mean(1)) for patches, first in found]


def _split(state: Float[Tensor, "views tokens width"], prefix: int) -> BlockTokens:
    return BlockTokens(state[:, 0], state[:, prefix:].mean(1))
