"""Candidates for what a phrase names: instances, rejected fragments, layout planes, and neighbourhoods of points.

Neighbourhoods cover objects that were not separated from their support. A neighbourhood is a surface point and those of
the `POINTS` nearest to it that are of the same instance or plane. It is left out if photos contradict each other about
it as much as an odd photo contradicts the others (`lift.ODD`).
The vector of an instance or fragment is the embedding of its crops (see `instances.crops`), if it has any: lifted
features are blurred over cells of the photos.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_array
from scipy.spatial import cKDTree  # pyright: ignore[reportAttributeAccessIssue]

from ovseg3d.points.lift import ODD
from ovseg3d.points.semantic_scene import SemanticScene
from ovseg3d.query.hubness import groups_of

POINTS = 16
"""Most points of a neighbourhood; one lies around every 16th surface point, so that together they cover the surface."""
LEVEL_COUNT = 4
"""Number of candidates with cosine 0 that are added to the mean of `levels`: alone in a scene, an object would be no
nearer to its name than usual."""


@dataclass(frozen=True)
class Candidates:
    """The candidates of a scene."""

    scene: SemanticScene
    """One point for each candidate, instances and planes first: its vector, and the position of one of its points."""
    members: csr_array
    """Candidates x points: the weight of each point in each mean. Rows add to 1."""
    group_count: int
    """Number of instances, rejected fragments and planes."""
    xyz: Float[np.ndarray, "points 3"]
    """Of the points."""

    @classmethod
    def of(cls, semantics: SemanticScene) -> "Candidates":
        """The candidates of a scene with at least one point."""
        groups = groups_of(semantics.piece, semantics.plane, frozenset())
        grouped = np.flatnonzero(groups)
        _, first, row = np.unique(groups[grouped], return_index=True, return_inverse=True)
        middle, near = neighbourhoods(semantics.surface.xyz, semantics.tree)
        kept = semantics.agreement[near].mean(1) >= ODD * float(np.median(semantics.agreement))
        kept |= not (kept.any() or len(first))  # there is at least one candidate
        middle, near = middle[kept], near[kept]
        alike = groups[near] == groups[middle][:, None]
        place, _ = np.nonzero(alike)
        rows = np.concatenate([row, len(first) + place])
        points = np.concatenate([grouped, near[alike]])
        shape = (len(first) + len(middle), len(groups))
        entries = (1 / np.bincount(rows)[rows]).astype(np.float32)
        members, sized = csr_array((entries, (rows, points)), shape=shape), semantics.sized
        scene = semantics.take(np.concatenate([grouped[first], middle]))
        vectors = members @ semantics.vectors.astype(np.float32)
        if semantics.instance_crops is not None:
            instances = np.flatnonzero(scene.piece[: len(first)])
            crops = semantics.instance_crops[scene.piece[instances] - 1]
            vectors[instances] = np.where(crops.any(1, keepdims=True), crops, vectors[instances])
        scene = replace(
            scene,
            vectors=vectors,
            sized=None if sized is None else replace(sized, encoded=members @ sized.encoded.astype(np.float32)),
        )
        return cls(scene, members, len(first), semantics.surface.xyz)

    def levels(self, cosines: Float[np.ndarray, "candidates texts"]) -> Float[np.ndarray, " texts"]:
        """The mean cosine of each text over instances and planes."""
        return cosines[: self.group_count].sum(0) / (self.group_count + LEVEL_COUNT)

    def at_points(self, values: Float[np.ndarray, " candidates"]) -> Float[np.ndarray, " points"]:
        """The largest of the values, at least 0, of the candidates that hold each point.

        Points of no candidate take that of the nearest point that has one.
        """
        found = np.zeros(len(self.xyz))
        np.maximum.at(found, self.members.indices, np.repeat(values, np.diff(self.members.indptr)))
        return found[self._held]

    @cached_property
    def _held(self) -> Int[np.ndarray, " points"]:
        """Of each point the nearest one that a candidate holds."""
        held, nearest = np.unique(self.members.indices), np.arange(len(self.xyz))
        free = np.setdiff1d(nearest, held)
        if len(free):
            nearest[free] = held[cKDTree(self.xyz[held]).query(self.xyz[free])[1]]
        return nearest


def neighbourhoods(
    xyz: Float[np.ndarray, "points 3"],
    tree: cKDTree,  # pyright: ignore[reportUnknownParameterType]
) -> tuple[Int[np.ndarray, " neighbourhoods"], Int[np.ndarray, "neighbourhoods near"]]:
    """Every `POINTS`th point of a surface, and the points nearest to it."""
    middle, count = np.arange(0, len(xyz), POINTS), min(POINTS, len(xyz))
    _, near = tree.query(xyz[middle], k=count, workers=-1)
    return middle, near.reshape(-1, count).astype(np.int64)
