"""Every format gives the same cameras; features of single formats are tested for each."""

import json

import numpy as np
import pytest
import writers as w
from PIL import Image

from ovseg3d.limits import Trust
from ovseg3d.scene import inspect_scene, load_labels, load_scene
from ovseg3d.scene.images import IGNORED

WRITERS = {
    "nerfstudio": w.write_nerfstudio,
    "instant-ngp": w.write_ngp,
    "blender": w.write_blender,
    "llff": w.write_llff,
    "replica": w.write_replica,
    "scannet": w.write_scannet,
    "colmap": w.write_colmap,
    "colmap-txt": lambda folder: w.write_colmap(folder, text=True),
    "colmap-nerfstudio": lambda folder: w.write_colmap(folder, place="colmap/sparse/0"),
}


def _corners():
    return np.array([[0.5, 0.5], [23.5, 0.5], [23.5, 15.5], [11.0, 3.0]])


@pytest.mark.parametrize("name", WRITERS)
def test_one_camera_has_the_same_rays_in_every_format(name, tmp_path):
    scene = load_scene(WRITERS[name](tmp_path))
    assert scene.format == {"colmap-txt": "colmap", "colmap-nerfstudio": "colmap"}.get(name, name)
    assert len(scene.frames) == w.COUNT
    by_stem = {frame.image_path.stem.replace("frame0000", "").zfill(2): frame for frame in scene.frames}
    for i, pose in enumerate(w.poses()):
        camera = by_stem[f"{i:02d}"].camera
        origins, directions = camera.rays(_corners())
        plane = (_corners() - [w.WIDTH / 2, w.HEIGHT / 2]) / w.FOCAL
        expected = np.column_stack([plane, np.ones(4)]) @ pose[:3, :3].T
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        assert np.abs(directions - expected).max() < 1e-5
        assert np.abs(origins - pose[:3, 3]).max() < 1e-5


@pytest.mark.parametrize("name", ["nerfstudio", "instant-ngp", "llff", "replica", "scannet", "colmap", "colmap-txt"])
def test_without_lists_every_eighth_view_is_held_out(name, tmp_path):
    scene = load_scene(WRITERS[name](tmp_path))
    assert scene.test == (0, 8)
    assert scene.train == (1, 2, 3, 4, 5, 6, 7)


def test_blender_files_state_the_split(tmp_path):
    scene = load_scene(w.write_blender(tmp_path))
    assert [scene.frames[i].name for i in scene.test] == ["test/07.png", "test/08.png"]
    assert len(scene.train) == 7


def test_nerfstudio_lists_state_the_split(tmp_path):
    data = w.transforms(
        train_filenames=["images/01.png", "images/02.png", "images/03.png"],
        val_filenames=["images/00.png"],
        test_filenames=["./images/05.png"],
    )
    scene = load_scene(w.write_nerfstudio(tmp_path, data))
    assert scene.train == (1, 2, 3)
    assert scene.test == (5,)
    assert load_scene(tmp_path, train_on_all=True).train == tuple(range(9))


def test_validation_views_stand_in_for_missing_test_views(tmp_path):
    data = w.transforms(train_filenames=["images/01.png"], val_filenames=["images/00.png"], test_filenames=[])
    assert load_scene(w.write_nerfstudio(tmp_path, data)).test == (0,)


def test_a_z_up_format_is_not_turned_and_up_is_found_for_others(tmp_path):
    z_up = load_scene(w.write_nerfstudio(tmp_path / "a"))
    assert np.array_equal(z_up.world_from_input, np.eye(4))
    for folder, write in (("b", w.write_llff), ("c", w.write_colmap)):
        world = load_scene(write(tmp_path / folder)).world_from_input
        assert np.allclose(world[:3, :3] @ [0, 0, 1], [0, 0, 1], atol=2e-3)
        assert np.linalg.det(world[:3, :3]) == pytest.approx(1)


def test_up_is_found_in_a_tilted_frame_with_cameras_that_look_down(tmp_path, monkeypatch):
    tilt, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    tilt *= np.sign(np.linalg.det(tilt))
    upright = w.poses()
    turned = [np.vstack([tilt @ pose[:3], pose[3:]]) for pose in upright]
    monkeypatch.setattr(w, "poses", lambda: turned)
    scene = load_scene(w.write_llff(tmp_path))
    assert (scene.world_from_input[:3, :3] @ tilt @ [0, 0, 1])[2] > 0.9999
    # The origin is the middle of the cameras that are trained on.
    world = [scene.world_from_input @ scene.frames[view].camera.c2w for view in scene.train]
    assert np.allclose(np.mean(world, axis=0)[:3, 3], 0, atol=1e-9)


def test_scale_makes_a_scene_metric(tmp_path):
    scene = load_scene(w.write_llff(tmp_path), scale=0.5)
    assert scene.metric and scene.metres_per_unit == 0.5
    assert np.cbrt(np.linalg.det(scene.world_from_input[:3, :3])) == pytest.approx(0.5)
    plain = load_scene(tmp_path)
    assert not plain.metric and plain.metres_per_unit is None


def test_llff_states_near_and_far(tmp_path):
    assert load_scene(w.write_llff(tmp_path)).frames[3].near_far == (1.5, 6.0)


def test_colmap_has_sparse_points(tmp_path):
    for text in (False, True):
        scene = load_scene(w.write_colmap(tmp_path / str(text), text=text))
        assert scene.points is not None and scene.points_rgb is not None
        order = np.lexsort(scene.points.T)
        assert np.allclose(scene.points[order], w.POINTS[np.lexsort(w.POINTS.T)], atol=1e-6)
        assert (scene.points_rgb == [10, 20, 30]).all()


def test_nerfstudio_has_sparse_points(tmp_path):
    import trimesh

    cloud = trimesh.PointCloud(w.POINTS, colors=np.full((60, 4), [10, 20, 30, 255], dtype=np.uint8))
    cloud.export(tmp_path / "sparse.ply")
    scene = load_scene(w.write_nerfstudio(tmp_path, w.transforms(ply_file_path="sparse.ply")))
    assert scene.points is not None and scene.points_rgb is not None
    assert np.allclose(scene.points, w.POINTS, atol=1e-6)
    assert (scene.points_rgb == [10, 20, 30]).all()


COLMAP_LENSES = {
    "SIMPLE_PINHOLE": ((20, 11, 7), (20, 20, 11, 7), ()),
    "PINHOLE": ((20, 21, 11, 7), (20, 21, 11, 7), ()),
    "SIMPLE_RADIAL": ((20, 11, 7, 0.05), (20, 20, 11, 7), (0.05,)),
    "RADIAL": ((20, 11, 7, 0.05, -0.01), (20, 20, 11, 7), (0.05, -0.01)),
    "OPENCV": ((20, 21, 11, 7, 0.05, -0.01, 0.002, 0.003), (20, 21, 11, 7), (0.05, -0.01, 0.002, 0.003)),
    "OPENCV_FISHEYE": ((20, 21, 11, 7, 0.05, -0.01, 0.02, 0.003), (20, 21, 11, 7), (0.05, -0.01, 0.02, 0.003)),
}


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("model", COLMAP_LENSES)
def test_colmap_lenses_agree_with_pycolmap(model, text, tmp_path):
    import pycolmap

    parameters, intrinsics, distortion = COLMAP_LENSES[model]
    camera = load_scene(w.write_colmap(tmp_path, model, parameters, text=text)).frames[0].camera
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == intrinsics
    assert camera.distortion == distortion
    theirs = pycolmap.Camera(model=model, width=w.WIDTH, height=w.HEIGHT, params=list(parameters))
    plane = theirs.cam_from_img(_corners())  # z = 1 for every model
    plane = np.asarray(plane)
    expected = np.column_stack([plane[:, :2], np.ones(4)])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    _, directions = camera.rays(_corners())
    assert np.abs(directions @ camera.c2w[:3, :3] - expected).max() < 1e-6


def test_transforms_state_distortion_in_three_ways(tmp_path):
    k = {"k1": 0.05, "k2": -0.01, "p1": 0.002, "p2": 0.003}
    scene = load_scene(w.write_nerfstudio(tmp_path / "a", w.transforms(camera_model="OPENCV", **k)))
    assert scene.frames[0].camera.coefficients == (0.05, -0.01, 0.002, 0.003, 0, 0)
    listed = w.transforms(distortion_params=[0.05, -0.01, 0.0, 0.0, 0.002, 0.003])
    scene = load_scene(w.write_nerfstudio(tmp_path / "b", listed))
    assert scene.frames[0].camera.coefficients == (0.05, -0.01, 0.002, 0.003, 0, 0)
    fisheye = w.transforms(camera_model="OPENCV_FISHEYE", k1=0.1, k2=0.2, k3=0.3, k4=0.4)
    camera = load_scene(w.write_nerfstudio(tmp_path / "c", fisheye)).frames[0].camera
    assert (camera.model, camera.coefficients) == ("OPENCV_FISHEYE", (0.1, 0.2, 0.3, 0.4))
    ngp = w.transforms(aabb_scale=4, is_fisheye=True, k1=0.1, k2=0.2, k3=0.3, k4=0.4)
    w.write_nerfstudio(tmp_path / "d", ngp)
    assert load_scene(tmp_path / "d").frames[0].camera.coefficients == (0.1, 0.2, 0.3, 0.4)


def test_a_frame_may_have_its_own_intrinsics(tmp_path):
    data = w.transforms()
    data["frames"][4].update(fl_x=30.0, cx=10.0, k1=0.1)
    frames = load_scene(w.write_nerfstudio(tmp_path, data)).frames
    assert (frames[4].camera.fx, frames[4].camera.cx, frames[4].camera.fy) == (30.0, 10.0, 20.0)
    assert frames[4].camera.distortion[0] == 0.1
    assert (frames[3].camera.fx, frames[3].camera.distortion) == (20.0, ())


def test_our_own_keys(tmp_path):
    from PIL import Image

    data = w.transforms(
        classes={"2": "floor", "1": "a red chair"},
        ignore_label=255,
        recommended_encoder={"clip": "builtin", "dino": "builtin"},
    )
    labels = np.zeros((w.HEIGHT, w.WIDTH), dtype=np.uint8)
    labels[3, 4], labels[5, 6] = 2, 255
    (tmp_path / "labels").mkdir()
    Image.fromarray(labels).save(tmp_path / "labels/00.png")
    data["frames"][0]["label_file_path"] = "labels/00.png"
    scene = load_scene(w.write_nerfstudio(tmp_path, data))
    assert scene.classes == {1: "a red chair", 2: "floor"}
    assert scene.phrases == ("a red chair", "floor")
    assert scene.ignore_label == 255
    assert scene.recommended_encoder == {"clip": "builtin", "dino": "builtin"}
    known = np.where(labels == 255, IGNORED, labels.astype(int))
    assert np.array_equal(load_labels(scene.frames[0], scene), known)
    assert not load_labels(scene.frames[1]).any()


@pytest.mark.parametrize(("dtype", "largest"), [(np.uint8, 255), (np.uint16, 65535)])
def test_what_is_to_be_ignored_is_told_by_the_capture_or_else_by_the_type(tmp_path, dtype, largest):
    from PIL import Image

    labels = np.zeros((w.HEIGHT, w.WIDTH), dtype)
    labels[0], labels[1], labels[2] = 1, largest, 7
    Image.fromarray(labels).save(tmp_path / "00.png")

    def read(**said):
        data = w.transforms(classes={"1": "floor"} | said.pop("classes", {}), **said)
        data["frames"][0]["label_file_path"] = "00.png"
        scene = load_scene(w.write_nerfstudio(tmp_path, data))
        return load_labels(scene.frames[0], scene)[:3, 0].tolist(), load_labels(scene.frames[0])[:3, 0].tolist()

    assert read() == ([1, IGNORED, 7], [1, IGNORED, 7])
    assert read(ignore_label=7)[0] == [1, largest, IGNORED]
    assert read(classes={str(largest): "sky"})[0] == [1, largest, 7]


def test_labels_of_one_bit_are_0_and_1(tmp_path):
    from PIL import Image

    labels = np.zeros((w.HEIGHT, w.WIDTH), bool)
    labels[3] = True
    Image.fromarray(labels).save(tmp_path / "00.png")
    data = w.transforms(classes={"1": "floor"})
    data["frames"][0]["label_file_path"] = "00.png"
    scene = load_scene(w.write_nerfstudio(tmp_path, data))
    assert np.array_equal(load_labels(scene.frames[0], scene), labels.astype(int))


def test_the_3d_ovs_layout(tmp_path):
    from PIL import Image

    w.write_llff(tmp_path)
    (tmp_path / "segmentations/02").mkdir(parents=True)
    (tmp_path / "segmentations/classes.txt").write_text("wood wall\nPikachu\n\n")
    for phrase, row in (("wood wall", 3), ("Pikachu", 7)):
        mask = np.zeros((w.HEIGHT, w.WIDTH), dtype=np.uint8)
        mask[row] = 255
        Image.fromarray(mask).save(tmp_path / f"segmentations/02/{phrase}.png")
    scene = load_scene(tmp_path)
    assert scene.phrases == ("wood wall", "Pikachu")
    assert scene.classes == {1: "wood wall", 2: "Pikachu"}
    labels = load_labels(scene.frames[2])
    assert labels[3, 0] == 1 and labels[7, 0] == 2 and labels[0, 0] == 0
    assert scene.frames[1].label_path is None


@pytest.mark.parametrize("copy", [False, True])
def test_labels_count_photos_that_have_no_pose_or_no_file(copy, tmp_path):
    """COLMAP leaves 01.png out, and the photo 03.png is missing: 05 is still 05.png."""
    w.write_colmap(tmp_path, text=True)
    model = tmp_path / "sparse/0/images.txt"
    lines = model.read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if line.endswith(" 01.png"))
    model.write_text("\n".join(lines[:at] + lines[at + 2 :]))
    (tmp_path / "images/03.png").unlink()
    (tmp_path / "images/._00.png").write_bytes(b"")  # macOS leaves such files
    if copy:
        (tmp_path / "images").rename(tmp_path / "images_2")
    (tmp_path / "segmentations/05").mkdir(parents=True)
    (tmp_path / "segmentations/classes.txt").write_text("wall")
    scene = load_scene(tmp_path, downscale=2 if copy else 1)
    assert [frame.name for frame in scene.frames if frame.label_path] == ["images/05.png"]
    assert scene.photos == tuple(f"images/{name}" for name in w.NAMES) and len(scene.frames) == 7
    assert any("1 photos that have no pose: images/01.png" in note for note in scene.notes)
    # More labels than photos: photos were removed, and it is unknown which.
    (tmp_path / "segmentations/09").mkdir()
    scene = load_scene(tmp_path, downscale=2 if copy else 1)
    assert not any(frame.label_path for frame in scene.frames) and scene.phrases == ("wall",)
    assert any("09 belong to no photo: there are 9" in note for note in scene.notes)


def test_depth_beside_the_photos_is_no_photo(tmp_path):
    data = w.transforms()
    for frame in data["frames"]:
        frame["depth_file_path"] = frame["file_path"].replace(".png", "_depth.png")
    w.write_nerfstudio(tmp_path, data)
    w.write_photos(tmp_path / "images", ["00_depth.png"])
    depth = tmp_path / "images" / "00_depth.png"
    Image.open(depth).convert("L").save(depth)
    assert load_scene(tmp_path).photos == tuple(f"images/{name}" for name in w.NAMES)


def test_colmap_without_photos_yields_to_llff_and_still_gives_points(tmp_path):
    w.write_llff(tmp_path)
    w.write_colmap(tmp_path)
    assert load_scene(tmp_path).format == "colmap"
    (tmp_path / "sparse/0/images.bin").unlink()
    scene = load_scene(tmp_path)
    assert scene.format == "llff"
    assert "images.bin" in scene.notes[0]
    assert scene.points is not None and len(scene.points) == 60


@pytest.mark.parametrize("keep", [3, 60, 200])
def test_a_colmap_model_that_is_cut_yields_too(keep, tmp_path):
    w.write_llff(tmp_path)
    w.write_colmap(tmp_path)
    path = tmp_path / "sparse/0/images.bin"
    path.write_bytes(path.read_bytes()[:keep])
    scene = load_scene(tmp_path)
    assert scene.format == "llff" and "cut short" in scene.notes[0]


def test_the_format_can_be_chosen(tmp_path):
    w.write_llff(tmp_path)
    w.write_colmap(tmp_path)
    assert load_scene(tmp_path, format="llff").format == "llff"
    w.write_nerfstudio(tmp_path)
    assert load_scene(tmp_path).format == "nerfstudio"
    assert load_scene(tmp_path, format="colmap").format == "colmap"


def test_a_json_file_may_be_given_instead_of_its_folder(tmp_path):
    w.write_nerfstudio(tmp_path)
    (tmp_path / "transforms.json").rename(tmp_path / "other.json")
    scene = load_scene(tmp_path / "other.json")
    assert len(scene.frames) == 9 and scene.path == tmp_path


def test_frames_listed_twice_are_dropped_with_a_note(tmp_path):
    data = w.transforms()
    data["frames"] += [data["frames"][2], {**data["frames"][3], "file_path": "./images/03.png"}]
    scene = load_scene(w.write_nerfstudio(tmp_path, data))
    assert len(scene.frames) == 9
    assert any("listed more than once" in note for note in scene.notes)


def test_frames_are_sorted_by_name(tmp_path):
    data = w.transforms()
    data["frames"].reverse()
    scene = load_scene(w.write_nerfstudio(tmp_path, data))
    assert [frame.name for frame in scene.frames] == [f"images/{name}" for name in w.NAMES]


def test_frames_without_a_photo_are_left_out_with_a_note(tmp_path):
    w.write_nerfstudio(tmp_path)
    (tmp_path / "images/04.png").unlink()
    scene = load_scene(tmp_path)
    assert len(scene.frames) == 8
    assert any("04.png" in note and "no photo" in note for note in scene.notes)


def test_photos_outside_the_folder_are_read_where_the_user_allows_it(tmp_path):
    w.write_photos(tmp_path / "elsewhere")
    data = w.transforms()
    for frame in data["frames"]:
        frame["file_path"] = frame["file_path"].replace("images/", "../elsewhere/")
    (tmp_path / "scene").mkdir()
    (tmp_path / "scene/transforms.json").write_text(json.dumps(data))
    before = sorted(tmp_path.rglob("*"))
    scene, problems = inspect_scene(tmp_path / "scene")
    assert scene is None and len(problems) == 9 and all("outside" in problem.what for problem in problems)
    scene, problems = inspect_scene(tmp_path / "scene", trust=Trust(outside=True))
    assert scene is not None and not problems and len(scene.frames) == 9
    assert any("outside" in note for note in scene.notes)
    assert sorted(tmp_path.rglob("*")) == before
