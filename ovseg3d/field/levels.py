"""Geometry of a multiresolution hash grid, laid out as tinycudann lays it out.

Positions x lie in the unit cube. Level l has scale_l = base * growth^l - 1 and resolution ceil(scale_l) + 1;
a position x is at x * scale_l + 0.5 in cells. A level whose resolution^3 fits its table is stored densely
(x fastest); a larger one is hashed: (x * 1) xor (y * 2654435761) xor (z * 805459861), modulo the table's size,
in unsigned 32-bit arithmetic. Tables follow one another in one array [entries, features].

Source: Mueller et al. 2022, "Instant Neural Graphics Primitives", section 3; tinycudann's grid encoding.
"""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

PRIMES = (1, 2_654_435_761, 805_459_861)


@dataclass(frozen=True)
class Level:
    """One level of the grid."""

    scale: float
    resolution: int
    offset: int
    """First entry of its table in the array of all tables."""
    size: int
    """Entries of its table."""
    dense: bool


@dataclass(frozen=True)
class GridLevels:
    """All levels of a grid, coarse to fine."""

    levels: tuple[Level, ...]
    features: int
    log2_table: int

    @classmethod
    def build(
        cls, levels: int, features: int, log2_table: int, base_resolution: int, max_resolution: int
    ) -> "GridLevels":
        """Levels whose resolutions grow geometrically.

        Args:
            levels: how many.
            features: of each entry.
            log2_table: log2 of the largest number of entries in a level's table.
            base_resolution: of the coarsest level.
            max_resolution: of the finest level.
        """
        growth = (max_resolution / base_resolution) ** (1.0 / max(levels - 1, 1))
        built, offset = [], 0
        for index in range(levels):
            scale = base_resolution * growth**index - 1.0
            # The last level's scale is max_resolution - 1 up to rounding, which must not add a cell.
            resolution = math.ceil(round(scale, 6)) + 1
            cells = resolution**3
            # Tables are padded to a multiple of 8 entries, as in tinycudann.
            size = min(-(-cells // 8) * 8, 1 << log2_table)
            built.append(Level(scale, resolution, offset, size, dense=cells <= size))
            offset += size
        return cls(tuple(built), features, log2_table)

    @property
    def entries(self) -> int:
        """Entries of all tables together."""
        return self.levels[-1].offset + self.levels[-1].size

    @property
    def width(self) -> int:
        """Length of an encoded position: levels x features, level-major."""
        return len(self.levels) * self.features


@runtime_checkable
class GridSettings(Protocol):
    """The settings of a configuration that describe its grid."""

    @property
    def levels(self) -> int: ...
    @property
    def features(self) -> int: ...
    @property
    def log2_table(self) -> int: ...
    @property
    def base_resolution(self) -> int: ...
    @property
    def max_resolution(self) -> int: ...


def grid_levels(config: GridSettings) -> GridLevels:
    """The grid of a configuration."""
    return GridLevels.build(
        config.levels, config.features, config.log2_table, config.base_resolution, config.max_resolution
    )
