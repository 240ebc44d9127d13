"""Poses of instances in runs of synthetic rooms, against the true ones."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree  # pyright: ignore[reportAttributeAccessIssue] - not in SciPy's list of names

from ovseg3d.evaluate.measure import read_objects
from ovseg3d.geometry import from_wxyz
from ovseg3d.heads.pose import Pose
from ovseg3d.query.engine import QueryEngine
from ovseg3d.query.poses import InstancePose, pose_in_run
from ovseg3d.session import load
from ovseg3d.synth import surface_cloud
from scripts.training.pose_crops import FACING

ON_SURFACE = 0.08
"""A surface point this near to the true surface belongs to its object, metres."""
MIN_OVERLAP = 0.25
"""Least IoU of the points of an instance and of a true object."""
SOURCES = ("photo", "cloud", "pose")


def run_errors(folder: Path) -> dict[str, list[float]]:
    """Errors of the front, degrees, by source, of the true objects with a front.

    180 without an answer, or where an object with a front is taken for a symmetric one; NaN where no instance shows the
    object, which is 180 of the room's fronts, and not among those that are shown.
    """
    engine = QueryEngine(load(folder))
    found = pose_in_run(engine)
    ids, surface = engine.semantics.instance, engine.semantics.surface
    cloud = surface_cloud(engine.scene.path)
    near, row = cKDTree(cloud.xyz).query(surface.xyz)
    true = np.where(near < ON_SURFACE, cloud.instance[row], 0)
    errors: dict[str, list[float]] = {source: [] for source in SOURCES}
    for record in read_objects(engine.scene):
        if record["category"] not in FACING:
            continue
        best = _best(found, ids, true == record["id"])
        front = from_wxyz(record["rotation_wxyz"]).apply([0.0, -1.0, 0.0])
        for source in SOURCES:
            errors[source].append(np.nan if best is None else _error(getattr(best, source), front))
    return errors


def _best(found: Sequence[InstancePose], ids: np.ndarray, own: np.ndarray) -> InstancePose | None:
    """The instance that shares most points with a true object."""
    overlap = [((ids == one.instance.id) & own).sum() / ((ids == one.instance.id) | own).sum() for one in found]
    return found[int(np.argmax(overlap))] if overlap and max(overlap) >= MIN_OVERLAP else None


def _error(pose: Pose | None, front: np.ndarray) -> float:
    if pose is None or pose.front is None:
        return 180.0
    return float(np.degrees(np.arccos(np.clip(np.dot(pose.front, front), -1, 1))))
