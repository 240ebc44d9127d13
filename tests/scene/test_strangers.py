"""Untrusted captures: files outside the folder are not read, no reader hangs, and invalid values are rejected."""

import json
import math
import os
import shutil
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import plyfile
import pytest
import writers as w
from PIL import Image

from ovseg3d.errors import SceneError
from ovseg3d.field.config import FieldConfig
from ovseg3d.field.scene_bounds import find_box
from ovseg3d.limits import MAX_FRAMES, Trust
from ovseg3d.scene import check_scene, inspect_scene, load_scene, plot_scene

pytestmark = pytest.mark.timeout(20, method="signal")

FRAME = 4


def _write(folder: Path, top: dict[str, Any] | None = None, frame: dict[str, Any] | None = None) -> Path:
    """A valid nerfstudio scene, except for some top-level keys, or keys of one frame."""
    data = w.transforms(camera_model="OPENCV", **(top or {}))
    data["frames"][FRAME].update(frame or {})
    return w.write_nerfstudio(folder, data)


def _refused(folder: Path, **options: Any) -> SceneError:
    with pytest.raises(SceneError) as caught:
        load_scene(folder, **options)
    assert caught.value.what and str(caught.value).isascii() and str(caught.value).replace("\n", "").isprintable()
    return caught.value


def _warnings(folder: Path) -> str:
    return " ".join(f.what for f in check_scene(load_scene(folder)) if f.level == "warning")


# Numbers

NO_CAMERA = [
    *((key, value) for key in ("fl_x", "fl_y") for value in (0, -1, 1e-6, 1e9, 1e300, 5e-324)),
    *((key, value) for key in ("cx", "cy") for value in (1e9, -1e9, 1e300)),
    *(("k1", value) for value in (1e6, -1e6, 1e300)),
    ("k4", 1e30), ("p1", 1e6), ("w", 0), ("w", -24), ("w", 1e9), ("h", 1e300), ("h", -1),
    ("depth_unit_scale_factor", 0), ("depth_unit_scale_factor", -1), ("depth_unit_scale_factor", 1e30),
    ("depth_unit_scale_factor", 1e-30), ("aabb_scale", -1), ("aabb_scale", 1e300), ("aabb_scale", 0),
    ("ignore_label", 1e300), ("ignore_label", 1.5), ("ignore_label", 2**40),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value"), NO_CAMERA)
def test_numbers_that_no_camera_has(key: str, value: float | int, tmp_path: Path) -> None:
    error = _refused(_write(tmp_path, {key: value}))
    assert f"'{key}' is {value:g}" in error.what and "expected" in error.what
    assert "transforms.json" in str(error.where)


def test_a_lens_of_all_photos_is_complained_of_once(tmp_path: Path) -> None:
    _, problems = inspect_scene(_write(tmp_path, {"fl_x": 1e9}))
    assert len(problems) == 1 and "frame images/00.png" in str(problems[0].where)


@pytest.mark.parametrize("angle", [0, -1, 1e-9, math.pi, 4, 1e300])
def test_angles_that_no_lens_has(angle: float | int, tmp_path: Path) -> None:
    data = w.transforms(camera_angle_x=angle)
    del data["fl_x"], data["fl_y"]
    assert f"'camera_angle_x' is {angle:g}" in _refused(w.write_nerfstudio(tmp_path, data)).what


def test_a_number_of_one_frame_spoils_that_frame_only(tmp_path: Path) -> None:
    scene, (problem,) = inspect_scene(_write(tmp_path, frame={"fl_x": 1e-6}))
    assert scene is not None and len(scene.frames) == 8 and "04.png" in str(problem.where)


@pytest.mark.parametrize("value", [1e9, -1e300, 1e308])
@pytest.mark.parametrize("place", [(0, 3), (1, 1)])
def test_poses_that_no_camera_has(value: float, place: tuple[int, int], tmp_path: Path) -> None:
    data = w.transforms()
    row, column = place
    data["frames"][FRAME]["transform_matrix"][row][column] = value
    error = _refused(w.write_nerfstudio(tmp_path, data))
    assert ("units away" if column == 3 else "no rotation") in error.what and "04.png" in str(error.where)


@pytest.mark.parametrize(
    "rows", [[["1", 0, 0, 0]] * 4, [[True] * 4] * 4, [[None] * 4] * 4, {"a": 1}, [[10**400] * 4] * 4]
)
def test_poses_of_something_else_than_numbers(rows: Any, tmp_path: Path) -> None:
    assert "4 rows of 4 numbers" in _refused(_write(tmp_path, frame={"transform_matrix": rows})).what


@pytest.mark.parametrize(
    "classes",
    [{"1e5": "a"}, {"-1": "a"}, {str(10**30): "a"}, {"1": "a", "01": "b"}, {"٣": "a"}, {" 1": "a"}, {"9" * 5000: "a"}],
)
def test_keys_of_classes(classes: dict[str, str], tmp_path: Path) -> None:
    assert "'classes'" in _refused(_write(tmp_path, {"classes": classes})).what


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("is_fisheye", "no"), ("ply_file_path", 3), ("metric", 1), ("distortion_params", [10**400]),
        ("distortion_params", [math.nan]), ("integer_depth_scale", "a"),
    ],
)  # fmt: skip
def test_other_types(key: str, value: Any, tmp_path: Path) -> None:
    _refused(_write(tmp_path, {key: value}))


@pytest.mark.parametrize("name", ["scale", "downscale", "max_side"])
@pytest.mark.parametrize("value", [1e300, 1e-300, 10**400, 0, math.nan])
def test_options_that_nobody_means(name: str, value: Any, tmp_path: Path) -> None:
    if name == "max_side":
        value = 10**400 if isinstance(value, int) and value else 0
    assert f"--{name.replace('_', '-')} is" in _refused(_write(tmp_path), **{name: value}).what


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_the_largest_scale_has_a_box_and_a_picture(scale: float, tmp_path: Path) -> None:
    scene = load_scene(_write(tmp_path / "scene"), scale=scale)
    plot_scene(scene, tmp_path / "plot.png")
    assert np.isfinite(find_box(scene, FieldConfig()).radius)


def test_odd_lenses_are_warned_of(tmp_path: Path) -> None:
    assert _warnings(_write(tmp_path / "sound")) == "There are only 7 photos to train on."
    assert "focal length of 9 frames is odd" in _warnings(_write(tmp_path / "focal", {"fl_x": 2000}))
    assert "far from the image's middle" in _warnings(_write(tmp_path / "centre", {"cx": 40}))
    Image.fromarray(np.full((w.HEIGHT, w.WIDTH), 3, dtype=np.uint16)).save(tmp_path / "depth.png")
    unit = _write(tmp_path / "unit", {"depth_unit_scale_factor": 100}, {"depth_file_path": "depth.png"})
    shutil.move(tmp_path / "depth.png", unit / "depth.png")
    assert "unit of the depth files is odd" in _warnings(unit)


def _llff(folder: Path, column: int, value: float) -> Path:
    w.write_llff(folder)
    table = np.load(folder / "poses_bounds.npy")
    table[FRAME, column] = value
    np.save(folder / "poses_bounds.npy", table)
    return folder


@pytest.mark.parametrize("column", [4, 9, 14])
@pytest.mark.parametrize("value", [0.3, 1e9, 1e300])
def test_llff_lenses_have_the_same_ranges(column: int, value: float, tmp_path: Path) -> None:
    assert "expected" in _refused(_llff(tmp_path, column, value)).what


@pytest.mark.parametrize("column", [3, 5])
def test_llff_poses_have_them_too(column: int, tmp_path: Path) -> None:
    assert "pose" in _refused(_llff(tmp_path, column, math.inf)).what
    assert any(word in _refused(_llff(tmp_path, column, 1e200)).what for word in ("units away", "no rotation"))


@pytest.mark.parametrize("far", [math.inf, 1e30, -1.0])
def test_llff_bounds_that_cannot_be_are_told(far: float, tmp_path: Path) -> None:
    assert "bounds that cannot be: 04.png" in _warnings(_llff(tmp_path, 16, far))


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("parameters", [(1e-6, 20, 12, 8), (20, 1e9, 12, 8), (20, 20, 1e9, 8)])
def test_colmap_lenses_have_the_same_ranges(parameters: tuple[float, ...], text: bool, tmp_path: Path) -> None:
    w.write_colmap(tmp_path, parameters=parameters, text=text)
    assert "expected" in _refused(tmp_path).what


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def _pose_of(folder: Path, index: int, numbers: str) -> None:
    """Another quaternion and translation of one photo of a COLMAP model in text."""
    path = folder / "sparse/0/images.txt"
    lines = path.read_text().splitlines()
    row = next(i for i, line in enumerate(lines) if line.endswith(w.NAMES[index]))
    number, *_, camera, name = lines[row].split()
    lines[row] = " ".join([number, numbers, camera, name])
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("numbers", ["0 0 0 0 1 2 3", "nan 0 0 1 1 2 3", "1 0 0 0 1e300 0 0", "1 0 0 0 inf 0 0"])
def test_colmap_poses_that_no_camera_has(numbers: str, tmp_path: Path) -> None:
    w.write_colmap(tmp_path, text=True)
    _pose_of(tmp_path, FRAME, numbers)
    assert "04.png" in str(_refused(tmp_path).where)


def test_a_quaternion_whose_square_overflows_is_a_rotation(tmp_path: Path) -> None:
    w.write_colmap(tmp_path, text=True)
    _pose_of(tmp_path, FRAME, "0 1e300 0 0 1 2 3")
    assert (
        load_scene(tmp_path).frames[FRAME].camera.c2w[0, 0] == 1 != load_scene(tmp_path).frames[FRAME].camera.c2w[1, 1]
    )


def test_sparse_points_with_odd_numbers(tmp_path: Path) -> None:
    w.write_colmap(tmp_path, text=True)
    (tmp_path / "sparse/0/points3D.txt").write_text("1 0 0 0 300 -5 7 0\n2 nan 0 0 1 2 3 0\n3 1e30 0 0 1 2 3 0\n")
    scene = load_scene(tmp_path)
    assert scene.points is not None and scene.points_rgb is not None
    assert scene.points.tolist() == [[0, 0, 0]] and scene.points_rgb.tolist() == [[255, 0, 7]]
    assert any("1 sparse points lie further" in note for note in scene.notes)
    for rows in ("1 0 0 0 1 2 3\n2 0 0\n", "1 a b c 1 2 3\n", "1 0 0 0 nan 2 3\n"):
        (tmp_path / "sparse/0/points3D.txt").write_text(rows)
        assert "no readable points3D" in _warnings(tmp_path)


@pytest.mark.parametrize("depth", [0.0, 1e38, math.nan])
def test_depth_that_says_nothing_leaves_the_box_to_the_cameras(depth: float, tmp_path: Path) -> None:
    data = w.transforms(depth_unit_scale_factor=1.0)
    for frame in data["frames"]:
        frame["depth_file_path"] = "depth.npy"
    w.write_nerfstudio(tmp_path, data)
    np.save(tmp_path / "depth.npy", np.full((w.HEIGHT, w.WIDTH), depth, np.float32))
    scene = load_scene(tmp_path)
    assert find_box(scene, FieldConfig(), use_depth=True) == find_box(scene, FieldConfig())


# Paths


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A folder outside of the capture, with a file of each kind."""
    folder = tmp_path / "secret"
    w.write_photos(folder)
    Image.new("L", (w.WIDTH, w.HEIGHT), 255).save(folder / "mask.png")
    cloud = np.zeros(60, dtype=[(axis, "f4") for axis in "xyz"])
    plyfile.PlyData([plyfile.PlyElement.describe(cloud, "vertex")]).write(str(folder / "cloud.ply"))
    return folder


NAMED = {
    "file_path": "04.png", "mask_path": "mask.png", "depth_file_path": "mask.png", "label_file_path": "mask.png",
    "ply_file_path": "cloud.ply",
}  # fmt: skip


@pytest.mark.parametrize("way", ["relative", "absolute", "folder", "file"])
@pytest.mark.parametrize("key", NAMED)
def test_what_transforms_json_names_stays_in_its_folder(key: str, way: str, secret: Path, tmp_path: Path) -> None:
    place = {"relative": "../secret", "absolute": str(secret), "folder": "linked", "file": "mine"}[way]
    stated = {key: f"{place}/{NAMED[key]}"}
    scene = _write(tmp_path / "scene", *([stated] if key == "ply_file_path" else [None, stated]))
    (scene / "linked").symlink_to(secret)
    (scene / "mine").mkdir()
    (scene / "mine" / NAMED[key]).symlink_to(secret / NAMED[key])
    assert "outside" in _refused(scene).what
    if key != "ply_file_path":
        found, problems = inspect_scene(scene)
        assert len(problems) == 1 and found is not None and len(found.frames) == 8
    load_scene(scene, trust=Trust(outside=True))


def test_a_capture_behind_a_link_and_links_within_are_read(tmp_path: Path) -> None:
    _write(tmp_path / "there")
    (tmp_path / "there/images").rename(tmp_path / "there/photos")
    (tmp_path / "there/images").symlink_to("photos")
    (tmp_path / "here").symlink_to("there")
    assert len(load_scene(tmp_path / "here").frames) == 9


LINKED = [
    ("colmap", "images"), ("colmap", "images/04.png"), ("colmap", "sparse"), ("colmap", "sparse/0/cameras.bin"),
    ("colmap", "sparse/0/images.bin"), ("colmap", "sparse/0/points3D.bin"), ("colmap", "masks/04.png"),
    ("colmap", "images_2"), ("llff", "images"), ("llff", "images/04.png"), ("llff", "poses_bounds.npy"),
    ("nerfstudio", "transforms.json"), ("blender", "transforms_test.json"), ("llff", "segmentations"),
    ("llff", "segmentations/classes.txt"), ("llff", "segmentations/00"), ("llff", "segmentations/00/a.png"),
    ("replica", "results"), ("replica", "traj.txt"), ("replica", "cam_params.json"),
    ("scannet", "color"), ("scannet", "color/4.png"), ("scannet", "pose"), ("scannet", "pose/4.txt"),
    ("scannet", "depth"), ("scannet", "intrinsic/intrinsic_color.txt"), ("scannet", "scene.txt"),
]  # fmt: skip


@pytest.mark.parametrize(("format", "name"), LINKED)
def test_what_is_found_by_its_name_stays_in_the_folder(format: str, name: str, tmp_path: Path) -> None:
    scene = getattr(w, f"write_{format}")(tmp_path / "scene")
    (scene / "segmentations/00").mkdir(parents=True)
    (scene / "segmentations/classes.txt").write_text("a\n")
    for mask in (scene / "segmentations/00/a.png", scene / "masks/04.png"):
        mask.parent.mkdir(exist_ok=True)
        Image.new("L", (w.WIDTH, w.HEIGHT), 255).save(mask)
    w.write_photos(scene / "images_2", size=(w.WIDTH // 2, w.HEIGHT // 2))
    load_scene(scene)
    (scene / name).rename(tmp_path / "away")
    (scene / name).symlink_to(tmp_path / "away")
    assert "outside" in _refused(scene).what
    load_scene(scene, trust=Trust(outside=True))


@pytest.mark.parametrize("name", ["../../secret/04.png", "/etc/hostname", "..", "."])
def test_names_of_photos_in_a_colmap_model(name: str, secret: Path, tmp_path: Path) -> None:
    scene = w.write_colmap(tmp_path / "scene", text=True)
    _edit(scene / "sparse/0/images.txt", "04.png", name)
    found, problems = inspect_scene(scene)
    assert found is not None and len(found.frames) == 8
    if len(name) > 2:
        assert len(problems) == 1 and "outside" in problems[0].what


@pytest.mark.parametrize("phrase", ["../../../secret/mask", "/etc/passwd"])
def test_phrases_name_no_file_elsewhere(phrase: str, secret: Path, tmp_path: Path) -> None:
    scene = w.write_llff(tmp_path / "scene")
    (scene / "segmentations/00").mkdir(parents=True)
    (scene / "segmentations/classes.txt").write_text(f"{phrase}\n")
    assert "is a path" in _refused(scene).what


@pytest.mark.parametrize("place", [".", "labels"])
def test_a_folder_of_labels_is_read_with_the_list_beside_it(place: str, tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("a\n")
    scene = _write(tmp_path / "scene", frame={"label_file_path": place})
    (scene / "labels").mkdir()
    if place == ".":
        assert "outside" in _refused(scene).what
    else:
        assert load_scene(scene).frames[FRAME].label_path == scene / "labels"


# Regular files


@pytest.mark.parametrize(
    "name",
    [
        "transforms.json", "mask.png", "depth.png", "depth.npy", "label.png", "cloud.ply", "images/04.png",
        "segmentations/classes.txt",
    ],
)  # fmt: skip
def test_a_pipe_instead_of_a_file(name: str, tmp_path: Path) -> None:
    kind = Path(name).stem
    keys = {"mask": "mask_path", "depth": "depth_file_path", "label": "label_file_path"}
    top = {"ply_file_path": name} if kind == "cloud" else None
    scene = _write(tmp_path, top, {keys[kind]: name} if kind in keys else None)
    (scene / name).unlink(missing_ok=True)
    (scene / name).parent.mkdir(exist_ok=True)
    os.mkfifo(scene / name)
    assert "no regular file" in _refused(scene).what


@pytest.mark.parametrize("name", ["sparse/0/cameras.bin", "sparse/0/images.bin", "sparse/0/points3D.bin"])
def test_a_pipe_in_a_colmap_model(name: str, tmp_path: Path) -> None:
    w.write_colmap(tmp_path)
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    if "points" in name:
        assert "no readable points3D" in _warnings(tmp_path)
    else:
        assert Path(name).name in _refused(tmp_path).what


def test_a_pipe_instead_of_poses_or_of_a_smaller_copy(tmp_path: Path) -> None:
    scene = w.write_llff(tmp_path)
    w.write_photos(scene / "images_2", size=(w.WIDTH // 2, w.HEIGHT // 2))
    (scene / "images_2/04.png").unlink()
    os.mkfifo(scene / "images_2/04.png")
    assert "no regular file" in _refused(scene, downscale=2).what
    (scene / "poses_bounds.npy").unlink()
    os.mkfifo(scene / "poses_bounds.npy")
    assert "no regular file" in _refused(scene).what


@pytest.mark.parametrize("key", ["depth_file_path", "mask_path"])
def test_a_folder_is_no_depth(key: str, tmp_path: Path) -> None:
    assert "is a folder" in _refused(_write(tmp_path, frame={key: "images"})).what


# Tables whose headers state more than the files hold


def _peak(folder: Path) -> int:
    """Peak memory of reading, in bytes. Problems are ignored."""
    tracemalloc.start()
    try:
        scene, problems = inspect_scene(folder)
        assert problems or scene is None or scene.points is None
    except SceneError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak


PLY = "ply\nformat {}\nelement vertex {}\n{}end_header\n"
XYZ = "property float x\nproperty float y\nproperty float z\n"


@pytest.mark.parametrize(
    "header",
    [
        PLY.format("binary_little_endian 1.0", 10**12, XYZ),
        PLY.format("ascii 1.0", 10**12, XYZ),
        PLY.format("ascii 1.0", 10**12, ""),
        PLY.format("binary_little_endian 1.0", 2, XYZ + "property list uint double w\n"),
        PLY.format("binary_little_endian 1.0", 10, "property list uchar int x\nproperty float y\nproperty float z\n"),
        PLY.format("ascii 1.0", "9" * 5000, XYZ),
        PLY.format("ascii 1.0", -1, XYZ),
        PLY.format("elsewhere", 1, XYZ),
        PLY.format("ascii 1.0", 3, "property float x\n"),
        "ply\nformat ascii 1.0\n",
        "ply\n" + "comment\n" * 20_000,
        "text",
    ],
)
def test_a_ply_header_that_promises_too_much(header: str, tmp_path: Path) -> None:
    _write(tmp_path, {"ply_file_path": "cloud.ply"})
    (tmp_path / "cloud.ply").write_bytes(header.encode() + b"\xff" * 40)
    assert "sparse points cannot be read" in _refused(tmp_path).what
    assert _peak(tmp_path) < 20 * 2**20


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_points_are_read_from_any_ply(text: bool, order: str, tmp_path: Path) -> None:
    kinds = [("red", "u1"), ("x", "f8"), ("green", "u1"), ("y", "f4"), ("blue", "u1"), ("z", "f4"), ("nx", "f4")]
    cloud = np.zeros(len(w.POINTS), dtype=kinds)
    cloud["x"], cloud["y"], cloud["z"] = w.POINTS.T
    cloud["green"] = np.arange(len(cloud))
    before = plyfile.PlyElement.describe(np.zeros(3, dtype=[("a", "i4"), ("b", "u2")]), "camera")
    faces = np.array([([0, 1, 2],)] * 4, dtype=[("vertex_indices", "i4", (3,))])
    elements = [before, plyfile.PlyElement.describe(cloud, "vertex"), plyfile.PlyElement.describe(faces, "face")]
    _write(tmp_path, {"ply_file_path": "cloud.ply"})
    plyfile.PlyData(elements, text=text, byte_order=order, comments=["a cloud"]).write(str(tmp_path / "cloud.ply"))
    scene = load_scene(tmp_path)
    assert scene.points is not None and scene.points_rgb is not None
    assert np.array_equal(scene.points, np.stack([cloud[axis] for axis in "xyz"], axis=-1).astype(float))
    assert np.array_equal(scene.points_rgb[:, 1], cloud["green"]) and not scene.points_rgb[:, ::2].any()


@pytest.mark.parametrize("name", ["cameras", "images", "points3D"])
@pytest.mark.parametrize("count", [10**6, 2**40, 2**64 - 1])
def test_a_colmap_table_that_promises_too_much(name: str, count: int, tmp_path: Path) -> None:
    w.write_colmap(tmp_path)
    path = tmp_path / f"sparse/0/{name}.bin"
    path.write_bytes(struct.pack("<Q", count) + path.read_bytes()[8:])
    assert _peak(tmp_path) < 20 * 2**20


def test_many_colmap_points_take_little_more_than_their_numbers(tmp_path: Path) -> None:
    w.write_colmap(tmp_path)
    random, count = np.random.default_rng(0), 100_000
    rows, parts = random.uniform(-1, 1, (count, 3)), [struct.pack("<Q", count)]
    tracks = random.integers(0, 4, count)
    for i, (row, track) in enumerate(zip(rows, tracks)):
        parts.append(struct.pack("<QdddBBBdQ", i, *row, i % 256, 1, 2, 0.5, track) + b"\1" * (8 * track))
    (tmp_path / "sparse/0/points3D.bin").write_bytes(b"".join(parts))
    tracemalloc.start()
    scene = load_scene(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert scene.points is not None and scene.points_rgb is not None
    assert np.array_equal(scene.points, rows) and np.array_equal(scene.points_rgb[:, 0], np.arange(count) % 256)
    assert peak < 25 * 2**20, "a tuple of Python for each took 40 MB"


@pytest.mark.parametrize("key", ["depth_file_path", "mask_path"])
def test_an_array_that_promises_too_much(key: str, tmp_path: Path) -> None:
    scene = _write(tmp_path, frame={key: "a.npy"})
    with open(scene / "a.npy", "wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (10**6, 10**6)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(2**43)  # a sparse file, which takes no disk space
    assert "larger than" in _refused(scene).what
    np.save(scene / "a.npy", np.full((w.HEIGHT, w.WIDTH), "a"))
    assert "plain numbers" in _refused(scene).what


def test_more_frames_than_any_capture_has(tmp_path: Path) -> None:
    w.write_nerfstudio(tmp_path, w.transforms() | {"frames": [{}] * (MAX_FRAMES + 1)})
    assert f"more than {MAX_FRAMES}" in _refused(tmp_path).what


# Names

NAMES = [
    "a\x1b[31m.png",
    "a\nb.png",
    "\ud800.png",
    "x" * 300 + ".png",
    "é" * 200 + ".png",
    "a/" * 3000,
    "a\u202eb.png",
    "a\0.png",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "key", ["file_path", "mask_path", "classes", "recommended_encoder", "train_filenames", "phrase"]
)
def test_names_that_nothing_can_have(key: str, name: str, tmp_path: Path) -> None:
    if key == "phrase":
        scene = w.write_llff(tmp_path)
        (scene / "segmentations").mkdir()
        text = f"{name}\n".encode("utf-8", "surrogatepass")
        (scene / "segmentations/classes.txt").write_bytes(text)
        if "\n" in name:
            return
    else:
        listed = {"train_filenames": [name], "classes": {"1": name}, "recommended_encoder": {"clip": name}}
        scene = _write(tmp_path, *([{key: listed[key]}] if key in listed else [None, {key: name}]))
    _refused(scene)


def test_names_of_files_that_are_found(tmp_path: Path) -> None:
    scene = w.write_llff(tmp_path)
    (scene / "images/04.png").rename(scene / "images/04\x1b[2J.png")
    found, (problem,) = inspect_scene(scene)
    assert found is not None and len(found.frames) == 8 and "control characters" in problem.what
    assert "control characters" in _refused(scene).what


def test_names_of_screenshots_and_of_persian_things(tmp_path: Path) -> None:
    name = "Screenshot 2024-05-01 at 3.04.05\u202fPM.png"
    scene = _write(tmp_path, {"classes": {"1": "می\u200cخواهم"}}, {"file_path": f"images/{name}"})
    (scene / "images/04.png").rename(scene / "images" / name)
    assert len(load_scene(scene).frames) == 9


def test_info_prints_nothing_that_a_terminal_obeys(tmp_path: Path, cli: Any) -> None:
    """The folder's name is rejected if it could be markup; texts of the capture are printed verbatim, not as markup."""
    (tmp_path / "a\x1b[2J").mkdir()
    done = cli("info", _write(tmp_path / "a\x1b[2J" / "scene", {"classes": {"1": "[red]chair[/red]"}}))
    assert done.returncode == 0 and "\x1b[2J" not in done.stdout and "[red]chair[/red]" in done.stdout
    done = cli("info", _write(tmp_path / "b\x1b[2J"))
    assert done.returncode == 2 and "control characters" in done.stderr


def test_a_copy_of_any_number_is_no_copy(tmp_path: Path) -> None:
    scene = _write(tmp_path)
    for number in ("9" * 200, "00002000", "٢"):
        (scene / f"images_{number}").mkdir()
    assert len(load_scene(scene).frames) == 9


def test_json_that_is_nested_too_deeply(tmp_path: Path) -> None:
    scene = _write(tmp_path)
    text = json.dumps(w.transforms())
    (scene / "transforms.json").write_text(text[:-1] + ', "deep": ' + "[" * 100_000 + "]" * 100_000 + "}")
    assert "not valid JSON" in _refused(scene).what
