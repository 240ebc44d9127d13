"""Patch features of crops, by any encoder, on a grid of a fixed number of patches."""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from ovseg3d.encoders import DenseEncoder, TextImageEncoder
from ovseg3d.encoders.base import TokenEncoder

CROPS_AT_ONCE = 64


def crop_features(
    encoder: TextImageEncoder | DenseEncoder, crops: UInt8[np.ndarray, "crops side side 3"], grid: int
) -> Float[Tensor, "crops channels grid grid"]:
    """Features of square crops.

    Tokens before the projection are used where an encoder has them: language supervision keeps little of a pose in the
    joint space. An encoder without patch features gives the vector of the whole crop, in all places.

    Args:
        encoder: frozen.
        crops: rgb.
        grid: patches along a side; finer or coarser grids are averaged.
    """
    parts = []
    with torch.no_grad():
        for start in range(0, len(crops), CROPS_AT_ONCE):
            pixels = torch.from_numpy(crops[start : start + CROPS_AT_ONCE]).permute(0, 3, 1, 2).float() / 255
            parts.append(F.adaptive_avg_pool2d(_patches(encoder, encoder.preprocess.resize(pixels)), grid).cpu())
    return torch.cat(parts)


def _patches(encoder: TextImageEncoder | DenseEncoder, pixels: Tensor) -> Tensor:
    if not getattr(encoder, "dense", True):
        assert isinstance(encoder, TextImageEncoder)
        return encoder.encode_image(pixels)[..., None, None]
    if isinstance(encoder, TokenEncoder):
        return encoder.tokens(pixels).permute(0, 3, 1, 2)
    # A network that is trained on whole images may take sides that are no multiples of its patches.
    sides = [side - side % encoder.patch for side in pixels.shape[-2:]]
    if list(pixels.shape[-2:]) != sides:
        pixels = F.interpolate(pixels, size=sides, mode="bilinear", antialias=True, align_corners=False)
    return encoder.encode_dense(pixels)
