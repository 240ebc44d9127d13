"""Replica in NICE-SLAM's layout: metric depth, the shared camera file, damaged files."""

import json
from pathlib import Path

import numpy as np
import pytest
import writers as w

from ovseg3d.errors import SceneError
from ovseg3d.scene import load_scene
from ovseg3d.scene.images import load_depth


def test_depth_is_metric_and_the_camera_may_lie_above(tmp_path: Path) -> None:
    folder = w.write_replica(tmp_path / "data" / "room0")
    (folder / "cam_params.json").rename(tmp_path / "data" / "cam_params.json")
    scene = load_scene(folder)
    assert scene.metric and scene.metres_per_unit == 1 and np.array_equal(scene.world_from_input, np.eye(4))
    assert np.allclose(load_depth(scene.frames[3], scene), 2.0), "13107 / 6553.5"
    (folder / "results" / "frame000004.png").unlink()
    less = load_scene(folder)
    assert len(less.frames) == 8 and np.allclose(less.frames[4].camera.c2w, w.poses()[5]), "numbers, not places, match"
    (tmp_path / "data" / "cam_params.json").unlink()
    with pytest.raises(SceneError, match="camera of this Replica scene") as caught:
        load_scene(folder)
    assert "copy cam_params.json" in (caught.value.fix or "")


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("traj.txt", "1 0 0 0\n", "16 numbers"),
        ("traj.txt", " ".join(["a"] * 16), "could not convert"),
        ("traj.txt", " ".join(["1"] * 16), "1 poses, but photos up to number 8"),
        ("traj.txt", "", "0 rows"),
        ("cam_params.json", "[1]", "object"),
        ("cam_params.json", "{}", "no 'camera'"),
        ("cam_params.json", json.dumps({"camera": {"w": 24, "h": 16}}), "'fx'"),
        ("cam_params.json", json.dumps({"camera": dict.fromkeys(("w", "h", "fx", "fy", "cx", "cy"), 8)}), "'scale'"),
    ],
)
def test_damaged_files(name: str, text: str, told: str, tmp_path: Path) -> None:
    folder = w.write_replica(tmp_path)
    (folder / name).write_text(text)
    with pytest.raises(SceneError, match=told) as caught:
        load_scene(folder)
    assert caught.value.where is not None and Path(str(caught.value.where)).name == name
