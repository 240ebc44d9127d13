"""Poses that a run keeps: boxes along them, and files that are stale or damaged."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ovseg3d.errors import RunError
from ovseg3d.geometry import from_wxyz, to_wxyz
from ovseg3d.instances.kept_poses import load_poses, posed, save_poses
from ovseg3d.instances.records import Instance, fit_box

UP = np.array([0.0, 0.0, 1.0])


def pose_of(yaw: float, order: int = 1) -> dict:
    turn = Rotation.from_euler("z", yaw)
    front = turn.apply([0.0, -1.0, 0.0]).tolist() if order == 1 else None
    return {"rotation_wxyz": list(to_wxyz(turn)), "front": front, "symmetry_order": order, "score": 0.8,
            "source": "fused"}  # fmt: skip


def instance(number: int, xyz: np.ndarray) -> Instance:
    box = fit_box(xyz, UP)
    return Instance(id=number, label="x", score=1.0, **vars(box), frame="input", n_points=len(xyz), distance=None)


def test_boxes_lie_along_their_poses() -> None:
    rng, turn = np.random.default_rng(0), Rotation.from_euler("z", 2.0)
    one = turn.apply(rng.uniform(-0.5, 0.5, (4000, 3)) * [2.0, 1.0, 0.5])
    xyz, ids = np.concatenate([one, one + 5]), np.repeat([1, 2], len(one))
    kept = {1: pose_of(2.0), 2: pose_of(2.0, order=2)}
    first, second = posed([instance(1, one), instance(2, one + 5)], kept, xyz, ids, UP)
    assert (from_wxyz(first.rotation_wxyz).inv() * turn).magnitude() < 1e-6
    assert first.size == pytest.approx((2.0, 1.0, 0.5), abs=0.05) and first.center == pytest.approx((0, 0, 0), abs=0.02)
    assert second.rotation_wxyz == instance(2, one + 5).rotation_wxyz and second.pose == kept[2]
    upside = Rotation.from_euler("x", np.pi / 2)  # a frame with y down
    moved = upside.apply(one)
    (third,) = posed([instance(1, moved)], kept, moved, np.ones(len(one), int), upside.apply(UP), upside)
    assert (from_wxyz(third.rotation_wxyz).inv() * upside * turn).magnitude() < 1e-6
    assert third.pose is not None and third.pose["front"] == pytest.approx((upside * turn).apply([0, -1, 0]))
    assert third.size == pytest.approx((2.0, 1.0, 0.5), abs=0.05)


def test_poses_of_another_grouping_are_ignored_and_damaged_ones_refused(tmp_path: Path) -> None:
    ids = np.array([0, 1, 1, 2])
    assert load_poses(tmp_path, ids) == {}
    save_poses(tmp_path, ids, {1: pose_of(1.0), 2: pose_of(0.0, order=0)})
    kept = load_poses(tmp_path, ids)
    assert set(kept) == {1, 2} and kept[1] == pose_of(1.0) and kept[2]["front"] is None
    assert load_poses(tmp_path, np.array([0, 1, 2, 2])) == {}
    path = tmp_path / "instance_poses.json"
    good = json.loads(path.read_text())
    for change in ({"rotation_wxyz": [1, 0, 0]}, {"rotation_wxyz": [9, 0, 0, 0]}, {"score": float("nan")},
                   {"symmetry_order": 3}, {"front": [1, 2]}, {"front": "north"}):  # fmt: skip
        path.write_text(json.dumps(good | {"poses": {"1": pose_of(1.0) | change}}))
        with pytest.raises(RunError, match=r"poses cannot be read|not JSON|number"):
            load_poses(tmp_path, ids)
