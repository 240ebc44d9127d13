"""Candidates for what a phrase names: instances, rejected fragments, layout planes, and joined objects.

The vector of an instance or fragment is the embedding of its crops (see `instances.crops`), if it has any: lifted
features are blurred over cells of the photos. Otherwise it is the mean over its points. A joined object (see
`instances.joined`) is a candidate if it has crops. It holds points of other candidates; a point counts with the
likeliest one.
"""

from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float, Int

from ovseg3d.points.semantic_scene import SemanticScene
from ovseg3d.query.hubness import group_means, groups_of


@dataclass(frozen=True)
class Candidates:
    """The candidates of a scene; joined objects come last, children before their parents."""

    scene: SemanticScene
    """One point for each candidate: its vector, and the position of one of its points."""
    of_point: Int[np.ndarray, " points"]
    """The smallest candidate of each surface point; -1 for the few that are of none."""
    around: Int[np.ndarray, " candidates"] = field(default_factory=lambda: np.zeros(0, np.int64))
    """The joined object around each candidate; -1: none. Empty without joined objects."""
    joined: int = 0
    """Number of joined objects."""

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
        return cls(replace(scene, vectors=vectors, sized=sized), of_point)._with_joined()

    def _with_joined(self) -> "Candidates":
        """The same and joined objects, with the position of a point of their first piece."""
        scene, parents, crops = self.scene, self.scene.parents, self.scene.instance_crops
        if parents is None or crops is None or scene.pieces is None or scene.sized is not None:
            return self
        count, pieces = len(scene.vectors), np.flatnonzero(scene.piece)
        first = dict(zip(scene.piece[pieces].tolist(), pieces.tolist()))
        numbers = np.arange(max(first, default=0) + 1, len(parents) + 1)
        for number, parent in enumerate(parents.tolist(), 1):
            first.setdefault(parent, first[number])
        row = np.full(len(parents) + 1, -1)
        row[scene.piece[pieces]], row[numbers] = pieces, count + np.arange(len(numbers))
        told = scene.take(np.append(np.arange(count), [first[number] for number in numbers]).astype(np.int64))
        number = np.append(scene.piece, numbers)
        vectors = np.concatenate([scene.vectors, crops[numbers - 1]])
        told = replace(told, vectors=vectors, pieces=number.astype(scene.piece.dtype))
        around = row[np.append(0, parents)[number]]
        return replace(self, scene=told, around=around, joined=len(numbers))

    def nearer(self, cosines: Float[np.ndarray, "candidates texts"]) -> Float[np.ndarray, "candidates texts"]:
        """How much nearer each candidate is to each text than the mean of the others; alone, than a cosine of 0. Joined
        objects are not among these others, which they hold."""
        plain = len(cosines) - self.joined
        apart = (np.arange(len(cosines)) < plain)[:, None]
        return cosines - (cosines[:plain].sum(0) - apart * cosines) / np.maximum(plain - apart, 1)

    def joined_at_points(
        self, values: Float[np.ndarray, " candidates"], threshold: float
    ) -> Int[np.ndarray, " points"]:
        """The number of the largest joined object around each point whose value reaches a threshold; 0: none."""
        plain, joined = len(values) - self.joined, np.zeros(len(values) + 1, np.int64)  # the last row is that of none
        for row in range(len(self.around) - 1, -1, -1):
            own = self.scene.piece[row] if row >= plain and values[row] >= threshold else 0
            joined[row] = joined[self.around[row]] or own
        return joined[self.of_point]

    def at_points(self, values: Float[np.ndarray, " candidates"]) -> Float[np.ndarray, " points"]:
        """The greatest value of each point's candidates, 0 for points of none."""
        values = values.copy()
        for row in np.flatnonzero(self.around >= 0)[::-1]:
            values[row] = max(values[row], values[self.around[row]])
        return np.append(values, 0.0)[self.of_point]  # of none is -1, the last
