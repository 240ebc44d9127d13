"""Render a trained field to files: one image for each view, or a film.

`what` chooses among colour, depth, normals, opacity, and features, labels, relevancy; several give several files for
each view. Depth is also written as numbers (uint16, thousandths of an input unit) beside its picture when views are
rendered as images.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
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
"""The last four need a `painter.Painter` for a renderer."""
DEPTH_UNIT = 0.001


@runtime_checkable
class Renders(Protocol):
    """What can draw a view: `field.Renderer`, or anything that does the same."""

    def render(self, camera: Camera, normals: bool = False) -> dict[str, np.ndarray]:
        """rgb (h, w, 3) from 0 to 1, depth_z (h, w) in input units, opacity, and if wanted normal."""
        ...


def image_of(what: What, rendered: dict[str, np.ndarray], span: tuple[float, float] | None = None) -> np.ndarray:
    """One kind of picture, uint8 (h, w, 3); `span` is the range of depth to show."""
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
    """Write folder/<name>_<what>.png for each camera (plain <name>.png for colour); returns the files.

    Args:
        renderer: draws the views.
        cameras: of the views, input frame.
        names: of the views, for their files.
        folder: where the files go.
        what: kinds of images.
        report: gets a progress event for each view.
        stop: set it to end after the current view.

    Raises:
        OutputError: the folder cannot be written to.
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


def depth_numbers(depth_z: np.ndarray) -> np.ndarray:
    """z-depth as uint16 in thousandths of an input unit; 0 where unknown or beyond 65.535."""
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
    """Write one MP4 (H.264) for each kind of picture in `paths`; returns the files. Stopping early leaves none.

    Args:
        renderer: draws the views.
        cameras: of the views in their order, input frame, all of one size.
        paths: the file for each kind of image.
        fps: views per second.
        report: gets a progress event for each view.
        stop: set it to end after the current view.

    Raises:
        OutputError: a file cannot be written to its end, or ffmpeg is missing. KeyboardInterrupt: after `stop`.
    """
    written = list(paths.values())

    def write(remaining: list[tuple[What, Path]], videos: dict[What, Video]) -> None:
        # Films are opened one inside the other, so that each is renamed only when all pictures are in.
        if not remaining:
            _video(renderer, cameras, videos, report, stop)
            return
        (kind, path), *rest = remaining

        def one(temporary: Path) -> None:
            try:
                with Video(temporary, fps) as video:
                    write(rest, {**videos, kind: video})
            except OSError:
                if stop is not None and stop.is_set():  # Ctrl-C ends ffmpeg, too
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
            span = depth_range(rendered["depth_z"])  # one range for the whole film, or it would flicker
        for kind, video in videos.items():
            video.add(image_of(kind, rendered, span))


def _watched(
    cameras: Sequence[Camera], names: Sequence[str], report: Report, stop: threading.Event | None
) -> Iterator[tuple[Camera, str]]:
    """The cameras and names, with an event after each; KeyboardInterrupt once `stop` is set."""
    for done, (camera, name) in enumerate(zip(cameras, names), start=1):
        if stop is not None and stop.is_set():
            raise KeyboardInterrupt
        yield camera, name
        report(Event("progress", "render", done, len(cameras), done / len(cameras)))
