"""ScanNet as SensReader exports it: depth with a lens of its own, lost frames, resized photos, damaged files."""

from pathlib import Path

import numpy as np
import pytest
import writers as w
from PIL import Image

from ovseg3d.errors import SceneError
from ovseg3d.scene import inspect_scene, load_scene
from ovseg3d.scene.images import load_depth


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    return w.write_scannet(tmp_path / "scene0000_00")


def test_a_scan_is_metric_and_z_up_in_its_own_frame(scan: Path) -> None:
    scene = load_scene(scan)
    assert scene.metric and scene.metres_per_unit == 1 and np.array_equal(scene.world_from_input, np.eye(4))
    assert not scene.notes and all(np.allclose(load_depth(frame, scene), 2.0) for frame in scene.frames)
    assert not scene.exact and [frame.name for frame in scene.frames][:2] == ["color/0.png", "color/1.png"]


def test_depth_is_looked_up_where_its_own_lens_sees_the_pixel(scan: Path) -> None:
    """Depth files tell their own row and column; the two lenses differ in size, focal length and centre."""
    width, height, focal, centre, own = 30, 20, 18.0, (14.5, 10.5), (11.0, 8.5)
    rows, columns = np.mgrid[:height, :width]
    Image.fromarray((1000 + 100 * rows + columns).astype(np.uint16)).save(scan / "depth" / "4.png")
    w.write_intrinsics(scan, "color", w.FOCAL, own)
    w.write_intrinsics(scan, "depth", focal, centre)
    (scan / "depth" / "0.png").unlink()
    Image.new("I;16", (width, height)).save(scan / "depth" / "1.png")
    for downscale in (1, 2):
        scene = load_scene(scan, downscale=downscale)
        found = np.rint(1000 * load_depth(scene.frames[4], scene)).astype(int)
        outside = 0
        for row in range(w.HEIGHT // downscale):
            for column in range(w.WIDTH // downscale):
                x = focal * ((column + 0.5) * downscale - own[0]) / w.FOCAL + centre[0]
                y = focal * ((row + 0.5) * downscale - own[1]) / w.FOCAL + centre[1]
                inside = 0 <= x < width and 0 <= y < height
                outside += not inside
                assert found[row, column] == (1000 + 100 * int(y) + int(x) if inside else 0), (row, column)
        assert not outside
    w.write_intrinsics(scan, "depth", 60.0, centre)
    narrow = load_depth(load_scene(scan).frames[4], load_scene(scan))
    assert (narrow[:, [0, -1]] == 0).all() and (narrow[:2] == 0).all(), "beyond the depth image nothing is known"
    assert narrow[8, 10] > 1


def test_numbers_may_have_leading_zeros(scan: Path) -> None:
    for name in ("color", "pose"):
        for path in list((scan / name).iterdir()):
            path.rename(path.with_stem(path.stem.zfill(6)))
    scene = load_scene(scan)
    assert len(scene.frames) == 9 and scene.frames[4].name == "color/000004.png"
    assert scene.frames[4].depth_path == scan / "depth" / "4.png"


def test_depth_of_a_camera_that_stands_elsewhere_is_left_out(scan: Path) -> None:
    np.savetxt(scan / "intrinsic" / "extrinsic_color.txt", np.eye(4))
    np.savetxt(scan / "intrinsic" / "extrinsic_depth.txt", np.eye(4))
    assert not load_scene(scan).notes
    moved = np.eye(4)
    moved[0, 3] = 0.03
    np.savetxt(scan / "intrinsic" / "extrinsic_depth.txt", moved)
    scene = load_scene(scan)
    assert "Depth is left out" in scene.notes[0] and not any(frame.depth_path for frame in scene.frames)


def test_lost_frames_are_left_out_and_counted(scan: Path) -> None:
    np.savetxt(scan / "pose" / "3.txt", np.full((4, 4), -np.inf))
    (scan / "pose" / "5.txt").unlink()
    (scan / "depth" / "6.png").unlink()
    scene = load_scene(scan)
    assert [frame.name for frame in scene.frames] == [f"color/{i}.png" for i in (0, 1, 2, 4, 6, 7, 8)]
    assert np.allclose(scene.frames[3].camera.c2w, w.poses()[4]) and scene.frames[4].depth_path is None
    assert scene.notes == ("2 of 9 photos have no pose and are left out: 3.png, 5.png",)
    for path in (scan / "depth").iterdir():
        path.unlink()
    (scan / "intrinsic" / "intrinsic_depth.txt").unlink()
    assert not any(frame.depth_path for frame in load_scene(scan).frames), (
        "a scan without depth has photos all the same"
    )
    for path in (scan / "pose").iterdir():
        path.unlink()
    with pytest.raises(SceneError, match="No photo has a pose"):
        load_scene(scan)


def test_resized_photos_need_the_size_that_the_lens_is_for(scan: Path) -> None:
    """As preprocessing scripts do it: another shape of the photos, and the matrix as it was."""
    own = scan / "scene0000_00.txt"
    w.write_intrinsics(scan, "color", 40.0, (24, 12))
    own.write_text("colorWidth = 48\ncolorHeight = 24\ndepthWidth = 12\ndepthHeight = 8\n")
    camera = load_scene(scan).frames[0].camera
    assert (camera.width, camera.height) == (w.WIDTH, w.HEIGHT)
    assert (camera.fx, camera.fy) == pytest.approx((20, 40 * 16 / 24)) and (camera.cx, camera.cy) == (12, 8)
    own.unlink()
    with pytest.raises(SceneError, match="centre is 24, 12 in images of 24x16") as caught:
        load_scene(scan)
    assert "scene0000_00.txt" in (caught.value.fix or "") and "colorWidth" in (caught.value.fix or "")


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("pose/4.txt", "1 0 0 0\n", "four rows"),
        ("pose/4.txt", "a b c d\n" * 4, "could not convert"),
        ("pose/4.txt", "2 0 0 0\n0 2 0 0\n0 0 2 0\n0 0 0 1\n", "no rotation"),
        ("intrinsic/intrinsic_color.txt", "", "four rows"),
        ("intrinsic/intrinsic_color.txt", "nan 0 0 0\n" * 4, "'fl_x'"),
        ("intrinsic/intrinsic_depth.txt", "1 2 3\n" * 4, "four rows"),
        ("scene0000_00.txt", "colorWidth = wide\ncolorHeight = 3", "'color size' is no number"),
        ("scene0000_00.txt", "colorWidth = -3\ncolorHeight = 3", "'color size' is -3"),
        ("depth/0.png", "", "depth image"),
    ],
)
def test_damaged_files(scan: Path, name: str, text: str, told: str) -> None:
    (scan / name).write_text(text)
    with pytest.raises(SceneError, match=told) as caught:
        load_scene(scan)
    assert str(caught.value.where).startswith(str(scan / name)) and caught.value.fix


@pytest.mark.parametrize("kind", ["color", "depth"])
def test_a_missing_lens_is_reported(scan: Path, kind: str) -> None:
    (scan / "intrinsic" / f"intrinsic_{kind}.txt").unlink()
    with pytest.raises(SceneError, match=f"lens of this scan's {kind} images is not known") as caught:
        load_scene(scan)
    assert "SensReader" in (caught.value.fix or "")


def test_empty_folders_and_a_photo_that_is_broken(scan: Path) -> None:
    (scan / "color" / "4.png").write_bytes(b"")
    scene, problems = inspect_scene(scan)
    assert scene is not None and len(scene.frames) == 8 and len(problems) == 1
    for path in (scan / "color").iterdir():
        path.unlink()
    with pytest.raises(SceneError, match="There are 0 photos"):
        load_scene(scan)
