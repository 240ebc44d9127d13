"""Features of a scene, through the cache: every photo is encoded once, by the process that comes first.

Photos are read at their file's size (at most `photo_side`), not at the size for training a field; transparent ones are
composited on white. DINO's projection is fitted to the training photos of smallest SHA-256, a choice that hardly
changes when photos are added, and is a separate cache entry. No photo stays in memory.
"""

import hashlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import numpy as np
import torch
from jaxtyping import UInt8

from ovseg3d.encoders.base import DenseEncoder, TextImageEncoder
from ovseg3d.engine.workers import available_cores
from ovseg3d.errors import CacheError, SceneError
from ovseg3d.features.cache import FeatureCache, content_key
from ovseg3d.features.extract import DinoKnown, FeatureSettings, dino_features, extract_features, map_inputs
from ovseg3d.features.maps import PhotoFeatures, from_arrays, to_arrays
from ovseg3d.features.projection import Projection, fit_projection
from ovseg3d.features.pyramid import Tick
from ovseg3d.features.region_workers import RegionWorkers
from ovseg3d.features.segments import Segmenter
from ovseg3d.limits import open_regular
from ovseg3d.scene.capture import Frame, Scene
from ovseg3d.scene.images import load_photo, read_header

PHOTOS, PROJECTIONS = "photos", "projections"
"""Kinds of cache entries."""
OnProgress = Callable[[int | float, int, str], None]
"""Called with photos done, photos in total, and the last one's name; after a batch of crops with a fraction."""
_WAIT = 0.1
MAX_REGION_WORKERS = 3
MIN_PHOTOS = 16
"""Photos that are worth the start of processes for their regions."""


@dataclass(frozen=True)
class Encoders:
    """The encoders, loaded now or when needed, and the cache of their features."""

    clip: TextImageEncoder
    dino: DenseEncoder | None
    segmenter: Segmenter | None
    settings: FeatureSettings
    """`auto` and None are resolved when a photo is encoded."""
    cache: FeatureCache
    device: str


@dataclass(frozen=True)
class SceneFeatures(Sequence[PhotoFeatures]):
    """Features of a scene's photos, in the order of its frames; each is mapped from the cache on access."""

    cache: FeatureCache
    names: tuple[str, ...]
    """The frames' names."""
    keys: tuple[str, ...]
    """Cache keys of the photos."""
    projection_key: str | None
    """Cache key of the projection; None without DINO."""
    settings: FeatureSettings
    """Resolved."""
    made: int = 0
    """Number of photos that were encoded by this call, not cached."""

    def __len__(self) -> int:
        return len(self.keys)

    @overload
    def __getitem__(self, index: int) -> PhotoFeatures: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[PhotoFeatures, ...]: ...
    def __getitem__(self, index: int | slice) -> PhotoFeatures | tuple[PhotoFeatures, ...]:
        """Features of a photo. Raises CacheError: the entry is missing or damaged."""
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        arrays = self.cache.read(PHOTOS, self.keys[index], checked=False)
        if arrays is None:
            raise self._gone(self.names[index])
        return from_arrays(arrays)

    def of(self, name: str) -> PhotoFeatures:
        """Features of the frame `name`. Raises KeyError, CacheError."""
        if name not in self.names:
            raise KeyError(name)
        return self[self.names.index(name)]

    @property
    def projection(self) -> Projection | None:
        """The reduction of DINO's vectors. Raises CacheError: the entry is missing or damaged."""
        if self.projection_key is None:
            return None
        arrays = self.cache.read(PROJECTIONS, self.projection_key)
        if arrays is None:
            raise self._gone("the projection")
        return Projection.from_arrays(arrays)

    @property
    def nbytes(self) -> int:
        """Size of the photos' entries on disk."""
        paths = {self.cache.path(PHOTOS, key) for key in self.keys}
        return sum(path.stat().st_size for path in paths if path.exists())

    def _gone(self, what: str) -> CacheError:
        return CacheError(
            f"The features of {what} are no longer in the cache, or damaged",
            where=self.cache.folder,
            fix="encode the scene again: ovseg3d train SCENE --only features",
        )


def encode_photos(
    scene: Scene,
    encoders: Encoders,
    report: OnProgress | None = None,
    *,
    stop: threading.Event | None = None,
) -> SceneFeatures | None:
    """Encode all photos of a scene that the cache does not hold yet.

    Several processes may encode one scene at once: they share the work, and no photo is encoded twice.

    Args:
        scene: the scene.
        encoders: the encoders, and the cache.
        report: called after each photo and each batch of crops.
        stop: set it to end after the current photo, or batch of its crops.

    Returns:
        The features, or None after `stop`; what was encoded by then is in the cache.

    Raises:
        SceneError: a photo cannot be read. CacheError: the cache cannot be written to.
    """
    dino, cache = encoders.dino, encoders.cache
    encoders = replace(encoders, settings=encoders.settings.resolved(encoders.clip, encoders.device))
    settings = encoders.settings
    stop = stop or threading.Event()
    digests = [photo_digest(frame) for frame in scene.frames]
    seen: dict[str, np.ndarray] = {}
    basis: Projection | None = None
    basis_key: str | None = None
    if dino is not None:
        sampled = {digests[view]: scene.frames[view] for view in scene.train}
        basis_key, arrays = _fit(sampled, dino, settings, cache, seen, stop, encoders.device)
        if arrays is None:
            return None
        basis = Projection.from_arrays(arrays)
    common = _common_facts(encoders, basis_key)
    keys = [photo_key(frame, digest, settings, common) for frame, digest in zip(scene.frames, digests)]
    with _Prefetch(scene, digests, keys, encoders, DinoKnown(basis), seen, stop) as prefetch:
        made = _encode_missing(scene, keys, encoders, prefetch, report, stop)
    if made is None:
        return None
    names = tuple(frame.name for frame in scene.frames)
    return SceneFeatures(cache, names, tuple(keys), basis_key, settings, made)


def _encode_missing(
    scene: Scene,
    keys: Sequence[str],
    encoders: Encoders,
    prefetch: "_Prefetch",
    report: OnProgress | None,
    stop: threading.Event,
) -> int | None:
    """Let every photo have an entry; returns how many were made here, or None after `stop`."""
    cache = encoders.cache
    made = done = waited = 0
    waiting = deque(range(len(keys)))
    while waiting and not stop.is_set():
        number = waiting.popleft()
        frame, key = scene.frames[number], keys[number]

        def tick(crops: int, total: int, before: int = done, name: str = frame.name) -> None:
            if crops == total:
                return  # the photo is done, and reported below
            if report is not None:
                report(before + crops / total, len(keys), name)
            if stop.is_set():
                raise _Stopped

        def make(number: int = number, tick: Tick = tick) -> dict[str, np.ndarray]:
            nonlocal made
            arrays = _encode(*prefetch.take(number), encoders, tick)
            made += 1
            return arrays

        try:
            there = cache.read(PHOTOS, key) is not None or cache.try_make(PHOTOS, key, make)
        except _Stopped:
            return None
        prefetch.drop(number)
        if not there:
            # Another process is encoding it: continue with the rest, then check again.
            waiting.append(number)
            waited += 1
            if waited >= len(waiting):
                time.sleep(_WAIT)  # stop.wait holds a lock, which would block a signal handler that sets `stop`
            continue
        done, waited = done + 1, 0
        if report is not None:
            report(done, len(keys), frame.name)
    return None if waiting else made


class _Prefetch:
    """Photos to encode, with what is known of them. Processes compute the regions of the next ones meanwhile.

    Args:
        scene: the scene.
        digests: of all photos.
        keys: of their entries in the cache.
        encoders: with resolved settings.
        known: what is known of every photo.
        seen: DINO's vectors by digest; they are removed.
        stop: set it to read no further photo.
    """

    def __init__(
        self,
        scene: Scene,
        digests: Sequence[str],
        keys: Sequence[str],
        encoders: Encoders,
        known: DinoKnown,
        seen: dict[str, np.ndarray],
        stop: threading.Event,
    ) -> None:
        self._scene, self._digests, self._keys, self._encoders = scene, digests, keys, encoders
        self._known, self._seen, self._stop = known, seen, stop
        self._coming = deque(number for number in range(len(keys)) if not self._is_made(number))
        self._pending: dict[int, tuple[np.ndarray, DinoKnown]] = {}
        count = region_processes(encoders.device, len(self._coming)) if encoders.settings.mode == "regions" else 0
        self._workers = RegionWorkers(count) if count else None

    def take(self, number: int) -> tuple[np.ndarray, DinoKnown]:
        """A photo, and what is known of it. Raises SceneError: it cannot be read."""
        if self._workers is not None:
            self._fill(self._workers, 2 * self._workers.count)
        return self._pending.pop(number) if number in self._pending else self._read(number)

    def drop(self, number: int) -> None:
        """Forget a photo, which is made, or which another process is encoding."""
        self._pending.pop(number, None)
        if number in self._coming:
            self._coming.remove(number)

    def _fill(self, workers: RegionWorkers, count: int) -> None:
        """Start with the next photos, until so many are under way."""
        while self._coming and len(self._pending) <= count and not self._stop.is_set():
            number = self._coming.popleft()
            if self._is_made(number):
                continue
            try:
                photo, known = self._read(number)
            except SceneError:
                continue  # raised when it is taken
            regions = workers.submit(*map_inputs(photo, known.grid, self._encoders.settings))
            self._pending[number] = photo, replace(known, regions=regions.result)

    def _is_made(self, number: int) -> bool:
        return self._encoders.cache.path(PHOTOS, self._keys[number]).exists()

    def _read(self, number: int) -> tuple[np.ndarray, DinoKnown]:
        settings, dino = self._encoders.settings, self._encoders.dino
        photo = read_photo(self._scene.frames[number], settings)
        grid = self._seen.pop(self._digests[number], None)
        if grid is None and dino is not None:
            grid = dino_features(photo, dino, settings, self._encoders.device)
        return photo, replace(self._known, grid=grid)

    def __enter__(self) -> "_Prefetch":
        return self

    def __exit__(self, *error: Any) -> None:
        if self._workers is not None:
            self._workers.__exit__(*error)


def region_processes(device: str | torch.device, photos: int) -> int:
    """How many processes compute regions of photos: none where the encoders need the cores themselves, and for few."""
    if torch.device(device).type == "cpu" or photos < MIN_PHOTOS:
        return 0
    return min(available_cores() - 1, MAX_REGION_WORKERS)


def _common_facts(encoders: Encoders, basis_key: str | None) -> dict[str, Any]:
    """What the keys of all photos have in common."""
    clip, dino, segmenter = encoders.clip, encoders.dino, encoders.segmenter
    return {
        "clip": [clip.id, clip.weight_hash],
        "dino": [dino.id, dino.weight_hash] if dino is not None else None,
        "segmenter": [segmenter.id, segmenter.weight_hash, "layers"] if segmenter is not None else None,
        "settings": encoders.settings.key(),
        "projection": basis_key,
    }


def _encode(photo: np.ndarray, known: DinoKnown, encoders: Encoders, tick: Tick) -> dict[str, np.ndarray]:
    """A photo's features as the cache keeps them."""
    features = extract_features(
        photo,
        encoders.clip,
        encoders.dino,
        encoders.settings,
        segmenter=encoders.segmenter,
        device=encoders.device,
        known=known,
        tick=tick,
    )
    return to_arrays(features)


def photo_key(frame: Frame, digest: str, settings: FeatureSettings, common: Mapping[str, Any]) -> str:
    """The cache key of a photo."""
    return content_key({"photo": digest, "size": read_size(frame, settings), "upright": frame.upright, **common})


def photo_digest(frame: Frame) -> str:
    """SHA-256 of the photo's file. Raises SceneError: it cannot be read."""
    try:
        with open_regular(frame.image_path, what="photo") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise SceneError(f"The photo cannot be read: {error.strerror}", where=frame.image_path) from error


def read_size(frame: Frame, settings: FeatureSettings) -> tuple[int, int]:
    """Width and height at which a photo is read: the file's, divided by an integer if too large."""
    header = read_header(frame.image_path)
    width, height = header.upright_size if frame.upright else (header.width, header.height)
    factor = -(-max(width, height) // settings.photo_side)
    return max(1, width // factor), max(1, height // factor)


def read_photo(frame: Frame, settings: FeatureSettings) -> UInt8[np.ndarray, "h w 3"]:
    """The photo as input of encoders, on white. Raises SceneError."""
    photo = load_photo(replace(frame, camera=frame.camera.scaled(*read_size(frame, settings))))
    if photo.shape[-1] == 3:
        return photo
    alpha = photo[..., 3:].astype(np.float32) / 255
    return np.rint(photo[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)


class _Stopped(Exception):
    """Ends the fitting of a projection, or a photo."""


def _fit(
    photos: Mapping[str, Frame],
    dino: DenseEncoder,
    settings: FeatureSettings,
    cache: FeatureCache,
    seen: dict[str, np.ndarray],
    stop: threading.Event,
    device: torch.device | str,
) -> tuple[str, dict[str, np.ndarray] | None]:
    """The projection's key, and its arrays or None after `stop`.

    `photos` are frames by their digest. DINO's vectors of the sample are stored in `seen`, for reuse.
    """
    sample = sorted(photos)[: settings.sample]
    key = content_key(
        {
            "dino": [dino.id, dino.weight_hash],
            "photos": [[digest, read_size(photos[digest], settings), photos[digest].upright] for digest in sample],
            "settings": {name: getattr(settings, name) for name in ("dino_side", "window", "overlap", "dino_dims")},
        }
    )

    def grids() -> Iterator[np.ndarray]:
        for digest in sample:
            if stop.is_set():
                raise _Stopped
            seen[digest] = dino_features(read_photo(photos[digest], settings), dino, settings, device)
            yield seen[digest]

    make = lambda: fit_projection(grids(), settings.dino_dims).arrays()  # noqa: E731
    try:
        return key, cache.get_or_make(PROJECTIONS, key, make, stop)
    except _Stopped:
        return key, None


__all__ = ["SceneFeatures", "encode_photos", "photo_digest", "read_photo", "read_size"]
