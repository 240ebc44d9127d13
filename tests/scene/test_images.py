"""Photos, masks, depth and labels at training size."""

import json
from pathlib import Path

import numpy as np
import pytest
import writers as w
from PIL import Image

from ovseg3d.errors import SceneError
from ovseg3d.scene import load_depth, load_mask, load_photo, load_scene
from ovseg3d.scene.images import area_resize


def _scene(folder: Path, **options):
    return load_scene(folder, **options)


def test_area_downscale_of_rgba_weighs_colours_by_alpha():
    image = np.zeros((2, 4, 4), dtype=np.uint8)
    image[0, 0] = [200, 0, 0, 255]
    image[0, 1] = [0, 100, 0, 255]
    image[1, 0] = [255, 255, 255, 0]  # transparent: its colour must not count
    image[1, 1] = [255, 255, 255, 0]
    image[:, 2:] = [10, 20, 30, 51]
    small = area_resize(image, 2, 1)
    assert small.tolist() == [[[100, 50, 0, 128], [10, 20, 30, 51]]]


def test_area_downscale_by_a_fraction_keeps_the_mean():
    row = np.array([[0, 30, 60]], dtype=np.uint8)[..., None].repeat(3, axis=-1)
    # Three cells onto two: each takes one whole cell and half of the middle one.
    assert area_resize(row, 2, 1)[0, :, 0].tolist() == [10, 50]


def test_photos_are_averaged_down_and_cameras_with_them(tmp_path):
    scene = _scene(w.write_nerfstudio(tmp_path), downscale=2)
    frame = scene.frames[3]
    assert (frame.camera.width, frame.camera.height, frame.camera.fx) == (12, 8, 10.0)
    full = np.asarray(w.photo(3)).astype(float)
    expected = full.reshape(8, 2, 12, 2, 3).mean(axis=(1, 3))
    assert np.abs(load_photo(frame) - expected).max() <= 0.5


def test_blender_photos_keep_their_alpha(tmp_path):
    w.write_blender(tmp_path)
    assert not load_scene(tmp_path).has_alpha
    for path in tmp_path.glob("*/*.png"):
        image = Image.open(path).convert("RGBA")
        image.putalpha(Image.new("L", image.size, 128))
        image.save(path)
    scene = load_scene(tmp_path)
    assert scene.has_alpha
    assert (load_photo(scene.frames[0])[..., 3] == 128).all()


def test_opaque_alpha_is_no_transparency(tmp_path):
    w.write_blender(tmp_path)
    for path in tmp_path.glob("*/*.png"):
        Image.open(path).convert("RGBA").save(path)
    assert not load_scene(tmp_path).has_alpha


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation, suffix, tmp_path):
    upright = np.zeros((w.HEIGHT, w.WIDTH, 3), dtype=np.uint8)
    upright[:8, :12, 0] = 255  # red upper left
    upright[8:, 12:, 2] = 255  # blue lower right
    # Viewers show `upright`: store the pixels that the orientation turns into it.
    undo = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    stored = Image.fromarray(upright)
    stored = stored if undo is None else stored.transpose(undo)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = w.transforms()
    (tmp_path / "images").mkdir()
    for frame in data["frames"]:
        frame["file_path"] = frame["file_path"].replace("png", suffix)
        stored.save(tmp_path / frame["file_path"], exif=exif, quality=100, subsampling=0)
    (tmp_path / "transforms.json").write_text(json.dumps(data))
    for downscale in (1, 2, 4):
        frame = load_scene(tmp_path, downscale=downscale).frames[0]
        image = load_photo(frame).astype(int)
        assert image.shape == (w.HEIGHT // downscale, w.WIDTH // downscale, 3)
        assert image[0, 0, 0] > 200 and image[0, 0, 2] < 50
        assert image[-1, -1, 2] > 200 and image[-1, -1, 0] < 50
        assert image[0, -1].max() < 50


def test_exif_is_ignored_where_the_poses_are_for_the_raw_pixels(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    w.write_nerfstudio(tmp_path)
    for index, name in enumerate(w.NAMES):
        w.photo(index).save(tmp_path / "images" / name, exif=exif)
    scene = load_scene(tmp_path)
    assert np.array_equal(load_photo(scene.frames[4]), np.asarray(w.photo(4)))
    assert any("EXIF" in note for note in scene.notes)


def test_a_jpeg_decoded_small_is_close_to_the_average(tmp_path):
    y, x = np.mgrid[:240, :320]
    smooth = np.stack([x * 0.7, y, 255 - x * 0.7], axis=-1).astype(np.uint8)
    data = w.transforms(w=320, h=240, cx=160, cy=120)
    (tmp_path / "images").mkdir()
    for frame in data["frames"]:
        frame["file_path"] = frame["file_path"].replace("png", "jpg")
        Image.fromarray(smooth).save(tmp_path / frame["file_path"], quality=95)
    (tmp_path / "transforms.json").write_text(json.dumps(data))
    for downscale, size in ((8, (30, 40)), (5, (48, 64)), (3, (80, 107))):
        image = load_photo(load_scene(tmp_path, downscale=downscale).frames[0])
        assert image.shape[:2] == size
        assert np.abs(image.astype(int) - area_resize(smooth, size[1], size[0])).max() <= 4


def test_masks_are_black_where_hidden(tmp_path):
    data = w.transforms()
    mask = np.full((w.HEIGHT, w.WIDTH), 255, dtype=np.uint8)
    mask[:4] = 0
    (tmp_path / "masks").mkdir()
    for index, frame in enumerate(data["frames"]):
        frame["mask_path"] = f"masks/{index}.png"
        stored = mask if index % 2 else mask // 255  # 0/1 masks are common too
        Image.fromarray(stored).save(tmp_path / frame["mask_path"])
    scene = _scene(w.write_nerfstudio(tmp_path, data), downscale=2)
    for index in (0, 1):
        loaded = load_mask(scene.frames[index])
        assert loaded.shape == (8, 12)
        assert not loaded[:2].any() and loaded[2:].all()


def test_colmap_masks_are_found_by_name(tmp_path):
    w.write_colmap(tmp_path)
    (tmp_path / "masks").mkdir()
    mask = np.full((w.HEIGHT, w.WIDTH), 255, dtype=np.uint8)
    mask[:, 5] = 0
    Image.fromarray(mask).save(tmp_path / "masks/03.png.png")
    Image.fromarray(mask).save(tmp_path / "masks/04.png")
    frames = load_scene(tmp_path).frames
    assert frames[2].mask_path is None
    for index in (3, 4):
        assert not load_mask(frames[index])[:, 5].any()


def test_depth_is_in_input_units_and_zero_where_unknown(tmp_path):
    data = w.transforms()
    (tmp_path / "depth").mkdir()
    values = np.arange(w.HEIGHT * w.WIDTH, dtype=np.uint16).reshape(w.HEIGHT, w.WIDTH) * 10
    Image.fromarray(values).save(tmp_path / "depth/0.png")
    exact = values.astype(np.float32)
    exact[0, 1] = np.nan
    np.save(tmp_path / "depth/1.npy", exact)
    data["frames"][0]["depth_file_path"] = "depth/0.png"
    data["frames"][1]["depth_file_path"] = "depth/1.npy"
    scene = _scene(w.write_nerfstudio(tmp_path, data))
    assert scene.metric and scene.metres_per_unit == 1.0
    depth = load_depth(scene.frames[0], scene)
    assert depth.dtype == np.float32
    assert np.allclose(depth, values * 0.001)
    other = load_depth(scene.frames[1], scene)
    assert other[0, 1] == 0 and np.isclose(other[1, 0], values[1, 0] * 0.001)
    assert not load_depth(scene.frames[2], scene).any()
    # Nearest, at the centres of the smaller pixels: rows 1, 3, ... and columns 1, 3, ...
    small = load_scene(tmp_path, downscale=2)
    assert np.allclose(load_depth(small.frames[0], small), values[1::2, 1::2] * 0.001)


def test_depth_with_a_scale_of_its_own_is_not_metric(tmp_path):
    data = w.transforms(depth_unit_scale_factor=0.00025)
    (tmp_path / "depth").mkdir()
    Image.fromarray(np.full((w.HEIGHT, w.WIDTH), 4000, dtype=np.uint16)).save(tmp_path / "depth/0.png")
    data["frames"][0]["depth_file_path"] = "depth/0.png"
    scene = _scene(w.write_nerfstudio(tmp_path, data))
    assert not scene.metric
    assert np.allclose(load_depth(scene.frames[0], scene), 1.0)


def _smaller(folder: Path, factor: int, suffix: str = "png", rename: bool = False) -> None:
    (folder / f"images_{factor}").mkdir()
    for index, name in enumerate(w.NAMES):
        stem = f"image{index:03d}" if rename else name[:-4]
        small = Image.new("RGB", (w.WIDTH // factor, w.HEIGHT // factor), (factor * 10, 0, 0))
        small.save(folder / f"images_{factor}" / f"{stem}.{suffix}")


@pytest.mark.parametrize("write", [w.write_nerfstudio, w.write_colmap, w.write_llff])
def test_the_nearest_smaller_copy_is_used(write, tmp_path):
    write(tmp_path)
    _smaller(tmp_path, 2)
    _smaller(tmp_path, 4)
    for downscale, folder, size in ((1, "images", 24), (2, "images_2", 12), (3, "images_2", 8), (4, "images_4", 6)):
        frame = load_scene(tmp_path, downscale=downscale).frames[0]
        assert frame.image_path.parent.name == folder
        assert frame.camera.width == size and load_photo(frame).shape[1] == size
        assert frame.camera.fx == pytest.approx(w.FOCAL * size / w.WIDTH)
        assert frame.name == "images/00.png"


@pytest.mark.parametrize("write", [w.write_nerfstudio, w.write_colmap, w.write_llff])
def test_nothing_is_upsampled(write, tmp_path):
    write(tmp_path)
    _smaller(tmp_path, 4, suffix="jpg")
    for path in (tmp_path / "images").iterdir():
        path.unlink()
    (tmp_path / "images").rmdir()
    scene = load_scene(tmp_path, downscale=2)
    camera = scene.frames[0].camera
    assert (camera.width, camera.height, camera.fx) == (6, 4, 5.0)
    assert any("smaller than asked for" in note for note in scene.notes)


def test_copies_under_other_names_correspond_by_order(tmp_path):
    w.write_colmap(tmp_path)
    _smaller(tmp_path, 2, rename=True)
    frame = load_scene(tmp_path, downscale=2).frames[5]
    assert frame.image_path.name == "image005.png" and frame.name == "images/05.png"


def test_folders_that_the_capture_names_are_no_copies(tmp_path):
    data = w.transforms()
    for index, frame in enumerate(data["frames"]):
        folder = "images_2" if index % 2 else "images"
        frame["file_path"] = f"{folder}/{index // 2:02d}.png"
        w.write_photos(tmp_path / folder)
    w.write_nerfstudio(tmp_path, data)
    frame = load_scene(tmp_path, downscale=2).frames[0]
    assert frame.name == "images/00.png" and frame.image_path.parent.name == "images"


def test_a_neighbouring_scene_is_no_copy(tmp_path):
    data = w.transforms()
    for frame in data["frames"]:
        frame["file_path"] = frame["file_path"].removeprefix("images/")
    for name in ("room", "room_2"):
        w.write_photos(tmp_path / name)
        (tmp_path / name / "transforms.json").write_text(json.dumps(data))
    assert load_scene(tmp_path / "room", downscale=2).frames[0].image_path.parent.name == "room"


def test_max_side_takes_the_smallest_whole_factor(tmp_path):
    w.write_nerfstudio(tmp_path)
    for most, width in ((100, 24), (24, 24), (23, 12), (8, 8), (7, 6)):
        assert load_scene(tmp_path, max_side=most).frames[0].camera.width == width
    assert load_scene(tmp_path, max_side=8, downscale=2).frames[0].camera.width == 12


def test_photos_at_half_of_the_stated_size_are_accepted_with_a_note(tmp_path):
    w.write_nerfstudio(tmp_path)
    w.write_photos(tmp_path / "images", size=(12, 8))
    scene = load_scene(tmp_path)
    assert (scene.frames[0].camera.width, scene.frames[0].camera.fx) == (12, 10.0)
    assert any("0.5 times" in note for note in scene.notes)


def test_heic_photos_are_read(tmp_path):
    import pillow_heif

    pillow_heif.register_heif_opener()
    data = w.transforms(w=64, h=48, cx=32, cy=24)
    (tmp_path / "images").mkdir()
    for index, frame in enumerate(data["frames"]):
        frame["file_path"] = frame["file_path"].replace("png", "heic")
        Image.new("RGB", (64, 48), (200, index, 10)).save(tmp_path / frame["file_path"])
    (tmp_path / "transforms.json").write_text(json.dumps(data))
    image = load_photo(load_scene(tmp_path).frames[0])
    assert image.shape == (48, 64, 3) and abs(int(image[20, 20, 0]) - 200) < 8


def test_sixteen_bit_grey_keeps_its_brightness(tmp_path):
    w.write_nerfstudio(tmp_path)
    values = np.full((w.HEIGHT, w.WIDTH), 40000, dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "images/00.png")
    assert (load_photo(load_scene(tmp_path).frames[0]) == 40000 // 256).all()


def test_a_mask_that_hides_everything_is_an_error(tmp_path):
    data = w.transforms()
    Image.new("L", (w.WIDTH, w.HEIGHT)).save(tmp_path / "black.png")
    data["frames"][0]["mask_path"] = "black.png"
    scene = _scene(w.write_nerfstudio(tmp_path, data))
    with pytest.raises(SceneError, match="hides every pixel") as caught:
        load_mask(scene.frames[0])
    assert caught.value.where == tmp_path / "black.png" and caught.value.fix
