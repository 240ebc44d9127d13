"""Points as a pyramid of sparse voxels, with the neighbours that its convolutions need."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ovseg3d.errors import ConfigError
from ovseg3d.heads.detection.bags import Bags
from ovseg3d.heads.detection.sparse import Taps
from ovseg3d.scene.clouds import PointCloud

VOXEL = 0.05
"""Side of the finest voxels, metres."""
LEVELS = 5
"""Of 0.05, 0.1, 0.2, 0.4 and 0.8 m."""
CHANNELS = 15
"""Of the features of a voxel; see `_features`."""
MAX_CELLS = 200_000_000
"""Largest grid of the second level: a look-up table of 0.8 GB."""


@dataclass(frozen=True)
class Level:
    """One resolution: the 3x3x3 neighbours within it, and its voxels' parents in the next."""

    size: int
    around: Taps
    up: Taps
    """Pairs (parent, child) by the child's place in its parent; empty for the last level."""
    down: Taps
    """Pairs (child, parent)."""


@dataclass(frozen=True)
class Voxels:
    """The pyramid; the finest level has no neighbours (`around` is empty)."""

    point_voxel: Int[Tensor, " points"]
    """Finest voxel of each point."""
    points: Bags
    """Of each finest voxel."""
    xyz: Float[Tensor, "voxels 3"]
    """Mean position of the points in each finest voxel, metres."""
    features: Float[Tensor, "voxels channels"]
    levels: list[Level]


def voxelize(cloud: PointCloud, voxel: float = VOXEL, shift: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Voxels:
    """Build the pyramid.

    Args:
        cloud: finite points in metres, z up; the sign of normals does not matter.
        voxel: side of the finest voxels, metres.
        shift: moves the grid, as a share of a voxel (for augmentation).

    Raises:
        ConfigError: the cloud extends too far for its voxels.
    """
    xyz = torch.from_numpy(np.ascontiguousarray(cloud.xyz, np.float32))
    cell = ((xyz - xyz.min(0).values) / voxel + xyz.new_tensor(shift)).long()
    shape = [int(n) + 1 for n in cell.max(0).values]
    if np.prod([n / 2 + 3 for n in shape]) > MAX_CELLS:
        extent = " x ".join(f"{n * voxel:.0f}" for n in shape)
        raise ConfigError(
            f"The cloud extends over {extent} m: too far for one pass",
            fix="check the unit (--scale 0.01 for centimetres), or cut the cloud into rooms",
        )
    cells, point_voxel, points = _unique(cell, shape)
    center, features = _features(cloud, xyz, points)
    offset = center - xyz.min(0).values - (cells - xyz.new_tensor(shift) + 0.5) * voxel
    return Voxels(point_voxel, points, center, torch.cat([offset / voxel, features], 1), _pyramid(cells))


def _pyramid(cells: Int[Tensor, "voxels 3"]) -> list[Level]:
    levels = []
    for level in range(LEVELS):
        around = [] if level == 0 else _around(cells)
        up, parents = [], cells
        if level < LEVELS - 1:
            halved = cells >> 1
            parents, parent, _ = _unique(halved, [int(n) + 1 for n in halved.max(0).values])
            place = ((cells & 1) * cells.new_tensor([4, 2, 1])).sum(1)
            for k in range(8):
                child = (place == k).nonzero()[:, 0]
                up.append((parent[child], child))
        down = [(child, parent) for parent, child in up]
        count = len(cells)
        levels.append(Level(count, Taps.of(around, count), Taps.of(up, len(parents)), Taps.of(down, count)))
        cells = parents
    return levels


def _unique(cells: Tensor, shape: list[int]) -> tuple[Tensor, Tensor, Bags]:
    """The distinct cells, which of them each is, and the rows of each of them."""
    key = (cells[:, 0] * shape[1] + cells[:, 1]) * shape[2] + cells[:, 2]
    # MAX_CELLS keeps keys below 2^31. Half the bits are sorted in half the time.
    key, rows = key.int().sort(stable=True)
    kept, group, sizes = torch.unique_consecutive(key.long(), return_inverse=True, return_counts=True)
    index = torch.empty_like(rows).scatter_(0, rows, group)
    plane = torch.div(kept, shape[2], rounding_mode="floor")
    x = torch.div(plane, shape[1], rounding_mode="floor")
    return torch.stack([x, plane - x * shape[1], kept - plane * shape[2]], 1), index, Bags(rows, sizes)


def _around(cells: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Pairs (voxel, neighbour) for the 27 places of a 3x3x3 kernel."""
    shape = cells.max(0).values + 3
    strides = torch.stack([shape[1] * shape[2], shape[2], torch.ones_like(shape[2])])
    key = ((cells + 1) * strides).sum(1)
    table = torch.full((int(shape.prod()),), -1, dtype=torch.int32)
    table[key] = torch.arange(len(cells), dtype=torch.int32)
    steps = torch.cartesian_prod(*[torch.arange(-1, 2)] * 3)
    taps: list[tuple[Tensor, Tensor]] = []
    for step in steps[:13]:
        found = table[key + (step * strides).sum()]
        here = (found >= 0).nonzero()[:, 0]
        taps.append((here, found[here].long()))
    own = torch.arange(len(cells))
    # The other half is the first one seen from the neighbours.
    return [*taps, (own, own), *[(i, o) for o, i in reversed(taps)]]


def _features(cloud: PointCloud, xyz: Float[Tensor, "points 3"], points: Bags) -> tuple[Tensor, Tensor]:
    """Mean positions of the points in the finest voxels, and features but for the place within the voxel: height (1),
    density (1), normals (6), colour (4).

    Normals enter as the mean of n n^T, without their sign, which few scans know. Without colour, its channels are 0
    and the last one says so.
    """
    normal, rgb = (
        xyz.new_zeros(1, 3).expand_as(xyz)
        if values is None
        else torch.from_numpy(np.ascontiguousarray(values, np.float32))
        for values in (cloud.normal, cloud.rgb)
    )
    count = points.sizes.float()[:, None]
    # All at once takes hardly longer than one of them.
    columns = torch.cat([xyz, normal * normal, normal * normal.roll(-1, 1), rgb], 1)
    center, normals, colour = (points.sums(columns) / count).split([3, 6, 3], 1)
    height = center[:, 2:] - floor_height(center[:, 2])
    known = torch.full_like(count, cloud.rgb is not None)
    return center.contiguous(), torch.cat([height, torch.log(count), normals, colour - 0.5 * known, known], 1)


def floor_height(z: Float[Tensor, " voxels"]) -> Tensor:
    """Height of the floor: the 1 % quantile, below which there are only stray points."""
    return torch.quantile(z[torch.linspace(0, len(z) - 1, min(len(z), 100_000)).long()], 0.01)
