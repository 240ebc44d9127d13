"""Exact clouds as the surfaces of trained fields are: a cheap stand-in for scripts.training.field_surfaces.

Its numbers are measured on the surfaces of two runs with shipped defaults (room 3101 and playroom) and of a field of
762 steps (room 850000), each point against the nearest of the exact surface (`errors` of field_surfaces, and
correlations of pairs of points on one plane):

- The offset along the exact normal has quartiles of -1 and +2 cm on walls of the runs, and 5 % quantiles of -6 and
  +9 cm: a normal distribution would reach half as far. Its scale varies from place to place. A field of 762 steps is
  twice as far off. Objects swell rather than shrink.
- The correlation of offsets at 3, 6, 10, 20, 40 and 80 cm is 0.87, 0.78, 0.65, 0.34, 0.2 and 0.1: a tenth of the
  variance is noise from point to point, the rest two smooth fields.
- Normals are those of the displaced surface. On objects a tenth of them are off by 80 degrees: they are fitted to the
  32 nearest points, which are not all of one side.
- Colours are shaded.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.ndimage import map_coordinates

SPREAD = 1.0
"""Deviation of the scale's logarithm from place to place, and..."""
SPREAD_CELL = 0.7
"""...how far it reaches, metres."""
LARGEST = 1.0
"""Of the offsets, metres: the scale has no bound, but a cloud's extent has."""
WRONG_NORMALS = 0.15
"""Share of an object's normals that have any direction."""
_TRILINEAR = 0.544
"""Deviation of trilinear interpolation between independent unit values, over a cell."""


@dataclass(frozen=True)
class Offsets:
    """How far a field's points are off."""

    median: tuple[float, float] = (0.015, 0.05)
    """Least and greatest median of the scale, metres."""
    fine: tuple[float, float] = (0.15, 0.62)
    """Cells of the finer smooth field, metres, and its share of the variance."""
    coarse: tuple[float, float] = (0.7, 0.33)
    """The same of the coarser one; the rest of the variance is noise."""
    inwards: float = 0.5
    """Factor of offsets behind the surface, which cameras do not see."""
    on_surface: float = 0.08
    """Points that are farther off belong to no object, as in scripts.training.field_surfaces; metres."""


class SmoothNoise:
    """Unit normal noise, interpolated between the corners of cells.

    Args:
        rng: source of randomness.
        low: least corner of the space, metres.
        high: greatest.
        cell: side of the cells, metres.
    """

    def __init__(self, rng: np.random.Generator, low: np.ndarray, high: np.ndarray, cell: float) -> None:
        self._low, self._cell = low, cell
        self._values = rng.normal(0, 1 / _TRILINEAR, np.ceil((high - low) / cell).astype(int) + 2).astype(np.float32)

    def __call__(self, xyz: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, " points"]:
        """The noise at some points."""
        return map_coordinates(self._values, ((xyz - self._low) / self._cell).T, order=1, mode="nearest")


def field_like(
    rng: np.random.Generator,
    xyz: Float[np.ndarray, "points 3"],
    normal: Float[np.ndarray, "points 3"],
    rgb: Float[np.ndarray, "points 3"],
    instance: Int[np.ndarray, " points"],
    offsets: Offsets = Offsets(),
    factor: Float[np.ndarray, " points"] | float = 1.0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Points, normals, colours and instances as a field might have them.

    Args:
        rng: source of randomness.
        xyz: exact points, metres.
        normal: unit normals.
        rgb: colours, 0 to 1.
        instance: 1 + the row of the point's box, 0 for none.
        offsets: how far points are off.
        factor: of each point's offset.
    """
    low, high = xyz.min(0), xyz.max(0)
    scale = SmoothNoise(rng, low, high, SPREAD_CELL)
    parts = [(SmoothNoise(rng, low, high, cell), np.sqrt(share)) for cell, share in (offsets.fine, offsets.coarse)]
    median = np.exp(rng.uniform(*np.log(offsets.median)))
    noise = np.sqrt(1 - offsets.fine[1] - offsets.coarse[1]) * rng.normal(size=len(xyz))
    amplitude = factor * median * np.exp(SPREAD * scale(xyz))

    def smooth(at: np.ndarray) -> np.ndarray:
        return sum(share * part(at) for part, share in parts)  # pyright: ignore[reportReturnType] - never empty

    here = smooth(xyz)
    offset = np.clip(amplitude * (here + noise), -LARGEST, LARGEST)
    offset = np.where(offset < 0, offsets.inwards * offset, offset)
    step = offsets.fine[0] / 3
    slope = np.stack([smooth(xyz + step * axis) - here for axis in np.eye(3)], 1) * (amplitude / step)[:, None]
    tilted = normal - (slope - (slope * normal).sum(1, keepdims=True) * normal)
    wrong = (instance > 0) & (rng.random(len(xyz)) < WRONG_NORMALS)
    tilted[wrong] = rng.normal(size=(int(wrong.sum()), 3))
    tilted /= np.linalg.norm(tilted, axis=1, keepdims=True) + 1e-9
    shade = np.exp(0.25 * SmoothNoise(rng, low, high, SPREAD_CELL)(xyz) - 0.25)
    return (
        (xyz + offset[:, None] * normal).astype(np.float32),
        tilted.astype(np.float32),
        np.clip(rgb * shade[:, None], 0, 1).astype(np.float32),
        np.where(np.abs(offset) < offsets.on_surface, instance, 0).astype(instance.dtype),
    )
