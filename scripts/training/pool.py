"""Images for training, rendered by worker processes into a ring buffer of files that several trainings may share.

Example `index` is a pure function of (factory, seed, index, size) and is stored in slot index % capacity. A resumed
training finds the same images, or renders missing ones again. A slot's index is written after its image and captions;
a reader that finds another index renders the example. Two trainings may therefore use one folder at once: the second
finds what the first has rendered.
"""

import importlib
import json
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from ovseg3d.files import write_atomic

CAPTION_BYTES = 1200
CHUNK = 32
WORLD = 2
"""Version of the images and captions of `ovseg3d.synth.examples`; images of other versions are refused."""


@dataclass(frozen=True)
class Source:
    """Source of the images, and size of the ring."""

    folder: str
    factory: str = "scripts.training.pool:world_example"
    """"module:function" of (seed, index, size, rooms) -> Example."""
    seed: int = 0
    size: int = 96
    """Pixels of a side."""
    rooms: float = 0.4
    """Share of views of rooms; the others show one object."""
    capacity: int = 32768
    """Slots of the ring."""


def world_example(seed: int, index: int, size: int, rooms: float):
    """An image of one object, or of a part of a room, of the seen split."""
    from ovseg3d.synth.examples import object_example, room_example

    # The golden ratio spreads room views evenly over the indices.
    make = room_example if (index * 0.6180339887498949) % 1.0 < rooms else object_example
    return make(seed, index, size, split="seen")


@dataclass
class Ring:
    """The memory-mapped files: images, captions as JSON, indices."""

    source: Source

    def __post_init__(self) -> None:
        folder, n, side = Path(self.source.folder), self.source.capacity, self.source.size
        folder.mkdir(parents=True, exist_ok=True)
        key = json.dumps(asdict(self.source) | {"folder": "", "chunk": CHUNK, "world": WORLD})
        mark = folder / "source.json"
        if mark.is_file() and mark.read_text() != key:
            raise ValueError(f"{folder} holds images of other settings, or of an older version: remove it")
        sizes = {"images": n * side * side * 3, "captions": n * CAPTION_BYTES, "index": n * 8}
        for name, size in sizes.items():
            path = folder / f"{name}.bin"
            if not path.is_file() or path.stat().st_size != size:
                with open(path, "wb") as file:
                    file.truncate(size)
        if not mark.is_file():
            write_atomic(mark, key.encode())
        self.images = np.memmap(folder / "images.bin", np.uint8, "r+", shape=(n, side, side, 3))
        self.captions = np.memmap(folder / "captions.bin", f"S{CAPTION_BYTES}", "r+", shape=(n,))
        self.index = np.memmap(folder / "index.bin", np.int64, "r+", shape=(n,))

    def has(self, index: int) -> bool:
        """Whether the slot contains this example. Stored indices are one larger: 0, as in a new file, is none."""
        return self.index[index % len(self.index)] == index + 1

    def write(self, index: int, image: np.ndarray, captions: Sequence[str]) -> None:
        slot = index % len(self.index)
        captions = list(captions)
        while len(encoded := json.dumps(captions).encode()) > CAPTION_BYTES:
            captions.pop()
        self.index[slot] = 0
        self.images[slot], self.captions[slot] = image, encoded
        self.index[slot] = index + 1

    def read(self, indices: Sequence[int]) -> tuple[np.ndarray, list[list[str]]]:
        slots = [index % len(self.index) for index in indices]
        return self.images[slots], [json.loads(bytes(self.captions[slot])) for slot in slots]


def render_chunk(source: Source, chunk: int) -> None:
    """Render the missing examples of one chunk, in the calling process."""
    ring = _ring(source)
    module, name = source.factory.split(":")
    make = getattr(importlib.import_module(module), name)
    for index in range(chunk * CHUNK, (chunk + 1) * CHUNK):
        if not ring.has(index):
            example = make(source.seed, index, source.size, source.rooms)
            ring.write(index, example.image, example.captions)


_RINGS: dict[Source, Ring] = {}


def _ring(source: Source) -> Ring:
    if source not in _RINGS:
        _RINGS[source] = Ring(source)
    return _RINGS[source]


def _quiet_worker() -> None:
    """Initialise a worker: Ctrl-C is left to the parent, and training has priority over rendering."""
    import signal

    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    os.nice(5)


class Pool:
    """Rendered examples for a training.

    Args:
        source: what to render, and where it is stored.
        workers: processes that render ahead; 0: render in this process when needed.
        ahead: number of chunks that are rendered ahead.
        share: this process's number and how many there are; they share the rendering ahead.
    """

    def __init__(self, source: Source, workers: int = 1, ahead: int = 16, share: tuple[int, int] = (0, 1)) -> None:
        self.source, self.ahead, self.share = source, ahead, share
        self.ring = _ring(source)
        self.window = source.capacity - (ahead + 1) * CHUNK
        if self.window < CHUNK:
            raise ValueError("the ring is too small for rendering ahead: raise the capacity")
        context = get_context("spawn")
        self.workers = ProcessPoolExecutor(workers, context, _quiet_worker) if workers else None
        self.pending: dict[int, Future] = {}
        self.waited = 0.0
        """Seconds spent waiting for images, so far."""

    def get(self, indices: Sequence[int], newest: int) -> tuple[np.ndarray, list[list[str]]]:
        """Images (len, size, size, 3) uint8 and their captions; also starts to render ahead of `newest`."""
        import time

        number, processes = self.share
        chunks = range(newest // CHUNK, newest // CHUNK + self.ahead)
        self._start(chunk for chunk in chunks if chunk % processes == number)
        missing = sorted({index // CHUNK for index in indices if not self.ring.has(index)})
        began = time.perf_counter()
        self._start(missing)
        for chunk in missing:
            if self.workers is None:
                render_chunk(self.source, chunk)
            elif chunk in self.pending:  # otherwise another training has rendered it meanwhile
                self.pending[chunk].result()
        self.waited += time.perf_counter() - began
        return self.ring.read(indices)

    def _start(self, chunks: Iterable[int]) -> None:
        if self.workers is None:
            return
        for chunk in [c for c, f in self.pending.items() if f.done()]:
            self.pending.pop(chunk).result()
        for chunk in chunks:
            if chunk not in self.pending and not all(self.ring.has(chunk * CHUNK + i) for i in range(CHUNK)):
                self.pending[chunk] = self.workers.submit(render_chunk, self.source, chunk)

    def close(self) -> None:
        if self.workers is not None:
            self.workers.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True)
class Draw:
    """Choice of the examples of a step: some new ones, the others from the ring."""

    batch: int
    fresh: float
    """Mean number of new examples per batch."""
    start: int
    """Number of examples before the first step."""
    seed: int

    def newest(self, step: int) -> int:
        """Number of examples at a step."""
        return self.start + int((step + 1) * self.fresh)

    def __call__(self, step: int, window: int) -> list[int]:
        high = self.newest(step)
        new = list(range(self.newest(step - 1), high))[-self.batch :]
        low = max(0, high - window)
        random = np.random.default_rng([self.seed, step, 5])
        return [*new, *random.integers(low, high, self.batch - len(new)).tolist()]
