"""From a photo to features: `dense`, `pyramid` or `regions` of CLIP, and dense features of DINO.

A photo is uint8 (h, w, 3). Each encoder gets it resized to its own side; see `dense`, `pyramid` and `segments`. `auto`
is `regions`: one dense pass pooled per region, or crops of all regions for encoders without dense features.
`FeatureSettings.resolved` replaces `auto` and None for given encoders; only resolved settings enter a cache key.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Integer, UInt8
from torch import Tensor

from ovseg3d.encoders.base import DenseEncoder, TextImageEncoder
from ovseg3d.errors import ConfigError
from ovseg3d.features.dense import dense_grid
from ovseg3d.features.maps import Dense, PhotoFeatures, Regions, normalise
from ovseg3d.features.projection import Projection
from ovseg3d.features.pyramid import Tick, encode_crops, lerf_pyramid, ovs_pyramid
from ovseg3d.features.segments import Segmenter, mask_layers, overlay, pooling, region_map

Mode = Literal["auto", "dense", "pyramid", "regions"]
CLIP_SIDE = 1.5
"""Default shorter side of CLIP's input, relative to its native size."""
CUDA_CROPS = 64
"""Default number of regions with a crop, on a GPU."""
_RANGES: dict[str, tuple[float, float]] = {
    "clip_side": (16, 4096),
    "dino_side": (16, 4096),
    "photo_side": (16, 16384),
    "window": (1, 16),
    "overlap": (0, 0.75),
    "regions": (1, 4096),
    "map_side": (16, 2048),
    "colour": (0, 100),
    "crops": (0, 4096),
    "crop_weight": (0, 1),
    "context": (0, 4),
    "dino_dims": (1, 64),
    "sample": (1, 64),
    "batch": (1, 1024),
    "seed": (0, 2**31 - 1),
}


@dataclass(frozen=True)
class FeatureSettings:
    """How features of a photo are computed."""

    mode: Mode = "auto"
    clip_side: int | None = None
    """Shorter side of CLIP's input, pixels; None: 1.5 times its native size."""
    dino_side: int = 256
    """Shorter side of DINO's input, pixels. LERF's full size is 500."""
    photo_side: int = 2048
    """Longest side at which photos are read, pixels; crops are cut from this."""
    window: float = 2.0
    """Side of the largest square window, relative to an encoder's native size; larger photos take several."""
    overlap: float = 0.25
    """Share of a window that its neighbour also covers."""
    segments: str = "dino"
    """Source of regions: dino, superpixels (colour alone), or sam:ID or sam:FOLDER."""
    regions: int = 256
    """Most regions of a photo (without masks of SAM)."""
    map_side: int = 384
    """Shorter side of a region map, pixels; never larger than the photo."""
    colour: float = 0.5
    """Weight of colour relative to DINO when regions are made."""
    crops: int | None = None
    """Number of the largest regions that also get a crop with context; None: 0 on a CPU."""
    crop_weight: float = 0.5
    """Weight of a region's crop against its pooled dense features."""
    context: float = 0.2
    """Margin around a region's box in its crop, relative to the box."""
    pyramid: Literal["lerf", "3d-ovs"] = "lerf"
    """Schedule of crops."""
    dino_dims: int = 64
    """Most dimensions of reduced DINO vectors."""
    sample: int = 6
    """Photos that the projection of DINO's vectors is fitted to."""
    seed: int = 0
    """Seed of 3D-OVS's jitter."""
    batch: int = 16
    """Crops that are encoded at once; does not affect the features."""

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ConfigError(f"{name} of the features must be from {low:g} to {high:g}, not {value}")
        kind, colon, model = self.segments.partition(":")
        if not (self.segments in ("dino", "superpixels") or (kind == "sam" and colon and model)):
            raise ConfigError(
                f"There is no way {self.segments!r} to make regions", fix="dino, superpixels, or sam:ID-OR-FOLDER"
            )

    def resolved(self, clip: TextImageEncoder, device: torch.device | str = "cpu") -> "FeatureSettings":
        """The same settings without `auto` and None.

        Raises:
            ConfigError: dense features are requested and the encoder has none.
        """
        if self.mode == "dense" and not clip.dense:
            raise ConfigError(
                f"{clip.id} has no dense features", fix="--features regions or pyramid, or another --clip"
            )
        on_gpu = torch.device(device).type == "cuda"
        crops = self.crops if self.crops is not None else CUDA_CROPS * on_gpu
        return replace(
            self,
            mode="regions" if self.mode == "auto" else self.mode,
            clip_side=self.clip_side or math.ceil(min(clip.preprocess.size) * CLIP_SIDE),
            crops=self.regions if not clip.dense else crops,
        )

    def key(self) -> Mapping[str, Any]:
        """The resolved settings that affect a photo's features, as plain values."""
        values = asdict(self)
        needless = {"batch", "sample"}
        if self.mode != "regions":
            needless |= {"segments", "regions", "map_side", "colour", "crops", "crop_weight", "context"}
        if self.mode != "pyramid":
            needless |= {"pyramid", "seed"}
        if self.mode == "pyramid":
            needless |= {"clip_side"}
        # The segmenter is identified by its hash, not by its path.
        values["segments"] = self.segments.partition(":")[0]
        return {name: value for name, value in values.items() if name not in needless}


@dataclass(frozen=True)
class DinoKnown:
    """Results of DINO, and of regions by them, from before a photo is encoded."""

    projection: Projection | None = None
    """Reduces DINO's vectors; None: they are not reduced."""
    grid: Float[np.ndarray, "gh gw dim"] | None = None
    """The result of `dino_features` for this photo."""
    regions: Callable[[], Integer[np.ndarray, "rows columns"]] | None = None
    """Gives the `segments.region_map` of this photo and `grid`."""


def extract_features(
    photo: UInt8[np.ndarray, "h w 3"],
    clip: TextImageEncoder,
    dino: DenseEncoder | None,
    settings: FeatureSettings,
    *,
    segmenter: Segmenter | None = None,
    device: torch.device | str = "cpu",
    known: DinoKnown | None = None,
    tick: Tick | None = None,
) -> PhotoFeatures:
    """All features of one photo, float16.

    Args:
        photo: at any size; crops are cut from it without resizing.
        clip, dino: on `device`. Without DINO, regions are made by colour, and there are no DINO features.
        settings: `auto` and None are resolved here.
        segmenter: finds masks, for `segments="sam:..."`.
        device: of the encoders.
        known: earlier results of DINO.
        tick: called after each batch of crops.

    Raises:
        ConfigError: dense features are requested and `clip` has none.
    """
    settings, known = settings.resolved(clip, device), known or DinoKnown()
    dino_grid, projection = known.grid, known.projection
    with torch.inference_mode():
        if dino_grid is None and dino is not None:
            dino_grid = dino_features(photo, dino, settings, device)
        tensor = to_tensor(photo, device)
        if settings.mode == "pyramid":
            if settings.pyramid == "lerf":
                found = lerf_pyramid(tensor, clip, settings.batch, tick)
            else:
                found = ovs_pyramid(tensor, clip, settings.batch, settings.seed, tick)
        elif settings.mode == "dense":
            found = Dense(_clip_grid(tensor, clip, settings).astype(np.float16))
        else:
            masks = segmenter.masks(photo) if segmenter is not None else None
            index = known.regions() if known.regions else region_map(*map_inputs(photo, dino_grid, settings))
            found = _regions(photo, tensor, clip, index, settings, masks, tick)
    if dino_grid is None:
        return PhotoFeatures(found, None)
    kept = dino_grid if projection is None else projection.reduce(dino_grid)
    return PhotoFeatures(found, Dense(kept.astype(np.float16), unit=False))


def dino_features(
    photo: UInt8[np.ndarray, "h w 3"],
    dino: DenseEncoder,
    settings: FeatureSettings,
    device: torch.device | str = "cpu",
) -> Float[np.ndarray, "gh gw dim"]:
    """DINO's unit vectors of a photo's patches, not reduced, float32."""
    with torch.inference_mode():
        grid = dense_grid(to_tensor(photo, device), dino, settings.dino_side, settings.window, settings.overlap)
    return grid.cpu().numpy()


def map_inputs(
    photo: UInt8[np.ndarray, "h w 3"], grid: Float[np.ndarray, "gh gw dim"] | None, settings: FeatureSettings
) -> tuple[Any, ...]:
    """The arguments of `segments.region_map` for a photo, of which `grid` is the result of `dino_features`."""
    seen = grid if settings.segments != "superpixels" else None
    return photo, seen, settings.map_side, settings.regions, settings.colour


def to_tensor(photo: UInt8[np.ndarray, "h w 3"], device: torch.device | str) -> Float[Tensor, "3 h w"]:
    """rgb in 0..1, channels first."""
    return torch.from_numpy(np.ascontiguousarray(photo.transpose(2, 0, 1))).to(device).float() / 255


def _clip_grid(photo: Tensor, clip: TextImageEncoder, settings: FeatureSettings) -> np.ndarray:
    assert settings.clip_side is not None
    return dense_grid(photo, clip, settings.clip_side, settings.window, settings.overlap).cpu().numpy()


def _regions(
    photo: np.ndarray,
    tensor: Tensor,
    clip: TextImageEncoder,
    index: np.ndarray,
    settings: FeatureSettings,
    masks: Iterable[np.ndarray] | None,
    tick: Tick | None,
) -> Regions:
    layers = None
    if masks is not None:
        layers = mask_layers(masks, index.shape, least=index.size // 10_000)
        index = overlay(index, layers)
    count = int(index.max()) + 1
    pooled = np.zeros((count, clip.dim), dtype=np.float32)
    if clip.dense:
        grid = _clip_grid(tensor, clip, settings)
        pooled = normalise((pooling(index, *grid.shape[:2]) @ grid.reshape(-1, grid.shape[-1])).astype(np.float32))
    wanted = min(count, settings.crops or 0) if clip.dense else count
    weight = settings.crop_weight if clip.dense else 1.0
    if wanted and weight:
        largest = np.argsort(-np.bincount(index.ravel()), kind="stable")[:wanted]
        boxes = [region_box(index, int(region), photo.shape[:2], settings.context) for region in largest]
        crops = (tensor[:, top:bottom, left:right] for top, left, bottom, right in boxes)
        vectors = encode_crops(crops, clip, settings.batch, tick, 0, wanted)
        pooled[largest] = normalise((1 - weight) * pooled[largest] + weight * vectors)
    return Regions(pooled.astype(np.float16), index, layers)


def region_box(
    index: Integer[np.ndarray, "h w"], region: int, size: tuple[int, int], context: float
) -> tuple[int, int, int, int]:
    """The crop of a region: top, left, bottom, right in pixels of a photo of `size` (height, width).

    It is the region's box with a margin of `context` times its longer side, and square where the photo allows.
    """
    spans = []
    for axis, length in enumerate(size):
        taken = np.flatnonzero((index == region).any(axis=1 - axis))
        ratio = length / index.shape[axis]
        spans.append((taken[0] * ratio, (taken[-1] + 1) * ratio))
    return square_around(spans, size, context)


def square_around(
    spans: Sequence[tuple[float, float]], size: tuple[int, int], context: float
) -> tuple[int, int, int, int]:
    """The square around a box, with a margin of `context` times its longer side: top, left, bottom, right.

    Args:
        spans: of the box, vertical and horizontal, in pixels.
        size: height and width of the photo; the square is moved inside, and cropped if it is larger.
        context: margin on each side, relative to the longer side.
    """
    side = max(high - low for low, high in spans) * (1 + 2 * context)
    edges = []
    for (low, high), length in zip(spans, size):
        extent = min(max(1, round(side)), length)
        first = min(max(round((low + high - extent) / 2), 0), length - extent)
        edges.append((first, first + extent))
    return edges[0][0], edges[1][0], edges[0][1], edges[1][1]
