"""Candidates for what a phrase names: instances, rejected fragments, and layout planes.

The vector of an instance or fragment is the embedding of its crops (see `instances.crops`), if it has any: lifted
features are blurred over cells of the photos. Otherwise it is the mean over its points.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from ovseg3d.points.semantic_scene import SemanticScene
from ovseg3d.query.hubness import group_means, groups_of


@dataclass(frozen=True)
class Candidates:
    """The candidates of a scene."""

    scene: SemanticScene
    """One point for each candidate: its vector, and the position of one of its points."""
    of_point: Int[np.ndarray, " points"]
    """The candidate of each surface point; -1 for the few that are of none."""

    @classmethod
    def of(cls, semantics: SemanticScene) -> "Candidates":
        """The candidates of a scene with at least one point. Without instances and planes each point is one."""
        groups = groups_of(semantics.piece, semantics.plane, frozenset())
        if not groups.any():
            groups = np.arange(1, len(groups) + 1)
        grouped = np.flatnonzero(groups)
        _, first, row = np.unique(groups[grouped], return_index=True, return_inverse=True)
        of_point = np.full(len(groups), -1)
        of_point[grouped] = row
        scene, sized = semantics.take(grouped[first]), semantics.sized
        vectors, _ = group_means(semantics.vectors, groups)
        if semantics.instance_crops is not None:
            instances = np.flatnonzero(scene.piece)
            crops = semantics.instance_crops[scene.piece[instances] - 1]
            vectors[instances] = np.where(crops.any(1, keepdims=True), crops, vectors[instances])
        if sized is not None:
            sized = replace(sized, encoded=group_means(sized.encoded, groups)[0])
        return cls(replace(scene, vectors=vectors, sized=sized), of_point)

    def nearer(self, cosines: Float[np.ndarray, "candidates texts"]) -> Float[np.ndarray, "candidates texts"]:
        """How much nearer each candidate is to each text than the mean of the others; alone, than a cosine of 0."""
        return cosines - (cosines.sum(0) - cosines) / max(len(cosines) - 1, 1)

    def at_points(self, values: Float[np.ndarray, " candidates"]) -> Float[np.ndarray, " points"]:
        """The value of each point's candidate, 0 for points of none."""
        return np.append(values, 0.0)[self.of_point]  # of none is -1, the last
