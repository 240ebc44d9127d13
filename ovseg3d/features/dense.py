"""Dense features of a photo: one pass if it is small, overlapping windows if it is large.

The photo is resized so that its shorter side has the requested length and both sides are multiples of the patch;
positions in 0..1 do not change. A window is the encoder's native image size times a small factor, since position
embeddings, which the encoder interpolates, are unreliable far beyond the trained ones, and the cost of attention is
quadratic. A photo is small if it has at most as many patches as a square window. Overlapping windows are blended
linearly.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ovseg3d.encoders.base import DenseEncoder, TextImageEncoder
from ovseg3d.engine import in_batches

LONGEST = 4
"""Greatest aspect ratio; longer photos are squeezed to it, so that a strip does not exhaust the memory."""
WINDOWS_ON_GPU = 16
"""Windows that a GPU encodes at once."""


def resize_photo(photo: Float[Tensor, "3 h w"], side: int, patch: int) -> Float[Tensor, "3 height width"]:
    """The photo with its shorter side near `side` pixels, and both sides multiples of `patch`; values stay in 0..1."""
    h, w = photo.shape[-2:]
    shorter = min(h, w)
    sides = (min(side * length / shorter, LONGEST * side) for length in (h, w))
    height, width = (max(1, round(length / patch)) * patch for length in sides)
    if (height, width) == (h, w):
        return photo
    resized = F.interpolate(photo[None], size=(height, width), mode="bicubic", antialias=True)
    return resized[0].clamp(0.0, 1.0)


def window_cells(encoder: DenseEncoder | TextImageEncoder, factor: float) -> int:
    """The longest side of a window, in patches."""
    return max(1, round(min(encoder.preprocess.size) * factor / encoder.patch))


def window_places(length: int, longest: int, overlap: float) -> tuple[int, list[int]]:
    """Length and first cells of windows that cover `length` cells.

    Their number is the least that windows of `longest` cells allow, then their length is the least possible: neighbours
    share at least `overlap` of a window.
    """
    if length <= longest:
        return length, [0]
    count = 1 + -(-(length - longest) // max(1, int(longest * (1 - overlap))))
    window = min(longest, math.ceil(length / (count - (count - 1) * overlap)))
    return window, [round(i * (length - window) / (count - 1)) for i in range(count)]


def dense_grid(
    photo: Float[Tensor, "3 h w"],
    encoder: DenseEncoder | TextImageEncoder,
    side: int,
    window: float = 2.0,
    overlap: float = 0.25,
    batch: int | None = None,
) -> Float[Tensor, "gh gw dim"]:
    """Unit vectors of the photo's patches, float32.

    Args:
        photo: rgb in 0..1, on the encoder's device.
        side: shorter side of the encoder's input, pixels.
        window: side of the largest square window, relative to the encoder's native image.
        overlap: least share of a window that its neighbour also covers.
        batch: windows that are encoded at once; by default one on a CPU, which it uses fully, and 16 on a GPU.
    """
    patch, cells = encoder.patch, window_cells(encoder, window)
    photo = resize_photo(photo, side, patch)
    rows, columns = photo.shape[-2] // patch, photo.shape[-1] // patch
    if rows * columns <= cells * cells:
        return encoder.encode_dense(photo[None])[0].permute(1, 2, 0).float()
    high, tops = window_places(rows, cells, overlap)
    wide, lefts = window_places(columns, cells, overlap)
    places = [(top, left) for top in tops for left in lefts]
    weight = _ramps(high, overlap)[:, None] * _ramps(wide, overlap)[None, :]
    weight = weight.to(photo)[..., None]
    total: Tensor | None = None

    def encoded(some: Sequence[tuple[int, int]]) -> Tensor:
        windows = [
            photo[:, top * patch : (top + high) * patch, left * patch : (left + wide) * patch] for top, left in some
        ]
        return encoder.encode_dense(torch.stack(windows)).float()

    for some, grids in in_batches(places, batch or (WINDOWS_ON_GPU if photo.is_cuda else 1), encoded):
        for (top, left), grid in zip(some, grids):
            if total is None:
                total = grid.new_zeros(rows, columns, grid.shape[0])
            # Weights need not sum to 1, since the vectors are normalised at the end.
            total[top : top + high, left : left + wide] += weight * grid.permute(1, 2, 0)
    assert total is not None
    return F.normalize(total, dim=-1)


def _ramps(cells: int, overlap: float) -> Float[Tensor, "cells"]:
    """Weights of a window's cells along one side: rising over the overlap, 1 in the middle, falling again."""
    inner = torch.arange(cells) + 0.5
    return (torch.minimum(inner, cells - inner) / max(1.0, cells * overlap)).clamp(max=1.0)
