"""Pixels of photos in the memory of a GPU, as uint8, and random draws of them there.

Neither a draw nor an exchange of photos waits for the device, and a draw sends nothing to it. It follows the same rules
as `pixels.Slots`, with random numbers of the device: the pixels are others, their distribution is the same.
"""

import math

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ovseg3d.scene.images import CLIPPED
from ovseg3d.scene.pixels import FLAT_CHANGE, LINE_SAMPLES, LONGEST_LINE, REDRAWS, Photo, PixelBatch


def send(values: np.ndarray, device: torch.device) -> Tensor:
    """A copy of values on a device. The host does not wait for a GPU, even if it is busy.

    A copy from pageable memory would wait for the work before it. A copy from pinned memory is queued; torch does not
    give that memory away until an event after the copy has passed, so that nothing overwrites it.
    """
    kind = torch.from_numpy(np.empty(0, values.dtype)).dtype
    staged = torch.empty(values.shape, dtype=kind, pin_memory=device.type == "cuda")
    staged.numpy()[...] = values
    return staged.to(device, non_blocking=True)


class DeviceSlots:
    """Memory for a fixed number of photos on a device; see `pixels.Slots`.

    Args:
        count: number of photos.
        stride: pixels of the largest photo.
        alpha: whether photos have alpha.
        masks: whether any photo has a mask.
        depth: whether any photo has depth.
        device: where the pixels are.
    """

    def __init__(self, count: int, stride: int, alpha: bool, masks: bool, depth: bool, device: torch.device) -> None:
        self.stride, self._device = stride, device
        self.views = np.full(count, -1, dtype=np.int64)
        self._widths = np.ones(count, dtype=np.int64)
        self.counts = np.zeros(count, dtype=np.int64)
        rows = count * stride
        self._colour = torch.empty(rows, 3 + alpha, dtype=torch.uint8, device=device)
        self._usable = torch.empty(rows, dtype=torch.bool, device=device) if masks else None
        self._depth_z = torch.empty(rows, dtype=torch.float32, device=device) if depth else None
        self._table: Tensor | None = None

    def put(self, slot: int, photo: Photo) -> None:
        """Keep a photo in place of another one. Its copy to the device is queued, after draws of the other one."""
        size = len(photo.colour)
        rows = slice(slot * self.stride, slot * self.stride + size)
        self.views[slot], self._widths[slot], self.counts[slot] = photo.view, photo.width, size
        channels = min(photo.colour.shape[-1], self._colour.shape[-1])
        self._colour[rows, :channels] = send(photo.colour[:, :channels], self._device)
        self._colour[rows, channels:] = 255
        if self._usable is not None:
            self._usable[rows] = True if photo.usable is None else send(photo.usable, self._device)
        if self._depth_z is not None:
            self._depth_z[rows] = 0.0 if photo.depth_z is None else send(photo.depth_z, self._device)
        self._table = None

    def draw(self, key: tuple[int, int], count: int, lines: bool) -> PixelBatch:
        """`count` random pixels of the photos; the same for the same `key`, of which the first part is the seed."""
        seed, step = key
        random = torch.Generator(self._device).manual_seed((seed * 1_000_003 + step) * 128 + 126)
        total = int(self.counts.sum())
        pick = torch.randint(total, (count,), generator=random, device=self._device)
        for _ in range(REDRAWS if self._usable is not None else 0):
            assert self._usable is not None
            again = torch.randint(total, (count,), generator=random, device=self._device)
            pick = torch.where(self._usable[self._locate(pick)[2]], pick, again)
        flatness = torch.zeros(count, device=self._device)
        if lines:
            pick, flatness = self._onto_lines(pick, flatness, random)
        slot, pixel, rows = self._locate(pick)
        views, widths = self._columns[1], self._columns[2][slot]
        row, column = pixel // widths, pixel % widths
        colour = self._colour[rows].float() * (1 / 255)
        ones = torch.ones_like(flatness)
        depth_z = torch.zeros_like(ones) if self._depth_z is None else self._depth_z[rows]
        valid = ones.bool() if self._usable is None else self._usable[rows]
        return PixelBatch(
            view=views[slot],
            xy=torch.stack([column, row], -1).float() + 0.5,
            rgb=colour[:, :3].contiguous(),
            alpha=colour[:, 3].contiguous() if colour.shape[-1] == 4 else ones,
            depth_z=depth_z,
            depth_weight=((depth_z > 0) & valid).float(),
            valid=valid,
            flatness=flatness,
        )

    def _onto_lines(
        self, pick: Int[Tensor, " rays"], flatness: Float[Tensor, " rays"], random: torch.Generator
    ) -> tuple[Int[Tensor, " rays"], Float[Tensor, " rays"]]:
        """Pixels in lines: of every three, the first is the middle, and the last two are in line with it."""
        lines = len(pick) // 3
        middle = pick[: 3 * lines].view(-1, 3)[:, 0].contiguous()
        slot, pixel, _ = self._locate(middle)
        widths, counts = self._columns[2][slot], self._columns[3][slot]
        heights = counts // widths
        row, column = pixel // widths, pixel % widths
        longest = torch.maximum(widths, heights) * (LONGEST_LINE / 2)
        share, turn = torch.rand(2, lines, generator=random, device=self._device)
        half, angle = torch.exp(share * torch.log(longest)), 2.0 * math.pi * turn
        dx, dy = (half * torch.cos(angle)).round().long(), (half * torch.sin(angle)).round().long()
        inside = (column >= dx.abs()) & (column + dx.abs() < widths)
        inside &= (row >= dy.abs()) & (row + dy.abs() < heights)
        dx, dy = dx * inside, dy * inside
        away = dy * widths + dx
        ends = torch.stack([middle - away, middle, middle + away], -1).view(-1)
        shares = torch.linspace(-1.0, 1.0, LINE_SAMPLES, device=self._device)[:, None]
        at = (row + shares * dy).round().long() * widths + (column + shares * dx).round().long() + slot * self.stride
        line = self._colour[at][..., :3]
        change = line.float().div(255).diff(dim=0).abs().amax((0, 2))
        unclipped = (line.amax(-1) > CLIPPED) & (line.amin(-1) < 255 - CLIPPED)
        flat = torch.exp(-(change / FLAT_CHANGE).square()) * inside * unclipped.all(0)
        if self._usable is not None:
            flat = flat * self._usable[at].all(0)
        flat = flat[:, None].expand(-1, 3).reshape(-1)
        return torch.cat([ends, pick[3 * lines :]]), torch.cat([flat, flatness[3 * lines :]])

    @property
    def _columns(self) -> Int[Tensor, "4 slots"]:
        """Of each slot: where its pixels end among all, view, width, number of pixels."""
        if self._table is None:
            table = np.stack([np.cumsum(self.counts), self.views, self._widths, self.counts])
            self._table = send(table, self._device)
        return self._table

    def _locate(self, pick: Int[Tensor, " rays"]) -> tuple[Tensor, Tensor, Tensor]:
        """Slot, pixel index within its photo, and row of the slots' pixels."""
        ends, _, _, counts = self._columns
        slot = torch.searchsorted(ends, pick, right=True)
        pixel = pick - (ends - counts)[slot]
        return slot, pixel, slot * self.stride + pixel
