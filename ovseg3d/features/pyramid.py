"""Features of overlapping crops at several sizes: LERF's and 3D-OVS's schedules.

LERF (Kerr et al. 2023, its published code): 7 tile sides from 0.05 to 0.5 of the photo's height; strides fall from
the whole side at 0.05 to half of it at 0.15 and above; half a side of black around the photo, so that tile
(row, column) has its middle at pixel (column, row) x stride. 3D-OVS (Liu et al. 2023): sides of 1/5, 1/7 and
1/10 of the photo's shorter side, strides of a quarter, each border moved outward by up to a quarter at random; a
pixel's vector is the mean over the crops that contain it. Here that mean is stored on a grid of one cell per stride,
of unit vectors, and the jitter is seeded. Crops are cut from the photo at its own resolution.
"""

from collections.abc import Callable, Iterable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ovseg3d.encoders.base import TextImageEncoder
from ovseg3d.engine import in_batches
from ovseg3d.features.maps import Level, Pyramid, normalise

LERF_SCALES = (0.05, 0.125, 0.2, 0.275, 0.35, 0.425, 0.5)
OVS_PARTS = (10, 7, 5)
"""From small to large, in the order of levels."""
_FINE, _COARSE = 0.05, 0.15
CROPS_AT_ONCE = 32
"""Crops of objects in a batch."""
Tick = Callable[[int, int], None]
"""Called after each batch with the numbers of a photo's crops that are encoded, and in total; its errors are raised,
and end the photo."""


def lerf_tiles(height: int, width: int, scale: float) -> tuple[int, int, int, int]:
    """Side, stride, rows and columns of LERF's tiles of one scale on a photo, in pixels."""
    side = max(1, int(height * scale))
    share = float(np.interp(scale, [_FINE, _COARSE], [1.0, 0.5]))
    stride = max(1, int(side * share))
    around = 2 * (side // 2)
    return side, stride, (height + around - side) // stride + 1, (width + around - side) // stride + 1


def ovs_starts(length: int, side: int, stride: int) -> list[int]:
    """First pixels of 3D-OVS's windows along one side of a photo; the last may reach beyond the border."""
    steps, rest = divmod(max(0, length - side), stride)
    return [i * stride for i in range(steps + 1 + (rest > 0))]


def lerf_pyramid(
    photo: Float[Tensor, "3 h w"], clip: TextImageEncoder, batch: int = 16, tick: Tick | None = None
) -> Pyramid:
    """LERF's schedule. `photo` is rgb in 0..1 on the encoder's device."""
    height, width = photo.shape[-2:]
    tiles = [lerf_tiles(height, width, scale) for scale in LERF_SCALES]
    total = sum(rows * columns for _, _, rows, columns in tiles)
    levels, done = [], 0
    for scale, (side, stride, rows, columns) in zip(LERF_SCALES, tiles):
        padded = F.pad(photo, (side // 2,) * 4)
        crops = (
            padded[:, row * stride : row * stride + side, column * stride : column * stride + side]
            for row in range(rows)
            for column in range(columns)
        )
        vectors = encode_crops(crops, clip, batch, tick, done, total).reshape(rows, columns, -1)
        done += rows * columns
        # An odd side has its centre half a pixel after the padding's end.
        middle = side / 2 - side // 2
        origin, step = (middle / width, middle / height), (stride / width, stride / height)
        levels.append(Level(vectors.astype(np.float16), scale, origin, step))
    return Pyramid(tuple(levels))


def ovs_pyramid(
    photo: Float[Tensor, "3 h w"],
    clip: TextImageEncoder,
    batch: int = 16,
    seed: int = 0,
    tick: Tick | None = None,
) -> Pyramid:
    """3D-OVS's schedule.

    Args:
        photo: rgb in 0..1, on the encoder's device.
        clip: the encoder.
        batch: crops that are encoded at once.
        seed: of the crops' jitter.
        tick: called after each batch of crops.
    """
    height, width = photo.shape[-2:]
    shorter = min(height, width)
    random = np.random.default_rng(seed)
    sides = [max(1, shorter // part) for part in OVS_PARTS]
    strides = [max(1, side // 4) for side in sides]
    places = [
        np.array([(top, left) for top in ovs_starts(height, side, stride) for left in ovs_starts(width, side, stride)])
        for side, stride in zip(sides, strides)
    ]
    levels, done, crops_in_all = [], 0, sum(map(len, places))
    for side, stride, boxes in zip(sides, strides, places):
        outward = random.integers(0, side // 4, size=(len(boxes), 4), endpoint=True)
        lower = np.maximum(boxes - outward[:, :2], 0)
        upper = np.minimum(boxes + side + outward[:, 2:], [height, width])
        crops = (photo[:, top:bottom, left:right] for (top, left), (bottom, right) in zip(lower, upper))
        vectors = encode_crops(crops, clip, batch, tick, done, crops_in_all)
        done += len(boxes)
        rows, columns = -(-height // stride), -(-width // stride)
        total = np.zeros((rows, columns, vectors.shape[-1]), dtype=np.float32)
        # A cell takes the crops that contain its centre; there is at least one, since they cover the photo.
        for vector, low, high in zip(vectors, lower, upper):
            first = np.ceil(low / [height, width] * [rows, columns] - 0.5).astype(int).clip(0)
            last = np.ceil(high / [height, width] * [rows, columns] - 0.5).astype(int)
            total[first[0] : last[0], first[1] : last[1]] += vector
        origin, step = (0.5 / columns, 0.5 / rows), (1 / columns, 1 / rows)
        levels.append(Level(normalise(total).astype(np.float16), side / height, origin, step))
    return Pyramid(tuple(levels))


def encode_crops(
    crops: Iterable[Tensor],
    clip: TextImageEncoder,
    batch: int,
    tick: Tick | None = None,
    done: int = 0,
    total: int = 0,
) -> Float[np.ndarray, "crops dim"]:
    """Unit vectors of crops (3, h, w) of any sizes, float32; each is squeezed to the encoder's size, so that no part is
    cut off.

    Args:
        crops: rgb in 0..1, on the encoder's device.
        clip: the encoder.
        batch: crops that are encoded at once.
        tick: called after each batch.
        done, total: number of crops before these, and in total, for `tick`.
    """
    found: list[np.ndarray] = []
    waiting: list[Tensor] = []

    def flush() -> None:
        nonlocal done
        for some, vectors in in_batches(waiting, batch, lambda some: clip.encode_image(torch.stack(list(some)))):
            found.append(vectors.float().cpu().numpy())
            done += len(some)
            if tick is not None:
                tick(done, total)
        waiting.clear()

    for crop in crops:
        size = clip.preprocess.size
        if crop.shape[-2:] != size:
            crop = F.interpolate(crop[None], size=size, mode="bicubic", antialias=True)[0].clamp(0.0, 1.0)
        waiting.append(crop)
        if len(waiting) == batch:
            flush()
    flush()
    return np.concatenate(found)
