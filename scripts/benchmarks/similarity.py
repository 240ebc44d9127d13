"""Camera poses against the true ones, up to a similarity, which photos cannot tell."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation


@dataclass(frozen=True)
class PoseErrors:
    """Errors of each camera after the best similarity."""

    rotation_deg: Float[np.ndarray, " views"]
    position: Float[np.ndarray, " views"]
    """In the units of the true poses."""
    similarity: Float[np.ndarray, "4 4"]
    """true <- found; its scale is in the linear part."""

    @property
    def scale(self) -> float:
        return float(np.cbrt(np.linalg.det(self.similarity[:3, :3])))


def compare_poses(found: Float[np.ndarray, "views 4 4"], true: Float[np.ndarray, "views 4 4"]) -> PoseErrors:
    """Errors of OpenCV c2w poses. The rotation of the similarity is the mean over the cameras. Scale and shift have the
    least sum of distances of positions."""
    turn = Rotation.from_matrix(true[:, :3, :3] @ np.swapaxes(found[:, :3, :3], 1, 2)).mean()
    x, y = found[:, :3, 3], true[:, :3, 3]
    middle_x, middle_y = np.median(x, axis=0), np.median(y, axis=0)
    a, b = turn.apply(x - middle_x), y - middle_y
    scale, shift = 1.0, np.zeros(3)
    weight = np.ones(len(a))
    for _ in range(20):  # weights of 1 / residual: the least sum of distances, which outliers hardly move
        share = weight / weight.sum()
        mean_a, mean_b = share @ a, share @ b
        scale = float((share * ((a - mean_a) * (b - mean_b)).sum(1)).sum() / (share * ((a - mean_a) ** 2).sum(1)).sum())
        shift = mean_b - scale * mean_a
        residual = np.linalg.norm(scale * a + shift - b, axis=1)
        weight = 1.0 / np.maximum(residual, 1e-6)
    similarity = np.eye(4)
    similarity[:3, :3] = scale * turn.as_matrix()
    similarity[:3, 3] = middle_y + shift - scale * turn.apply(middle_x)
    rotation = (turn.inv() * Rotation.from_matrix(true[:, :3, :3] @ np.swapaxes(found[:, :3, :3], 1, 2))).magnitude()
    position = np.linalg.norm(x @ similarity[:3, :3].T + similarity[:3, 3] - y, axis=1)
    return PoseErrors(np.degrees(rotation), position, similarity)
