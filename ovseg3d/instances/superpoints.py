"""Group surface points into superpoints, and describe each superpoint and each contact between two.

Grouping uses shape and colour, which are known per point, and to a lesser degree appearance: features, which are
blurred over cells of the photos. Normals and colours are first smoothed along the surface (see `points.smooth`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

from ovseg3d.field.surface import Surface
from ovseg3d.instances.adjacency import bends, edge_features, moments
from ovseg3d.instances.graph import Contacts, add_up, agglomerate, majority, spacing, touching
from ovseg3d.instances.layout import FLOOR, NONE, StructureConfig, find_layout, lies_on
from ovseg3d.points.smooth import SmoothConfig, smooth, to_lab


@dataclass(frozen=True)
class SuperpointConfig:
    """How points are grouped into superpoints."""

    smoothing: SmoothConfig = field(default_factory=lambda: SmoothConfig(steps=5, turn=0.6))
    """How normals and colours are smoothed."""
    kept: int = 24
    """Principal axes kept of each set of features."""
    most: float = 3.0
    """Most variance (times points) that a merge may add; the weight of normals is 1."""
    colour: float = 6.0
    """Weight of colour, in units of CIELAB / 100."""
    appearance: float = 0.3
    """Weight of appearance."""
    near: float = 0.03
    """Weight of distance, in gaps between points."""


@dataclass(frozen=True)
class Superpoints:
    """What `find_superpoints` made of the points."""

    xyz: Float[np.ndarray, "points 3"]
    gap: float
    """Typical distance between points."""
    point_area: Float[np.ndarray, " points"]
    superpoint: Int[np.ndarray, " points"]
    """Superpoint of each point, from 0."""
    weight: Float[np.ndarray, " superpoints"]
    """Number of points of each."""
    area: Float[np.ndarray, " superpoints"]
    seen: Float[np.ndarray, "superpoints seen"]
    """Mean appearance, with a variance of 1 over the scene, then the mean colour (3), CIELAB / 100."""
    form: Float[np.ndarray, "superpoints moments"]
    """Mean moments of their points, see `adjacency.moments`."""
    first: int | None
    """Columns of appearance that are of the first set of features; None: there are not several sets."""
    plane: Int[np.ndarray, " superpoints"]
    """Plane of the layout, from 1; 0 for none..."""
    kind: Int[np.ndarray, " superpoints"]
    """...and its class: FLOOR, CEILING, WALL or NONE."""
    floor: float | None
    """Height of the layout's floor along the up axis; None without one."""
    adjacency: Contacts
    """Sums: edges between points, their steps in colour, their bends."""

    @property
    def contacts(self) -> Contacts:
        """Edge features of the contacts, see `adjacency.edge_features`."""
        return edge_features(self.adjacency, self.plane)


def find_superpoints(
    surface: Surface,
    features: Sequence[Float[np.ndarray, "points _"]],
    config: SuperpointConfig | None = None,
    structure: StructureConfig | None = None,
) -> Superpoints:
    """Group surface points into superpoints.

    Args:
        surface: at least two points.
        features: as for `grouping.find_instances`.
        config: how points are grouped.
        structure: how planes of the layout are found.
    """
    config, up = config or SuperpointConfig(), surface.up.astype(np.float64)
    xyz = surface.xyz.astype(np.float64)
    # Stray points are farther apart than a cell of the surface is large.
    gap = np.minimum(spacing(xyz), 2 * surface.cell.astype(np.float64))
    typical = max(float(np.median(gap)), 1e-12)
    area = gap**2
    normal, colour = _smoothed(surface, config.smoothing)
    appearances = [_appearance(vectors, area, config.kept) / np.sqrt(len(features)) for vectors in features]
    appearance = np.concatenate([np.zeros((len(xyz), 0)), *appearances], 1)
    edges = touching(xyz, gap, surface.normal.astype(np.float64))
    near = config.near * xyz / typical
    kin = np.concatenate([config.appearance * appearance, normal, config.colour * colour, near], 1)
    superpoint = agglomerate(edges, np.ones(len(xyz)), kin, _ward, config.most)
    weight = np.bincount(superpoint).astype(np.float64)
    means = add_up(np.concatenate([appearance, colour], 1), superpoint, len(weight)) / weight[:, None]
    step = np.linalg.norm(colour[edges.pair[:, 0]] - colour[edges.pair[:, 1]], axis=1)
    across = np.stack([np.ones(len(step)), step, bends(edges.pair, xyz, normal)], 1)
    adjacency = Contacts(edges.pair, across).merged(superpoint, len(weight))
    planes = find_layout(xyz, normal, area, up, typical, structure)
    own = lies_on(planes, xyz, normal, surface.cell.astype(np.float64))
    plane = majority(superpoint, own, len(weight))
    kind, height = np.array([NONE, *(one.kind(up) for one in planes)]), xyz @ up
    below = height[kind[own] == FLOOR]
    floor = float(np.median(below)) if len(below) else None
    ground = float(height.min()) if floor is None else floor
    return Superpoints(
        xyz=xyz,
        gap=typical,
        point_area=area,
        superpoint=superpoint,
        weight=weight,
        area=np.bincount(superpoint, area),
        seen=means,
        form=add_up(moments(xyz, up, ground, typical), superpoint, len(weight)) / weight[:, None],
        first=appearances[0].shape[1] if len(appearances) > 1 else None,
        plane=plane,
        kind=kind[plane],
        floor=floor,
        adjacency=adjacency,
    )


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def _smoothed(
    surface: Surface, config: SmoothConfig
) -> tuple[Float[np.ndarray, "points 3"], Float[np.ndarray, "points 3"]]:
    """Unit normals, and colours in CIELAB / 100, smoothed along the surface."""
    known = np.concatenate([surface.normal, to_lab(surface.rgb)], 1)
    known = smooth(known, surface, np.ones(len(surface)), config).astype(np.float64)
    return _unit(known[:, :3]), known[:, 3:]


def _appearance(
    vectors: Float[np.ndarray, "points _"], area: Float[np.ndarray, " points"], kept: int
) -> Float[np.ndarray, "points axes"]:
    """Centred unit vectors on their principal axes, scaled to a total variance of 1."""
    share = (area / area.sum())[:, None]
    unit = _unit(vectors)
    unit = unit - (share * unit).sum(0)
    spread, axes = np.linalg.eigh((unit * share).T @ unit)
    # Identical vectors stay identical.
    return unit @ axes[:, ::-1][:, :kept] / np.sqrt(max(spread.sum(), 1e-6))


def _ward(contacts: Contacts, weight: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Ward's cost: the variance (times weight) that merging two regions adds."""
    a, b = contacts.pair.T
    far = np.zeros(len(a))
    for column in np.ascontiguousarray(means.T):  # of all columns at once the differences would fill the memory
        far += (column[a] - column[b]) ** 2
    return weight[a] * weight[b] / (weight[a] + weight[b]) * far
