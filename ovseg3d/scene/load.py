"""`load_scene`: from a folder to a checked `Scene`, whatever the format.

A reader translates the files (`transforms.py`, `colmap.py`, `llff.py`). This module does what all formats share: one
frame per name, held-out views, labels, up, scale. `frames.py` chooses the copy and size of photos and checks what is
beside them, without decoding (only headers of images). Nothing writes files.
"""

import os
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from ovseg3d.errors import SceneError
from ovseg3d.files import looking
from ovseg3d.limits import NO_TRUST, Trust
from ovseg3d.scene.admit import (
    check_folder,
    check_option,
    drop_far_points,
    files_inside,
    phrases_inside,
)
from ovseg3d.scene.cameras import Camera
from ovseg3d.scene.capture import Frame, Scene
from ovseg3d.scene.copies import Copies
from ovseg3d.scene.frames import build_frames
from ovseg3d.scene.images import load_photo, read_header
from ovseg3d.scene.readers.formats import read_capture
from ovseg3d.scene.readers.raw import RawCapture, RawFrame, check_pose, every_eighth, shorten
from ovseg3d.scene.readers.segmentations import annotated_photos


def load_scene(
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    downscale: float | int | None = None,
    max_side: int | None = None,
    scale: float | int | None = None,
    train_on_all: bool = False,
    trust: Trust = NO_TRUST,
) -> Scene:
    """Read a capture.

    Args:
        path: its folder, or a transforms.json.
        format: one of `FORMATS`; None detects it from the files.
        downscale: use photos at 1/downscale of the size of the intrinsics, else of the photos. Photos are never
            enlarged. None: 1, or as `max_side` requires.
        max_side: without `downscale`, the smallest integer factor that brings the longest side to this many pixels.
        scale: metres per input unit; makes the scene metric.
        train_on_all: train on every photo and hold none out.
        trust: what the user allows beyond the defaults.

    Raises:
        SceneError: the first problem of the capture.
    """
    scene, problems = inspect_scene(
        path, format=format, downscale=downscale, max_side=max_side, scale=scale, train_on_all=train_on_all, trust=trust
    )
    if problems:
        first, others = problems[0], len(problems) - 1
        if others:
            more = f"; {others} more problem{'s' if others > 1 else ''}, see `ovseg3d info`"
            raise SceneError(first.what, where=first.where, fix=(first.fix or "") + more) from first
        raise first
    assert scene is not None
    return scene


@looking(SceneError)
def inspect_scene(
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    downscale: float | int | None = None,
    max_side: int | None = None,
    scale: float | int | None = None,
    train_on_all: bool = False,
    trust: Trust = NO_TRUST,
) -> tuple[Scene | None, list[SceneError]]:
    """As `load_scene`, but collects the problems of single frames instead of stopping at the first.

    Args:
        path: the capture's folder, or a transforms.json.
        format: one of `FORMATS`; None detects it.
        downscale: reduction of the photos.
        max_side: longest side of the photos in pixels, if `downscale` is None.
        scale: metres per input unit; makes the scene metric.
        train_on_all: hold no photo out.
        trust: what the user allows beyond the defaults.

    Returns:
        The scene without unusable frames (None if too few are left), and the problems.

    Raises:
        SceneError: the capture as a whole cannot be read.
    """
    for name, value in (("downscale", downscale), ("scale", scale), ("max_side", max_side)):
        if value is not None:
            check_option(f"--{name.replace('_', '-')}", value)
    raw = read_capture(Path(path), format, trust)
    check_folder(raw.path)
    notes = list(raw.notes)
    problems: list[SceneError] = []
    raw.frames = _without_doubles(files_inside(raw, trust, problems), notes)
    drop_far_points(raw, notes)
    copies = Copies(raw.path, [frame.photo for frame in raw.frames], trust)
    photos = _all_photos(raw, copies)
    phrases = _attach_segmentations(raw, photos, notes, trust)
    poses = _check_poses(raw, problems)
    frames = build_frames(
        raw, copies, poses, downscale=downscale, max_side=max_side, notes=notes, problems=problems, trust=trust
    )
    splits = {frame.name: frame.split for frame in raw.frames}
    if len(frames) < 2:
        if not problems:
            fix = "photos from at least two places are needed; 20 to 200 are usual"
            problems.append(SceneError("The capture has only one camera", where=raw.path, fix=fix))
        return None, problems
    try:
        train, test = _split([splits[frame.name] for frame in frames], train_on_all, raw.path)
    except SceneError as error:
        train, test = list(range(len(frames))), []
        problems.append(error)
    metres = _metres_per_unit(raw, frames, scale)
    scene = Scene(
        path=raw.path,
        name=raw.path.resolve().name,
        format=raw.format,
        frames=tuple(frames),
        photos=photos,
        train=tuple(train),
        test=tuple(test),
        metric=metres is not None,
        metres_per_unit=metres,
        world_from_input=_world_from_input([frames[view].camera for view in train], raw.z_up, metres),
        points=raw.points,
        points_rgb=raw.points_rgb,
        depth_unit=raw.depth_unit,
        has_alpha=False,
        exact=(raw.path / "synth.json").is_file(),
        classes=raw.classes or dict(enumerate(phrases, start=1)),
        ignore_label=raw.ignore_label,
        phrases=phrases or tuple(dict.fromkeys(raw.classes.values())),
        recommended_encoder=raw.recommended_encoder,
        aabb_scale=raw.aabb_scale,
        notes=tuple(notes),
    )
    try:
        return _with_alpha(scene, _is_transparent(scene)), problems
    except SceneError as error:
        return scene, [*problems, error]


def _with_alpha(scene: Scene, has_alpha: bool) -> Scene:
    """The capture with its transparency; Blender renders it, cameras do not."""
    return replace(scene, has_alpha=has_alpha, exact=scene.exact or (has_alpha and scene.format == "blender"))


def _without_doubles(frames: list[RawFrame], notes: list[str]) -> list[RawFrame]:
    """One frame for each name (the first listed), sorted by name."""
    unique: dict[str, RawFrame] = {}
    doubles = []
    for frame in frames:
        if frame.name in unique:
            doubles.append(frame.name)
        else:
            unique[frame.name] = frame
    if doubles:
        names = shorten(list(dict.fromkeys(doubles)))
        notes.append(f"frames that are listed more than once: {len(doubles)}; only the first of each is used: {names}")
    return [unique[name] for name in sorted(unique)]


def _all_photos(raw: RawCapture, copies: Copies) -> tuple[str, ...]:
    """Sorted names of the frames' photos, present or not, and of the other photos in their folders."""
    files = [path for f in raw.frames for path in (f.photo, f.mask, f.depth, f.label) if path is not None]
    known, names = {os.path.splitext(path)[0] for path in files}, [frame.name for frame in raw.frames]
    for folder, name in {f.photo.parent: PurePosixPath(f.name).parent for f in raw.frames}.items():
        others = (file for file in copies.listing(folder) if os.path.splitext(folder / file)[0] not in known)
        names += [(name / file).as_posix() for file in others]
    return tuple(sorted(names))


def _attach_segmentations(raw: RawCapture, photos: tuple[str, ...], notes: list[str], trust: Trust) -> tuple[str, ...]:
    """Attach the labels of 3D-OVS's `segmentations/` to frames, see `annotated_photos`. Returns the phrases."""
    folder = raw.path / "segmentations"
    listing = folder / "classes.txt"
    if not listing.exists():
        return ()
    phrases = phrases_inside(raw, listing, trust)
    if any(frame.label for frame in raw.frames):
        return phrases
    try:
        annotated = annotated_photos(folder, photos)
    except SceneError as error:
        notes.append(f"segmentations/ is left alone. {error.what}")
        return phrases
    for frame in raw.frames:
        frame.label = annotated.get(frame.name)
    without = sorted(set(photos) - {frame.name for frame in raw.frames})
    if annotated and without:
        notes.append(f"segmentations/ counts {len(without)} photos that have no pose: {shorten(without)}")
    return phrases


def _check_poses(raw: RawCapture, problems: list[SceneError]) -> dict[str, np.ndarray]:
    poses = {}
    for frame in raw.frames:
        try:
            poses[frame.name] = check_pose(frame.c2w, f"{frame.file}, frame {frame.name}")
        except SceneError as error:
            problems.append(error)
    return poses


def _split(splits: list[str | None], train_on_all: bool, where: Path) -> tuple[list[int], list[int]]:
    everything = list(range(len(splits)))
    if train_on_all:
        return everything, []
    if all(split is None for split in splits):
        return every_eighth(len(splits))
    train = [i for i in everything if splits[i] == "train"]
    test = [i for i in everything if splits[i] == "test"] or [i for i in everything if splits[i] == "val"]
    if not train:
        raise SceneError(
            "The capture's lists leave no photo to train on",
            where=where,
            fix="fill train_filenames, or remove the lists, or give --train-on-all",
        )
    if not test:
        raise SceneError(
            "The capture's lists hold no photo out, so that nothing could be measured",
            where=where,
            fix="fill test_filenames, or remove the lists (then every 8th is held out), or give --train-on-all",
        )
    return train, test


def _is_transparent(scene: Scene) -> bool:
    """Whether one of three training photos has transparent pixels; only files with alpha are decoded."""
    views = scene.train
    for view in sorted({views[0], views[len(views) // 2], views[-1]}):
        frame = scene.frames[view]
        if read_header(frame.image_path).has_alpha:
            photo = load_photo(frame)
            if photo.shape[-1] == 4 and photo[..., 3].min() < 255:
                return True
    return False


def _metres_per_unit(raw: RawCapture, frames: list[Frame], scale: float | int | None) -> float | None:
    """The user's scale, else 1 if the unit is the metre, else None. What files state goes before a guess from depth."""
    guess = raw.depth_is_metric and any(frame.depth_path for frame in frames)
    metric = scale is not None or (guess if raw.metric is None else raw.metric)
    return float(scale or 1.0) if metric else None


def _world_from_input(cameras: list[Camera], z_up: bool, metres: float | None) -> np.ndarray:
    """The similarity into a z-up frame, in metres if known; the rotation is estimated if up is unknown."""
    world = np.eye(4)
    if not z_up:
        # As `ovseg3d prepare` estimates it. Imported here because z-up formats do not need it.
        from ovseg3d.scene.prepare.upright import estimate_up

        up, _ = estimate_up(np.stack([camera.c2w for camera in cameras]))
        right = cameras[0].c2w[:3, 0] - up * (up @ cameras[0].c2w[:3, 0])
        if np.linalg.norm(right) < 1e-6:  # the first camera's x axis points up: any horizontal direction is fine
            right = np.linalg.svd(up[None])[2][1]
        right = right / np.linalg.norm(right)
        world[:3, :3] = np.stack([right, np.cross(up, right), up])
        world[:3, 3] = -world[:3, :3] @ np.mean([camera.position for camera in cameras], axis=0)
    world[:3] *= metres or 1.0
    return world
