"""Findings of `check_scene` and `ovseg3d info`, and captures without any."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import writers as w
from PIL import Image, ImageFilter

from ovseg3d.cli import main
from ovseg3d.scene import check_scene, load_scene, plot_scene


def _warnings(scene) -> list[str]:
    return [finding.what for finding in check_scene(scene) if finding.level != "note"]


def _posed(folder: Path, poses: list[np.ndarray], gl: bool = True):
    """A nerfstudio scene with other poses, stated with OpenGL axes as it should be, or left as they are."""
    data = w.transforms()
    names = [f"{i:02d}.png" for i in range(len(poses))]
    data["frames"] = [
        {"file_path": f"images/{name}", "transform_matrix": w.opengl(pose) if gl else pose.tolist()}
        for name, pose in zip(names, poses)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    w.write_photos(folder / "images", names)
    (folder / "transforms.json").write_text(json.dumps(data))
    return load_scene(folder)


def test_a_sound_scene_passes(tmp_path):
    assert _warnings(_posed(tmp_path, w.poses(16))) == []


def test_opencv_poses_in_an_opengl_file(tmp_path):
    (warning,) = _warnings(_posed(tmp_path, w.poses(16), gl=False))
    assert "OpenCV poses" in warning and "upside down" in warning


def test_cameras_that_look_away_from_each_other(tmp_path):
    turned = [pose @ np.diag([-1.0, 1.0, -1.0, 1.0]) for pose in w.poses(16)]
    (warning,) = _warnings(_posed(tmp_path, turned))
    assert "look away from each other" in warning


def test_a_lens_that_folds_back_within_the_picture(tmp_path):
    scene = _posed(tmp_path, w.poses(16))
    bent = replace(scene.frames[3].camera, distortion=(-2.0,))
    frames = [replace(frame, camera=bent) if i == 3 else frame for i, frame in enumerate(scene.frames)]
    (warning,) = _warnings(replace(scene, frames=tuple(frames)))
    assert "distortion of 1 frames folds back" in warning


def test_photos_upside_down(tmp_path):
    rolled = [pose @ np.diag([-1.0, -1.0, 1.0, 1.0]) for pose in w.poses(16)]
    (warning,) = _warnings(_posed(tmp_path, rolled))
    assert "upside down" in warning


def test_world_to_camera_poses_of_an_orbit(tmp_path):
    orbit = []
    for pose in w.poses(16):
        at = pose[:3, 3] / np.linalg.norm(pose[:3, 3]) * 3
        orbit.append(np.linalg.inv(np.vstack([np.column_stack([pose[:3, :3], at]), [0, 0, 0, 1]])))
    assert any("hardly move" in warning for warning in _warnings(_posed(tmp_path, orbit)))


def test_sparse_points_behind_the_cameras(tmp_path):
    assert not any("sparse points" in what for what in _warnings(load_scene(w.write_colmap(tmp_path / "a"))))
    turned = [pose @ np.diag([-1.0, 1.0, -1.0, 1.0]) for pose in w.poses(16)]
    scene = replace(_posed(tmp_path / "b", turned), points=w.POINTS)
    (warning,) = _warnings(scene)
    assert "Only 0% of the sparse points" in warning


def test_forward_facing_captures_pass(tmp_path):
    poses = []
    for i in range(16):
        pose = w.poses()[0].copy()
        pose[:3, 3] += pose[:3, 0] * 0.1 * (i % 4) + pose[:3, 1] * 0.1 * (i // 4)
        poses.append(pose)
    assert _warnings(_posed(tmp_path, poses)) == []


def test_doubled_poses_and_photos(tmp_path):
    poses = w.poses(16)
    poses[7] = poses[3]
    scene = _posed(tmp_path, poses)
    shutil.copy(tmp_path / "images/09.png", tmp_path / "images/12.png")
    findings = {f.what: f.where for f in check_scene(scene) if f.level == "warning"}
    pose = next(where for what, where in findings.items() if "share a pose" in what)
    assert pose == "images/03.png, images/07.png"
    photo = next(where for what, where in findings.items() if "same content" in what)
    assert photo == "images/09.png, images/12.png"


def test_masks_and_labels(tmp_path):
    data = w.transforms()
    Image.new("L", (w.WIDTH, w.HEIGHT)).save(tmp_path / "black.png")
    Image.new("L", (10, 10)).save(tmp_path / "square.png")
    data["frames"][3]["mask_path"] = "black.png"
    for number in (1, 2, 4, 5):
        data["frames"][number]["label_file_path"] = "square.png"
    findings = check_scene(load_scene(w.write_nerfstudio(tmp_path, data)))
    assert findings[0].level == "error" and "hides every pixel" in findings[0].what
    (shape,) = [f for f in findings if "another shape" in f.what]
    assert shape.level == "warning" and str(shape.where).endswith("square.png and 1 more"), "one for all four"
    for number in (1, 2, 4, 5):
        data["frames"][number]["label_file_path"] = "images/00.png"
    findings = check_scene(load_scene(w.write_nerfstudio(tmp_path, data), downscale=3.3))
    assert not any("another shape" in f.what for f in findings), "sides are rounded"


def test_the_picture(tmp_path):
    scene = load_scene(w.write_colmap(tmp_path / "scene"))
    plot_scene(scene, tmp_path / "plot.png", np.array([[-1.0, -1, -1], [1, 1, 1]]))
    image = np.asarray(Image.open(tmp_path / "plot.png").convert("RGB")).reshape(-1, 3)
    assert len(image) > 500_000
    for colour in ([0x1F, 0x6F, 0xB4], [0xE8, 0x73, 0x0C]):  # training and held-out views
        assert (np.abs(image.astype(int) - colour).max(axis=1) < 8).sum() > 50


def test_the_extent_comes_from_the_best_evidence(tmp_path):
    from ovseg3d.scene.extent import scene_extent

    cameras = scene_extent(_posed(tmp_path / "a", w.poses(16)))
    assert cameras is not None and cameras.source == "cameras"
    assert np.allclose(cameras.bounds.mean(axis=0), 0, atol=1e-6)  # they look at the origin
    points = scene_extent(load_scene(w.write_colmap(tmp_path / "b")))
    assert points is not None and points.source == "sparse points"
    assert (np.abs(points.bounds) < 0.5).all() and (np.abs(points.bounds) > 0.3).all()
    bounds = scene_extent(load_scene(w.write_llff(tmp_path / "c")))
    assert bounds is not None and bounds.source == "near and far"
    data = w.transforms()
    data["frames"][2]["depth_file_path"] = "depth.png"
    w.write_nerfstudio(tmp_path / "d", data)
    Image.fromarray(np.full((w.HEIGHT, w.WIDTH), 3000, dtype=np.uint16)).save(tmp_path / "d/depth.png")
    scene = load_scene(tmp_path / "d")
    depth = scene_extent(scene)
    assert depth is not None and depth.source == "depth"
    # One wall at z-depth 3: its middle lies there, and the box is as thin as the wall is seen.
    middle = scene.frames[2].camera.position + 3 * scene.frames[2].camera.forward
    assert np.abs(depth.bounds.mean(axis=0) - middle).max() < 0.1


def test_info_prints_json_and_nothing_else(tmp_path, capsys, monkeypatch):
    w.write_nerfstudio(tmp_path / "room", w.transforms(classes={"1": "chair"}, camera_model="OPENCV", k1=0.1))
    monkeypatch.chdir(tmp_path)
    assert main(["info", "room", "--json", "--scale", "0.5"]) == 0
    out = json.loads(capsys.readouterr().out)
    assert out["format"] == "nerfstudio" and out["frames"] == 9
    assert out["test"] == ["images/00.png", "images/08.png"] and len(out["train"]) == 7
    assert out["sizes"] == [[24, 16]] and out["camera_model"] == "OPENCV" and out["distortion"][0] == 0.1
    assert out["metric"] is True and out["metres_per_unit"] == 0.5 and out["unit"] == "units"
    assert out["phrases"] == ["chair"] and out["depth"] == out["labels"] == out["masks"] == 0
    assert out["plot"] == "room-info.png" and (tmp_path / "room-info.png").is_file()
    assert sorted(p.name for p in (tmp_path / "room").iterdir()) == ["images", "transforms.json"]


def test_info_lists_every_problem_and_says_so_in_its_exit_code(tmp_path, capsys):
    data = w.transforms()
    data["frames"][4]["transform_matrix"][0][0] = float("nan")
    w.write_nerfstudio(tmp_path, data)
    w.photo(3, (30, 16)).save(tmp_path / "images/03.png")
    assert main(["info", str(tmp_path), "--json", "--output", str(tmp_path / "p.png")]) == 2
    findings = json.loads(capsys.readouterr().out)["findings"]
    errors = [f["what"] for f in findings if f["level"] == "error"]
    assert len(errors) == 2
    assert any("NaN" in what for what in errors) and any("30x16" in what for what in errors)
    assert main(["info", str(tmp_path), "--output", str(tmp_path / "p.png")]) == 2
    text = capsys.readouterr().out
    assert "error:" in text and "try:" in text and "24x16" in text
    assert main(["info", str(tmp_path), "--output", str(tmp_path / "p.pdf")]) == 2
    assert "PNG file" in capsys.readouterr().err


def test_info_of_a_missing_folder(tmp_path, capsys):
    assert main(["info", str(tmp_path / "nowhere")]) == 2
    assert "There is no such folder" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["fox", "lego", "llff_fern", "tum_cabinet"])
def test_real_captures_have_nothing_wrong(name, data_dir):
    assert _warnings(load_scene(data_dir / name)) == []


def test_blurred_photos_are_named(tmp_path):
    """One of 40 photos of noise is blurred."""
    names, size = [f"{i:02d}.png" for i in range(40)], (64, 48)
    w.write_photos(tmp_path / "images", names, size)
    frames = [
        {"file_path": f"images/{name}", "transform_matrix": w.opengl(pose)} for name, pose in zip(names, w.poses(40))
    ]
    lens = {"w": 64, "h": 48, "fl_x": 50.0, "fl_y": 50.0}
    (tmp_path / "transforms.json").write_text(json.dumps({**lens, "frames": frames}))
    assert not [finding for finding in check_scene(load_scene(tmp_path)) if "sharp" in finding.what]
    with Image.open(tmp_path / "images/17.png") as photo:
        photo.filter(ImageFilter.GaussianBlur(2)).save(tmp_path / "images/17.png")
    (found,) = [finding for finding in check_scene(load_scene(tmp_path)) if "sharp" in finding.what]
    assert found.level == "note" and found.where == "images/17.png"
