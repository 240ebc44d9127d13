"""Estimate up from the cameras alone, and the similarity that makes it +z.

The x axis of the image is horizontal in almost every photo, whatever the pitch. So up is the direction most nearly
perpendicular to all x axes, on the side of the mean of the cameras' up vectors. If all x axes are nearly parallel (a
capture from one side), an angle remains free, and the mean up vector decides it.
"""

import numpy as np
from jaxtyping import Float


def estimate_up(c2w: Float[np.ndarray, "views 4 4"]) -> tuple[Float[np.ndarray, "3"], bool]:
    """Unit up vector in the frame of `c2w` (OpenCV cameras), and whether the cameras determine it well.

    Minimises sum_i w_i (x_i . u)^2 - prior * (m . u)^2 over unit u, with x_i the cameras' x axes, m their mean up
    vector; the weights w_i (Cauchy, scale 5 degrees) are iterated a few times, so that tilted photos count little.
    """
    x, up = c2w[:, :3, 0], -c2w[:, :3, 1]
    mean_up = up.mean(axis=0)
    length = np.linalg.norm(mean_up)
    mean_up = mean_up / length if length > 1e-6 else up[0]
    weights = np.ones(len(x))
    # The prior is weak, like x axes that differ by a few degrees: it only decides what they leave open.
    prior = 0.003
    direction = mean_up
    for _ in range(10):
        moment = (x * weights[:, None]).T @ x / weights.sum()
        _, vectors = np.linalg.eigh(moment - prior * np.outer(mean_up, mean_up))
        direction = vectors[:, 0]
        weights = 1.0 / (1.0 + ((x @ direction) / np.sin(np.radians(5.0))) ** 2)
    if direction @ mean_up < 0:
        direction = -direction
    # The x axes must span the plane perpendicular to up: the second eigenvalue measures it.
    spread = np.linalg.eigvalsh((x * weights[:, None]).T @ x / weights.sum())[1]
    return direction, bool(spread > 0.01 and length > 0.5)


def world_from_sfm(
    c2w: Float[np.ndarray, "views 4 4"], points: Float[np.ndarray, "points 3"]
) -> tuple[Float[np.ndarray, "4 4"], bool]:
    """The similarity from the reconstruction's frame to a z-up one, and whether up is well determined.

    Up becomes +z, the heading of the first camera +y. The origin is the mean of the cameras' positions; the unit is
    half of the median distance from a camera to the points, so that numbers are like those of a room.
    """
    up, certain = estimate_up(c2w)
    heading = c2w[0, :3, 2] - (c2w[0, :3, 2] @ up) * up
    if np.linalg.norm(heading) < 1e-3:  # it looks straight down or up: use the up direction of its image
        heading = -c2w[0, :3, 1] - (-c2w[0, :3, 1] @ up) * up
    heading = heading / np.linalg.norm(heading)
    rotation = np.stack([np.cross(heading, up), heading, up])
    centre = c2w[:, :3, 3].mean(axis=0)
    distances = np.linalg.norm(points - centre, axis=1)
    scale = 2.0 / max(float(np.median(distances)), 1e-9) if len(points) else 1.0
    transform = np.eye(4)
    transform[:3, :3] = scale * rotation
    transform[:3, 3] = -scale * rotation @ centre
    return transform, certain


def apply_to_poses(
    transform: Float[np.ndarray, "4 4"], c2w: Float[np.ndarray, "views 4 4"]
) -> Float[np.ndarray, "views 4 4"]:
    """Poses in the new frame of a similarity: positions are scaled, rotations stay rotations."""
    scale = np.cbrt(np.linalg.det(transform[:3, :3]))
    moved = transform @ c2w
    moved[:, :3, :3] /= scale
    return moved
