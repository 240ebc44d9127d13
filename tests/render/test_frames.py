"""Images and videos of a renderer's views."""

import subprocess
import threading
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
import pytest
from PIL import Image
from tiny import draw

from ovseg3d.errors import OutputError
from ovseg3d.render.frames import depth_numbers, render_images, render_video
from ovseg3d.render.images import depth_error_image, depth_image, normal_image, preview, to_bytes
from ovseg3d.scene import Camera, load_scene


class Painter:
    def render(self, camera: Camera, normals: bool = False) -> dict[str, np.ndarray]:
        rgb, depth = draw(camera.c2w)
        images = {"rgb": rgb, "depth_z": depth, "opacity": np.ones_like(depth)}
        return images | ({"normal": np.zeros_like(rgb) + [0, 0, 1]} if normals else {})


@pytest.fixture
def cameras(tiny_scene: Path) -> list[Camera]:
    return [frame.camera for frame in load_scene(tiny_scene).frames[:3]]


def test_images_of_every_kind(tmp_path: Path, cameras: list[Camera]) -> None:
    kinds = ("colour", "depth", "normals", "opacity")
    files = render_images(Painter(), cameras, ["a", "b", "c"], tmp_path / "out", what=kinds)
    assert sorted(tmp_path.joinpath("out").iterdir()) == sorted(files) and len(files) == 15
    rgb, depth = draw(cameras[0].c2w)
    np.testing.assert_array_equal(np.array(Image.open(tmp_path / "out/a.png")), np.rint(rgb * 255))
    numbers = np.array(Image.open(tmp_path / "out/a_depth_mm.png"))
    assert numbers.dtype == np.uint16
    np.testing.assert_allclose(numbers / 1000, depth, atol=6e-4)
    assert (np.array(Image.open(tmp_path / "out/a_normals.png")) == [128, 128, 255]).all()
    assert (np.array(Image.open(tmp_path / "out/a_opacity.png")) == 255).all()


def test_a_film_has_its_pictures_and_rate(tmp_path: Path, cameras: list[Camera]) -> None:
    odd = [camera.scaled(32, 32) for camera in cameras] * 4
    events = []
    files = render_video(
        Painter(), odd, {"colour": tmp_path / "f.mp4", "depth": tmp_path / "d.mp4"}, 12.0, report=events.append
    )
    assert [path.name for path in files] == ["f.mp4", "d.mp4"] and len(events) == 12
    for path in files:
        with imageio.get_reader(path) as video:
            assert video.get_meta_data()["fps"] == 12 and video.count_frames() == 12
    with imageio.get_reader(files[0]) as video:
        difference = np.abs(video.get_data(0).astype(float) - draw(cameras[0].c2w)[0] * 255)
    assert difference.mean() < 12  # H.264 with halved colour resolution, at 32 x 32


def test_a_film_that_is_stopped_leaves_nothing(tmp_path: Path, cameras: list[Camera]) -> None:
    stop = threading.Event()
    with pytest.raises(KeyboardInterrupt):
        render_video(Painter(), cameras, {"colour": tmp_path / "f.mp4"}, 12.0, report=lambda _: stop.set(), stop=stop)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def ffmpegs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[subprocess.Popen, dict]]:
    """Processes started for videos, with their arguments."""
    made = []

    class Seen(subprocess.Popen):
        def __init__(self, *command, **how) -> None:
            super().__init__(*command, **how)
            made.append((self, how))

    monkeypatch.setattr(subprocess, "Popen", Seen)
    return made


def test_a_video_starts_without_a_fork(tmp_path: Path, cameras: list[Camera], ffmpegs: list) -> None:
    """With `preexec_fn` Python forks, and a fork makes numpy products in other threads wait forever."""
    render_video(Painter(), cameras, {"colour": tmp_path / "f.mp4"}, 12.0)
    assert ffmpegs and all(how.get("preexec_fn") is None for _, how in ffmpegs)


@pytest.mark.parametrize("stopped", [True, False])
def test_ffmpeg_may_end_first(tmp_path: Path, cameras: list[Camera], ffmpegs: list, stopped: bool) -> None:
    """As for Ctrl-C in a terminal, which is sent to both processes."""
    stop = threading.Event()

    class Interrupted(Painter):
        def render(self, camera: Camera, normals: bool = False) -> dict[str, np.ndarray]:
            for process, _ in ffmpegs:
                process.kill()
                process.wait()
                if stopped:
                    stop.set()
            return super().render(camera, normals)

    with pytest.raises(KeyboardInterrupt if stopped else OutputError):
        render_video(Interrupted(), cameras * 3, {"colour": tmp_path / "f.mp4"}, 12.0, stop=stop)
    assert list(tmp_path.iterdir()) == []


def fake_ffmpeg(folder: Path, monkeypatch: pytest.MonkeyPatch, first: str, said: str = "") -> Path:
    """An ffmpeg that writes a truncated file and fails."""
    program = folder / "ffmpeg"
    program.write_text(f"#!/bin/sh\n{first}\nfor path; do :; done\necho cut > \"$path\"\necho '{said}' >&2\nexit 228\n")
    program.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(program))
    return program


@pytest.mark.parametrize("stopped", [True, False])
def test_a_film_that_is_cut_at_its_end_replaces_none(
    tmp_path: Path, cameras: list[Camera], monkeypatch: pytest.MonkeyPatch, stopped: bool
) -> None:
    """Most of a video is written after its last image was passed."""
    fake_ffmpeg(tmp_path, monkeypatch, "cat > /dev/null")
    stop, out = threading.Event(), tmp_path / "out"
    out.mkdir()
    for name in ("f.mp4", "d.mp4"):
        (out / name).write_bytes(b"old")
    report = lambda event: stop.set() if stopped and event.step == len(cameras) else None  # noqa: E731
    with pytest.raises(KeyboardInterrupt if stopped else OutputError):
        render_video(
            Painter(), cameras, {"colour": out / "f.mp4", "depth": out / "d.mp4"}, 12.0, report=report, stop=stop
        )
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {"f.mp4": b"old", "d.mp4": b"old"}


@pytest.mark.parametrize(
    ("said", "words"), [("av_write: No space left on device", "disk is full"), ("Odd input", "Odd input"), ("", "228")]
)
@pytest.mark.parametrize("first", ["exec 0<&-", "cat > /dev/null"], ids=["at once", "at the end"])
def test_what_ffmpeg_says_is_told(
    tmp_path: Path, cameras: list[Camera], monkeypatch: pytest.MonkeyPatch, first: str, said: str, words: str
) -> None:
    program, out = fake_ffmpeg(tmp_path, monkeypatch, first, said), tmp_path / "out"
    with pytest.raises(OutputError, match=words):
        render_video(Painter(), cameras * 9, {"colour": out / "f.mp4"}, 12.0)
    assert list(out.iterdir()) == []
    program.unlink()
    with pytest.raises(OutputError, match="No video can be written"):
        render_video(Painter(), cameras, {"colour": out / "f.mp4"}, 12.0)


def test_a_place_that_cannot_be_written(tmp_path: Path, cameras: list[Camera]) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        render_images(Painter(), cameras, ["a", "b", "c"], tmp_path / "file")
    with pytest.raises(OutputError):
        render_video(Painter(), cameras, {"colour": tmp_path / "file" / "f.mp4"}, 12.0)


def test_depth_numbers_hold_what_fits() -> None:
    depth = np.array([[0.0, 1.2344, 65.535], [65.6, np.nan, np.inf]])
    np.testing.assert_array_equal(depth_numbers(depth), [[0, 1234, 65535], [0, 0, 0]])


def test_colours_outside_their_range_are_clipped() -> None:
    """For images and for lists of points."""
    shades = np.array([[-0.5, 0.0, 0.1], [0.5, 1.0, 1.5]])
    np.testing.assert_array_equal(to_bytes(shades), [[0, 0, 26], [128, 255, 255]])
    np.testing.assert_array_equal(to_bytes(shades[None]), to_bytes(shades)[None])


def test_near_is_brighter_than_far_and_unknown_is_black() -> None:
    image = depth_image(np.array([[1.0, 2.0, 4.0, 0.0, np.nan]]), (1.0, 4.0)).astype(int).sum(axis=-1)[0]
    assert image[0] > image[1] > image[2] and image[3] == image[4] == 0
    assert depth_image(np.zeros((2, 2))).max() == 0


def test_the_depth_error_image_grows_with_the_error() -> None:
    pred, true = np.array([[1.0, 1.05, 1.1, 5.0, 1.0]]), np.array([[1.0, 1.0, 1.0, 1.0, 0.0]])
    image = depth_error_image(pred, true).astype(int).sum(axis=-1)[0]
    assert image[0] < image[1] < image[2] == image[3] and image[4] == 3 * 128


def test_normals_point_where_their_colour_says() -> None:
    image = normal_image(np.array([[[1.0, 0, 0], [0, -1.0, 0]]]))
    np.testing.assert_array_equal(image[0], [[255, 128, 128], [128, 0, 128]])


def test_a_preview_has_a_panel_for_each_thing(cameras: list[Camera]) -> None:
    rendered = Painter().render(cameras[0])
    three = preview("images/0.png", rendered["rgb"], rendered, None, 30.0)
    four = preview("images/0.png", rendered["rgb"], rendered, rendered["depth_z"], 30.0)
    assert three.width == 3 * (four.width - three.width) + 4 and three.height == four.height > 32
