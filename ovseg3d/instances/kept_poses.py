"""Poses of a run's instances, kept beside its semantics: instance_poses.json, which `ovseg3d pose RUN` writes.

Exports and answers read it, so that boxes lie along the poses. It belongs to one grouping into instances; after another
one it is ignored.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Integer
from scipy.spatial.transform import Rotation

from ovseg3d.errors import RunError
from ovseg3d.files import read_json, write_json
from ovseg3d.geometry.rotations import from_wxyz, to_wxyz
from ovseg3d.instances.records import Instance, fit_box

FILE = "instance_poses.json"
ORDERS = (0, 1, 2, 4)
Poses = Mapping[int, Mapping[str, Any]]
"""Of instances by their id: rotation_wxyz, front, symmetry_order, score and source; input frame."""


def save_poses(folder: Path, ids: Integer[np.ndarray, " points"], poses: Poses) -> None:
    """Write poses into a run's folder.

    Args:
        folder: of the run.
        ids: instance of each surface point.
        poses: of the instances.

    Raises:
        OutputError: the file cannot be written.
    """
    write_json(folder / FILE, {"grouping": _key(ids), "poses": {str(k): dict(pose) for k, pose in poses.items()}})


def load_poses(folder: Path, ids: Integer[np.ndarray, " points"]) -> dict[int, dict[str, Any]]:
    """The poses that were kept for this grouping; none where there is no file, or one for another grouping.

    Raises:
        RunError: the file is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return {}
    kept = read_json(path, RunError)
    if kept.get("grouping") != _key(ids):
        return {}
    try:
        return {int(k): _checked(pose) for k, pose in kept["poses"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError("The run's poses cannot be read", where=path, fix=f"ovseg3d pose {folder}") from error


def posed(
    instances: Sequence[Instance],
    poses: Poses,
    xyz: Float[np.ndarray, "points 3"],
    ids: Integer[np.ndarray, " points"],
    up: Float[np.ndarray, "3"],
    turn: Rotation | None = None,
) -> tuple[Instance, ...]:
    """Instances with their poses; where a front is known, the box is fitted along the pose's axes.

    Args:
        instances: any.
        poses: of some of them.
        xyz: points of the instances' frame.
        ids: instance of each.
        up: of that frame.
        turn: from the frame of the poses to it; None: they are the same.
    """
    return tuple(
        _posed(one, poses[one.id], xyz[ids == one.id], up, turn) if one.id in poses else one for one in instances
    )


def _posed(
    instance: Instance, pose: Mapping[str, Any], xyz: np.ndarray, up: np.ndarray, turn: Rotation | None
) -> Instance:
    if turn is not None:
        front = pose["front"]
        pose = {
            **pose,
            "rotation_wxyz": list(to_wxyz(turn * from_wxyz(pose["rotation_wxyz"]))),
            "front": None if front is None else turn.apply(front).tolist(),
        }
    placed = replace(instance, pose=pose)
    if pose["front"] is None or not len(xyz):
        return placed
    box = fit_box(xyz.astype(np.float64), up, rotation_wxyz=to_wxyz(from_wxyz(pose["rotation_wxyz"])))
    return replace(placed, **vars(box))


def _checked(pose: Mapping[str, Any]) -> dict[str, Any]:
    """The pose, if it is one. Raises ValueError, TypeError, KeyError."""
    rotation = [float(v) for v in pose["rotation_wxyz"]]
    front = None if pose["front"] is None else [float(v) for v in pose["front"]]
    score, order = float(pose["score"]), int(pose["symmetry_order"])
    numbers = [*rotation, *(front or []), score]
    if len(rotation) != 4 or len(front or [0, 0, 0]) != 3 or not np.isfinite(numbers).all() or order not in ORDERS:
        raise ValueError("no pose")
    if abs(np.linalg.norm(rotation) - 1) > 1e-3 or not 0 <= score <= 1.001:
        raise ValueError("no rotation")
    return {
        "rotation_wxyz": rotation, "front": front, "symmetry_order": order, "score": score,
        "source": str(pose["source"])[:20],
    }  # fmt: skip


def _key(ids: np.ndarray) -> str:
    return f"{len(ids)}-{zlib.crc32(np.ascontiguousarray(ids, np.int32).tobytes()):08x}"
