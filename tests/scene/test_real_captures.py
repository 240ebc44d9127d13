"""The development captures: formats, sizes, splits, and geometry that agrees with the photos."""

import numpy as np
import pytest

from ovseg3d.scene import load_depth, load_labels, load_photo, load_scene


def test_fox(data_dir):
    scene = load_scene(data_dir / "fox")
    assert (scene.format, len(scene.frames), len(scene.test)) == ("instant-ngp", 50, 7)
    assert scene.aabb_scale == 4 and not scene.metric and not scene.has_alpha
    camera = scene.frames[0].camera
    assert (camera.width, camera.height) == (540, 960)
    assert camera.coefficients[:4] == (0.0578421, -0.0805099, -0.000980296, 0.00015575)
    small = load_scene(data_dir / "fox", downscale=4).frames[0]
    assert load_photo(small).shape == (240, 135, 3)
    assert small.camera.fx == pytest.approx(687.76 / 4)


def test_lego(data_dir):
    scene = load_scene(data_dir / "lego", downscale=2)
    assert (scene.format, len(scene.train), len(scene.test)) == ("blender", 100, 25)
    assert scene.has_alpha
    frame = scene.frames[scene.train[0]]
    photo = load_photo(frame)
    assert photo.shape == (100, 100, 4) and photo[0, 0, 3] == 0
    assert frame.camera.fx == pytest.approx(0.5 * 100 / np.tan(0.5 * 0.6911112070083618))
    # The model stands at the origin: every view shows it.
    for frame in scene.frames[::10]:
        (xy,), z = frame.camera.project(np.zeros((1, 3)))
        assert 30 < xy[0] < 70 and 30 < xy[1] < 70 and z[0] > 3


def test_llff_fern(data_dir):
    scene = load_scene(data_dir / "llff_fern", downscale=16)
    assert (scene.format, len(scene.frames), scene.test) == ("llff", 20, (0, 8, 16))
    assert "images.bin" in scene.notes[0]
    frame = scene.frames[0]
    assert load_photo(frame).shape == (189, 252, 3) and frame.image_path.parent.name == "images_8"
    assert frame.near_far is not None and frame.near_far[0] == pytest.approx(17.747, abs=1e-3)
    full = load_scene(data_dir / "llff_fern").frames[0].camera
    assert (full.width, full.height) == (504, 378)
    # The model's points are in the poses' frame: their colours are those of the pixels they fall on.
    assert scene.points is not None and scene.points_rgb is not None
    frame = load_scene(data_dir / "llff_fern").frames[8]
    photo = load_photo(frame).astype(float)
    xy, z = frame.camera.project(scene.points)
    inside = (z > 0) & (xy > 0).all(axis=1) & (xy < [504, 378]).all(axis=1)
    column, row = xy[inside].astype(int).T
    error = np.abs(photo[row, column] - scene.points_rgb[inside]).mean(axis=1)
    shuffled = np.abs(photo[row, column] - scene.points_rgb[inside][::-1]).mean(axis=1)
    assert inside.mean() > 0.5 and np.median(error) < 0.5 * np.median(shuffled)
    # Fern was photographed upright: world up is up in the images.
    up = scene.world_from_input[:3, :3] @ frame.camera.up
    assert up[2] > 0.95


def test_tum_cabinet(data_dir):
    scene = load_scene(data_dir / "tum_cabinet", downscale=4)
    assert (scene.format, len(scene.train), len(scene.test)) == ("nerfstudio", 50, 8)
    assert scene.metric and scene.metres_per_unit == 1.0
    assert scene.classes == {1: "cabinet", 2: "floor"} and scene.ignore_label == 255
    frame = scene.frames[10]
    depth, labels = load_depth(frame, scene), load_labels(frame)
    assert depth.shape == labels.shape == load_photo(frame).shape[:2] == (120, 160)
    # Depth, poses and labels agree: pixels labelled floor lie at z = 0.
    origins, directions = frame.camera.rays(frame.camera.pixel_centres())
    distance = depth.reshape(-1) / (directions @ frame.camera.forward)
    heights = (origins + directions * distance[:, None])[:, 2]
    floor = (labels.reshape(-1) == 2) & (depth.reshape(-1) > 0)
    assert floor.sum() > 500 and np.abs(np.median(heights[floor])) < 0.02


def test_reading_a_capture_needs_no_torch(tmp_path):
    import subprocess
    import sys

    import writers as w

    w.write_colmap(tmp_path)
    code = (
        "import sys; from ovseg3d.scene import load_scene, load_photo, check_scene\n"
        f"scene = load_scene({str(tmp_path)!r}); load_photo(scene.frames[0]); check_scene(scene)\n"
        "print([name for name in ('torch', 'warp', 'viser') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
