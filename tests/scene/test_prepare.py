"""From a capture to a scene: known cameras are recovered, problems are reported, no partial files are left."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter
from scipy.spatial import cKDTree
from tiny import small_settings

from ovseg3d.errors import OutputError, SceneError
from ovseg3d.pipeline.train import train_scene
from ovseg3d.runs.settings import make_config
from ovseg3d.scene import load_scene
from ovseg3d.scene.given_points import given_points
from ovseg3d.scene.prepare import photos, prepare_scene, selection, sfm, upright, write
from ovseg3d.scene.prepare.pairs import choose_pairs

WIDTH, HEIGHT, FOCAL = 320, 240, 272.0


def look_at(place: np.ndarray, target: np.ndarray) -> np.ndarray:
    """OpenCV c2w of a level camera in a z-up world."""
    forward = (target - place) / np.linalg.norm(target - place)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3] = np.stack([right, np.cross(forward, right), forward, place], axis=1)
    return pose


def texture(seed: int, side: int = 700) -> np.ndarray:
    """Blobs of many sizes, which give SIFT features."""
    rng = np.random.default_rng(seed)
    total = np.zeros((side, side, 3))
    for cells in (14, 35, 90, 230):
        noise = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        total += np.asarray(noise.resize((side, side), Image.Resampling.BICUBIC), dtype=float)
    return np.clip((total / 4 - 128) * 2.2 + 128, 0, 255)


# Two walls and the floor of a corner, as (corner, edge u, edge v) in metres.
PLANES = [
    (np.array([-2.0, 2.0, 0.0]), np.array([4.0, 0, 0]), np.array([0, 0, 2.6]), texture(1)),
    (np.array([-2.0, -2.0, 0.0]), np.array([0, 4.0, 0]), np.array([0, 0, 2.6]), texture(2)),
    (np.array([-2.0, -2.0, 0.0]), np.array([4.0, 0, 0]), np.array([0, 4.0, 0]), texture(3)),
]


def draw_image(c2w: np.ndarray) -> np.ndarray:
    """Ray-cast the textured corner; 2 x 2 samples a pixel."""
    x, y = np.meshgrid((np.arange(2 * WIDTH) + 0.5) / 2, (np.arange(2 * HEIGHT) + 0.5) / 2)
    rays = np.stack([(x - WIDTH / 2) / FOCAL, (y - HEIGHT / 2) / FOCAL, np.ones_like(x)], -1) @ c2w[:3, :3].T
    nearest, colour = np.full(x.shape, np.inf), np.full((*x.shape, 3), 30.0)
    for corner, u, v, image in PLANES:
        normal = np.cross(u, v)
        with np.errstate(divide="ignore", invalid="ignore"):
            t = ((corner - c2w[:3, 3]) @ normal) / (rays @ normal)
        hit = c2w[:3, 3] + rays * np.where(np.isfinite(t), t, 0)[..., None] - corner
        a, b = hit @ u / (u @ u), hit @ v / (v @ v)
        inside = (t > 0) & (t < nearest) & (a >= 0) & (a < 1) & (b >= 0) & (b < 1)
        nearest = np.where(inside, t, nearest)
        side = len(image)
        colour[inside] = image[(b[inside] * side).astype(int), (a[inside] * side).astype(int)]
    return colour.reshape(HEIGHT, 2, WIDTH, 2, 3).mean(axis=(1, 3)).round().astype(np.uint8)


def corner_poses(count: int) -> list[np.ndarray]:
    target = np.array([-1.6, 1.6, 0.9])
    angles = np.linspace(-1.35, -0.25, count)
    return [
        look_at(target + np.array([2.6 * np.cos(a), 2.6 * np.sin(a), 0.5 + 0.3 * np.sin(3 * a)]), target)
        for a in angles
    ]


@pytest.fixture(scope="module")
def corner(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    """Eight photos of a textured corner, and their true poses by file stem."""
    folder = tmp_path_factory.mktemp("corner")
    poses = {f"IMG_{i}": pose for i, pose in enumerate(corner_poses(8), start=5)}
    for name, pose in poses.items():
        Image.fromarray(draw_image(pose)).save(folder / f"{name}.jpg", quality=95)
    return folder, poses


def read_poses(scene: Path) -> dict[str, np.ndarray]:
    """OpenCV c2w by file stem."""
    content = json.loads((scene / "transforms.json").read_text())
    flip = np.diag([1.0, -1.0, -1.0, 1.0])
    return {Path(f["file_path"]).stem: np.array(f["transform_matrix"]) @ flip for f in content["frames"]}


def compare(found: dict[str, np.ndarray], true: dict[str, np.ndarray]) -> tuple[float, float, np.ndarray]:
    """Median position error (of the cameras' spread), median angle in degrees, rotation true <- found (Umeyama)."""
    names = sorted(set(found) & set(true))
    a, b = np.stack([found[n] for n in names]), np.stack([true[n] for n in names])
    x, y = a[:, :3, 3] - a[:, :3, 3].mean(0), b[:, :3, 3] - b[:, :3, 3].mean(0)
    u, s, vt = np.linalg.svd(y.T @ x)
    sign = np.diag([1, 1, np.sign(np.linalg.det(u @ vt))])
    rotation = u @ sign @ vt
    scale = (s * np.diag(sign)).sum() / (x**2).sum()
    places = np.linalg.norm(scale * x @ rotation.T - y, axis=1)
    traces = np.einsum("nij,nij->n", rotation @ a[:, :3, :3], b[:, :3, :3])
    angles = np.degrees(np.arccos(np.clip((traces - 1) / 2, -1, 1)))
    return float(np.median(places) / np.sqrt((y**2).sum(1).mean())), float(np.median(angles)), rotation


@pytest.fixture(scope="module")
def prepared(corner, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "scene"
    said: list[tuple[str, float]] = []
    report = prepare_scene(corner[0], out, report=lambda what, part: said.append((what, part)))
    return out, report, said


def test_cameras_of_a_known_scene_come_back(corner, prepared):
    out, report, _ = prepared
    place, angle, rotation = compare(read_poses(out), corner[1])
    assert report.registered == report.total == 8
    assert place < 0.02
    assert angle < 1.0
    # z of the result is up: the true world is z-up, so its z axis must be carried onto itself.
    assert np.degrees(np.arccos(rotation[2, 2])) < 2.0
    assert report.mean_reprojection_error_px < 1.0
    focal = json.loads((out / "transforms.json").read_text())["fl_x"]
    assert focal == pytest.approx(FOCAL, rel=0.03)


def test_progress_only_grows_and_ends(prepared):
    fractions = [part for _, part in prepared[2]]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


def test_the_scene_holds_what_it_should_and_loads(prepared):
    out, report, _ = prepared
    assert sorted(p.name for p in out.iterdir()) == [
        "images",
        "report.json",
        "sparse",
        "sparse_points.ply",
        "transforms.json",
    ]
    saved = json.loads((out / "report.json").read_text())
    assert saved["registered"] == 8
    assert saved["unregistered"] == []
    scene_part = pytest.importorskip("ovseg3d.scene")
    scene = scene_part.load_scene(out)
    assert [f.name for f in scene.frames] == [f"images/IMG_{i}.jpg" for i in (10, 11, 12, 5, 6, 7, 8, 9)]
    assert scene.format == "nerfstudio"
    assert scene.points is not None
    assert len(scene.points) == report.points_written


def test_training_finds_the_tracks_of_the_points(prepared):
    """The model keeps its own frame; its cameras lead to that of transforms.json."""
    scene = load_scene(prepared[0])
    found = given_points(scene)
    assert found is not None and len(found.points) == prepared[1].points
    assert np.median(found.sigma) < 0.02 and len(np.unique(found.view)) == len(scene.train)
    assert scene.points is not None
    nearest, _ = cKDTree(found.points).query(scene.points)
    assert nearest.max() < 1e-4


def test_sparse_points_lie_on_the_walls_they_came_from(corner, prepared):
    """Points and poses share one frame: after alignment of the cameras the points lie on the planes."""
    from plyfile import PlyData

    vertices = PlyData.read(prepared[0] / "sparse_points.ply")["vertex"]
    points = np.stack([vertices[axis] for axis in "xyz"], axis=1)
    found, true = read_poses(prepared[0]), corner[1]
    _, _, rotation = compare(found, true)
    names = sorted(found)
    a = np.stack([found[n][:3, 3] for n in names])
    b = np.stack([true[n][:3, 3] for n in names])
    scale = np.linalg.norm(b - b.mean(0)) / np.linalg.norm(a - a.mean(0))
    world = scale * (points - a.mean(0)) @ rotation.T + b.mean(0)
    off = np.min([np.abs(world[:, 1] - 2), np.abs(world[:, 0] + 2), np.abs(world[:, 2])], axis=0)
    assert np.median(off) < 0.03


def test_written_points_and_cameras_keep_their_geometry(tmp_path):
    """Under any similarity a point has the same position in each camera's axes, up to scale."""
    from plyfile import PlyData

    rng = np.random.default_rng(4)
    points = rng.normal(size=(50, 3))
    poses = np.stack(corner_poses(3))
    model = sfm.Reconstruction(
        names=("a.jpg", "b.jpg", "c.jpg"),
        c2w=poses,
        lenses=(sfm.Lens(320, 240, 272.0, 272.0, 160.0, 120.0, (0.0, 0.0, 0.0, 0.0)),),
        lens_of=(0, 0, 0),
        points=points,
        points_rgb=np.zeros((50, 3), np.uint8),
        track_lengths=np.full(50, 3),
        errors_px=np.zeros(50),
        observations_of=(),
        other_models=(),
    )
    similarity = np.eye(4)
    similarity[:3, :3] = 1.7 * look_at(np.zeros(3), np.array([1.0, 2.0, 0.5]))[:3, :3]
    similarity[:3, 3] = 3.0, -2.0, 5.0
    assert write.write_transforms(tmp_path, model, similarity) == 50
    vertices = PlyData.read(tmp_path / "sparse_points.ply")["vertex"]
    written = np.stack([vertices[axis] for axis in "xyz"], axis=1)
    for before, after in zip(poses, read_poses(tmp_path).values()):
        local = (points - before[:3, 3]) @ before[:3, :3]
        np.testing.assert_allclose((written - after[:3, 3]) @ after[:3, :3], 1.7 * local, atol=1e-5)


@pytest.mark.slow
def test_fox_photos_give_the_given_cameras(data_dir, tmp_path):
    report = prepare_scene(data_dir / "fox/images", tmp_path / "fox")
    given = json.loads((data_dir / "fox/transforms.json").read_text())["frames"]
    flip = np.diag([1.0, -1.0, -1.0, 1.0])
    true = {Path(f["file_path"]).stem: np.array(f["transform_matrix"]) @ flip for f in given}
    place, angle, _ = compare(read_poses(tmp_path / "fox"), true)
    print(f"fox: {report.registered}/50, places {100 * place:.2f} % of the spread, {angle:.2f} degrees")
    assert report.registered == 50
    assert place < 0.005
    assert angle < 0.5


def make_video(path: Path, frames: list[np.ndarray], fps: int) -> Path:
    import imageio_ffmpeg

    height, width = frames[0].shape[:2]
    writer = imageio_ffmpeg.write_frames(
        str(path), (width, height), fps=fps, quality=9, macro_block_size=2, ffmpeg_log_level="error"
    )
    writer.send(None)
    for frame in frames:
        writer.send(np.ascontiguousarray(frame))
    writer.close()
    return path


def test_a_video_becomes_a_scene_without_its_blurred_frames(tmp_path):
    """Of each pair of frames one is blurred: the sharp ones are chosen, and their cameras are recovered."""
    poses = corner_poses(24)
    frames = []
    for i, pose in enumerate(poses):
        frame = Image.fromarray(draw_image(pose))
        frames.append(np.asarray(frame.filter(ImageFilter.GaussianBlur(4)) if i % 2 else frame))
    video = make_video(tmp_path / "walk.mp4", frames, fps=10)
    report = prepare_scene(video, tmp_path / "scene", max_frames=8)
    found = read_poses(tmp_path / "scene")
    assert report.kind == "video"
    assert report.found == 24
    assert report.registered == report.total == 8
    numbers = [int(name.split("_")[1]) for name in found]
    assert all(n % 2 == 0 for n in numbers)
    place, angle, _ = compare(found, {f"frame_{i:06d}": pose for i, pose in enumerate(poses)})
    assert place < 0.02
    assert angle < 1.0


def test_from_a_raw_video_to_a_field_with_nothing_set(tmp_path):
    """Exposure drifts by a stop, and one frame in ten is blurred along its motion; from the file to figures."""
    poses = corner_poses(600)
    shown, frames = poses[5::15], []
    blurred = {4, 13, 27, 36}
    for i in range(len(shown)):
        open_for = range(15 * i, 15 * i + 15, 3) if i in blurred else (15 * i + 5,)
        light = np.mean([(draw_image(poses[k]) / 255.0) ** 2.2 for k in open_for], axis=0)
        light = light * 0.7 * 2.0 ** (0.5 * np.sin(2 * np.pi * i / len(shown)))
        frames.append((255 * np.clip(light, 0, 1) ** (1 / 2.2)).round().astype(np.uint8))
    report = prepare_scene(make_video(tmp_path / "walk.mp4", frames, fps=10), tmp_path / "scene", max_frames=20)
    found = read_poses(tmp_path / "scene")
    assert report.registered == report.total == 20
    assert not blurred & {int(name.split("_")[1]) for name in found}
    place, angle, _ = compare(found, {f"frame_{i:06d}": pose for i, pose in enumerate(shown)})
    assert place < 0.01 and angle < 0.6  # on a short arc, turning trades places with the principal point

    settings = small_settings(steps=20)
    settings["scene"] = {"max_side": 160}
    settings["encode"] = {"cache_dir": str(tmp_path / "cache")}
    lines: list[str] = []
    run = train_scene(
        tmp_path / "scene",
        make_config("cpu", flags=settings | {"only": "field"}),
        output_dir=tmp_path / "run",
        report=lambda event: lines.append(event.message or ""),
    )
    said = " ".join(lines)
    assert "Real photos: sparse depth, adjusted poses, adjusted focal length, exposure of each photo" in said
    assert "Sparse depth" in said and run.status()["status"] == "done"
    assert run.metrics()["psnr_aligned"] > 10


def test_choice_spreads_over_the_video_and_drops_doubles_and_blur():
    rng = np.random.default_rng(0)
    sharp = [selection.Measure(100.0, rng.uniform(0, 255, (24, 24)).astype(np.float32)) for _ in range(60)]
    assert selection.choose(sharp, 150).kept == tuple(range(60))
    few = selection.choose(sharp, 12).kept
    assert len(few) == 12
    assert np.diff(few).max() <= 10
    blurred = [selection.Measure(5.0, m.thumbnail) if i in (7, 30) else m for i, m in enumerate(sharp)]
    assert selection.choose(blurred, 150).blurred == (7, 30)
    still = [
        selection.Measure(100.0 + (i == 22), sharp[20].thumbnail) if 20 <= i < 30 else m for i, m in enumerate(sharp)
    ]
    choice = selection.choose(still, 150)
    assert choice.doubled == (20, 21, *range(23, 30))
    # Nothing is dropped from a small set.
    assert selection.choose(blurred[:20], 150).kept == tuple(range(20))


def test_sharpness_falls_with_blur():
    image = Image.fromarray(draw_image(corner_poses(1)[0])).convert("L")
    values = [selection.measure(np.asarray(image.filter(ImageFilter.GaussianBlur(r)))).sharpness for r in (0, 1, 2, 4)]
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.2 * values[0]


def grey_difference(a: Image.Image, b: Image.Image) -> float:
    """Mean difference in grey levels; colour noise, which JPEG smooths, does not count."""
    return float(np.abs(np.asarray(a.convert("L"), dtype=float) - np.asarray(b.convert("L"), dtype=float)).mean())


def test_exif_orientation_focal_length_and_size_are_applied(tmp_path):
    upright_picture = Image.fromarray(draw_image(corner_poses(1)[0]))
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn by 90 degrees clockwise to see it upright"
    exif.get_ifd(0x8769)[0xA405] = 26
    upright_picture.rotate(90, expand=True).save(tmp_path / "a.jpg", quality=95, exif=exif)
    photo = photos.read_photo(tmp_path / "a.jpg")
    assert (photo.width, photo.height) == (WIDTH, HEIGHT)
    assert photo.focal_px(WIDTH, HEIGHT) == pytest.approx(26 / 43.2666 * 400)
    (tmp_path / "out").mkdir()
    name, width, height = photos.write_photo(photo, tmp_path / "out", "a", 160)
    assert (width, height) == (160, 120)
    written = Image.open(tmp_path / "out" / name)
    assert written.getexif().get(0x0112, 1) == 1
    assert grey_difference(written, upright_picture.resize((160, 120), Image.Resampling.LANCZOS)) < 4


@pytest.mark.parametrize("focal", [(26, 27), "long", 0, 10**9])
def test_exif_that_says_nothing_costs_no_photo(tmp_path, focal):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = focal
    Image.fromarray(draw_image(corner_poses(1)[0])).save(tmp_path / "a.jpg", exif=exif)
    photo = photos.read_photo(tmp_path / "a.jpg")
    assert photo.focal_35mm is None and (photo.width, photo.height) == (WIDTH, HEIGHT)
    (tmp_path / "out").mkdir()
    assert photos.write_photo(photo, tmp_path / "out", "a", 160)[1:] == (160, 120)


def test_photos_are_in_the_order_of_their_numbers():
    names = ["IMG_10.jpg", "IMG_2.jpg", "room².jpg", "a.jpg"]
    assert sorted(names, key=photos.natural_key) == ["a.jpg", "IMG_2.jpg", "IMG_10.jpg", "room².jpg"]


def test_heic_is_read(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    original = Image.fromarray(draw_image(corner_poses(1)[0]))
    heif.from_pillow(original).save(tmp_path / "b.HEIC", quality=95)
    (tmp_path / "out").mkdir()
    photo = photos.read_photo(tmp_path / "b.HEIC")
    name, width, height = photos.write_photo(photo, tmp_path / "out", "b", None)
    assert (name, width, height) == ("b.jpg", WIDTH, HEIGHT)
    assert grey_difference(Image.open(tmp_path / "out/b.jpg"), original) < 4


def test_names_are_natural_safe_and_unique(tmp_path):
    names = ["IMG_10.jpg", "IMG_2.jpg", "b/my photo.jpg", "c/my photo.png", "IMG_2.png"]
    for name in [*names, ".hidden/x.jpg", "._IMG_2.jpg", "note.txt"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = photos.find_photos(tmp_path, tmp_path / "out")
    assert [p.relative_to(tmp_path).as_posix() for p in found] == [
        "b/my photo.jpg",
        "c/my photo.png",
        "IMG_2.jpg",
        "IMG_2.png",
        "IMG_10.jpg",
    ]
    stems = photos.unique_stems(found, tmp_path)
    assert stems == ["b_my_photo", "c_my_photo", "IMG_2", "IMG_2_2", "IMG_10"]


def test_up_is_found_though_the_phone_looks_down_and_some_shots_are_tilted():
    rng = np.random.default_rng(3)
    poses = []
    for i in range(30):
        angle = 2 * np.pi * i / 30
        pose = look_at(np.array([2 * np.cos(angle), 2 * np.sin(angle), 1.8]), np.array([0.0, 0, 0.3]))
        roll = rng.normal(0, np.radians(2)) + (np.pi / 2 if i % 10 == 0 else 0)
        c, s = np.cos(roll), np.sin(roll)
        pose[:3, :3] = pose[:3, :3] @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        poses.append(pose)
    turn = np.eye(4)
    turn[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turn[:3, :3] *= np.linalg.det(turn[:3, :3])
    up, certain = upright.estimate_up(turn @ np.stack(poses))
    assert certain
    assert np.degrees(np.arccos(np.clip(up @ turn[:3, 2], -1, 1))) < 1.0


def test_pairs_hold_neighbours_and_close_loops():
    """Ninety images around a loop: the last sees what the first sees, and is matched with it."""
    rng = np.random.default_rng(0)
    seen = rng.integers(0, 80, (90, 40, 128)).astype(np.uint8)
    descriptors = [np.concatenate([seen[i], seen[(i + 1) % 90], seen[(i + 2) % 90]]) for i in range(90)]
    pairs = choose_pairs(descriptors, is_sequence=True, seed=0)
    assert {(i, i + 1) for i in range(89)} <= set(pairs)
    assert (0, 89) in pairs
    assert len(pairs) < 90 * 89 / 2 / 2
    assert pairs == choose_pairs(descriptors, is_sequence=True, seed=0)


def fails(source: Path, tmp_path: Path, **options: object) -> SceneError:
    """The error of preparing `source`; no files may be left beside the scene's folder."""
    place = tmp_path / "place"
    place.mkdir()
    with pytest.raises(SceneError) as caught:
        prepare_scene(source, place / "scene", **options)
    assert list(place.iterdir()) == []
    return caught.value


def test_nothing_there(tmp_path):
    assert "nothing at this path" in str(fails(tmp_path / "absent", tmp_path))


def test_folder_without_photos_names_the_video_in_it(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/clip.MOV").write_bytes(b"")
    error = fails(tmp_path / "in", tmp_path)
    assert "no photo" in error.what
    assert "clip.MOV" in error.fix


def test_a_capture_with_poses_is_for_training(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/transforms.json").write_text("{}")
    error = fails(tmp_path / "in", tmp_path)
    assert "poses already (nerfstudio)" in error.what and "ovseg3d train" in error.fix


def test_too_few_usable_photos_names_the_broken_ones(corner, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    whole = sorted(corner[0].iterdir())
    for path in whole[:2]:
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "cut.jpg").write_bytes(whole[2].read_bytes()[:3000])
    (folder / "text.jpg").write_text("not a photo")
    error = fails(folder, tmp_path)
    assert "2 of 4" in error.what
    assert "cut.jpg" in error.fix
    assert "text.jpg" in error.fix


@pytest.mark.parametrize("content", [b"", b"this is not a video" * 100], ids=["empty", "text"])
def test_unreadable_video(tmp_path, content):
    (tmp_path / "clip.mp4").write_bytes(content)
    assert "video" in fails(tmp_path / "clip.mp4", tmp_path).what


def test_a_video_that_shows_the_same_all_the_time_is_said_to_do_so(tmp_path):
    frames = [texture(3, 128).astype(np.uint8)[:96]] * 120
    error = fails(make_video(tmp_path / "still.mp4", frames, fps=5), tmp_path)
    assert "Only 1 of 120 frames" in error.what and "walking" in error.fix


@pytest.mark.parametrize("options", [{"seed": -1}, {"seed": 2**31}, {"threads": 0}, {"threads": -3}])
def test_numbers_that_the_solver_cannot_take(tmp_path, options):
    name = next(iter(options))
    assert fails(tmp_path, tmp_path, **options).where == f"--{name}"


def test_photos_without_detail_are_said_to_show_too_little(tmp_path):
    (tmp_path / "in").mkdir()
    for i in range(4):
        Image.new("RGB", (320, 240), (90 + i, 120, 130)).save(tmp_path / f"in/{i}.png")
    error = fails(tmp_path / "in", tmp_path)
    assert "too few features" in error.what
    assert "light" in error.fix


def test_photos_of_different_places_are_said_not_to_overlap(tmp_path):
    (tmp_path / "in").mkdir()
    for i in range(4):
        Image.fromarray(texture(20 + i, 320).astype(np.uint8)).save(tmp_path / f"in/{i}.png")
    error = fails(tmp_path / "in", tmp_path)
    assert "overlap too little" in error.what


def test_a_foreign_photo_is_left_out_by_name(corner, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for path in sorted(corner[0].iterdir())[:6]:
        (folder / path.name).write_bytes(path.read_bytes())
    Image.fromarray(texture(50, WIDTH).astype(np.uint8)[:HEIGHT]).save(folder / "holiday.png")
    report = prepare_scene(folder, tmp_path / "scene")
    assert report.unregistered == ("holiday.png",)
    assert not (tmp_path / "scene/images/holiday.png").exists()
    assert any("holiday.png" in advice.where and advice.level == "warning" for advice in report.advice)


def test_full_output_folder_is_refused(corner, tmp_path):
    (tmp_path / "scene").mkdir()
    (tmp_path / "scene/mine.txt").write_text("keep")
    with pytest.raises(OutputError, match="not empty"):
        prepare_scene(corner[0], tmp_path / "scene")
    assert [p.name for p in tmp_path.rglob("*")] == ["scene", "mine.txt"]


def test_an_interrupt_leaves_nothing(corner, tmp_path):
    def stop(what: str, part: float) -> None:
        if what.startswith("matching"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_scene(corner[0], tmp_path / "scene", report=stop)
    assert list(tmp_path.iterdir()) == []


def test_the_command_prints_one_json_object_and_no_native_log(corner, tmp_path):
    out = tmp_path / "scene"
    folder = tmp_path / "in"
    folder.mkdir()
    for path in sorted(corner[0].iterdir())[:4]:
        (folder / path.name).write_bytes(path.read_bytes())
    done = subprocess.run(
        [sys.executable, "-m", "ovseg3d", "prepare", str(folder), str(out), "--json", "--max-side", "300"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["scene"] == str(out)
    assert answer["registered"] >= 3
    assert answer["cameras"][0]["width"] == 300
    assert all(line.startswith("[") for line in done.stderr.splitlines()), done.stderr
    assert ".cc:" not in done.stderr
