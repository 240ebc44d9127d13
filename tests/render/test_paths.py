"""Camera paths: through their key poses, with valid rotations, and from nerfstudio files."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from tiny import camera_to_world

from ovseg3d.errors import SceneError
from ovseg3d.render.paths import interpolate_poses, interpolation, look_at, read_nerfstudio_path, resized, spiral
from ovseg3d.scene import load_scene


def random_poses(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, :3, :3] = Rotation.random(count, rng=rng).as_matrix()
    poses[:, :3, 3] = rng.normal(size=(count, 3))
    return poses


def assert_rigid(poses: np.ndarray) -> None:
    rotations = poses[:, :3, :3]
    np.testing.assert_allclose(
        rotations @ rotations.transpose(0, 2, 1), np.tile(np.eye(3), (len(poses), 1, 1)), atol=1e-9
    )
    np.testing.assert_allclose(np.linalg.det(rotations), 1, atol=1e-9)
    np.testing.assert_array_equal(poses[:, 3], np.tile([0.0, 0, 0, 1], (len(poses), 1)))


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("keys", [2, 3, 6])
def test_interpolation_passes_through_its_keys(keys: int, closed: bool) -> None:
    poses = random_poses(keys)
    between = 5
    count = keys * between if closed else (keys - 1) * between + 1
    path = interpolate_poses(poses, count, closed=closed)
    assert len(path) == count
    np.testing.assert_allclose(path[::between], poses, atol=1e-9)
    assert_rigid(path)


def test_interpolation_is_smooth() -> None:
    path = interpolate_poses(random_poses(5), 401)
    steps = np.linalg.norm(np.diff(path[:, :3, 3], axis=0), axis=1)
    turns = Rotation.from_matrix(path[:-1, :3, :3]).inv() * Rotation.from_matrix(path[1:, :3, :3])
    # Velocity and angular rate change little between neighbours, including at the keys.
    for speed in (steps, turns.magnitude()):
        assert np.abs(np.diff(speed)).max() < 0.1 * speed.max()


def test_straight_keys_at_equal_distances_give_a_uniform_flight() -> None:
    keys = np.tile(np.eye(4), (4, 1, 1))
    keys[:, 0, 3] = [0, 1, 2, 3]
    path = interpolate_poses(keys, 31)
    np.testing.assert_allclose(path[:, 0, 3], np.linspace(0, 3, 31), atol=1e-12)


def test_one_key_stands_still() -> None:
    np.testing.assert_array_equal(interpolate_poses(random_poses(1), 3), np.repeat(random_poses(1), 3, axis=0))


def test_look_at_sees_its_target_in_the_middle() -> None:
    eye, target = np.array([1.0, 2.0, 3.0]), np.array([-1.0, 0.5, 0.0])
    pose = look_at(eye, target, np.array([0.0, 0.0, -1.0]))
    assert_rigid(pose[None])
    local = pose[:3, :3].T @ (target - eye)
    np.testing.assert_allclose(local, [0, 0, np.linalg.norm(target - eye)], atol=1e-12)
    assert pose[2, 1] < 0, "the image's y axis must point down"


def test_flights_through_a_scene(tiny_scene: Path) -> None:
    scene = load_scene(tiny_scene)
    for path in (spiral(scene, seconds=1.0, fps=10.0), interpolation(scene, seconds=1.0, fps=10.0)):
        assert len(path.cameras) == 10 and path.fps == 10
        poses = np.stack([camera.c2w for camera in path.cameras])
        assert_rigid(poses)
        # The tiny scene's cameras are 2.2 to 2.6 m from the middle, upright, and look at it.
        assert np.linalg.norm(poses[:, :3, 3], axis=1).max() < 4
        assert (poses[:, 2, 1] < 0).all()


def test_a_spiral_keeps_looking_at_the_middle(tiny_scene: Path) -> None:
    for camera in spiral(load_scene(tiny_scene), seconds=1.0, fps=12.0).cameras:
        xy, z = camera.project(np.zeros((1, 3)))
        np.testing.assert_allclose(xy[0], [16, 16], atol=3)
        assert z[0] > 0


def test_a_spiral_closes(tiny_scene: Path) -> None:
    cameras = spiral(load_scene(tiny_scene), seconds=4.0, fps=25.0).cameras
    first, second, last = (cameras[i].c2w[:3, 3] for i in (0, 1, -1))
    assert np.linalg.norm(first - last) < 2 * np.linalg.norm(first - second)


def nerfstudio_path(tmp_path: Path, **changes: object) -> Path:
    opengl = camera_to_world(3) @ np.diag([1.0, -1, -1, 1])
    entry = {"camera_to_world": opengl.reshape(-1).tolist(), "fov": 60.0, "aspect": 2.0}
    entry.update({key: value for key, value in changes.items() if key in entry})
    description = {"camera_type": "perspective", "render_height": 100, "render_width": 200, "fps": 12, "seconds": 1}
    description |= {"camera_path": [entry, entry]}
    description |= {key: value for key, value in changes.items() if key not in entry}
    path = tmp_path / "path.json"
    path.write_text(json.dumps({key: value for key, value in description.items() if value != "absent"}))
    return path


def test_a_nerfstudio_path_is_read(tmp_path: Path) -> None:
    path = read_nerfstudio_path(nerfstudio_path(tmp_path))
    assert path.fps == 12 and len(path.cameras) == 2
    camera = path.cameras[0]
    np.testing.assert_allclose(camera.c2w, camera_to_world(3), atol=1e-12)
    assert (camera.width, camera.height) == (200, 100)
    assert camera.fx == camera.fy == pytest.approx(50 / math.tan(math.radians(30)))
    # The vertical field of view is between the upper and the lower edge of the image.
    _, rays = camera.rays(np.array([[100.0, 0.0], [100.0, 100.0]]))
    assert math.degrees(math.acos(rays[0] @ rays[1])) == pytest.approx(60)


def test_a_nerfstudio_path_with_seconds_alone(tmp_path: Path) -> None:
    assert read_nerfstudio_path(nerfstudio_path(tmp_path, fps="absent", seconds=4)).fps == 0.5


@pytest.mark.parametrize(
    "changes",
    [
        {"camera_path": []},
        {"camera_path": "absent"},
        {"camera_path": [3]},
        {"camera_path": [{}]},
        {"camera_to_world": [1.0] * 15},
        {"camera_to_world": [1.0] * 16},
        {"camera_to_world": [math.nan] * 16},
        {"camera_to_world": "x"},
        {"fov": 0},
        {"fov": 200},
        {"fov": "wide"},
        {"render_width": 0},
        {"render_height": 10**9},
        {"render_width": "absent"},
        {"fps": 0},
        {"fps": "fast"},
    ],
)
def test_a_broken_nerfstudio_path_is_explained(tmp_path: Path, changes: dict[str, object]) -> None:
    with pytest.raises(SceneError) as caught:
        read_nerfstudio_path(nerfstudio_path(tmp_path, **changes))
    assert "path.json" in str(caught.value)


def test_resized_cameras_see_the_same(tmp_path: Path) -> None:
    cameras = read_nerfstudio_path(nerfstudio_path(tmp_path)).cameras
    small = resized(cameras, 50)[0]
    assert (small.width, small.height) == (50, 25)
    point = np.array([[0.1, -0.2, 0.0]])
    np.testing.assert_allclose(small.project(point)[0] * 4, cameras[0].project(point)[0], atol=1e-9)
    assert resized(cameras, None) == list(cameras)
