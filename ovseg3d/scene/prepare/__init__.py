"""From a phone capture to a scene: `prepare_scene(source, out)`.

A video or a folder of photos becomes a folder with `images/`, `transforms.json` (nerfstudio's flavour, z up),
`sparse_points.ply`, the COLMAP model in `sparse/0` and `report.json`, written completely or not at all. Progress is
passed to `report(sentence, fraction)`, possibly from another thread.
"""

import os
import secrets
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ovseg3d.errors import OutputError, SceneError
from ovseg3d.files import expand, make_folder, output_error, write_json
from ovseg3d.scene.opening import open_image
from ovseg3d.scene.prepare import photos as _photos
from ovseg3d.scene.prepare import video as _video
from ovseg3d.scene.prepare.review import (
    Advice,
    PrepareReport,
    review_model,
    stretches,
    triangulation_angles,
    why_it_failed,
)
from ovseg3d.scene.prepare.selection import BLURRED, choose, relative_sharpness
from ovseg3d.scene.prepare.sfm import Group, Reconstruction, Solver
from ovseg3d.scene.prepare.upright import world_from_sfm
from ovseg3d.scene.prepare.write import write_transforms
from ovseg3d.scene.readers.formats import detect_formats

__all__ = ["Advice", "PrepareReport", "prepare_scene"]

Progress = Callable[[str, float], None]

# A video is divided into windows of at least a fifth of a second; a short one into this many windows.
_FRAMES_PER_SECOND = 5.0
_MIN_WINDOWS = 40
_MIN_PHOTOS = 3


@dataclass(frozen=True)
class _Capture:
    """The images that were chosen and written to images/, in the order of the capture."""

    kind: str
    found: int
    order: list[str]
    groups: list[Group]
    places: dict[str, str]  # name of each for the user: the photo's own name, or a time in the video
    advice: list[Advice]


class _Stopwatch:
    """Seconds of each step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._clock = time.perf_counter()

    def lap(self, name: str) -> None:
        """End the step `name`; the next one starts."""
        now = time.perf_counter()
        self.seconds[name], self._clock = round(now - self._clock, 3), now


def prepare_scene(
    source: Path,
    out: Path,
    *,
    max_frames: int = 150,
    max_side: int | None = None,
    seed: int = 0,
    threads: int | None = None,
    report: Progress | None = None,
) -> PrepareReport:
    """Make a scene from a video file or a folder of photos.

    Args:
        source: a video, or a folder that holds photos (HEIC too).
        out: the scene folder to create; must not exist, or be empty.
        max_frames: largest number of images.
        max_side: longest side of the written images, pixels; None keeps their size. Images are never enlarged.
        seed: of all random numbers; the result repeats to many digits, with `threads=1` bit for bit.
        threads: for structure from motion; None uses all cores.
        report: receives a sentence and the completed fraction, 0 to 1.

    Raises:
        SceneError: `source` holds nothing usable, or the cameras could not be placed (with advice what to shoot again).
        OutputError: `out` is not empty or cannot be written.
    """
    source, out = expand(source, SceneError), expand(out)
    say = report or _silent
    if max_frames < _MIN_PHOTOS:
        raise SceneError(f"Three frames are the least that can be placed, not {max_frames}", where="--max-frames")
    if max_side is not None and max_side < 64:
        raise SceneError(f"Photos of {max_side} pixels are too small to be placed", where="--max-side")
    if not 0 <= seed < 2**31:
        raise SceneError(f"A seed lies from 0 to {2**31 - 1}, not at {seed}", where="--seed")
    if threads is not None and threads < 1:
        raise SceneError(f"One thread is the least, not {threads}", where="--threads", fix="leave it out for all cores")
    if not source.exists():
        raise SceneError("There is nothing at this path", where=source, fix="name a video file or a folder of photos")
    _check_free(out)
    make_folder(out.parent)
    partial = out.with_name(f".{out.name}.{secrets.token_hex(4)}.partial")
    try:
        partial.mkdir()
        summary = _fill(source, partial, out, max_frames, max_side, seed, threads, say)
        _check_free(out)
        if out.exists():
            out.rmdir()
        os.rename(partial, out)
    except OSError as error:
        raise output_error(error, out) from error
    except RuntimeError as error:
        # pycolmap and ffmpeg report a full disk only as text.
        if "disk is full" in str(error) or "No space left" in str(error):
            raise OutputError("The disk is full", where=out, fix="free some space") from error
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    say("done", 1.0)
    return summary


def _check_free(out: Path) -> None:
    if out.is_dir() and any(out.iterdir()):
        raise OutputError(
            "The folder for the scene is not empty", where=out, fix="name a new folder, or empty this one"
        )
    if out.exists() and not out.is_dir():
        raise OutputError("A file stands where the scene folder is to be", where=out, fix="name a new folder")


def _fill(
    source: Path,
    folder: Path,
    out: Path,
    max_frames: int,
    max_side: int | None,
    seed: int,
    threads: int | None,
    say: Progress,
) -> PrepareReport:
    """Make the scene in `folder`, which becomes `out`."""
    watch = _Stopwatch()
    images, work = folder / "images", folder / "work"
    images.mkdir()
    work.mkdir()
    if source.is_dir():
        capture = _take_photos(source, images, out, max_frames, max_side, say)
    else:
        capture = _take_video(source, images, max_frames, max_side, say)
    watch.lap("images")

    solver = Solver(images, capture.groups, capture.order, work, seed=seed, threads=threads or _cores())
    matching = solver.match(capture.kind == "video", lambda what, part: say(what, 0.25 + 0.5 * part))
    watch.lap("matching")
    model = solver.solve(lambda what, part: say(what, 0.75 + 0.22 * part))
    watch.lap("cameras")
    if model is None or len(model.names) < _MIN_PHOTOS:
        what, fix = why_it_failed(matching, len(capture.order))
        raise SceneError(what, where=source, fix=fix)

    say("writing the scene", 0.98)
    transform, up_certain = world_from_sfm(model.c2w, model.points)
    written = write_transforms(folder, model, transform)
    if model.folder is not None:
        shutil.copytree(model.folder, folder / "sparse" / "0")
    advice = capture.advice + review_model(model, matching, capture.order, capture.places.__getitem__, up_certain)
    unregistered = [name for name in capture.order if name not in set(model.names)]
    for name in unregistered:
        (images / name).unlink()
    shutil.rmtree(work)
    watch.lap("writing")
    summary = PrepareReport(
        source=str(source),
        kind=capture.kind,
        found=capture.found,
        total=len(capture.order),
        registered=len(model.names),
        mean_reprojection_error_px=model.mean_error_px(),
        points=len(model.points),
        points_written=written,
        mean_track_length=model.observations / max(1, len(model.points)),
        median_observations_per_photo=float(np.median([len(index) for _, index in model.observations_of])),
        median_triangulation_angle_deg=float(np.median(triangulation_angles(model))) if len(model.points) else 0.0,
        cameras=_camera_facts(model),
        unregistered=tuple(capture.places[name] for name in unregistered),
        advice=tuple(advice),
        seconds=watch.seconds,
        seed=seed,
    )
    write_json(folder / "report.json", summary.as_dict())
    return summary


def _camera_facts(model: Reconstruction) -> tuple[dict[str, Any], ...]:
    """The lenses, for the report."""
    return tuple(
        {"width": lens.width, "height": lens.height, "fx": lens.fx, "fy": lens.fy, "cx": lens.cx, "cy": lens.cy}
        | dict(zip(("k1", "k2", "p1", "p2"), lens.distortion))
        | {"photos": model.lens_of.count(number)}
        for number, lens in enumerate(model.lenses)
    )


def _take_photos(
    source: Path, images: Path, out: Path, max_frames: int, max_side: int | None, say: Progress
) -> _Capture:
    if formats := detect_formats(source):
        raise SceneError(
            f"The photos in this folder have poses already ({formats[0]})",
            where=source,
            fix=f"ovseg3d train {source}; to find poses anew, name the folder of its photos alone",
        )
    paths = _photos.find_photos(source, out.absolute())
    if not paths:
        videos = sorted(p.name for p in source.iterdir() if p.suffix.lower() in _video.SUFFIXES)
        fix = f"for the video in it: ovseg3d prepare {source / videos[0]} {out}" if videos else None
        kinds = ", ".join(sorted(s.lstrip(".") for s in _photos.SUFFIXES))
        raise SceneError("There is no photo in this folder", where=source, fix=fix or f"photos are {kinds}")
    readable: list[_photos.Photo] = []
    unreadable: list[str] = []
    for number, path in enumerate(paths):
        say(f"reading photos: {number} of {len(paths)}", 0.15 * number / len(paths))
        try:
            readable.append(_photos.read_photo(path))
        except (OSError, ValueError, SyntaxError):  # Pillow raises all three for broken files
            unreadable.append(path.relative_to(source).as_posix())
    advice = []
    if unreadable:
        what = f"{len(unreadable)} photos cannot be read and were left out"
        advice.append(Advice("warning", what, tuple(unreadable), "copy them from the phone again"))
    if len(readable) < _MIN_PHOTOS:
        raise SceneError(
            f"Three photos are the least that can be placed; {len(readable)} of {len(paths)} here can be read",
            where=source,
            fix=f"copy these again: {', '.join(unreadable[:5])}" if unreadable else "20 to 100 make a good scene",
        )
    choice = choose([p.measure for p in readable], max_frames)
    advice += _dropped([readable[i].path.relative_to(source).as_posix() for i in choice.blurred], len(choice.doubled))
    if choice.too_many:
        what = f"{choice.too_many} photos more than --max-frames {max_frames}: the sharpest were kept"
        advice.append(Advice("note", what, (), "raise --max-frames to use more"))
    kept = [readable[i] for i in choice.kept]
    stems = _photos.unique_stems([p.path for p in kept], source)
    order: list[str] = []
    places: dict[str, str] = {}
    lenses: dict[tuple[int, int, float | None], list[str]] = {}
    for number, (photo, stem) in enumerate(zip(kept, stems)):
        say(f"writing photos: {number} of {len(kept)}", 0.15 + 0.1 * number / len(kept))
        name, width, height = _photos.write_photo(photo, images, stem, max_side)
        order.append(name)
        places[name] = photo.path.relative_to(source).as_posix()
        focal = photo.focal_px(width, height)
        lenses.setdefault((width, height, None if focal is None else round(focal, 1)), []).append(name)
    groups = [Group(tuple(names), w, h, focal) for (w, h, focal), names in lenses.items()]
    if len(groups) > max(3, len(order) // 4):
        advice.append(
            Advice(
                "note",
                f"the photos have {len(groups)} different sizes or focal lengths, each solved as its own lens",
                (),
                "do not zoom or crop, and use one camera",
            )
        )
    return _Capture("photos", len(paths), order, groups, places, advice)


def _take_video(source: Path, images: Path, max_frames: int, max_side: int | None, say: Progress) -> _Capture:
    measured = _video.measure_video(source, lambda part: say("reading the video for sharp frames", 0.15 * part))
    found = len(measured.measures)
    duration = measured.seconds(found) if measured.fps > 0 else found / 30.0
    windows = max(_MIN_WINDOWS, round(duration * _FRAMES_PER_SECOND))
    choice = choose(measured.measures, max_frames, windows=windows)
    if len(choice.kept) < _MIN_PHOTOS:
        few = f"The video has only {found} frame{'s' if found != 1 else ''}"
        what = few if found < _MIN_PHOTOS else f"Only {len(choice.kept)} of {found} frames show something new"
        raise SceneError(
            f"{what}; three are the least that can be placed",
            where=source,
            fix="record 20 to 60 seconds while walking around the room",
        )
    names = [f"frame_{number:06d}.jpg" for number in choice.kept]
    _video.write_frames(
        source,
        choice.kept,
        [images / name for name in names],
        max_side,
        lambda part: say("writing the chosen frames", 0.15 + 0.1 * part),
    )
    places = {name: f"{name} ({measured.seconds(number):.1f} s)" for name, number in zip(names, choice.kept)}
    with open_image(images / names[0]) as first:
        width, height = first.size
    step = max(1, found // max(1, windows))
    blurred = _blurred_stretches(measured, step)
    advice = _dropped(blurred, len(choice.doubled))
    return _Capture("video", found, names, [Group(tuple(names), width, height, None)], places, advice)


def _blurred_stretches(measured: _video.VideoMeasures, step: int) -> list[str]:
    """Stretches of at least two windows in which every frame is blurred, as times."""
    sharpness = np.asarray([m.sharpness for m in measured.measures], dtype=np.float64)
    blurred = np.flatnonzero(relative_sharpness(sharpness, reach=15 * step) < BLURRED)
    runs = [(a, b) for a, b in stretches([int(i) for i in blurred], 2) if b - a + 1 >= 2 * step]
    return [f"{measured.seconds(a):.1f} to {measured.seconds(b):.1f} s" for a, b in runs]


def _dropped(blurred: list[str], doubled: int) -> list[Advice]:
    advice = []
    if blurred:
        fix = "shoot these again: hold still or move slowly, with more light"
        advice.append(Advice("warning", "blurred", tuple(blurred), fix))
    if doubled:
        what = f"{doubled} images were left out because they show what the one before shows"
        advice.append(Advice("note", what, (), "nothing to do"))
    return advice


def _silent(sentence: str, fraction: float) -> None:
    """Ignore progress."""


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
