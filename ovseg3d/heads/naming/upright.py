"""Which way up is a shape? Candidates are scored by their geometry, and by what the tower sees of them.

Of the 24 rotations that map axes to axes, the four about one up axis show the same views in turn, so six candidates
remain. A shape that is not aligned with its file's axes has six more: the axes of its tightest box.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.spatial import ConvexHull, QhullError

AXES = {
    "x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0),
    "-x": (-1.0, 0.0, 0.0), "-y": (0.0, -1.0, 0.0), "-z": (0.0, 0.0, -1.0),
}  # fmt: skip
PRIOR_Z, PRIOR_Y = 3.0, 2.0
"""Log-odds, against other directions, that a file's +z or +y is up: most tools write one of these."""
ALIGNED_COSINE = np.cos(np.radians(10.0))
"""A box whose axes are all within ten degrees of the file's has nothing to add to them."""
VIEWS = 4
"""Views of each candidate."""
_BASE = 0.04
"""The lowest part of a shape's height that counts as what it stands on."""


@dataclass(frozen=True)
class UprightModel:
    """A logistic model of "this candidate is upright".

    Attributes:
        weights: of `cues`, then of the mean embedding of the candidate's views by the tuned tower.
        bias: log-odds at zero.
    """

    weights: Float[np.ndarray, " features"]
    bias: float

    def score(self, features: Float[np.ndarray, "candidates features"]) -> Float[np.ndarray, " candidates"]:
        """Log-odds of each candidate."""
        return features @ self.weights + self.bias


def turn_up(up: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 3"]:
    """The smallest rotation that maps the unit vector `up` to +z."""
    up = np.asarray(up, float)
    axis, cosine = np.cross(up, [0.0, 0.0, 1.0]), float(up[2])
    if cosine < -1 + 1e-9:
        return np.diag([1.0, -1.0, -1.0])
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + cross + cross @ cross / (1 + cosine)


def candidates(points: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, "candidates 3"]:
    """Up directions to choose from: both ways along the file's axes, and along the axes of the tightest box."""
    own = np.array(list(AXES.values()))
    box = box_axes(points)
    if (np.abs(box).max(1) > ALIGNED_COSINE).all():
        return own
    return np.concatenate([own, box, -box])


def box_axes(points: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, "3 3"]:
    """The axes, as rows, of the smallest box around points among those with a side on a face of their hull."""
    try:
        hull = ConvexHull(points)
    except QhullError:  # flat: the spread's own axes
        return np.linalg.svd(points - points.mean(0), full_matrices=False)[2]
    corners = points[hull.vertices]
    normals = np.unique(np.round(hull.equations[:, :3], 2), axis=0)
    best, axes = np.inf, np.eye(3)
    for normal in normals / np.linalg.norm(normals, axis=1, keepdims=True):
        turn = turn_up(normal)
        flat = corners @ turn.T
        area, angle = _smallest_rectangle(flat[:, :2])
        volume = area * np.ptp(flat[:, 2])
        if volume < best:
            cosine, sine = np.cos(angle), np.sin(angle)
            best, axes = volume, np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1.0]]) @ turn
    return axes


def _smallest_rectangle(flat: np.ndarray) -> tuple[float, float]:
    """Area and angle (radians, of its first side) of the smallest rectangle around points of a plane."""
    angles = np.radians(np.arange(0.0, 90.0, 3.0))
    x = np.outer(np.cos(angles), flat[:, 0]) + np.outer(np.sin(angles), flat[:, 1])
    y = np.outer(-np.sin(angles), flat[:, 0]) + np.outer(np.cos(angles), flat[:, 1])
    areas = np.ptp(x, axis=1) * np.ptp(y, axis=1)
    best = int(areas.argmin())
    return float(areas[best]), float(angles[best])


def cues(points: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, " cues"]:
    """What geometry says of a shape with z up: does it stand, and is its left like its right?

    The area it stands on, how far off that area's middle its weight is, how high its weight is, how wide its lower part
    is against its upper one, and its height; each as a share of the shape's own size.
    """
    low, high = points.min(0), points.max(0)
    size = np.maximum(high - low, 1e-9)
    unit = (points - low) / size
    base = points[unit[:, 2] <= _BASE]
    extent = np.ptp(base[:, :2], axis=0) / size[:2]
    off = np.abs((points.mean(0) - (base.max(0) + base.min(0)) / 2)[:2] / size[:2]).max()
    below, above = points[unit[:, 2] < 0.5], points[unit[:, 2] >= 0.5]
    wide = [float(np.prod(np.ptp(part[:, :2], axis=0) / size[:2])) if len(part) else 0.0 for part in (below, above)]
    return np.array([float(np.prod(extent)), off, unit[:, 2].mean(), wide[0] - wide[1], size[2] / size.max()])


def prior(directions: Float[np.ndarray, "candidates 3"], stated: str | None) -> Float[np.ndarray, " candidates"]:
    """Log-odds of each direction from habits of files; `stated` is the axis that the format defines as up."""
    found = np.zeros(len(directions))
    for axis, odds in (("z", PRIOR_Z), ("y", PRIOR_Y)):
        odds = PRIOR_Z if axis == stated else PRIOR_Y if stated else odds
        found[directions @ np.array(AXES[axis]) > ALIGNED_COSINE] = odds
    return found


def nearest_axis(up: Float[np.ndarray, "3"]) -> str:
    """The name of the axis nearest to a direction."""
    return max(AXES, key=lambda name: float(np.dot(AXES[name], up)))
