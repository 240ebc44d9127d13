"""A film: an MP4 (H.264) that ffmpeg writes while its pictures come.

ffmpeg is started here, and not by imageio, which never looks at how it ended: most of a film is written after the last
picture was given, and if the disk is full by then, or ffmpeg is killed, nobody would hear. Nor is it started by a fork,
as imageio-ffmpeg does: a fork ends OpenBLAS's threads, and a product of matrices that is under way in another thread,
as in the viewer, would wait for them for ever.
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
"""H.264's constant rate factor: 0 loses nothing, 51 is the worst."""


class Video:
    """Writes the file `path`; a `with` statement, which ends ffmpeg whatever happens.

    Raises:
        OutputError: ffmpeg is missing. OSError, in its words, when pictures are added or at the end: it did not write
            the whole film.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self._path, self._fps = path.absolute(), fps
        self._ffmpeg: subprocess.Popen[bytes] | None = None
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - a pipe that nobody reads would fill, and stop ffmpeg

    def add(self, image: UInt8[np.ndarray, "h w 3"]) -> None:
        """One more picture, as large as the first."""
        height, width = (side // 2 * 2 for side in image.shape[:2])
        if self._ffmpeg is None:
            self._ffmpeg = self._start(width, height)
        try:
            # H.264 wants even sides; the last row or column is left out where there is an odd one.
            assert self._ffmpeg.stdin is not None  # a pipe, as started below
            self._ffmpeg.stdin.write(np.ascontiguousarray(image[:height, :width]))
        except OSError as error:
            raise self._ended(self._ffmpeg) from error

    def _start(self, width: int, height: int) -> subprocess.Popen[bytes]:
        try:
            import imageio_ffmpeg

            rate = str(Fraction(self._fps).limit_denominator())
            given = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", rate, "-i", "-"]
            wanted = ["-c:v", "h264", "-crf", str(_QUALITY), "-pix_fmt", "yuv420p"]
            return subprocess.Popen(
                [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-xerror", "-y", *given, *wanted, str(self._path)],
                stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self._said,
            )  # fmt: skip
        except (ImportError, RuntimeError, OSError) as error:
            fix = "pip install imageio-ffmpeg, or write images"
            raise OutputError(f"No film can be written: {error}", fix=fix) from error

    def _ended(self, ffmpeg: subprocess.Popen[bytes]) -> OSError:
        """What ffmpeg said last, once it has ended."""
        ffmpeg.communicate()
        self._said.seek(0)
        said = self._said.read().decode(errors="replace").strip().splitlines()
        return OSError(f"ffmpeg: {said[-1] if said else f'ended with code {ffmpeg.returncode}'}")

    def __enter__(self) -> "Video":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        with self._said:
            if self._ffmpeg is None:
                return
            try:
                if kind is None:
                    self._ffmpeg.communicate()  # until the rest is written
            finally:
                self._ffmpeg.kill()  # nothing happens to one that has ended
                self._ffmpeg.communicate()
            if kind is None and self._ffmpeg.returncode:
                raise self._ended(self._ffmpeg)
