"""Records of instances: an id, a name, and an upright box about `up`.

The box's footprint is the rectangle of least area around the points seen along `up` (one of its sides lies on a side
of their convex hull). The outermost points are first trimmed in eight directions, so that a few floaters do not enlarge
the box. Frame and units are the surface's. Where that frame is z-up, `yaw_rad` is the rotation about +z, between -45
and 45 degrees (a rectangle has no front). `size` holds full lengths along the box's own axes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Integer
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial.transform import Rotation

from ovseg3d.field.surface import Surface
from ovseg3d.geometry.rotations import Quaternion, from_wxyz, to_wxyz

TRIM = 0.01
"""Share of the points that is trimmed at each end of each direction."""
_UPRIGHT = 1 - 1e-6


@dataclass(frozen=True)
class OrientedBox:
    """One box in the frame and unit of its points."""

    center: tuple[float, float, float]
    size: tuple[float, float, float]
    """Full lengths along the box's own axes; the third is along `up`."""
    rotation_wxyz: tuple[float, float, float, float]
    """From the box's axes to the frame's."""
    yaw_rad: float | None
    """Counter-clockwise about +z; None where `up` is not z."""


@dataclass(frozen=True)
class Instance:
    """One instance."""

    id: int
    """As in the array of ids; above 0."""
    label: str | None
    """None when no phrases were given."""
    score: float
    """Mean over its points of the given score, else of their confidence; 0 to 1."""
    center: tuple[float, float, float]
    size: tuple[float, float, float]
    rotation_wxyz: tuple[float, float, float, float]
    yaw_rad: float | None
    frame: str
    n_points: int
    distance: float | None
    """From the given camera position to `center`, in units of the frame."""
    pose: Mapping[str, Any] | None = None
    """Which way it faces, as `heads.pose.Pose.record` says it; None: not known."""

    def record(self) -> dict[str, Any]:
        """The instance as a JSON object."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}


class InstancePoints:
    """The points of a surface by instance; the members and the box of each instance are found once.

    Args:
        surface: the points.
        ids: instance of each from 1, 0 for none.
    """

    def __init__(self, surface: Surface, ids: Integer[np.ndarray, " points"]) -> None:
        self._surface, self._ids = surface, ids
        self._counts = np.bincount(ids)
        order = np.argsort(ids, kind="stable")
        numbers = np.flatnonzero(self._counts)
        members = np.split(order, np.cumsum(self._counts[numbers])[:-1])
        self.members: dict[int, Integer[np.ndarray, " members"]] = dict(zip(numbers.tolist(), members))
        """Points of each instance, in rising order."""
        self.members.pop(0, None)
        self._boxes: dict[int, OrientedBox] = {}

    def box(self, number: int) -> OrientedBox:
        """The box of an instance, see `fit_box`. Raises KeyError: there is no such instance."""
        if number not in self._boxes:
            xyz = self._surface.xyz[self.members[number]].astype(np.float64)
            self._boxes[number] = fit_box(xyz, self._surface.up)
        return self._boxes[number]

    def records(
        self,
        *,
        labels: Integer[np.ndarray, " points"] | None = None,
        phrases: Sequence[str] = (),
        scores: Float[np.ndarray, " points"] | None = None,
        eye: Float[np.ndarray, "3"] | None = None,
        frame: str = "input",
    ) -> tuple[Instance, ...]:
        """Describe every instance.

        Args:
            labels: label of each point, k for `phrases[k - 1]`, 0 for none; an instance takes the most frequent label
                of its points, None when that is 0.
            phrases: the names of the labels.
            scores: of each point, 0 to 1.
            eye: position of a camera, for `distance`.
            frame: the name of the surface's frame.
        """
        weight = self._surface.confidence if scores is None else scores
        found = []
        for number, members in self.members.items():
            most = int(np.bincount(labels[members], minlength=1).argmax()) if labels is not None else 0
            found.append(self._record(number, phrases[most - 1] if most else None, weight, eye, frame))
        return tuple(found)

    def meant(
        self,
        phrase: str,
        found: Float[np.ndarray, " points"],
        threshold: float,
        eye: Float[np.ndarray, "3"] | None = None,
    ) -> tuple[Instance, ...]:
        """Instances of which at least half of the points reach a threshold, by falling score.

        Args:
            phrase: the label of the instances.
            found: score of each point, 0 to 1.
            threshold: least score of a point that counts.
            eye: position of a camera, for `distance`.
        """
        share = np.bincount(self._ids[found >= threshold], minlength=len(self._counts)) / np.maximum(self._counts, 1)
        meant = [self._record(number, phrase, found, eye, "input") for number in self.members if share[number] >= 0.5]
        return tuple(sorted(meant, key=lambda instance: -instance.score))

    def _record(
        self, number: int, label: str | None, scores: np.ndarray, eye: np.ndarray | None, frame: str
    ) -> Instance:
        box, members = self.box(number), self.members[number]
        return Instance(
            id=number,
            label=label,
            score=float(scores[members].mean(dtype=np.float64)),
            **vars(box),
            frame=frame,
            n_points=len(members),
            distance=None if eye is None else float(np.linalg.norm(np.asarray(box.center) - eye)),
        )


def fit_box(
    xyz: Float[np.ndarray, "points 3"],
    up: Float[np.ndarray, "3"],
    trim: float = TRIM,
    *,
    rotation_wxyz: Quaternion | None = None,
) -> OrientedBox:
    """The upright box of least footprint around at least one point, or the one along given axes.

    Args:
        xyz: the points.
        up: unit vector along the box's third axis.
        trim: share of the points trimmed at both ends of each of eight directions across `up`, and along it.
        rotation_wxyz: the box's axes, of which the third is `up`; None: those of the least footprint.
    """
    turn = _frame(up)
    local = xyz @ turn  # columns of `turn` are the local axes, so this is along them.
    low, high = np.quantile(local[:, 2], [trim, 1 - trim])
    flat = _trimmed(local[:, :2], trim)
    if rotation_wxyz is None:
        yaw = _best_turn(flat)
    else:
        yaw = float((Rotation.from_matrix(turn).inv() * from_wxyz(rotation_wxyz)).as_euler("ZYX")[0])
    cos, sin = np.cos(yaw), np.sin(yaw)
    along = flat @ np.array([[cos, -sin], [sin, cos]])
    least, most = along.min(0), along.max(0)
    middle = np.append(np.array([[cos, -sin], [sin, cos]]) @ ((least + most) / 2), (low + high) / 2)
    rotation = Rotation.from_matrix(turn) * Rotation.from_euler("z", yaw)
    return OrientedBox(
        center=tuple((turn @ middle).tolist()),
        size=(*(most - least).tolist(), float(high - low)),
        rotation_wxyz=to_wxyz(rotation),
        yaw_rad=float(yaw) if up[2] > _UPRIGHT else None,
    )


def _frame(up: np.ndarray) -> np.ndarray:
    """The smallest rotation that takes z to `up`: `up` is its third column."""
    if up[2] > _UPRIGHT:
        return np.eye(3)
    if up[2] < -_UPRIGHT:
        return np.diag([1.0, -1.0, -1.0])
    axis = np.cross([0, 0, 1], up)
    return Rotation.from_rotvec(axis / np.linalg.norm(axis) * np.arccos(up[2])).as_matrix()


def _trimmed(flat: np.ndarray, trim: float) -> np.ndarray:
    """Points that are not extreme in any of eight directions; all points if none remain."""
    angle = np.arange(8) * np.pi / 8
    along = flat @ np.stack([np.cos(angle), np.sin(angle)])
    low, high = np.quantile(along, [trim, 1 - trim], axis=0)
    kept = ((along >= low - 1e-9) & (along <= high + 1e-9)).all(1)
    return flat[kept] if kept.any() else flat


def _best_turn(flat: np.ndarray) -> float:
    """Rotation of the rectangle of least area, -45 to 45 degrees; one of its sides lies on a side of the hull."""
    try:
        corners = flat[ConvexHull(flat).vertices]
    except (QhullError, ValueError):  # Fewer than three points, or all on one line: along that line.
        apart = flat - flat.mean(0)
        axis = np.linalg.eigh(apart.T @ apart)[1][:, 1]
        return _quarter(float(np.arctan2(axis[1], axis[0]))) if (np.abs(apart) > 1e-12).any() else 0.0
    side = np.roll(corners, -1, axis=0) - corners
    angle = np.arctan2(side[:, 1], side[:, 0])
    x = corners @ np.stack([np.cos(angle), np.sin(angle)])
    y = corners @ np.stack([-np.sin(angle), np.cos(angle)])
    area = (x.max(0) - x.min(0)) * (y.max(0) - y.min(0))
    return _quarter(float(angle[area.argmin()]))


def _quarter(angle: float) -> float:
    return (angle + np.pi / 4) % (np.pi / 2) - np.pi / 4
