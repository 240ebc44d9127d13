"""Pixels for training, from a rotating subset of photos in memory: memory does not grow with their number.

Decoded photos at training size are kept within a byte budget. If they don't all fit, the next photos of a seeded cyclic
order replace the oldest ones, at such a rate that every photo has its turn in the planned steps; a background thread
decodes them in advance. The photos in memory depend on the step number only, not on the speed of the thread: `draw` is
a pure function of (seed, step, count), so that a resumed run sees the same bits. Photos are kept on the CPU, or in the
memory of a GPU, which then also draws.
"""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch

from ovseg3d.errors import SceneError
from ovseg3d.scene.capture import Scene
from ovseg3d.scene.device_pixels import DeviceSlots
from ovseg3d.scene.images import load_depth, load_mask, load_photo
from ovseg3d.scene.pixels import Photo, PixelBatch, Slots

DEFAULT_BUDGET = 96 * 2**20
# More photos in memory don't make batches more varied, but delay the first one by seconds.
_MAX_RESIDENT = 256
# Steps of a turn through all photos if the length of the training is unknown.
_USUAL_TURN = 1000
# A photo is exchanged at least every 8 steps, and at most 4 are in a step: decoding one takes about 10 ms, a step 60.
_SLOWEST, _FASTEST = 8, 4
DEVICE_BUDGET = 2**30
"""Largest size of decoded pixels in the memory of a GPU."""


class PhotoPool:
    """Draws random pixels of a scene's photos.

    Args:
        scene: the capture.
        views: indices into `scene.frames` to draw from.
        seed: of the order of photos and of the pixels.
        budget_bytes: largest size of decoded pixels in memory (at least one photo, and those being decoded); by default
            `DEFAULT_BUDGET`, or `DEVICE_BUDGET` with a device.
        steps: planned number of steps. If the photos don't all fit, they are exchanged such that all have their turn in
            these steps, or in 1,000 if it is None; but at most 4 in a step, and at least one in 8 steps.
        with_depth: whether to read depth files; else `depth_z` is 0.
        lines: draw pixels in lines of three, see `PixelBatch.flatness`; their middles are uniform.
        device: keep the photos there, and draw there; None: on the CPU, with other random numbers.

    Raises:
        SceneError: `views` is empty. `draw` raises it for a photo, mask or depth file that is broken.
    """

    def __init__(
        self,
        scene: Scene,
        views: Sequence[int],
        *,
        seed: int = 0,
        budget_bytes: int | None = None,
        steps: int | None = None,
        with_depth: bool = False,
        lines: bool = False,
        device: torch.device | None = None,
    ) -> None:
        self._lines, self._device = lines, device
        budget = budget_bytes or (DEFAULT_BUDGET if device is None else DEVICE_BUDGET)
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
        self._count = min(max(1, budget // each), _MAX_RESIDENT, len(self._order))
        photos = len(self._order)
        self._turn = min(max(steps or _USUAL_TURN, -(-photos // min(_FASTEST, self._count))), photos * _SLOWEST)
        self._slots: Slots | DeviceSlots | None = None
        self._position = -1  # of the order's window [position, position + count), -1 before the first draw
        self._worker: ThreadPoolExecutor | None = None
        self._coming: dict[int, Future[Photo]] = {}

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
        return slots.draw((self._seed, step), count, self._lines)

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

    def _move_to(self, position: int) -> Slots | DeviceSlots:
        """Load the photos of the window that starts at `position` of the cyclic order."""
        if self._slots is None:
            alpha = self._scene.has_alpha
            sizes = (self._count, self._stride, alpha, self._masked, self._with_depth)
            self._slots = Slots(*sizes) if self._device is None else DeviceSlots(*sizes, self._device)
        if position == self._position:
            return self._slots
        for place in range(position, position + self._count):
            slot, view = place % self._count, self._order[place % len(self._order)]
            if self._slots.views[slot] != view:
                self._slots.put(slot, self._take(place, view))
        self._position = position
        if self.rotates:
            self._fetch(position + self._count)
        return self._slots

    def _take(self, place: int, view: int) -> Photo:
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

    def _decode(self, view: int) -> Photo:
        frame = self._scene.frames[view]
        photo = load_photo(frame)
        depth = None
        if self._with_depth and frame.depth_path is not None:
            depth = load_depth(frame, self._scene).reshape(-1)
        return Photo(
            view=view,
            width=frame.camera.width,
            colour=photo.reshape(-1, photo.shape[-1]),
            usable=load_mask(frame).reshape(-1) if frame.mask_path is not None else None,
            depth_z=depth,
        )
