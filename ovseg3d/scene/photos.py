"""Pixels for training, from a rotating subset of photos in memory: memory does not grow with their number.

Decoded photos at training size are kept within a byte budget. If they don't all fit, the next photos of a seeded cyclic
order replace the oldest ones, at such a rate that every photo has its turn in the planned steps; a background thread
decodes them in advance. The photos in memory depend on the step number only, not on the speed of the thread: `draw` is
a pure function of (seed, step, count), so that a resumed run sees the same bits.
"""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ovseg3d.errors import SceneError
from ovseg3d.scene.capture import Scene
from ovseg3d.scene.images import load_depth, load_mask, load_photo, unclipped

DEFAULT_BUDGET = 96 * 2**20
# More photos in memory don't make batches more varied, but delay the first one by seconds.
_MAX_RESIDENT = 256
# Steps of a turn through all photos if the length of the training is unknown.
_USUAL_TURN = 1000
# A photo is exchanged at least every 8 steps, and at most 4 are in a step: decoding one takes about 10 ms, a step 60.
_SLOWEST, _FASTEST = 8, 4
# Masked pixels are drawn again this many times; those left are marked invalid.
_REDRAWS = 3
_LONGEST_LINE = 0.5
"""Longest line of three pixels, as a share of the photo's longest side."""
_LINE_SAMPLES = 17
_FLAT = 0.04
"""Change of colour between neighbouring samples of a line that is still flat, 0..1."""


@dataclass(frozen=True)
class PixelBatch:
    """Pixels of many photos, on the CPU until `to`."""

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

    def to(self, device: torch.device | str) -> "PixelBatch":
        """The same batch on another device."""
        return PixelBatch(*(getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)))


@dataclass(frozen=True)
class _Photo:
    """One decoded photo, a row per pixel."""

    view: int
    width: int
    colour: np.ndarray
    """(pixels, 3 or 4) uint8."""
    usable: np.ndarray | None
    """(pixels,) bool, None without a mask."""
    depth_z: np.ndarray | None
    """(pixels,) float32, None without depth."""


class _Slots:
    """Memory for a fixed number of photos, allocated once, so that exchanging photos does not fragment the heap.

    Slot i owns the rows from i * stride on; `counts[i]` of them are in use.
    """

    def __init__(self, count: int, stride: int, alpha: bool, masks: bool, depth: bool) -> None:
        self.stride = stride
        self.views = np.full(count, -1, dtype=np.int64)
        self.widths = np.ones(count, dtype=np.int64)
        self.counts = np.zeros(count, dtype=np.int64)
        self.colour = np.empty((count * stride, 3 + alpha), dtype=np.uint8)
        self.usable = np.empty(count * stride, dtype=bool) if masks else None
        self.depth_z = np.empty(count * stride, dtype=np.float32) if depth else None

    def put(self, slot: int, photo: _Photo) -> None:
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


class PhotoPool:
    """Draws random pixels of a scene's photos.

    Args:
        scene: the capture.
        views: indices into `scene.frames` to draw from.
        seed: of the order of photos and of the pixels.
        budget_bytes: largest size of decoded pixels in memory (at least one photo, and those being decoded).
        steps: planned number of steps. If the photos don't all fit, they are exchanged such that all have their turn in
            these steps, or in 1,000 if it is None; but at most 4 in a step, and at least one in 8 steps.
        with_depth: whether to read depth files; else `depth_z` is 0.
        lines: draw pixels in lines of three, see `PixelBatch.flatness`; their middles are uniform.

    Raises:
        SceneError: `views` is empty. `draw` raises it for a photo, mask or depth file that is broken.
    """

    def __init__(
        self,
        scene: Scene,
        views: Sequence[int],
        *,
        seed: int = 0,
        budget_bytes: int = DEFAULT_BUDGET,
        steps: int | None = None,
        with_depth: bool = False,
        lines: bool = False,
    ) -> None:
        self._lines = lines
        if not len(views):
            raise SceneError("There are no photos to draw pixels from", where=scene.path)
        self._scene = scene
        self._seed = int(seed)
        self._with_depth = with_depth and any(scene.frames[v].depth_path for v in views)
        order = np.random.default_rng(np.random.SeedSequence([self._seed, 0]))
        self._order = [int(v) for v in order.permutation(np.asarray(views, dtype=np.int64))]
        frames = [scene.frames[view] for view in self._order]
        self._masked = any(frame.mask_path is not None for frame in frames)
        self._stride = max(frame.camera.width * frame.camera.height for frame in frames)
        each = self._stride * (3 + scene.has_alpha + self._masked + 4 * self._with_depth)
        self._count = min(max(1, budget_bytes // each), _MAX_RESIDENT, len(self._order))
        photos = len(self._order)
        self._turn = min(max(steps or _USUAL_TURN, -(-photos // min(_FASTEST, self._count))), photos * _SLOWEST)
        self._slots: _Slots | None = None
        self._position = -1  # of the order's window [position, position + count), -1 before the first draw
        self._ends = np.zeros(0, dtype=np.int64)
        self._worker: ThreadPoolExecutor | None = None
        self._coming: dict[int, Future[_Photo]] = {}

    @property
    def rotates(self) -> bool:
        """Whether photos are exchanged because they don't all fit."""
        return self._count < len(self._order)

    @property
    def share(self) -> float:
        """Share of the photos that are in memory at a time."""
        return self._count / len(self._order)

    def draw(self, step: int, count: int) -> PixelBatch:
        """`count` random pixels, uniform over the photos that are in memory at `step`.

        The result depends on (seed, step, count) only. Consecutive steps are cheap; jumping reads photos again.
        """
        slots = self._move_to(step * len(self._order) // self._turn if self.rotates else 0)
        random = np.random.Generator(np.random.Philox(key=[self._seed, step]))
        pick = random.integers(0, int(self._ends[-1]), count)
        for _ in range(_REDRAWS if self._masked else 0):
            _, _, rows = self._locate(slots, pick)
            assert slots.usable is not None
            hidden = np.flatnonzero(~slots.usable[rows])
            if not len(hidden):
                break
            pick[hidden] = random.integers(0, int(self._ends[-1]), len(hidden))
        flatness = self._onto_lines(slots, pick, random) if self._lines else np.zeros(count, np.float32)
        slot, pixel, rows = self._locate(slots, pick)
        row, column = np.divmod(pixel, slots.widths[slot])
        colour = slots.colour[rows].astype(np.float32) * np.float32(1 / 255)
        alpha = np.ascontiguousarray(colour[:, 3]) if colour.shape[-1] == 4 else np.ones(count, np.float32)
        depth_z = np.zeros(count, np.float32) if slots.depth_z is None else slots.depth_z[rows]
        valid = np.ones(count, dtype=bool) if slots.usable is None else slots.usable[rows]
        return PixelBatch(
            view=torch.from_numpy(slots.views[slot]),
            xy=torch.from_numpy(np.stack([column, row], axis=-1).astype(np.float32) + np.float32(0.5)),
            rgb=torch.from_numpy(np.ascontiguousarray(colour[:, :3])),
            alpha=torch.from_numpy(alpha),
            depth_z=torch.from_numpy(depth_z),
            depth_weight=torch.from_numpy(((depth_z > 0) & valid).astype(np.float32)),
            valid=torch.from_numpy(valid),
            flatness=torch.from_numpy(flatness),
        )

    def _onto_lines(self, slots: _Slots, pick: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Move the last two of every three pixels in line with the first, in place; returns the flatness."""
        count = len(pick) // 3
        slot, pixel, _ = self._locate(slots, pick[: 3 * count : 3])
        widths = slots.widths[slot]
        heights = slots.counts[slot] // widths
        row, column = np.divmod(pixel, widths)
        longest = np.maximum(widths, heights) * (_LONGEST_LINE / 2)
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
        shares = np.linspace(-1.0, 1.0, _LINE_SAMPLES)[:, None]
        rows = np.round(row + shares * dy).astype(np.int64)
        columns = np.round(column + shares * dx).astype(np.int64)
        line = slots.colour[rows * widths + columns + slot * slots.stride]
        colour = line[..., :3].astype(np.float32) / 255
        change = np.abs(np.diff(colour, axis=0)).max(axis=(0, 2))
        flat = np.exp(-np.square(change / _FLAT)) * inside * unclipped(line[..., :3]).all(0)
        if slots.usable is not None:
            flat *= slots.usable[rows * widths + columns + slot * slots.stride].all(0)
        flatness = np.zeros(len(pick), np.float32)
        flatness[: 3 * count] = np.repeat(flat, 3)
        return flatness

    def close(self) -> None:
        """Stop the background thread and release the photos."""
        if self._worker is not None:
            self._worker.shutdown(wait=True, cancel_futures=True)
            self._worker = None
        self._coming = {}
        self._slots = None
        self._position = -1

    def __enter__(self) -> "PhotoPool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _move_to(self, position: int) -> _Slots:
        """Load the photos of the window that starts at `position` of the cyclic order."""
        if self._slots is None:
            alpha = self._scene.has_alpha
            self._slots = _Slots(self._count, self._stride, alpha, self._masked, self._with_depth)
        if position == self._position:
            return self._slots
        for place in range(position, position + self._count):
            slot, view = place % self._count, self._order[place % len(self._order)]
            if self._slots.views[slot] != view:
                self._slots.put(slot, self._take(place, view))
        self._position = position
        self._ends = np.cumsum(self._slots.counts)
        if self.rotates:
            self._fetch(position + self._count)
        return self._slots

    def _take(self, place: int, view: int) -> _Photo:
        coming = self._coming.pop(place, None)
        return self._decode(view) if coming is None else coming.result()

    def _fetch(self, first: int) -> None:
        """Start to decode the photos that the next exchange may need, from place `first` of the order on."""
        if self._worker is None:
            self._worker = ThreadPoolExecutor(1, thread_name_prefix="photos")
        photos = len(self._order)
        places = range(first, first + -(-photos // self._turn))
        for place in self._coming.keys() - places:
            self._coming.pop(place).cancel()  # the caller jumped
        for place in places:
            if place not in self._coming:
                self._coming[place] = self._worker.submit(self._decode, self._order[place % photos])

    def _decode(self, view: int) -> _Photo:
        frame = self._scene.frames[view]
        photo = load_photo(frame)
        depth = None
        if self._with_depth and frame.depth_path is not None:
            depth = load_depth(frame, self._scene).reshape(-1)
        return _Photo(
            view=view,
            width=frame.camera.width,
            colour=photo.reshape(-1, photo.shape[-1]),
            usable=load_mask(frame).reshape(-1) if frame.mask_path is not None else None,
            depth_z=depth,
        )

    def _locate(self, slots: _Slots, pick: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Slot, pixel index within its photo, and row of the slots' arrays."""
        slot = np.searchsorted(self._ends, pick, side="right")
        pixel = pick - (self._ends - slots.counts)[slot]
        return slot, pixel, slot * slots.stride + pixel
