"""Which way up is a shape? Six candidates are scored by how the shape would stand, and by a prior of file axes.

Names are told from the views around all likely candidates (see `naming.ShapeNamer.name`), but not the axis: on real
shapes the tower's views lead to a wrong one more often than geometry alone.

Of the 24 rotations that map axes to axes, the four about one up axis show the same views in turn, so six candidates
remain: both ways along three axes. These are the file's axes, or those of the tightest box where that is turned
against them. Each candidate is judged by its base, its balance and its outline by height (after Fu et al. 2008,
"Upright Orientation of Man-Made Objects"); a small network learnt what matters
(`scripts.training.train_upright`).
"""

import json
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy.spatial import ConvexHull, QhullError
from scipy.special import log_softmax

from ovseg3d.encoders.weights import hash_files

AXES = {
    "x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0),
    "-x": (-1.0, 0.0, 0.0), "-y": (0.0, -1.0, 0.0), "-z": (0.0, 0.0, -1.0),
}  # fmt: skip
PRIOR_Z, PRIOR_Y = 3.0, 2.0
"""Log-odds, against other directions, that a file's +z or +y is up: most tools write one of these."""
ALIGNED_COSINE = np.cos(np.radians(10.0))
"""A box whose axes are all within ten degrees of the file's has nothing to add to them."""
ROOM_FOR_THE_FILE = 1.1
"""A box along the file's axes may be so much larger than the tightest one, and is preferred."""
WEIGHTS = Path(__file__).parent / "weights" / "upright.json"
MAX_FACES = 200
"""Faces of a shape's hull that its tightest box is looked for on."""
_END = 0.04
"""The lowest and the highest part of a shape's height: what it stands on, and what it would stand on upside down."""
_SLICES = 8
"""Of the height, for the outline."""
_LARGEST_MARGIN = 0.7


@cache
def weights() -> dict[str, Float[np.ndarray, "..."]]:
    """Of the network: `mean` and `deviation` of features, `hidden` with offsets in its last row, and `output`."""
    kept = json.loads(WEIGHTS.read_text(encoding="utf-8"))["weights"]
    return {name: np.array(values) for name, values in kept.items()}


def up_id(up: str) -> str:
    """The given axis; "auto" with a hash of the network, as another one may estimate other axes."""
    return f"auto@{hash_files([WEIGHTS])[:8]}" if up == "auto" else up


def upright_score(
    features: Float[np.ndarray, "*rows features"], net: dict[str, np.ndarray] | None = None
) -> Float[np.ndarray, "*rows"]:
    """Log-odds, up to a constant, that a shape is upright: a network with one hidden layer of `upright_features`.

    Args:
        features: of a shape, or of many.
        net: `weights` to use; None: those of the package.
    """
    net = weights() if net is None else net
    hidden = np.tanh((features - net["mean"]) / net["deviation"] @ net["hidden"][:-1] + net["hidden"][-1])
    return hidden @ net["output"]


def find_up(points: Float[np.ndarray, "points 3"], stated: str | None = None) -> Float[np.ndarray, "3"]:
    """The likeliest up direction by geometry alone, a unit vector; arguments as for `up_odds`."""
    directions, odds = up_odds(points, stated)
    return directions[int(odds.argmax())]


def up_odds(
    points: Float[np.ndarray, "points 3"], stated: str | None = None
) -> tuple[Float[np.ndarray, "6 3"], Float[np.ndarray, "6"]]:
    """Up directions, unit vectors, and the logarithm of each one's probability.

    Args:
        points: of a shape, at least four.
        stated: the axis that the file's format defines as up.
    """
    directions = candidates(points)
    features = np.array([upright_features(points @ turn_up(one).T) for one in directions])
    return directions, log_softmax(upright_score(features) + prior(directions, stated))


def turn_up(up: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 3"]:
    """The smallest rotation that maps the unit vector `up` to +z."""
    up = np.asarray(up, float)
    axis, cosine = np.cross(up, [0.0, 0.0, 1.0]), float(up[2])
    if cosine < -1 + 1e-9:
        return np.diag([1.0, -1.0, -1.0])
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + cross + cross @ cross / (1 + cosine)


def candidates(points: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, "6 3"]:
    """Up directions to choose from: both ways along the axes of the tightest box around the points.

    A box along all of the file's axes, or else along one of them, is preferred to one that is little tighter.
    """
    own = np.eye(3)
    try:
        hull = ConvexHull(points)
    except QhullError:  # flat: the spread's own axes
        axes = np.linalg.svd(points - points.mean(0), full_matrices=False)[2]
        return np.concatenate([axes, -axes]) if np.abs(axes).max(1).min() < ALIGNED_COSINE else _both_ways(own)
    corners = points[hull.vertices]
    boxes = [(float(np.prod(np.ptp(corners, axis=0))), own)]
    boxes += [_box_along(corners, own[axis]) for axis in (2, 1, 0)]
    boxes += [_box_along(corners, normal) for normal in _largest_faces(points, hull)]
    tightest = min(volume for volume, _ in boxes)
    preferred = [axes for volume, axes in boxes[:4] if volume <= ROOM_FOR_THE_FILE * tightest]
    return _both_ways(preferred[0] if preferred else min(boxes, key=lambda box: box[0])[1])


def _largest_faces(points: np.ndarray, hull: ConvexHull) -> np.ndarray:
    """Unit normals of the hull's largest faces, parallel ones once; a side of the tightest box lies on a face."""
    corners = points[hull.simplices]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    normals = np.round(hull.equations[:, :3], 2)
    first = np.take_along_axis(normals, (normals != 0).argmax(1)[:, None], 1)  # not zero
    normals, face = np.unique(normals * np.sign(first), axis=0, return_inverse=True)
    largest = np.argsort(-np.bincount(face.ravel(), area), kind="stable")[:MAX_FACES]
    return normals[largest] / np.linalg.norm(normals[largest], axis=1, keepdims=True)


def _both_ways(axes: np.ndarray) -> np.ndarray:
    return np.concatenate([axes, -axes])


def _box_along(corners: np.ndarray, direction: np.ndarray) -> tuple[float, np.ndarray]:
    """Volume and axes, as rows, of the smallest box with a side across a direction."""
    turn = turn_up(direction)
    flat = corners @ turn.T
    area, angle = _smallest_rectangle(flat[:, :2])
    cosine, sine = np.cos(angle), np.sin(angle)
    axes = np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1.0]]) @ turn
    return area * float(np.ptp(flat[:, 2])), axes


def _smallest_rectangle(flat: np.ndarray) -> tuple[float, float]:
    """Area and angle (radians, of its first side) of the smallest rectangle around points of a plane."""
    angles = np.radians(np.arange(0.0, 90.0, 3.0))
    x = np.outer(np.cos(angles), flat[:, 0]) + np.outer(np.sin(angles), flat[:, 1])
    y = np.outer(-np.sin(angles), flat[:, 0]) + np.outer(np.cos(angles), flat[:, 1])
    areas = np.ptp(x, axis=1) * np.ptp(y, axis=1)
    best = int(areas.argmin())
    return float(areas[best]), float(angles[best])


def upright_features(points: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, " features"]:
    """Fourteen features of a shape with z up. Scaling it, moving it, or turning it about z changes none.

    The side of an outline is the square root of its area. Sides, margins and the height are relative to the side of the
    shape's outline from above.

    Returns:
        For the lowest and for the highest part: the side of its convex outline, and the margin by which the shape's
        mean lies inside it (negative: outside, it would fall over). Then the mean height as a share of the whole, the
        log of the height, and the side of the outline of each of eight slices, from the lowest.
    """
    low, high = float(points[:, 2].min()), float(points[:, 2].max())
    tall = max(high - low, 1e-9)
    height, flat = (points[:, 2] - low) / tall, points[:, :2]
    middle = flat.mean(0)
    side = max(_outline(flat, middle)[0], 1e-3 * tall)
    found = []
    for end in (height <= _END, height >= 1 - _END):
        own, margin = _outline(flat[end], middle)
        found += [own / side, np.clip(margin / side, -_LARGEST_MARGIN, _LARGEST_MARGIN)]
    found += [height.mean(), np.log(tall / side)]
    place = np.minimum((height * _SLICES).astype(int), _SLICES - 1)
    return np.array([*found, *(_outline(flat[place == k], middle)[0] / side for k in range(_SLICES))])


def _outline(flat: np.ndarray, middle: np.ndarray) -> tuple[float, float]:
    """The square root of the area of a convex outline, and how far inside it a point is."""
    try:
        hull = ConvexHull(flat)
    except (QhullError, ValueError):  # a line, or no point
        return 0.0, -float(np.linalg.norm(flat.mean(0) - middle)) if len(flat) else 0.0
    return float(np.sqrt(hull.volume)), -float((hull.equations @ [*middle, 1.0]).max())


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
