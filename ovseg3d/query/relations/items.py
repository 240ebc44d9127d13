"""Instances as upright boxes in a level frame (+z up), and the space in which relations are measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from ovseg3d.geometry.rotations import from_wxyz
from ovseg3d.query.relations.lexicon import SEATS

ROOM_DIAGONAL = 7.0
"""Metres: the diagonal of a furnished room, where neither the capture nor the instances say how long a unit is. Rooms
of `ovseg3d.synth` have 6.1 to 7.5."""


@dataclass(frozen=True)
class Item:
    """One instance in the level frame of a `Space`."""

    id: int
    label: str | None
    box: Float[np.ndarray, "7"]
    """Centre, full size, yaw; as in `geometry.Box.row`."""
    front: Float[np.ndarray, "2"] | None = None
    """Horizontal unit vector towards which it faces; None: not known, or it has no front."""
    score: float = 1.0
    """Of its name, 0 to 1."""
    kind: str | None = None
    """A second name, such as the category of a phrase."""
    members: tuple[int, ...] = ()
    """The ids of the instances that it consists of, if these are several pieces; `id` is the first."""

    @property
    def xy(self) -> Float[np.ndarray, "2"]:
        """Centre of the footprint."""
        return self.box[:2]

    @property
    def bottom(self) -> float:
        """Height of the lowest point."""
        return float(self.box[2] - self.box[5] / 2)

    @property
    def top(self) -> float:
        """Height of the highest point."""
        return float(self.box[2] + self.box[5] / 2)

    @property
    def length(self) -> float:
        """The longer side of the footprint."""
        return float(self.box[3:5].max())

    @property
    def volume(self) -> float:
        """Volume of the box."""
        return float(self.box[3:6].prod())

    @property
    def is_seat(self) -> bool:
        """Whether its name is of something to sit on, or of a body."""
        words = (self.label or "").split()
        return bool(words) and words[-1] in SEATS

    def faces(self, front: Float[np.ndarray, "2"] | None) -> "Item":
        """The same with a front."""
        return replace(self, front=front)


@dataclass(frozen=True)
class Space:
    """What relations of a scene are measured in."""

    level: Rotation
    """From the input frame to the level frame, whose +z is up."""
    metre: float
    """Units per metre; an estimate where the scale is not known."""
    metric: bool = False
    """Whether the unit is the metre."""
    eye: Float[np.ndarray, "3"] | None = None
    """The position of the viewer, level frame."""
    items: tuple[Item, ...] = ()
    """All instances, of any name."""

    @property
    def unit(self) -> str:
        """The unit of lengths."""
        return "m" if self.metric else "units"

    def item(self, record: Mapping[str, Any], score: float = 1.0, has_front: bool = False) -> Item:
        """An instance in the level frame.

        Args:
            record: `id`, `label`, `center`, `size` and `rotation_wxyz`, as of an `Instance`; the entries of
                objects.json say `phrase` or `category` for the label.
            score: of its name.
            has_front: whether the object's front is the -y of its box.
        """
        turn = (self.level * from_wxyz(record["rotation_wxyz"])).as_matrix()
        yaw = float(np.arctan2(turn[1, 0], turn[0, 0]))
        axes = Rotation.from_euler("z", -yaw).as_matrix() @ turn  # tilted boxes get the upright box around them
        size = np.abs(axes) @ np.asarray(record["size"], np.float64)
        center = self.level.apply(np.asarray(record["center"], np.float64))
        label = record.get("label") or record.get("phrase") or record.get("category")
        front = np.array([np.sin(yaw), -np.cos(yaw)]) if has_front else None
        return Item(int(record["id"]), label, np.array([*center, *size, yaw]), front, score, record.get("category"))


def space_of(
    up: Sequence[int | float] | Float[np.ndarray, "3"],
    *,
    metric: bool = False,
    metres_per_unit: float | None = None,
    extent: float | None = None,
    eye: Float[np.ndarray, "3"] | None = None,
) -> Space:
    """A space without items.

    Args:
        up: in the input frame.
        metric: whether the unit is the metre.
        metres_per_unit: stated or estimated; None: not known.
        extent: diagonal of the scene in units, from which the unit is estimated where nothing else says it.
        eye: the position of the viewer, input frame.
    """
    axis = np.asarray(up, np.float64) / np.linalg.norm(up)
    level = Rotation.align_vectors(np.array([[0.0, 0.0, 1.0]]), axis[None])[0]
    if np.allclose(axis, [0, 0, 1]):
        level = Rotation.identity()
    metre = 1.0 if metric else 1 / metres_per_unit if metres_per_unit else (extent or ROOM_DIAGONAL) / ROOM_DIAGONAL
    return Space(level, metre, metric, None if eye is None else level.apply(eye))
