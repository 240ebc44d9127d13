"""Points that a capture brings: tracks of a COLMAP model in any frame, and points without tracks."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import writers as w
from scipy.spatial.transform import Rotation

from ovseg3d.cli.info import summarise
from ovseg3d.scene import Scene, load_scene
from ovseg3d.scene.given_points import given_points
from ovseg3d.scene.sparse import reconstruct
from ovseg3d.scene.triangulation import Triangulation

TRACKS = [(0, 1, 2), (1, 2, 3, 4), (3, 8)]
"""Photos that observe the first points of the writers."""


def write_model(folder: Path, *, text: bool = False, transform: np.ndarray | None = None) -> Path:
    """A COLMAP model with tracks, by pycolmap, in a frame of its own."""
    import pycolmap

    model = pycolmap.Reconstruction()
    camera = pycolmap.Camera(camera_id=1, model="PINHOLE", width=w.WIDTH, height=w.HEIGHT, params=[20, 20, 12, 8])
    model.add_camera_with_trivial_rig(camera)
    for i, pose in enumerate(w.poses()):
        w2c = np.linalg.inv(pose)
        image = pycolmap.Image(name=w.NAMES[i], camera_id=1, image_id=i + 1)
        image.points2D = pycolmap.Point2DList([pycolmap.Point2D(np.array([1.0, 1.0])) for _ in TRACKS])
        rigid = pycolmap.Rigid3d(pycolmap.Rotation3d(w2c[:3, :3]), w2c[:3, 3])
        model.add_image_with_trivial_frame(image, rigid)
    for k, views in enumerate(TRACKS):
        track = pycolmap.Track([pycolmap.TrackElement(view + 1, k) for view in views])
        number = model.add_point3D(w.POINTS[k], track, np.zeros(3, np.uint8))
        model.point3D(number).error = 0.8 + k
    if transform is not None:
        rotation = pycolmap.Rotation3d(Rotation.from_matrix(transform[:3, :3]).as_quat())
        model.transform(pycolmap.Sim3d(2.5, rotation, transform[:3, 3]))
    (folder / "sparse/0").mkdir(parents=True)
    (model.write_text if text else model.write_binary)(str(folder / "sparse/0"))
    return folder


def check_tracks(scene: Scene) -> None:
    """The training photos of each track, and only they, observe its point at its depth."""
    found = given_points(scene)
    assert found is not None and found.tracked
    order = np.argsort(np.linalg.norm(found.points[:, None] - w.POINTS[None, :3], axis=-1), axis=0)[0]
    np.testing.assert_allclose(found.points[order], w.POINTS[:3], atol=1e-6)
    seen = {(int(scene.train[view]), round(z, 5)) for view, z in zip(found.view, found.depth_z)}
    wanted = set()
    for k, views in enumerate(TRACKS):
        for view in set(views) & set(scene.train):
            (x, y), z = (part[0] for part in scene.frames[view].camera.project(w.POINTS[k : k + 1]))
            if 0 <= x < w.WIDTH and 0 <= y < w.HEIGHT:
                wanted.add((view, round(z, 5)))
    assert seen == wanted and len(wanted) >= 5


@pytest.mark.parametrize("text", [False, True])
def test_tracks_say_which_photos_observe_a_point(text, tmp_path):
    w.write_photos(tmp_path / "images")
    scene = load_scene(write_model(tmp_path, text=text))
    assert scene.format == "colmap" and summarise(scene, None)["tracked_points"] == len(TRACKS)
    check_tracks(scene)


def test_a_model_in_another_frame_comes_to_that_of_the_poses(tmp_path):
    turn = np.eye(4)
    turn[:3, :3], turn[:3, 3] = Rotation.from_rotvec([0.4, -1.0, 2.0]).as_matrix(), (3, -2, 1)
    scene = load_scene(write_model(w.write_nerfstudio(tmp_path), transform=turn))
    assert scene.format == "nerfstudio" and scene.points is None
    check_tracks(scene)


def test_a_model_of_other_cameras_is_left_alone(tmp_path):
    data = w.transforms()
    for frame, pose in zip(data["frames"], np.random.default_rng(0).permutation(w.poses())):
        frame["transform_matrix"] = w.opengl(pose)
    assert given_points(load_scene(write_model(w.write_nerfstudio(tmp_path, data)))) is None


@pytest.mark.parametrize("damage", ["cut", "outside", "text"])
def test_broken_tracks_are_left_alone(damage, tmp_path):
    folder = write_model(w.write_nerfstudio(tmp_path / "scene"))
    table = folder / "sparse/0/points3D.bin"
    content = table.read_bytes()
    table.unlink()
    if damage == "cut":
        table.write_bytes(content[:-5])
    elif damage == "outside":
        (tmp_path / "points3D.bin").write_bytes(content)
        table.symlink_to(tmp_path / "points3D.bin")
    else:
        table.with_suffix(".txt").write_text("1 2 three\n")
    assert given_points(load_scene(folder)) is None


def test_fewer_and_worse_observations_are_less_certain(tmp_path):
    w.write_photos(tmp_path / "images")
    found = given_points(load_scene(write_model(tmp_path)))
    assert found is not None
    points = [np.linalg.norm(found.points - w.POINTS[k], axis=1).argmin() for k in range(3)]
    scene = load_scene(tmp_path)
    sigma = {}
    for number, (view, z) in enumerate(zip(found.view, found.depth_z)):
        depths = scene.frames[scene.train[view]].camera.project(found.points)[1]
        sigma[int(np.abs(depths - z).argmin())] = found.sigma[number]
    assert sigma[points[1]] < sigma[points[0]] * 2 and 0 < min(sigma.values()) < max(sigma.values()) < 1


def write_cloud(folder: Path, points: np.ndarray) -> Scene:
    import trimesh

    trimesh.PointCloud(points).export(folder / "sparse_pc.ply")
    return load_scene(w.write_nerfstudio(folder, w.transforms(ply_file_path="sparse_pc.ply")))


def test_points_without_tracks_are_seen_where_none_near_them_hides_them(tmp_path):
    """A dense wall through the origin; what lies a unit behind it is hidden."""
    random = np.random.default_rng(0)
    forward = w.poses()[4][:3, 2]
    across = np.linalg.qr(np.column_stack([forward, random.normal(size=(3, 2))]))[0][:, 1:]
    wall = random.uniform(-1.5, 1.5, (4000, 2)) @ across.T
    behind = random.uniform(-0.3, 0.3, (50, 2)) @ across.T + 1.2 * forward
    scene = write_cloud(tmp_path, np.concatenate([wall, behind]))
    found = given_points(scene)
    assert found is not None and (found.sigma > 0).all()
    view = scene.train.index(4)
    depths = found.depth_z[found.view == view]
    true = scene.frames[4].camera.project(wall)[1]
    assert len(depths) > 1000 and depths.max() < true.max() + 1e-6
    alone = given_points(write_cloud(tmp_path / "alone", behind)) if (tmp_path / "alone").mkdir() is None else None
    assert alone is not None and (alone.view == view).sum() == 50


def test_masked_pixels_observe_nothing(tmp_path):
    from PIL import Image

    mask = np.zeros((w.HEIGHT, w.WIDTH), np.uint8)
    mask[:, : w.WIDTH // 2] = 255
    data = w.transforms(ply_file_path="sparse_pc.ply")
    for frame in data["frames"]:
        frame["mask_path"] = "mask.png"
    write_cloud(tmp_path, w.POINTS)
    Image.fromarray(mask).save(tmp_path / "mask.png")
    (tmp_path / "transforms.json").write_text(json.dumps(data))
    found = given_points(load_scene(tmp_path))
    assert found is not None and found.xy[:, 0].max() < w.WIDTH / 2


def test_given_points_alone_make_sparse_depth_where_photos_do_not_match(tmp_path):
    """Noise matches nowhere."""
    scene = write_cloud(tmp_path, w.POINTS)
    assert reconstruct(scene, adjust=True) is None
    given = given_points(scene)
    found = reconstruct(scene, adjust=True, given=given)
    assert given is not None and not given.tracked and found is not None
    np.testing.assert_array_equal(found.depth_z, given.depth_z)
    np.testing.assert_array_equal(found.c2w, np.stack([scene.frames[view].camera.c2w for view in scene.train]))
    assert np.isfinite(found.disparity_sigma).any()


def test_only_points_with_tracks_join_the_triangulated_ones(tmp_path, monkeypatch):
    scene = write_cloud(tmp_path, w.POINTS)
    guessed = given_points(scene)
    assert guessed is not None and summarise(scene, None)["tracked_points"] == 0
    own = replace(guessed, points=guessed.points[:9], tracked=True)
    poses = np.stack([scene.frames[view].camera.c2w for view in scene.train])
    triangulation = Triangulation(own, poses, np.ones((len(poses), 2)), np.ones(2))
    monkeypatch.setattr("ovseg3d.scene.sparse.triangulate", lambda *_, **__: triangulation)
    for given, count in ((None, 9), (guessed, 9), (replace(guessed, tracked=True), 9 + len(w.POINTS))):
        found = reconstruct(scene, adjust=False, given=given)
        assert found is not None and len(found.points) == count
