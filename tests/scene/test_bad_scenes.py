"""Every error in a capture has its own message: the problem, the file, and the fix."""

import json
from pathlib import Path

import numpy as np
import pytest
import writers as w
from PIL import Image

from ovseg3d.errors import SceneError
from ovseg3d.scene import inspect_scene, load_photo, load_scene


def _refused(folder: Path, **options) -> SceneError:
    with pytest.raises(SceneError) as caught:
        load_scene(folder, **options)
    error = caught.value
    assert error.what and error.where is not None and error.fix
    return error


def _changed(folder: Path, change) -> SceneError:
    """The error of a transforms.json after `change`."""
    data = w.transforms()
    changed = change(data)
    w.write_nerfstudio(folder, data if changed is None else changed)
    with pytest.raises(SceneError) as caught:
        load_scene(folder)
    assert caught.value.where is not None and "transforms.json" in str(caught.value.where)
    return caught.value


def test_missing_folder(tmp_path):
    error = _refused(tmp_path / "nowhere")
    assert error.what == "There is no such folder" and error.where == tmp_path / "nowhere"


def test_a_scene_that_cannot_be_looked_at(closed, cli):
    for path in (closed, closed / "room"):
        assert _refused(path).what == "No permission to look here"
    done = cli("info", closed / "room")
    assert done.returncode == 2 and "No permission to look here" in done.stderr
    with pytest.raises(SceneError, match="File name too long"):
        load_scene("x" * 300)


def test_names_that_are_no_text(tmp_path, cli):
    w.write_nerfstudio(tmp_path / "caf\udce9")
    done = cli("info", tmp_path / "caf\udce9")
    assert done.returncode == 2 and "no text in UTF-8" in done.stderr
    w.write_llff(tmp_path / "llff")
    photo = next((tmp_path / "llff/images").iterdir())
    photo.rename(photo.with_name(f"caf\udce9{photo.suffix}"))
    error = _refused(tmp_path / "llff")
    assert "no text in UTF-8" in error.what and r"caf\udce9" in error.where


def test_no_known_format(tmp_path):
    error = _refused(tmp_path)
    assert "no known kind" in error.what and "transforms.json" in error.fix
    with pytest.raises(SceneError, match="no format") as caught:
        load_scene(tmp_path, format="nerfstudo")
    assert "nerfstudio" in caught.value.fix
    assert "Not readable as llff" in _refused(tmp_path, format="llff").what


@pytest.mark.parametrize("place", ["", "photos"])
def test_raw_photos_point_at_prepare(place, tmp_path):
    w.write_photos(tmp_path / place)
    error = _refused(tmp_path)
    assert "no camera poses" in error.what
    assert "ovseg3d prepare" in error.fix and "ns-process-data" in error.fix


@pytest.mark.parametrize(
    ("model", "fix"), [("dense/sparse", "dense"), ("distorted/sparse/0", "distorted"), ("sparse/1", "move it")]
)
def test_a_colmap_model_elsewhere_is_pointed_out(tmp_path, model, fix):
    w.write_photos(tmp_path / "photos")
    (tmp_path / model).mkdir(parents=True)
    (tmp_path / model / "cameras.bin").write_bytes(b"")
    error = _refused(tmp_path)
    assert f"COLMAP model in {model}/" in error.what and fix in error.fix


def test_a_run_is_no_capture(tmp_path):
    w.write_photos(tmp_path / "previews")
    for name in ("config.json", "scene_transform.json"):
        (tmp_path / name).write_text("{}")
    error = _refused(tmp_path)
    assert "a run, not a capture" in error.what and "--resume" in error.fix


def test_a_video_points_at_prepare(tmp_path):
    video = tmp_path / "room.mp4"
    video.write_bytes(b"")
    assert f"ovseg3d prepare {video}" in _refused(tmp_path).fix
    assert f"ovseg3d prepare {video}" in _refused(video).fix


def test_raw_exports_of_apps_point_at_ns_process_data(tmp_path):
    (tmp_path / "keyframes").mkdir()
    assert "ns-process-data polycam" in _refused(tmp_path).fix


def test_an_incomplete_colmap_model_alone(tmp_path):
    w.write_colmap(tmp_path)
    (tmp_path / "sparse/0/images.bin").unlink()
    assert "images.bin" in _refused(tmp_path).what


def test_a_photo_that_is_no_image(tmp_path):
    w.write_nerfstudio(tmp_path)
    (tmp_path / "images/03.png").write_text("not an image")
    error = _refused(tmp_path)
    assert "not a readable image" in error.what and error.where == tmp_path / "images/03.png"


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_photo_that_is_cut_short_is_found_before_training(suffix, tmp_path):
    data = w.transforms()
    w.write_photos(tmp_path / "images")
    for frame in data["frames"]:
        frame["file_path"] = frame["file_path"].replace("png", suffix)
    w.write_photos(tmp_path / "images", [Path(f["file_path"]).name for f in data["frames"]])
    (tmp_path / "transforms.json").write_text(json.dumps(data))
    whole = load_scene(tmp_path)
    path = tmp_path / f"images/03.{suffix}"
    path.write_bytes(path.read_bytes()[:-60])
    error = _refused(tmp_path)
    assert "cannot be decoded" in error.what and error.where == path
    with pytest.raises(SceneError, match="cannot be decoded"):
        load_photo(whole.frames[3])


def test_a_photo_unlike_its_intrinsics(tmp_path):
    w.write_nerfstudio(tmp_path)
    w.photo(3, (30, 16)).save(tmp_path / "images/03.png")
    error = _refused(tmp_path)
    assert "30x16" in error.what and "24x16" in error.what and error.where == tmp_path / "images/03.png"


def test_a_photo_that_lies_on_its_side(tmp_path):
    w.write_nerfstudio(tmp_path)
    w.photo(3, (16, 24)).save(tmp_path / "images/03.png")
    assert "turned by 90 degrees" in _refused(tmp_path).fix


def test_one_photo_of_half_size_among_others(tmp_path):
    w.write_nerfstudio(tmp_path)
    w.photo(3, (12, 8)).save(tmp_path / "images/03.png")
    error = _refused(tmp_path)
    assert "0.5 times as large" in error.what and "03.png" in str(error.where)


def test_small_photos_whose_masks_do_not_fit(tmp_path):
    data = w.transforms()
    for frame in data["frames"]:
        frame["mask_path"] = "mask.png"
    w.write_nerfstudio(tmp_path, data)
    w.write_photos(tmp_path / "images", size=(12, 8))
    Image.new("L", (5, 5)).save(tmp_path / "mask.png")
    error = _refused(tmp_path)
    assert "mask of images/00.png is 5x5" in error.what and "8 more problems" in (error.fix or "")


def test_all_photos_missing(tmp_path):
    w.write_nerfstudio(tmp_path)
    for path in (tmp_path / "images").iterdir():
        path.unlink()
    error = _refused(tmp_path)
    assert "None of the 9 photos" in error.what and "00.png" in str(error.where)


@pytest.mark.parametrize("value", [1, "yes", []])
def test_metric_is_true_or_false(value, tmp_path):
    assert "'metric'" in _changed(tmp_path, lambda data: data.update(metric=value)).what


@pytest.mark.parametrize("stated", [True, False])
def test_what_is_stated_of_metres_wins(stated, tmp_path):
    data = w.transforms()
    guessed = load_scene(w.write_nerfstudio(tmp_path / "a", data)).metric
    data["metric"] = stated
    scene = load_scene(w.write_nerfstudio(tmp_path / "b", data))
    assert scene.metric is stated and scene.metres_per_unit == (1.0 if stated else None)
    assert guessed in (True, False) and load_scene(tmp_path / "b", scale=2).metres_per_unit == 2


def test_a_number_too_large_for_any_lens(tmp_path):
    assert "too large" in _changed(tmp_path / "a", lambda data: data.update(cx=10**400)).what
    change = lambda data: data["frames"][2]["transform_matrix"][0].__setitem__(3, 10**400)  # noqa: E731
    assert "transform_matrix" in _changed(tmp_path / "b", change).what


def _set_pose(value):
    def change(data):
        matrix = np.array(data["frames"][4]["transform_matrix"])
        data["frames"][4]["transform_matrix"] = value(matrix).tolist()

    return change


POSES = {
    "NaN": lambda m: m * np.nan,
    "infinity": lambda m: np.where(np.arange(4) == 3, np.inf, m),
    "no rotation": lambda m: m @ np.diag([2.0, 2.0, 2.0, 1.0]),
    "skewed": lambda m: m + np.outer([0.3, 0, 0, 0], [0, 1, 0, 0]),
    "zero": lambda m: m * 0,
    "mirrors": lambda m: m @ np.diag([1.0, 1.0, -1.0, 1.0]),
}


@pytest.mark.parametrize("kind", POSES)
def test_impossible_poses(kind, tmp_path):
    data = w.transforms()
    _set_pose(POSES[kind])(data)
    error = _refused(w.write_nerfstudio(tmp_path, data))
    expected = {"NaN": "NaN", "infinity": "NaN", "mirrors": "mirrors"}.get(kind, "no rotation")
    assert expected in error.what and "04.png" in str(error.where)


def test_one_camera_only(tmp_path):
    data = w.transforms()
    del data["frames"][1:]
    assert "only one camera" in _refused(w.write_nerfstudio(tmp_path, data)).what


def test_empty_splits(tmp_path):
    names = [f"images/{name}" for name in w.NAMES]
    data = w.transforms(train_filenames=[], val_filenames=names, test_filenames=[])
    assert "no photo to train on" in _refused(w.write_nerfstudio(tmp_path / "a", data)).what
    data = w.transforms(train_filenames=names, val_filenames=[], test_filenames=[])
    error = _refused(w.write_nerfstudio(tmp_path / "b", data))
    assert "hold no photo out" in error.what and "--train-on-all" in error.fix
    assert load_scene(tmp_path / "b", train_on_all=True).test == ()


@pytest.mark.parametrize("kind", ["depth_file_path", "mask_path"])
@pytest.mark.parametrize("size", [(24, 17), (12, 9), (48, 32)])
def test_depth_and_masks_of_another_size(kind, size, tmp_path):
    data = w.transforms()
    Image.new("L", size, 255).save(tmp_path / "other.png")
    data["frames"][4][kind] = "other.png"
    error = _refused(w.write_nerfstudio(tmp_path, data))
    assert f"{size[0]}x{size[1]}" in error.what and "24x16" in error.what
    assert "04.png" in error.what and error.where == tmp_path / "other.png"


@pytest.mark.parametrize("name", ["colours.png", "colours.npy"])
def test_depth_in_colours(name, tmp_path, cli):
    if name.endswith(".npy"):
        np.save(tmp_path / name, np.ones((16, 24, 3), np.float32))
    else:
        Image.new("RGB", (24, 16)).save(tmp_path / name)
    data = w.transforms()
    data["frames"][4]["mask_path"] = name
    assert load_scene(w.write_nerfstudio(tmp_path, data)).frames[4].mask_path, "a mask may have them"
    data["frames"][4]["depth_file_path"] = name
    error = _refused(w.write_nerfstudio(tmp_path, data))
    assert "3 channels" in error.what and error.where == tmp_path / name
    done = cli("info", tmp_path)
    assert done.returncode == 2 and "3 channels" in done.stdout and name in done.stdout


def test_depth_arrays_of_another_size(tmp_path):
    np.save(tmp_path / "d.npy", np.ones((5, 6), dtype=np.float32))
    data = w.transforms()
    data["frames"][4]["depth_file_path"] = "d.npy"
    assert "6x5" in _refused(w.write_nerfstudio(tmp_path, data)).what


def test_broken_json(tmp_path):
    w.write_nerfstudio(tmp_path)
    (tmp_path / "transforms.json").write_text('{"frames": [')
    error = _refused(tmp_path)
    assert "not valid JSON" in error.what and "line" in str(error.where)


@pytest.mark.parametrize("text", ["[]", "3", "null"])
def test_json_that_is_no_object(text, tmp_path):
    (tmp_path / "transforms.json").write_text(text)
    with pytest.raises(SceneError, match="one JSON object"):
        load_scene(tmp_path)


def _set(key, value, frame=False):
    def change(data):
        (data["frames"][2] if frame else data)[key] = value

    return change


WRONG = {
    "frames is text": (_set("frames", "all"), "'frames' is text"),
    "frames is missing": (lambda d: {k: v for k, v in d.items() if k != "frames"}, "'frames' is missing"),
    "frames is empty": (_set("frames", []), "empty"),
    "frame is a number": (lambda d: d["frames"].__setitem__(2, 7), "A frame is a number"),
    "file_path is missing": (lambda d: d["frames"][2].pop("file_path") and None, "'file_path' is missing"),
    "file_path is a number": (_set("file_path", 3, True), "'file_path' is a number"),
    "pose is missing": (_set("transform_matrix", None, True), "'transform_matrix' is missing"),
    "pose is 2x2": (_set("transform_matrix", [[1, 0], [0, 1]], True), "4 rows"),
    "pose is ragged": (_set("transform_matrix", [[1, 0], [0]], True), "4 rows"),
    "pose is text": (_set("transform_matrix", "identity", True), "4 rows"),
    "focal is text": (_set("fl_x", "500"), "'fl_x' is text"),
    "focal is zero": (_set("fl_x", 0), "'fl_x' is 0"),
    "focal is NaN": (_set("fl_x", float("nan")), "'fl_x' is not finite"),
    "no focal": (lambda d: {k: v for k, v in d.items() if not k.startswith("fl")}, "No focal length"),
    "width is a list": (_set("w", [24]), "'w' is a list"),
    "width is negative": (_set("w", -24), "'w' is -24"),
    "distortion is text": (_set("k1", "0.1"), "'k1' is text"),
    "distortion list": (_set("distortion_params", [1, 2, "3"]), "distortion_params"),
    "camera model": (_set("camera_model", "EQUIRECTANGULAR"), "EQUIRECTANGULAR is not supported"),
    "camera model type": (_set("camera_model", 4), "'camera_model' is a number"),
    "mask is a number": (_set("mask_path", 4, True), "'mask_path' is a number"),
    "lists": (_set("train_filenames", "all"), "'train_filenames'"),
    "classes": (_set("classes", ["table"]), "'classes'"),
    "class keys": (_set("classes", {"one": "table"}), "no number"),
    "depth unit": (_set("depth_unit_scale_factor", "mm"), "'depth_unit_scale_factor' is text"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_types_in_transforms_json(case, tmp_path):
    change, message = WRONG[case]
    assert message in _changed(tmp_path, change).what


def test_llff_with_another_number_of_photos(tmp_path):
    w.write_llff(tmp_path)
    (tmp_path / "images/03.png").unlink()
    assert "9 poses but 8 photos" in _refused(tmp_path).what


def test_llff_of_another_shape_or_broken(tmp_path):
    w.write_llff(tmp_path)
    np.save(tmp_path / "poses_bounds.npy", np.zeros((9, 15)))
    assert "9x15" in _refused(tmp_path).what
    (tmp_path / "poses_bounds.npy").write_bytes(b"\x93NUMPY")
    assert "no array" in _refused(tmp_path).what


def test_a_pickled_array_is_not_run(tmp_path):
    w.write_llff(tmp_path)
    np.save(tmp_path / "poses_bounds.npy", np.array([{"a": 1}] * 9), allow_pickle=True)
    assert "plain numbers" in _refused(tmp_path).what


def test_colmap_models_without_rays(tmp_path):
    w.write_colmap(tmp_path, "FULL_OPENCV", (20, 20, 12, 8) + (0.0,) * 8)
    error = _refused(tmp_path)
    assert "FULL_OPENCV is not supported" in error.what and "image_undistorter" in error.fix


def test_impossible_options(tmp_path):
    w.write_nerfstudio(tmp_path)
    for options in ({"downscale": 0.5}, {"downscale": -1}, {"scale": 0.0}, {"max_side": 0}):
        with pytest.raises(SceneError, match="--"):
            load_scene(tmp_path, **options)


@pytest.mark.parametrize("options", [{"downscale": 1000}, {"max_side": 2}])
def test_photos_reduced_to_nothing(tmp_path, options):
    w.write_nerfstudio(tmp_path)
    error = _refused(tmp_path, **options)
    assert "a side has at least 4" in error.what and error.fix == "--downscale 4, or less"
    load_scene(tmp_path, downscale=4)


def test_several_problems_are_gathered(tmp_path):
    w.write_nerfstudio(tmp_path)
    w.photo(3, (30, 16)).save(tmp_path / "images/03.png")
    (tmp_path / "images/05.png").write_text("")
    scene, problems = inspect_scene(tmp_path)
    assert scene is not None and len(scene.frames) == 7
    assert [Path(str(p.where)).name for p in problems] == ["03.png", "05.png"]
    assert "1 more problem" in _refused(tmp_path).fix
