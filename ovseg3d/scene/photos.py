"""Pixels to train on, from a rotating resident subset of the photos: memory does not grow with their number.

Photos are kept decoded at training size under a byte budget. When they don't all fit, every `rotate_every` steps the
oldest one gives its place to the next of a seeded cyclic order, decoded ahead of time by one background thread. Which
photos are resident is bound to the step number alone, never to how fast the thread was: `draw` is a pure
function of (seed, step, count), so that a resumed run sees the same bits.
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
from ovseg3d.scene.images import load_depth, load_mask, load_photo

DEFAULT_BUDGET = 128 * 2**20
# More residents than this add nothing to a batch's variety, but seconds to the first one.
_MOST_RESIDENT = 256
# Hidden pixels are drawn again this often; what is left is marked invalid.
_REDRAWS = 3


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
    valid: Bool[Tensor, "rays"]
    """False where a mask hides the pixel."""

    def to(self, device: torch.device | str) -> "PixelBatch":
        """The same batch on another device."""
        return PixelBatch(*(getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)))


@dataclass(frozen=True)
class _Photo:
    """One decoded photo, its pixels in rows."""

    view: int
    width: int
    colour: np.ndarray
    """(pixels, 3 or 4) uint8."""
    usable: np.ndarray | None
    """(pixels,) bool, None when there is no mask."""
    depth_z: np.ndarray | None
    """(pixels,) float32, None when there is no depth."""


class PhotoPool:
    """Draws random pixels of a scene's photos.

    Args:
        scene: the capture.
        views: indices into `scene.frames` to draw from.
        seed: of the order of photos and of the pixels.
        budget_bytes: most bytes of decoded pixels held at once (at least one photo, and one more on its way).
        rotate_every: steps between two exchanges; only matters when the photos don't all fit.
        with_depth: whether depth files are read; else `depth_z` is 0.

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
        rotate_every: int = 8,
        with_depth: bool = False,
    ) -> None:
        if not len(views):
            raise SceneError("There are no photos to draw pixels from", where=scene.path)
        self._scene = scene
        self._seed = int(seed)
        self._rotate_every = max(1, int(rotate_every))
        self._with_depth = with_depth and any(scene.frames[v].depth_path for v in views)
        order = np.random.default_rng(np.random.SeedSequence([self._seed, 0]))
        self._order = [int(v) for v in order.permutation(np.asarray(views, dtype=np.int64))]
        largest = max(self._bytes(view) for view in self._order)
        fitting = max(1, min(budget_bytes // largest, _MOST_RESIDENT))
        self._slots = min(fitting, len(self._order))
        self._resident: list[_Photo | None] = [None] * self._slots
        self._position = -1  # of the order's window [position, position + slots), -1 before the first draw
        self._ends = np.zeros(0, dtype=np.int64)
        self._worker: ThreadPoolExecutor | None = None
        self._coming: tuple[int, Future[_Photo]] | None = None

    @property
    def rotates(self) -> bool:
        """Whether the photos don't all fit and take turns."""
        return self._slots < len(self._order)

    @property
    def resident_views(self) -> tuple[int, ...]:
        """The frames whose pixels are held now."""
        return tuple(photo.view for photo in self._resident if photo is not None)

    def draw(self, step: int, count: int) -> PixelBatch:
        """`count` pixels, uniformly over those of the photos that are resident at `step`.

        The same (seed, step, count) gives the same bits, in whatever order steps are asked for; going forward
        is cheap, jumping reads photos again.
        """
        self._move_to(step // self._rotate_every if self.rotates else 0)
        random = np.random.Generator(np.random.Philox(key=[self._seed, step]))
        total = int(self._ends[-1])
        pick = random.integers(0, total, count)
        masked = any(photo is not None and photo.usable is not None for photo in self._resident)
        for _ in range(_REDRAWS if masked else 0):
            hidden = np.flatnonzero(~self._usable(pick))
            if not len(hidden):
                break
            pick[hidden] = random.integers(0, total, len(hidden))
        return self._gather(pick, masked)

    def close(self) -> None:
        """Stop the background thread and let go of the photos."""
        if self._worker is not None:
            self._worker.shutdown(wait=True, cancel_futures=True)
            self._worker = None
        self._coming = None
        self._resident = [None] * self._slots
        self._position = -1

    def __enter__(self) -> "PhotoPool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _bytes(self, view: int) -> int:
        frame = self._scene.frames[view]
        each = 3 + self._scene.has_alpha + (frame.mask_path is not None) + 4 * self._with_depth
        return frame.camera.width * frame.camera.height * each

    def _move_to(self, position: int) -> None:
        """Make the photos of the window that starts at `position` of the endless order resident."""
        if position == self._position:
            return
        for place in range(position, position + self._slots):
            slot, view = place % self._slots, self._order[place % len(self._order)]
            held = self._resident[slot]
            if held is None or held.view != view:
                self._resident[slot] = self._take(place, view)
        self._position = position
        sizes = [0 if photo is None else len(photo.colour) for photo in self._resident]
        self._ends = np.cumsum(np.array(sizes, dtype=np.int64))
        if self.rotates:
            self._fetch(position + self._slots)

    def _take(self, place: int, view: int) -> _Photo:
        if self._coming is not None and self._coming[0] == place:
            future, self._coming = self._coming[1], None
            return future.result()
        return self._decode(view)

    def _fetch(self, place: int) -> None:
        """Begin to decode the photo that the next exchange needs."""
        if self._worker is None:
            self._worker = ThreadPoolExecutor(1, thread_name_prefix="photos")
        if self._coming is None or self._coming[0] != place:
            view = self._order[place % len(self._order)]
            self._coming = (place, self._worker.submit(self._decode, view))

    def _decode(self, view: int) -> _Photo:
        frame = self._scene.frames[view]
        photo = load_photo(frame)
        if photo.shape[-1] == 4 and not self._scene.has_alpha:
            photo = photo[..., :3]
        depth = None
        if self._with_depth and frame.depth_path is not None:
            depth = load_depth(frame, self._scene).reshape(-1)
        return _Photo(
            view=view,
            width=frame.camera.width,
            colour=np.ascontiguousarray(photo.reshape(-1, photo.shape[-1])),
            usable=load_mask(frame).reshape(-1) if frame.mask_path is not None else None,
            depth_z=depth,
        )

    def _locate(self, pick: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Slot and pixel index within its photo."""
        slot = np.searchsorted(self._ends, pick, side="right")
        starts = np.concatenate([[0], self._ends[:-1]])
        return slot, pick - starts[slot]

    def _usable(self, pick: np.ndarray) -> np.ndarray:
        slot, pixel = self._locate(pick)
        usable = np.ones(len(pick), dtype=bool)
        for index, chosen in _groups(slot):
            photo = self._resident[index]
            if photo is not None and photo.usable is not None:
                usable[chosen] = photo.usable[pixel[chosen]]
        return usable

    def _gather(self, pick: np.ndarray, masked: bool) -> PixelBatch:
        count = len(pick)
        slot, pixel = self._locate(pick)
        colour = np.full((count, 4), 255, dtype=np.uint8)
        depth_z = np.zeros(count, dtype=np.float32)
        for index, chosen in _groups(slot):
            photo, at = self._resident[index], pixel[chosen]
            assert photo is not None
            colour[chosen, : photo.colour.shape[-1]] = photo.colour[at]
            if photo.depth_z is not None:
                depth_z[chosen] = photo.depth_z[at]
        views = np.array([p.view for p in self._resident if p is not None], dtype=np.int64)
        widths = np.array([p.width for p in self._resident if p is not None], dtype=np.int64)
        row, column = np.divmod(pixel, widths[slot])
        values = colour.astype(np.float32) * np.float32(1 / 255)
        return PixelBatch(
            view=torch.from_numpy(views[slot]),
            xy=torch.from_numpy(np.stack([column, row], axis=-1).astype(np.float32) + np.float32(0.5)),
            rgb=torch.from_numpy(np.ascontiguousarray(values[:, :3])),
            alpha=torch.from_numpy(np.ascontiguousarray(values[:, 3])),
            depth_z=torch.from_numpy(depth_z),
            valid=torch.from_numpy(self._usable(pick) if masked else np.ones(count, dtype=bool)),
        )


def _groups(slot: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """For each slot that occurs, the positions at which it does."""
    order = np.argsort(slot, kind="stable")
    present, starts = np.unique(slot[order], return_index=True)
    return list(zip(present.tolist(), np.split(order, starts[1:])))
