"""Feature maps of one photo, and sampling at any position of it.

Positions are xy in 0..1 of the photo (x right, y down), independent of the size of the encoder's input. Maps are stored
as float16 and sampled as float32. A `Dense` grid has a vector at the centre of each cell; `Regions` has one vector for
each region of an index map; a `Pyramid` has a grid for each crop size, whose scale is the crop's height as a share of
the photo's. CLIP vectors have unit length; reduced DINO vectors do not.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Integer
from scipy.sparse import csr_matrix
from torch import Tensor

Places = Float[np.ndarray, "samples 2"] | Float[Tensor, "samples 2"]
Vectors = Float[np.ndarray, "samples dim"] | Float[Tensor, "samples dim"]


@dataclass(frozen=True)
class Dense:
    """One vector per patch."""

    grid: Float[np.ndarray, "gh gw dim"]
    """Cell (row, column) has its centre at xy = ((column + 0.5) / gw, (row + 0.5) / gh)."""
    unit: bool = True
    """Whether sampled vectors have unit length."""

    @property
    def dim(self) -> int:
        return self.grid.shape[-1]

    def at(self, xy: Places) -> Vectors:
        """Vectors at positions of the photo, bilinear between cells, float32; a Tensor in gives a Tensor out."""
        gh, gw = self.grid.shape[:2]
        values = bilinear(self.grid, _plain(xy), (0.5 / gw, 0.5 / gh), (1 / gw, 1 / gh))
        return _like(xy, normalise(values) if self.unit else values)

    def projected(self, axes: Float[np.ndarray, "dim kept"]) -> "Dense":
        """The map of v @ axes instead of v, float32; vectors are normalised if these are."""
        return replace(self, grid=self.grid.astype(np.float32) @ axes)


@dataclass(frozen=True)
class Regions:
    """One vector per region."""

    vectors: Float[np.ndarray, "regions dim"]
    """Unit length."""
    index: Integer[np.ndarray, "h w"]
    """Region of each pixel of the photo (at any size), uint16."""
    masks: Integer[np.ndarray, "layers h2 w2"] | None = None
    """A segmenter's masks, numbered from 1, 0 for none; masks that overlap are in different layers. uint16."""

    @property
    def dim(self) -> int:
        return self.vectors.shape[-1]

    def region_at(self, xy: Places) -> Integer[np.ndarray, "samples"]:
        """Region of each position, int64."""
        h, w = self.index.shape
        places = _plain(xy)
        columns = np.clip((places[:, 0] * w).astype(np.int64), 0, w - 1)
        rows = np.clip((places[:, 1] * h).astype(np.int64), 0, h - 1)
        return self.index[rows, columns].astype(np.int64)

    def at(self, xy: Places) -> Vectors:
        """Vectors at positions of the photo, float32; a Tensor in gives a Tensor out."""
        return _like(xy, self.vectors[self.region_at(xy)].astype(np.float32, copy=False))

    def projected(self, axes: Float[np.ndarray, "dim kept"]) -> "Regions":
        """The map of v @ axes instead of v, float32, at unit length."""
        return replace(self, vectors=normalise(self.vectors.astype(np.float32) @ axes))


@dataclass(frozen=True)
class Level:
    """Features of crops of one size."""

    grid: Float[np.ndarray, "gh gw dim"]
    scale: float
    """Height of the crop as a share of the photo's height."""
    origin: tuple[float, float]
    """xy of cell (0, 0)."""
    step: tuple[float, float]
    """xy from one column and row to the next."""


@dataclass(frozen=True)
class Pyramid:
    """A grid of features for each size of crop."""

    levels: tuple[Level, ...]
    """From small to large."""

    @property
    def dim(self) -> int:
        return self.levels[0].grid.shape[-1]

    @property
    def scales(self) -> tuple[float, ...]:
        return tuple(level.scale for level in self.levels)

    def at(self, xy: Places, scale: float | Float[np.ndarray, "samples"] | None = None) -> Vectors:
        """Vectors at positions of the photo, float32; bilinear in each level, linear between levels.

        Args:
            xy: positions; a Tensor in gives a Tensor out.
            scale: height of the crop as a share of the photo's, one for all or one each; outside the levels' scales
                the nearest level is used. None: the mean over all levels.
        """
        places = _plain(xy)
        total = np.zeros((len(places), self.dim), dtype=np.float32)
        for level, weight in zip(self.levels, self._weights(scale, len(places))):
            used = weight > 0
            if used.any():
                values = bilinear(level.grid, places[used], level.origin, level.step)
                total[used] += weight[used, None].astype(np.float32) * values
        return _like(xy, normalise(total))

    def projected(self, axes: Float[np.ndarray, "dim kept"]) -> "Pyramid":
        """The map of v @ axes instead of v, float32; vectors have unit length."""
        return Pyramid(tuple(replace(level, grid=level.grid.astype(np.float32) @ axes) for level in self.levels))

    def _weights(self, scale: float | np.ndarray | None, count: int) -> np.ndarray:
        """Weight of each level for each sample (levels, samples), summing to 1 over levels."""
        number = len(self.levels)
        if scale is None:
            return np.full((number, count), 1 / number)
        position = np.interp(np.broadcast_to(scale, count), self.scales, np.arange(number))
        return np.clip(1 - np.abs(position[None] - np.arange(number)[:, None]), 0, 1)


@dataclass(frozen=True)
class PhotoFeatures:
    """The encoders' features of one photo."""

    clip: Dense | Regions | Pyramid
    dino: Dense | None
    """Reduced by the scene's projection; None without DINO."""

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in to_arrays(self).values())


def to_arrays(features: PhotoFeatures) -> dict[str, np.ndarray]:
    """The features as named arrays, float16 and uint16, for a file; the inverse is `from_arrays`."""
    clip = features.clip
    arrays: dict[str, np.ndarray] = {}
    if isinstance(clip, Dense):
        arrays["clip.dense"] = clip.grid
    elif isinstance(clip, Regions):
        arrays |= {"clip.regions": clip.vectors, "clip.index": clip.index}
        if clip.masks is not None:
            arrays["clip.masks"] = clip.masks
    else:
        arrays["clip.levels"] = np.array([(x.scale, *x.origin, *x.step) for x in clip.levels], dtype=np.float64)
        arrays |= {f"clip.level.{i}": level.grid for i, level in enumerate(clip.levels)}
    if features.dino is not None:
        arrays["dino"] = features.dino.grid
    exact = ("clip.index", "clip.masks", "clip.levels")
    return {name: array if name in exact else array.astype(np.float16, copy=False) for name, array in arrays.items()}


def from_arrays(arrays: Mapping[str, np.ndarray]) -> PhotoFeatures:
    """The inverse of `to_arrays`. Raises KeyError, ValueError: the arrays are not features."""
    clip: Dense | Regions | Pyramid
    if "clip.dense" in arrays:
        clip = Dense(arrays["clip.dense"])
    elif "clip.regions" in arrays:
        clip = Regions(arrays["clip.regions"], arrays["clip.index"], arrays.get("clip.masks"))
    else:
        table = np.asarray(arrays["clip.levels"]).tolist()
        clip = Pyramid(
            tuple(
                Level(arrays[f"clip.level.{i}"], scale, (x, y), (step_x, step_y))
                for i, (scale, x, y, step_x, step_y) in enumerate(table)
            )
        )
    return PhotoFeatures(clip, Dense(arrays["dino"], unit=False) if "dino" in arrays else None)


def bilinear(
    grid: Float[np.ndarray, "gh gw dim"],
    xy: Float[np.ndarray, "samples 2"],
    origin: tuple[float, float],
    step: tuple[float, float],
) -> Float[np.ndarray, "samples dim"]:
    """Sample a grid with cell (0, 0) at `origin` and spacing `step`; constant beyond its edges."""
    gh, gw = grid.shape[:2]
    column = np.clip((xy[:, 0] - origin[0]) / step[0], 0, gw - 1)
    row = np.clip((xy[:, 1] - origin[1]) / step[1], 0, gh - 1)
    left, top = np.minimum(column.astype(np.int64), max(gw - 2, 0)), np.minimum(row.astype(np.int64), max(gh - 2, 0))
    right, bottom = np.minimum(left + 1, gw - 1), np.minimum(top + 1, gh - 1)
    across, down = (column - left).astype(np.float32), (row - top).astype(np.float32)
    cells = np.stack([top * gw + left, top * gw + right, bottom * gw + left, bottom * gw + right], -1)
    shares = np.stack([(1 - across) * (1 - down), across * (1 - down), (1 - across) * down, across * down], -1)
    # A sparse matrix of four numbers a row: several times faster than gathering four vectors for each sample.
    starts = np.arange(0, 4 * len(xy) + 1, 4)
    weights = csr_matrix((shares.ravel(), cells.ravel(), starts), shape=(len(xy), gh * gw))
    return weights @ grid.reshape(gh * gw, -1).astype(np.float32, copy=False)


def normalise(vectors: Float[np.ndarray, "*rows dim"]) -> Float[np.ndarray, "*rows dim"]:
    """Vectors at unit length; zero vectors stay zero."""
    lengths = np.sqrt(np.einsum("...d,...d->...", vectors, vectors))[..., None]
    return vectors / np.maximum(lengths, 1e-12)


def _plain(xy: np.ndarray | Tensor) -> np.ndarray:
    return xy.detach().cpu().numpy() if isinstance(xy, Tensor) else np.asarray(xy)


def _like(xy: Places, values: np.ndarray) -> Vectors:
    return torch.from_numpy(values).to(xy.device) if isinstance(xy, Tensor) else values


def cosines(
    vectors: Float[np.ndarray, "points dim"],
    phrases: Float[np.ndarray, "phrases dim"],
    lengths: Float[np.ndarray, "points 1"] | None = None,
) -> Float[np.ndarray, "points phrases"]:
    """Cosines of points with phrases; points without a direction get 0.

    Args:
        vectors: of any length.
        phrases: of unit length; or both reduced by the same `Basis`, with phrases not normalised afterwards.
        lengths: of the vectors, if known.
    """
    known = np.linalg.norm(vectors, axis=1, keepdims=True) if lengths is None else lengths
    return (vectors @ phrases.T) / np.maximum(known, 1e-9)
