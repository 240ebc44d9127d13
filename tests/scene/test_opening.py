"""Untrusted images: no other program is started, and sizes are checked before decoding."""

import os
import resource
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovseg3d.errors import SceneError
from ovseg3d.scene.opening import FORMATS, open_image
from ovseg3d.scene.prepare.photos import read_photo

pytestmark = pytest.mark.timeout(60, method="signal")

POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EndComments\n(%s) (w) file closefile\nshowpage\n"


def png(path: Path, width: int, height: int) -> Path:
    """A grey PNG of repeated rows: a few hundred kB at any size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    squeeze = zlib.compressobj(9)
    rows = [squeeze.compress(bytes((width + 1) * min(256, height - top))) for top in range(0, height, 256)]
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", b"".join([*rows, squeeze.flush()])) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    return path


def test_a_program_in_a_photos_place_is_not_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(POSTSCRIPT)
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a program was started"))
    monkeypatch.setattr(os, "system", lambda *_: pytest.fail("a program was started"))
    with pytest.raises(SceneError, match="not a readable image"), open_image(path) as image:
        image.load()
    with pytest.raises(ValueError, match="not a readable image"):
        read_photo(path)
    assert "EPS" not in FORMATS


def test_a_small_file_of_a_huge_picture_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    path = png(tmp_path / "huge.png", 17_000, 10_000)
    assert path.stat().st_size < 600_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(SceneError, match="more than 100 megapixels") as caught, open_image(path) as image:
        image.load()
    assert "--max-megapixels" in caught.value.fix
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB
    with open_image(path, max_pixels=200_000_000) as image:  # as the flag says
        assert image.size == (17_000, 10_000)


def test_a_photo_at_the_limit_takes_less_than_two_gib(tmp_path: Path) -> None:
    path = png(tmp_path / "large.png", 10_000, 10_000)
    program = (
        "import sys; from pathlib import Path; import numpy as np\n"
        "from ovseg3d.scene.capture import Frame; from ovseg3d.scene.cameras import Camera\n"
        "from ovseg3d.scene.images import load_photo\n"
        "camera = Camera(1000, 1000, 900.0, 900.0, 500.0, 500.0, np.eye(4))\n"
        "photo = load_photo(Frame('large.png', Path(sys.argv[1]), camera))\n"
        # Not ru_maxrss, which begins with the size of the process that started this one.
        "status = Path('/proc/self/status').read_text().split()\n"
        "print(photo.shape, status[status.index('VmHWM:') + 1])\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) < 2 * 2**20, done.stdout  # KiB


@pytest.mark.parametrize("kind", ["pipe", "folder", "nothing", "text"])
def test_what_is_no_picture_is_told(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.png"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "text":
        path.write_text("no image")
    with pytest.raises(SceneError), open_image(path):
        pass


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "tif"])
def test_the_usual_formats_open(tmp_path: Path, suffix: str) -> None:
    image = np.random.default_rng(0).integers(0, 255, (8, 12, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / f"a.{suffix}")
    with open_image(tmp_path / f"a.{suffix}") as opened:
        assert opened.size == (12, 8) and np.asarray(opened.convert("RGB")).shape == (8, 12, 3)
