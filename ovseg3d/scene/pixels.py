"""Pixels of photos that are in memory, and random draws of them; `photos` decides which photos these are."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ovseg3d.scene.images import unclipped

REDRAWS = 3
"""Masked pixels are drawn again this many times; those left are marked invalid."""
LONGEST_LINE = 0.5
"""Longest line of three pixels, as a share of the photo's longest side."""
LINE_SAMPLES = 17
FLAT_CHANGE = 0.04
"""Change of colour between neighbouring samples of a line that is still flat, 0..1."""


@dataclass(frozen=True)
class PixelBatch:
    """Pixels of many photos."""

    view: Int[Tensor, "rays"]
    """Index into `Scene.frames`, int64."""
    xy: Float[Tensor, "rays 2"]
    """The pixel's centre, pixels."""
    rgb: Float[Tensor, "rays 3"]
    """0..1, not premultiplied."""
    alpha: Float[Tensor, "rays"]
    """0..1; 1 where the photo has no alpha."""
    depth_z: Float[Tensor, "rays"]
    """z-depth in input units; 0 where unknown."""
    depth_weight: Float[Tensor, "rays"]
    """Confidence of the depth, 0..1; 0 where unknown."""
    valid: Bool[Tensor, "rays"]
    """False for pixels without a colour to learn: masked ones, and those of sparse points."""
    flatness: Float[Tensor, "rays"]
    """0, or with lines: pixels come in threes, a line's end, middle and other end; 1 where its colour is constant,
    towards 0 where it changes, the same for all three."""


@dataclass(frozen=True)
class Photo:
    """One decoded photo, a row per pixel."""

    view: int
    width: int
    colour: np.ndarray
    """(pixels, 3 or 4) uint8."""
    usable: np.ndarray | None
    """(pixels,) bool, None without a mask."""
    depth_z: np.ndarray | None
    """(pixels,) float32, None without depth."""


class Slots:
    """Memory for a fixed number of photos, allocated once, so that exchanging photos does not fragment the heap.

    Slot i owns the rows from i * stride on; `counts[i]` of them are in use.

    Args:
        count: number of photos.
        stride: pixels of the largest photo.
        alpha: whether photos have alpha.
        masks: whether any photo has a mask.
        depth: whether any photo has depth.
    """

    def __init__(self, count: int, stride: int, alpha: bool, masks: bool, depth: bool) -> None:
        self.stride = stride
        self.views = np.full(count, -1, dtype=np.int64)
        self.widths = np.ones(count, dtype=np.int64)
        self.counts = np.zeros(count, dtype=np.int64)
        self.colour = np.empty((count * stride, 3 + alpha), dtype=np.uint8)
        self.usable = np.empty(count * stride, dtype=bool) if masks else None
        self.depth_z = np.empty(count * stride, dtype=np.float32) if depth else None

    def put(self, slot: int, photo: Photo) -> None:
        size = len(photo.colour)
        rows = slice(slot * self.stride, slot * self.stride + size)
        self.views[slot], self.widths[slot], self.counts[slot] = photo.view, photo.width, size
        channels = min(photo.colour.shape[-1], self.colour.shape[-1])
        self.colour[rows, :channels] = photo.colour[:, :channels]
        self.colour[rows, channels:] = 255
        if self.usable is not None:
            self.usable[rows] = True if photo.usable is None else photo.usable
        if self.depth_z is not None:
            self.depth_z[rows] = 0 if photo.depth_z is None else photo.depth_z

    def draw(self, key: tuple[int, int], count: int, lines: bool) -> PixelBatch:
        """`count` random pixels of the photos; the same for the same `key`, of which the first part is the seed."""
        random = np.random.Generator(np.random.Philox(key=list(key)))
        pick = random.integers(0, int(self.counts.sum()), count)
        for _ in range(REDRAWS if self.usable is not None else 0):
            _, _, rows = self._locate(pick)
            assert self.usable is not None
            hidden = np.flatnonzero(~self.usable[rows])
            if not len(hidden):
                break
            pick[hidden] = random.integers(0, int(self.counts.sum()), len(hidden))
        flatness = self._onto_lines(pick, random) if lines else np.zeros(count, np.float32)
        slot, pixel, rows = self._locate(pick)
        row, column = np.divmod(pixel, self.widths[slot])
        colour = self.colour[rows].astype(np.float32) * np.float32(1 / 255)
        alpha = np.ascontiguousarray(colour[:, 3]) if colour.shape[-1] == 4 else np.ones(count, np.float32)
        depth_z = np.zeros(count, np.float32) if self.depth_z is None else self.depth_z[rows]
        valid = np.ones(count, dtype=bool) if self.usable is None else self.usable[rows]
        return PixelBatch(
            view=torch.from_numpy(self.views[slot]),
            xy=torch.from_numpy(np.stack([column, row], axis=-1).astype(np.float32) + np.float32(0.5)),
            rgb=torch.from_numpy(np.ascontiguousarray(colour[:, :3])),
            alpha=torch.from_numpy(alpha),
            depth_z=torch.from_numpy(depth_z),
            depth_weight=torch.from_numpy(((depth_z > 0) & valid).astype(np.float32)),
            valid=torch.from_numpy(valid),
            flatness=torch.from_numpy(flatness),
        )

    def _onto_lines(self, pick: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Move the last two of every three pixels in line with the first, in place; returns the flatness."""
        count = len(pick) // 3
        slot, pixel, _ = self._locate(pick[: 3 * count : 3])
        widths = self.widths[slot]
        heights = self.counts[slot] // widths
        row, column = np.divmod(pixel, widths)
        longest = np.maximum(widths, heights) * (LONGEST_LINE / 2)
        half = np.exp(random.uniform(0.0, np.log(longest)))
        angle = random.uniform(0.0, 2.0 * np.pi, count)
        dx, dy = np.round(half * np.cos(angle)).astype(np.int64), np.round(half * np.sin(angle)).astype(np.int64)
        inside = (column >= np.abs(dx)) & (column + np.abs(dx) < widths)
        inside &= (row >= np.abs(dy)) & (row + np.abs(dy) < heights)
        dx, dy = dx * inside, dy * inside
        middle = pick[: 3 * count : 3].copy()
        pick[: 3 * count : 3] -= dy * widths + dx
        pick[1 : 3 * count : 3] = middle
        pick[2 : 3 * count : 3] = middle + dy * widths + dx
        shares = np.linspace(-1.0, 1.0, LINE_SAMPLES)[:, None]
        rows = np.round(row + shares * dy).astype(np.int64)
        columns = np.round(column + shares * dx).astype(np.int64)
        line = self.colour[rows * widths + columns + slot * self.stride]
        colour = line[..., :3].astype(np.float32) / 255
        change = np.abs(np.diff(colour, axis=0)).max(axis=(0, 2))
        flat = np.exp(-np.square(change / FLAT_CHANGE)) * inside * unclipped(line[..., :3]).all(0)
        if self.usable is not None:
            flat *= self.usable[rows * widths + columns + slot * self.stride].all(0)
        flatness = np.zeros(len(pick), np.float32)
        flatness[: 3 * count] = np.repeat(flat, 3)
        return flatness

    def _locate(self, pick: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Slot, pixel index within its photo, and row of the slots' arrays."""
        ends = np.cumsum(self.counts)
        slot = np.searchsorted(ends, pick, side="right")
        pixel = pick - (ends - self.counts)[slot]
        return slot, pixel, slot * self.stride + pixel
