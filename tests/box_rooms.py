"""Surface points of synthetic rooms of rectangles and boxes, whose instances, kinds and shapes are known."""

from dataclasses import dataclass, field

import numpy as np
from scipy.spatial.transform import Rotation

from ovseg3d.field.surface import Surface
from ovseg3d.instances.grouping import InstanceConfig
from ovseg3d.instances.layout import StructureConfig

GAP = 0.04
Z = np.array([0.0, 0.0, 1.0])
INDOOR = InstanceConfig(structure=StructureConfig(layout="indoor"))
"""Most surfaces here have fewer planes than a room."""
VECTORS = np.random.default_rng(5).normal(size=(8, 16)).astype(np.float32)
"""Features of each kind of instance; 0 is the layout."""


@dataclass
class Room:
    """Points of rectangles, put together one after the other."""

    xyz: list[np.ndarray] = field(default_factory=list)
    normal: list[np.ndarray] = field(default_factory=list)
    instance: list[np.ndarray] = field(default_factory=list)
    kind: list[np.ndarray] = field(default_factory=list)

    def sheet(self, corner, along, across, normal, instance: int, kind: int) -> "Room":
        """A rectangle from `corner` along two edges, sampled every GAP."""
        corner, along, across = (np.asarray(v, dtype=float) for v in (corner, along, across))
        n, m = (max(1, round(np.linalg.norm(edge) / GAP)) for edge in (along, across))
        a, b = np.meshgrid((np.arange(n) + 0.5) / n, (np.arange(m) + 0.5) / m, indexing="ij")
        points = corner + a.reshape(-1, 1) * along + b.reshape(-1, 1) * across
        self.xyz.append(points)
        self.normal.append(np.tile(np.asarray(normal, dtype=float), (len(points), 1)))
        self.instance.append(np.full(len(points), instance))
        self.kind.append(np.full(len(points), kind))
        return self

    def box(self, center, size, instance: int, kind: int, yaw: float = 0.0) -> "Room":
        """All faces but the bottom; `center` is on the floor of the box."""
        turn = Rotation.from_euler("z", yaw).as_matrix()
        w, d, h = size
        place = np.asarray(center, dtype=float)
        for corner, along, across, normal in (
            ((-w / 2, -d / 2, h), (w, 0, 0), (0, d, 0), (0, 0, 1)),
            ((-w / 2, -d / 2, 0), (w, 0, 0), (0, 0, h), (0, -1, 0)),
            ((-w / 2, d / 2, 0), (w, 0, 0), (0, 0, h), (0, 1, 0)),
            ((-w / 2, -d / 2, 0), (0, d, 0), (0, 0, h), (-1, 0, 0)),
            ((w / 2, -d / 2, 0), (0, d, 0), (0, 0, h), (1, 0, 0)),
        ):
            self.sheet(place + turn @ corner, turn @ along, turn @ across, turn @ normal, instance, kind)
        return self

    def chair(self, x: float, y: float, yaw: float, instance: int) -> "Room":
        """A seat with a back on four legs, 44 cm wide; all of kind 1."""
        turn = Rotation.from_euler("z", yaw).as_matrix()
        parts = [((0, 0, 0.42), (0.44, 0.44, 0.05)), ((0, 0.2, 0.47), (0.44, 0.05, 0.45))]
        parts += [((a, b, 0), (0.05, 0.05, 0.42)) for a in (-0.19, 0.19) for b in (-0.19, 0.19)]
        for place, size in parts:
            self.box(np.array([x, y, 0]) + turn @ place, size, instance, 1, yaw)
        return self

    def without(self, low, high) -> "Room":
        """Leave out what lies inside an axis-parallel box, such as a face that another instance hides."""
        for i, points in enumerate(self.xyz):
            keep = ~((points > low) & (points < high)).all(1)
            for column in (self.xyz, self.normal, self.instance, self.kind):
                column[i] = column[i][keep]
        return self

    def surface(self, noise: float = 0.0, up: np.ndarray = Z) -> Surface:
        random = np.random.default_rng(0)
        xyz = np.concatenate(self.xyz)
        xyz = xyz + noise * random.normal(size=xyz.shape)
        return Surface(
            xyz.astype(np.float32),
            np.concatenate(self.normal).astype(np.float32),
            np.full((len(xyz), 3), 128, np.uint8),
            np.full(len(xyz), 0.75, np.float32),
            np.full(len(xyz), GAP, np.float32),
            up.astype(np.float64),
            True,
        )

    @property
    def instances(self) -> np.ndarray:
        return np.concatenate(self.instance)

    @property
    def kinds(self) -> np.ndarray:
        return np.concatenate(self.kind)

    def features(self, noise: float = 0.1) -> np.ndarray:
        random = np.random.default_rng(1)
        made = VECTORS[self.kinds] + noise * random.normal(size=(len(self.kinds), 16))
        return made.astype(np.float32)


def floor(side: float = 4.0) -> Room:
    return Room().sheet((-side / 2, -side / 2, 0), (side, 0, 0), (0, side, 0), (0, 0, 1), 0, 0)


def two_boxes() -> Room:
    return floor().box((-1, 0, 0), (0.6, 0.6, 0.6), 1, 1).box((1, 0, 0), (0.8, 0.5, 0.4), 2, 1)
