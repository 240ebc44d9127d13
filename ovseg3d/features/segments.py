"""Segment a photo into regions: small superpixels along its edges, merged where DINO's features agree.

1. Superpixels: Felzenszwalb & Huttenlocher's graph cut (2004), from scikit-image; larger ones are cut along a coarse
   lattice, because an object as bright as the wall behind it would otherwise merge with it.
2. Each superpixel's vector is the mean of the bilinearly enlarged DINO grid over its pixels, with its mean colour.
3. Neighbours are merged, always the pair of least Ward cost n m / (n + m) |a - b|^2 with the areas n and m. (Smaller
   powers of the areas separated fewer objects on the synthetic rooms.)

Region maps are (h, w), uint16, 0 .. regions - 1 without gaps. Regions are connected, unless masks of a segmenter (SAM)
were overlaid.
"""

import heapq
from collections.abc import Iterable
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Integer, UInt8
from PIL import Image
from scipy.sparse import csr_matrix

LATTICE = 12
"""Cells of the lattice along the shorter side."""
_SAME = 1e-7
"""Pairs of lower cost do not differ, and are merged even if there are few regions."""


@runtime_checkable
class Segmenter(Protocol):
    """A model that finds masks in a photo, such as SAM."""

    id: str
    weight_hash: str

    def masks(self, photo: UInt8[np.ndarray, "h w 3"]) -> Iterable[Bool[np.ndarray, "rows columns"]]:
        """Masks, which may overlap and leave pixels uncovered; of the photo's size or smaller."""
        ...


def superpixels(photo: UInt8[np.ndarray, "h w 3"], scale: float = 20.0) -> Integer[np.ndarray, "h w"]:
    """Connected superpixels 0 .. n - 1 of a photo, int64; a larger `scale` makes fewer."""
    from skimage.measure import label
    from skimage.segmentation import felzenszwalb

    h, w = photo.shape[:2]
    if min(h, w) < 4:
        return np.zeros((h, w), dtype=np.int64)
    found = felzenszwalb(photo, scale=scale, sigma=0.8, min_size=20).astype(np.int64)
    cell = max(1.0, min(h, w) / LATTICE)
    rows, columns = (np.arange(h) / cell).astype(np.int64), (np.arange(w) / cell).astype(np.int64)
    lattice = rows[:, None] * (columns[-1] + 1) + columns[None, :]
    large = np.bincount(found.ravel())[found] > cell * cell
    cut = found * (lattice.max() + 2) + np.where(large, lattice + 1, 0)
    # A superpixel may intersect a cell of the lattice in two components. `label` needs positive numbers.
    return np.asarray(label(_dense_numbers(cut) + 1, connectivity=1), dtype=np.int64) - 1


def pooling(index: Integer[np.ndarray, "h w"], gh: int, gw: int) -> csr_matrix:
    """Weights (regions, gh * gw) that turn a grid of features into means over regions.

    The mean over a region's pixels of the bilinearly enlarged grid is linear in the grid's cells; row i holds the
    weight of each cell for region i, summing to 1. Nothing is enlarged in memory.
    """
    h, w = index.shape
    sides = []
    for length, cells in ((h, gh), (w, gw)):
        position = np.clip((np.arange(length) + 0.5) / length * cells - 0.5, 0, cells - 1)
        first = np.minimum(position.astype(np.int64), max(cells - 2, 0))
        share = (position - first).astype(np.float32)
        sides.append(((first, 1 - share), (np.minimum(first + 1, cells - 1), share)))
    regions = int(index.max()) + 1
    labels = index.ravel().astype(np.int64)
    matrix = csr_matrix((regions, gh * gw), dtype=np.float64)
    for row, row_share in sides[0]:
        for column, column_share in sides[1]:
            cell = (row[:, None] * gw + column[None, :]).ravel()
            weight = (row_share[:, None] * column_share[None, :]).ravel()
            matrix = matrix + csr_matrix((weight, (labels, cell)), shape=matrix.shape)
    counts = np.maximum(np.bincount(labels, minlength=regions), 1)
    return csr_matrix(matrix.multiply(1 / counts[:, None]))


def merge(
    labels: Integer[np.ndarray, "h w"],
    vectors: Float[np.ndarray, "parts dim"],
    regions: int,
) -> Integer[np.ndarray, "h w"]:
    """Merge neighbouring parts until at most `regions` are left, and further while parts do not differ.

    Args:
        labels: part of each pixel, 0 .. parts - 1.
        vectors: features of each part, compared by squared distance.
    """
    size = np.bincount(labels.ravel(), minlength=len(vectors)) / labels.size
    mean = vectors.astype(np.float64)
    pairs = _neighbours(labels)
    near: list[set[int]] = [set() for _ in range(len(vectors))]
    for a, b in pairs.tolist():
        near[a].add(b)
        near[b].add(a)
    parent = np.arange(len(vectors))
    version = [0] * len(vectors)

    def costs(first: np.ndarray | int, second: np.ndarray) -> list[float]:
        weight = size[first] * size[second] / (size[first] + size[second])
        return (weight * ((mean[first] - mean[second]) ** 2).sum(axis=-1)).tolist()

    queue = [(price, a, b, 0, 0) for price, (a, b) in zip(costs(*pairs.T), pairs.tolist())]
    heapq.heapify(queue)
    left = len(vectors)
    while queue:
        price, a, b, age_a, age_b = heapq.heappop(queue)
        if version[a] != age_a or version[b] != age_b:
            continue
        if left <= regions and price > _SAME:
            break
        total = size[a] + size[b]
        mean[a] = (size[a] * mean[a] + size[b] * mean[b]) / total
        size[a] = total
        parent[b], left = a, left - 1
        version[a], version[b] = version[a] + 1, -1
        near[a] = (near[a] | near[b]) - {a, b}
        others = list(near[a])
        for other, price in zip(others, costs(a, np.array(others, dtype=np.int64))):
            near[other].discard(b)
            near[other].add(a)
            heapq.heappush(queue, (price, a, other, version[a], version[other]))
    while (parent[parent] != parent).any():
        parent = parent[parent]
    return _dense_numbers(parent[labels])


def segment(
    photo: UInt8[np.ndarray, "h w 3"],
    grid: Float[np.ndarray, "gh gw dim"] | None,
    regions: int,
    colour: float = 0.5,
) -> Integer[np.ndarray, "h w"]:
    """The region of each pixel, uint16.

    Args:
        photo: at the size of the map.
        grid: DINO's vectors of the photo; None: by colour alone.
        regions: most regions.
        colour: weight of colour relative to DINO, each scaled to a variance of 1 over the photo.
    """
    labels = superpixels(photo)
    if labels.max() > 0:
        vectors = _unit_variance(_mean_colours(photo, labels)) * (colour if grid is not None else 1.0)
        if grid is not None:
            flat = np.ascontiguousarray(grid.reshape(-1, grid.shape[-1]), dtype=np.float32)
            seen = pooling(labels, *grid.shape[:2]) @ flat
            vectors = np.concatenate([_unit_variance(seen), vectors], axis=-1)
        labels = merge(labels, vectors, regions)
    return labels.astype(np.uint16)


def region_map(
    photo: UInt8[np.ndarray, "h w 3"],
    grid: Float[np.ndarray, "gh gw dim"] | None,
    side: int,
    regions: int,
    colour: float,
) -> Integer[np.ndarray, "rows columns"]:
    """The regions of a photo that is first shrunk.

    Args:
        photo: of any size.
        grid: DINO's vectors; None: superpixels alone.
        side: pixels along the shorter side that the photo is shrunk to.
        regions: greatest number.
        colour: weight of colour beside the vectors; see `segment`.

    Returns:
        The region of each pixel of the shrunk photo, from 0.
    """
    shrink = min(1.0, side / min(photo.shape[:2]))
    size = (max(1, round(photo.shape[1] * shrink)), max(1, round(photo.shape[0] * shrink)))
    small = np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.BOX)) if shrink < 1 else photo
    return segment(small, grid, regions, colour)


def mask_layers(
    masks: Iterable[Bool[np.ndarray, "rows columns"]], shape: tuple[int, int], least: int = 0
) -> Integer[np.ndarray, "layers h w"]:
    """A segmenter's masks at one size, as few index images as they need without overlap; uint16, 0 for no mask.

    Args:
        masks: at any size, read one at a time; they are numbered from 1 in this order.
        shape: of the result.
        least: masks of at most so many pixels are left out.
    """
    layers: list[np.ndarray] = []
    number = 0
    for mask in masks:
        rows, columns = (
            ((np.arange(length) + 0.5) * before / length).astype(int) for length, before in zip(shape, mask.shape)
        )
        taken = mask[rows[:, None], columns[None, :]]
        if taken.sum() <= least or number == np.iinfo(np.uint16).max:
            continue
        number += 1
        layer = next((layer for layer in layers if not layer[taken].any()), None)
        if layer is None:
            layers.append(layer := np.zeros(shape, np.uint16))
        layer[taken] = number
    return np.stack(layers) if layers else np.zeros((1, *shape), np.uint16)


def overlay(index: Integer[np.ndarray, "h w"], layers: Integer[np.ndarray, "layers h w"]) -> Integer[np.ndarray, "h w"]:
    """A region map with masks drawn over it: at each pixel the smallest mask, of equally large ones the later."""
    area = np.bincount(layers.ravel(), minlength=2)
    order = np.lexsort((-np.arange(1, len(area)), area[1:])) + 1
    rank = np.full(len(area), len(area), np.int64)  # no mask: after all
    rank[order] = np.arange(len(order))
    top = rank[layers].min(0)
    drawn = top < len(area)
    covered = index.astype(np.int64)
    covered[drawn] = int(index.max()) + 1 + top[drawn]
    return _dense_numbers(covered).astype(np.uint16)


def _neighbours(labels: np.ndarray) -> np.ndarray:
    """Pairs (pairs, 2) of parts that touch, each once with the smaller number first."""
    parts = int(labels.max()) + 1
    codes = []
    for first, second in ((labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:])):
        differ = first != second
        one, other = first[differ].astype(np.int64), second[differ].astype(np.int64)
        codes.append(np.minimum(one, other) * parts + np.maximum(one, other))
    return np.stack(np.divmod(np.unique(np.concatenate(codes)), parts), axis=-1)


def _mean_colours(photo: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Mean colour of each part in CIELAB, which is perceptually uniform."""
    from skimage.color import rgb2lab

    lab = rgb2lab(photo).reshape(-1, 3)
    counts = np.maximum(np.bincount(labels.ravel()), 1)
    sums = [np.bincount(labels.ravel(), weights=channel) for channel in lab.T]
    return np.stack(sums, axis=-1) / counts[:, None]


def _unit_variance(vectors: np.ndarray) -> np.ndarray:
    """Centred, and scaled to a mean squared length of 1; vectors that hardly vary are not enlarged."""
    centred = vectors - vectors.mean(axis=0)
    return centred / max(float(np.sqrt((centred**2).sum(axis=-1).mean())), 1e-3)


def _dense_numbers(labels: np.ndarray) -> np.ndarray:
    """The same map with numbers 0 .. n - 1, in the order of first appearance from the upper left corner."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first, kind="stable")] = np.arange(len(first))
    return rank[inverse].reshape(labels.shape)
