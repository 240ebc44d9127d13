"""Frames of a video, through ffmpeg, in two streamed passes: memory does not grow with its length.

The first pass measures small grey copies, the second writes the chosen frames. Both decode every frame of the
first video track in order without duplicating or dropping any (`-fps_mode passthrough`), so that frame numbers
agree. ffmpeg applies the rotation that a phone stores in the file.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ovseg3d.errors import SceneError
from ovseg3d.scene.prepare.selection import GREY_SIDE, Measure, measure

SUFFIXES = {".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".3gp", ".mpg", ".mpeg", ".mts"}


@dataclass(frozen=True)
class VideoMeasures:
    """Result of the first pass: one measure per frame; `fps` is 0 if the file does not state it."""

    fps: float
    measures: list[Measure]

    def seconds(self, frame: int) -> float:
        """Time of the frame, assuming a constant frame rate."""
        return frame / self.fps if self.fps > 0 else float(frame)


def measure_video(path: Path, report: Callable[[float], None]) -> VideoMeasures:
    """Read the video once; `report` receives the completed fraction. Raises SceneError: it cannot be read."""
    stream = _frames(path, "gray", [f"scale={_fit(GREY_SIDE)}:flags=area"])
    meta = next(stream)
    width, height = meta["size"]
    if min(width, height) < 24:
        raise SceneError(f"The video is only {width}x{height} pixels", where=path)
    fps = float(meta.get("fps") or 0.0)
    expected = max(1.0, fps * float(meta.get("duration") or 0.0))
    measures: list[Measure] = []
    for data in stream:
        measures.append(measure(np.frombuffer(data, np.uint8).reshape(height, width)))
        if len(measures) % 25 == 0:
            report(min(1.0, len(measures) / expected))
    if not measures:
        raise SceneError("The video holds no frame that can be read", where=path, fix=_FIX)
    return VideoMeasures(fps, measures)


def write_frames(
    path: Path,
    frames: tuple[int, ...],
    names: list[Path],
    max_side: int | None,
    report: Callable[[float], None],
) -> None:
    """Write some frames of a video as files.

    Args:
        path: the video.
        frames: numbers of the frames, ascending.
        names: file of each frame.
        max_side: longest side of the files, pixels; None keeps the video's.
        report: receives the completed fraction, 0 to 1.

    Raises:
        SceneError: fewer frames can be read than in the first pass.
    """
    chosen = "+".join(f"eq(n,{i})" for i in frames)
    filters = [f"select='{chosen}'"]
    if max_side is not None:
        filters.append(f"scale={_fit(max_side)}:flags=area")
    stream = _frames(path, "rgb24", filters)
    width, height = next(stream)["size"]
    count = 0
    for name, data in zip(names, stream):
        image = Image.fromarray(np.frombuffer(data, np.uint8).reshape(height, width, 3))
        image.save(name, quality=95, subsampling=0)
        count += 1
        report(count / len(names))
    if count != len(names):
        raise SceneError(f"Only {count} of {len(names)} frames could be read a second time", where=path, fix=_FIX)


_FIX = "play it to see whether it is whole; converting it to MP4 (H.264) often helps"


def _fit(side: int) -> str:
    """ffmpeg's scale that brings the longest side to `side`, never up, keeping the shape."""
    return f"'if(gte(iw,ih),min({side},iw),-1)':'if(gte(iw,ih),-1,min({side},ih))'"


def _frames(path: Path, pix_fmt: str, filters: list[str]) -> Iterator[Any]:
    """The stream of imageio-ffmpeg (first its dict of facts, then bytes), with failures raised as SceneError."""
    import imageio_ffmpeg

    # It logs a warning whenever images are scaled, which is intended here.
    logger = logging.getLogger("imageio_ffmpeg")
    level = logger.level
    logger.setLevel(logging.ERROR)
    bits = 8 if pix_fmt == "gray" else 24
    output = ["-map", "0:v:0", "-vf", ",".join(filters), "-fps_mode", "passthrough"]
    stream = imageio_ffmpeg.read_frames(
        str(path), pix_fmt=pix_fmt, bits_per_pixel=bits, output_params=output, input_params=["-nostdin"]
    )
    try:
        first = next(stream, None)
        if not isinstance(first, dict) or "size" not in first:
            raise SceneError("This is not a video that can be read", where=path, fix=_FIX)
        yield first
        yield from stream
    except (OSError, RuntimeError, AssertionError, IndexError, ValueError, KeyError) as error:
        # ffmpeg prints many lines about its build; the last one is the error.
        last = [line.strip() for line in str(error).splitlines() if line.strip()][-1:]
        what = f"This is not a video that can be read ({last[0]})" if last else "The video cannot be read"
        raise SceneError(what, where=path, fix=_FIX) from error
    finally:
        stream.close()
        logger.setLevel(level)
