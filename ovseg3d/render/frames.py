"""Render a trained field to files: one image per view, or a video.

`what` selects kinds of image: colour, depth, normals, opacity, features, labels, instances, relevancy; each gives one
file per view. For images, depth is also written as numbers (uint16, thousandths of an input unit).
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt16
from PIL import Image

from ovseg3d.engine import Event, Report, ignore
from ovseg3d.files import write_atomic
from ovseg3d.render.images import (  # fmt: skip
    depth_image,
    depth_range,
    normal_image,
    opacity_image,
    save_image,
    to_bytes,
)
from ovseg3d.render.video import Video
from ovseg3d.scene import Camera

What = Literal["colour", "depth", "normals", "opacity", "features", "labels", "instances", "relevancy"]
"""The last four need a `Painter` (`export.overlays`) as renderer."""
DEPTH_UNIT = 0.001
"""Input units per value 1 of a depth file."""


@runtime_checkable
class Renders(Protocol):
    """A renderer of views, such as `field.Renderer`."""

    def render(self, camera: Camera, normals: bool = False) -> dict[str, np.ndarray]:
        """rgb (h, w, 3) from 0 to 1, depth_z (h, w) in input units, opacity (h, w), and normal (h, w, 3) on request."""
        ...


def image_of(what: What, rendered: dict[str, np.ndarray], span: tuple[float, float] | None = None) -> np.ndarray:
    """One kind of image, uint8 (h, w, 3); `span` is the range of depth, in input units."""
    if what == "colour":
        return to_bytes(rendered["rgb"])
    if what == "depth":
        return depth_image(rendered["depth_z"], span)
    if what == "normals":
        return normal_image(rendered["normal"])
    if what == "opacity":
        return opacity_image(rendered["opacity"])
    return rendered[what]


def render_images(
    renderer: Renders,
    cameras: Sequence[Camera],
    names: Sequence[str],
    folder: Path,
    *,
    what: Sequence[What] = ("colour",),
    report: Report = ignore,
    stop: threading.Event | None = None,
) -> list[Path]:
    """Write folder/<name>_<what>.png for each camera (<name>.png for colour); returns the files.

    Args:
        renderer: renders the views.
        cameras: cameras of the views, in the input frame.
        names: file names of the views, without suffix.
        folder: output folder.
        what: kinds of image.
        report: receives a progress event per view.
        stop: set it to end after the current view.

    Raises:
        OutputError: the folder cannot be written to. KeyboardInterrupt: after `stop`.
    """
    written = []
    for camera, name in _watched(cameras, names, report, stop):
        rendered = renderer.render(camera, normals="normals" in what)
        for kind in what:
            path = folder / f"{name}.png" if kind == "colour" else folder / f"{name}_{kind}.png"
            save_image(path, image_of(kind, rendered))
            written.append(path)
            if kind == "depth":
                path = folder / f"{name}_depth_mm.png"
                save_image(path, Image.fromarray(depth_numbers(rendered["depth_z"])))
                written.append(path)
    return written


def depth_numbers(depth_z: Float[np.ndarray, "h w"]) -> UInt16[np.ndarray, "h w"]:
    """z-depth in input units as uint16 in thousandths of a unit; 0 where unknown or above 65.535."""
    numbers = np.rint(np.nan_to_num(depth_z, nan=0.0, posinf=0.0) / DEPTH_UNIT)
    return np.where((numbers > 0) & (numbers <= 65535), numbers, 0).astype(np.uint16)


def render_video(
    renderer: Renders,
    cameras: Sequence[Camera],
    paths: Mapping[What, Path],
    fps: float,
    *,
    report: Report = ignore,
    stop: threading.Event | None = None,
) -> list[Path]:
    """Write one MP4 (H.264) per kind of image in `paths`; returns the files. Stopping early leaves no files.

    Args:
        renderer: renders the views.
        cameras: cameras of the views in order, in the input frame, all of one size.
        paths: the file for each kind of image.
        fps: views per second.
        report: receives a progress event per view.
        stop: set it to end after the current view.

    Raises:
        OutputError: a file cannot be written completely, or ffmpeg is missing. KeyboardInterrupt: after `stop`.
    """
    written = list(paths.values())

    def write(remaining: list[tuple[What, Path]], videos: dict[What, Video]) -> None:
        # Videos are opened nested, so that each is renamed only when all images are written.
        if not remaining:
            _video(renderer, cameras, videos, report, stop)
            return
        (kind, path), *rest = remaining

        def one(temporary: Path) -> None:
            try:
                with Video(temporary, fps) as video:
                    write(rest, {**videos, kind: video})
            except OSError:
                if stop is not None and stop.is_set():  # Ctrl-C also ends ffmpeg
                    raise KeyboardInterrupt from None
                raise

        write_atomic(path, one)

    write(list(paths.items()), {})
    return written


def _video(
    renderer: Renders,
    cameras: Sequence[Camera],
    videos: Mapping[What, Video],
    report: Report,
    stop: threading.Event | None,
) -> None:
    span = None
    for camera, _ in _watched(cameras, [""] * len(cameras), report, stop):
        rendered = renderer.render(camera, normals="normals" in videos)
        if span is None:
            span = depth_range(rendered["depth_z"])  # one range for the whole video, to avoid flicker
        for kind, video in videos.items():
            video.add(image_of(kind, rendered, span))


def _watched(
    cameras: Sequence[Camera], names: Sequence[str], report: Report, stop: threading.Event | None
) -> Iterator[tuple[Camera, str]]:
    """Yield cameras and names, and report an event after each. Raises KeyboardInterrupt once `stop` is set."""
    for done, (camera, name) in enumerate(zip(cameras, names), start=1):
        if stop is not None and stop.is_set():
            raise KeyboardInterrupt
        yield camera, name
        report(Event("progress", "render", done, len(cameras), done / len(cameras)))
