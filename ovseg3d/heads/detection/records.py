"""What the detection head returns."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Int

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Candidate:
    """A possible name."""

    label: str
    score: float
    """Probability among the names that were compared."""


@dataclass(frozen=True)
class Detection:
    """One object: an upright box in the frame and unit of its points, and what it may be."""

    center: Triple
    size: Triple
    """Full lengths along the box's own axes; the third is along up."""
    rotation_wxyz: tuple[float, float, float, float]
    """From the box's axes (z up, front -y) to the frame's; the mean of the peak of `yaw_probabilities`."""
    yaw_rad: float | None
    """Counter-clockwise about +z; None where up is not z."""
    symmetry_order: int
    """1: the object has a front; 2, 4: it looks the same after half or a quarter of a turn; 0: it is round."""
    front: Triple | None
    """Unit vector towards which it faces; None for symmetric objects."""
    score: float
    """The expected IoU of the box with the object's, 0 to 1."""
    yaw_probabilities: Float[np.ndarray, " bins"] = field(repr=False)
    """Distribution of the yaw; bin k is centred at 2 pi k / bins, about up and from the frame's own level axes."""
    points: Int[np.ndarray, " n"] = field(repr=False)
    """Indices of the object's points in the cloud."""
    embedding: Float[np.ndarray, " text"] = field(repr=False)
    """Text-aligned unit vector."""
    candidates: tuple[Candidate, ...] = ()
    """Possible names, best first."""
    symmetry_probability: float = 1.0
    """Of `symmetry_order`."""
    id: int | None = None
    """Of the instance of a run; None elsewhere."""

    @property
    def label(self) -> str | None:
        """The best name."""
        return self.candidates[0].label if self.candidates else None

    def record(self) -> dict[str, Any]:
        """The detection as a JSON object."""
        return {
            "id": self.id,
            "label": self.label,
            "score": self.score,
            "center": list(self.center),
            "size": list(self.size),
            "rotation_wxyz": list(self.rotation_wxyz),
            "yaw_rad": self.yaw_rad,
            "front": None if self.front is None else list(self.front),
            "symmetry_order": self.symmetry_order,
            "candidates": [vars(candidate) for candidate in self.candidates],
            "n_points": len(self.points),
        }


@dataclass(frozen=True)
class Segmentation:
    """What the detection head says of each point of a cloud."""

    foreground: Float[np.ndarray, " points"]
    """Probability that a point belongs to an object."""
    masks: tuple[Int[np.ndarray, " _"], ...]
    """Points of each object; no point has two."""
    scores: Float[np.ndarray, " objects"]
    """Expected box IoU of each."""
    voxel: Int[np.ndarray, " points"]
    """The finest voxel of each point."""
    centers: Float[np.ndarray, "voxels 3"]
    """Centre of the object that each voxel predicts, in the frame and unit of the cloud."""
    log_sizes: Float[np.ndarray, "voxels 3"]
    """Logarithms of its lengths: the shorter and the longer level one, and the height."""
    embeddings: Float[np.ndarray, "voxels text"]
    """Text-aligned vectors; only means over an object's voxels mean something."""

    def describe(self, ids: Int[np.ndarray, " points"]) -> Float[np.ndarray, "groups text"]:
        """Text-aligned unit vectors of groups of points: row k is of those with the id k, zero if there are none."""
        voxel, group = np.unique(np.stack([self.voxel, ids]), axis=1)
        found = np.zeros((int(ids.max(initial=0)) + 1, self.embeddings.shape[1]), np.float32)
        np.add.at(found, group, self.embeddings[voxel])
        return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9)
