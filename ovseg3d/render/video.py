"""Video: an MP4 file (H.264), written by ffmpeg as images are added.

ffmpeg is started here and not by imageio, which ignores its exit code. Most of a video is written after the last image
was passed, so a full disk or a killed ffmpeg would go unnoticed. Nor is it started by a fork, as in imageio-ffmpeg: a
fork ends OpenBLAS's threads, and a matrix product in another thread, as in the viewer, would then wait forever.
"""

import subprocess
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from ovseg3d.errors import OutputError

_QUALITY = 10
"""H.264's constant rate factor: 0 is lossless, 51 the lowest quality."""


class Video:
    """Writes the file `path`; use it in a `with` statement, which always ends ffmpeg.

    Raises:
        OutputError: ffmpeg is missing.
        OSError: ffmpeg failed, when an image is added or at the end; with its message.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self._path, self._fps = path.absolute(), fps
        self._ffmpeg: subprocess.Popen[bytes] | None = None
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - an unread pipe would fill and block ffmpeg

    def add(self, image: UInt8[np.ndarray, "h w 3"]) -> None:
        """Add an image, of the size of the first."""
        height, width = (side // 2 * 2 for side in image.shape[:2])
        if self._ffmpeg is None:
            self._ffmpeg = self._start(width, height)
        try:
            # H.264 needs even sides; an odd last row or column is dropped.
            assert self._ffmpeg.stdin is not None  # a pipe, as started below
            self._ffmpeg.stdin.write(np.ascontiguousarray(image[:height, :width]))
        except OSError as error:
            raise self._failure(self._ffmpeg) from error

    def _start(self, width: int, height: int) -> subprocess.Popen[bytes]:
        try:
            import imageio_ffmpeg

            rate = str(Fraction(self._fps).limit_denominator())
            given = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", rate, "-i", "-"]
            wanted = ["-c:v", "h264", "-crf", str(_QUALITY), "-pix_fmt", "yuv420p"]
            return subprocess.Popen(
                [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-xerror", "-y", *given, *wanted, str(self._path)],
                stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self._log,
            )  # fmt: skip
        except (ImportError, RuntimeError, OSError) as error:
            fix = "pip install imageio-ffmpeg, or write images"
            raise OutputError(f"No video can be written: {error}", fix=fix) from error

    def _failure(self, ffmpeg: subprocess.Popen[bytes]) -> OSError:
        """An error with ffmpeg's last message; waits until it has ended."""
        ffmpeg.communicate()
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return OSError(f"ffmpeg: {lines[-1] if lines else f'ended with code {ffmpeg.returncode}'}")

    def __enter__(self) -> "Video":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        with self._log:
            if self._ffmpeg is None:
                return
            try:
                if kind is None:
                    self._ffmpeg.communicate()  # until all is written
            finally:
                self._ffmpeg.kill()  # no effect if it has ended
                self._ffmpeg.communicate()
            if kind is None and self._ffmpeg.returncode:
                raise self._failure(self._ffmpeg)
