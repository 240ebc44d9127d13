"""Smooth features along the surface, across points of similar colour and normal.

Feature maps are coarse: at an object's edge a cell blends both sides, while the surface shows where the edge is. So
each point repeatedly takes the weighted mean of its neighbours' vectors; neighbours of similar colour (in CIE Lab) and
normal weigh most. This is a bilateral filter on a graph (Tomasi and Manduchi 1998).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from scipy.sparse import csr_matrix
from scipy.spatial import cKDTree  # pyright: ignore[reportAttributeAccessIssue]

from ovseg3d.field.surface import Surface


@dataclass(frozen=True)
class SmoothConfig:
    """How far features are smoothed."""

    steps: int = 10
    """Number of steps; 0: no smoothing."""
    neighbours: int = 12
    colour: float = 0.05
    """Difference in CIELAB / 100 at which a neighbour's weight is exp(-1/2): about twice a just noticeable one."""
    turn: float = 0.3
    """1 - cosine of the normals at which the weight is exp(-1)."""
    keep: float = 0.3
    """Share of its own vector that a point keeps in a step."""


def smooth(
    vectors: Float[np.ndarray, "points dim"],
    surface: Surface,
    support: Float[np.ndarray, " points"],
    config: SmoothConfig | None = None,
) -> Float[np.ndarray, "points dim"]:
    """Vectors of surface points, smoothed along the surface.

    Args:
        vectors: one for each point.
        surface: the points.
        support: sum of the render weights behind each vector; see `lift.Lifted`.
        config: how far.
    """
    config = config or SmoothConfig()
    count = min(config.neighbours + 1, len(surface))
    if config.steps == 0 or count < 2:
        return vectors
    distance, near = cKDTree(surface.xyz).query(surface.xyz, k=count, workers=-1)
    distance, near = distance[:, 1:], near[:, 1:]
    lab = to_lab(surface.rgb)
    weight = -((lab[near] - lab[:, None]) ** 2).sum(-1) / (2 * config.colour**2)
    weight -= (1 - (surface.normal[near] * surface.normal[:, None]).sum(-1)) / config.turn
    weight -= (distance / (2 * np.maximum(surface.cell[:, None], 1e-9))) ** 2
    weight = np.exp(weight) * np.sqrt(np.maximum(support[near], 1e-3))
    rows = np.repeat(np.arange(len(near)), near.shape[1])
    graph = csr_matrix((weight.ravel(), (rows, near.ravel())), shape=(len(near),) * 2)
    total = np.asarray(graph.sum(1)).ravel()
    # A point unlike all of its neighbours keeps its vector.
    keep = np.where(total > 1e-6, config.keep, 1.0).astype(np.float32)[:, None]
    graph = csr_matrix(graph.multiply(1 / np.maximum(total, 1e-9)[:, None]), dtype=np.float32)
    carried = vectors.astype(np.float32)
    for _ in range(config.steps):
        carried = keep * carried + (1 - keep) * (graph @ carried)
    return carried


def to_lab(rgb: UInt8[np.ndarray, "points 3"]) -> Float[np.ndarray, "points 3"]:
    """Colours in CIELAB / 100: lightness from 0 to 1."""
    from skimage.color import rgb2lab

    return rgb2lab(rgb[None])[0] / 100
