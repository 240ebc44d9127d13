"""Labelled surface points, the input of every exporter, in the input or the world frame.

Label k is `phrases[k - 1]`, 0 is none; instances count from 1, 0 is none. All arrays have one row for each point.
A similarity x -> s R x + t is applied to positions, its rotation R to normals and `up`, and its scale s to cells; boxes
are refitted in the target frame.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from ovseg3d.errors import ConfigError
from ovseg3d.field.surface import Surface
from ovseg3d.instances.records import Instance
from ovseg3d.scene.units import Unit, unit_name

FrameName = Literal["input", "world"]


@dataclass(frozen=True)
class LabelledCloud:
    """Surface points with labels and instances, in one frame."""

    surface: Surface
    label: Int[np.ndarray, " points"]
    instance: Int[np.ndarray, " points"]
    phrases: tuple[str, ...]
    """As the user wrote them; empty without labels."""
    colours: UInt8[np.ndarray, "labels 3"]
    """Of none (row 0) and of each phrase."""
    instances: tuple[Instance, ...]
    """In this frame; computed from all of the run's points, even if this cloud has fewer."""
    name: str
    """The scene's name."""
    frame: FrameName = "input"
    frame_from_input: Float[np.ndarray, "4 4"] = field(default_factory=lambda: np.eye(4))
    """The similarity that has been applied to the points."""
    metres_per_unit: float | None = None
    """Metres per unit of this frame; None: unknown."""
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    """More values of each point, for the NPZ: features, scores."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Metadata of the columns: basis, encoder."""

    def __len__(self) -> int:
        return len(self.surface)

    @property
    def unit(self) -> Unit:
        """The name of this frame's unit: "m" only if the scale is known to be metres."""
        return unit_name(self.metres_per_unit)

    def take(self, which: Bool[np.ndarray, " points"] | Int[np.ndarray, " some"]) -> "LabelledCloud":
        """A subset of the points; instances are unchanged."""
        return replace(
            self, surface=self.surface.take(which), label=self.label[which], instance=self.instance[which],
            columns={name: values[which] for name, values in self.columns.items()},
        )  # fmt: skip

    def thinned(self, points: int | None = None, spacing: float | None = None) -> "LabelledCloud":
        """Subsample evenly: keep the point nearest to the centre of each cell of a lattice; their `cell` grows.

        Args:
            points: upper limit, which is reached within about 1 %.
            spacing: side of the cells, in units of this frame.

        Raises:
            ConfigError: a number that is not above 0.
        """
        for name, value in (("points", points), ("spacing", spacing)):
            if value is not None and not value > 0:
                raise ConfigError(f"The {name} of a cloud must be above 0, not {value}")
        made = self
        if spacing is not None and len(made):
            made = made._thinned(spacing)
        if points is not None and points < len(made):
            made = made._thinned(_size_for(made.surface.xyz, points))
        return made.take(np.arange(points)) if points is not None and points < len(made) else made

    def _thinned(self, size: float) -> "LabelledCloud":
        made = self.take(_one_in_each_cell(self.surface.xyz, size))
        return replace(made, surface=replace(made.surface, cell=np.maximum(made.surface.cell, np.float32(size))))


def moved(surface: Surface, similarity: Float[np.ndarray, "4 4"]) -> Surface:
    """Transform a surface to another frame; see the top of the file."""
    scale = float(np.cbrt(np.linalg.det(similarity[:3, :3])))
    turn = similarity[:3, :3] / scale
    xyz = surface.xyz.astype(np.float64) @ similarity[:3, :3].T + similarity[:3, 3]
    return replace(
        surface,
        xyz=xyz.astype(np.float32),
        normal=(surface.normal.astype(np.float64) @ turn.T).astype(np.float32),
        cell=(surface.cell * scale).astype(np.float32),
        up=turn @ surface.up,
    )


def _one_in_each_cell(xyz: np.ndarray, size: float) -> np.ndarray:
    """Sorted indices of the points nearest to the centres of the occupied cells."""
    place = (xyz.astype(np.float64) - xyz.min(0)) / size
    cell = np.floor(place).astype(np.int64)
    _, group = np.unique(_key(cell), return_inverse=True)
    apart = ((place - cell - 0.5) ** 2).sum(1)
    # Sorted by cell, then by distance: the first of each cell is the nearest, and the earlier of equals.
    order = np.lexsort((apart, group))
    first = np.append(True, np.diff(group[order]) > 0)
    return np.sort(order[first])


def _size_for(xyz: np.ndarray, points: int) -> float:
    """The smallest side of cells, by bisection, that leaves at most `points` points."""
    low = xyz.min(0)
    extent = max(float(np.ptp(xyz, axis=0).max()), 1e-9)

    def cells(size: float) -> int:
        return len(np.unique(_key(np.floor((xyz.astype(np.float64) - low) / size).astype(np.int64))))

    few, many = 2 * extent, extent / 2**20
    for _ in range(40):
        middle = (few * many) ** 0.5
        count = cells(middle)
        few, many = (middle, many) if count <= points else (few, middle)
        if 0.99 * points < count <= points:
            break
    return few


def _key(cell: np.ndarray) -> np.ndarray:
    """One number for each cell of a lattice with up to 2^21 cells a side."""
    return (cell[:, 0] << 42) + (cell[:, 1] << 21) + cell[:, 2]
