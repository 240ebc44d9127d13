"""From a reader's entries to the frames of a capture: each one's copy and size of the photo, and the files beside it.

Only headers are read, but for photos whose end is not where it should be: those are decoded, so that a damaged one
fails now and not hours into the training.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ovseg3d.errors import SceneError
from ovseg3d.limits import Trust, check_regular, inside
from ovseg3d.scene.admit import check_masks
from ovseg3d.scene.cameras import Camera
from ovseg3d.scene.capture import Frame
from ovseg3d.scene.copies import Copies
from ovseg3d.scene.images import ends_well, load_photo, read_header
from ovseg3d.scene.readers.raw import Lens, RawCapture, RawFrame, check_lens, shorten
from ovseg3d.scene.sizes import check_reduced, check_size, companion, compare_sizes, oriented_size, reduction_for

COMPANIONS = ("mask", "depth", "label")
"""Files beside a photo."""


def build_frames(
    raw: RawCapture,
    copies: Copies,
    poses: Mapping[str, np.ndarray],
    *,
    downscale: float | int | None,
    max_side: int | None,
    notes: list[str],
    problems: list[SceneError],
    trust: Trust,
) -> list[Frame]:
    """Choose each frame's file and size. Frames without a photo are left out with a note, damaged ones as problems.

    Args:
        raw: the capture.
        copies: of its photos.
        poses: checked, by frame; frames without one are left out.
        downscale: reduction of the photos.
        max_side: longest side of the photos in pixels, if `downscale` is None.
        notes: receives what the user should know.
        problems: receives what is wrong with single frames.
        trust: what the user allows.

    Raises:
        SceneError: no photo is there, or photos are reduced to a size that shows nothing.
    """
    factor = float(downscale) if downscale else reduction_for(raw, copies, max_side)
    builder = _FrameBuilder(raw, factor, trust)
    frames: list[Frame] = []
    missing: list[Path] = []
    rescaled: dict[float, list[RawFrame]] = {}
    unturned = 0
    for entry in raw.frames:
        found = copies.find(entry.photo, factor)
        if found is None:
            missing.append(entry.photo)
            continue
        if entry.name not in poses:
            continue
        path, reduction = found
        try:
            photo = builder.size_photo(entry, path, reduction, poses[entry.name])
            if photo is None:
                continue
            frame = builder.build(entry, photo)
        except SceneError as error:
            problems.append(error)
            continue
        check_reduced(photo.target, photo.stated, factor, raw.path)
        if reduction == 1:
            rescaled.setdefault(round(photo.size[0] / photo.stated[0], 3), []).append(entry)
        unturned += photo.turned and not photo.upright
        frames.append(frame)
    if missing and not frames and not problems:
        raise SceneError(
            f"None of the {len(missing)} photos is there",
            where=missing[0],
            fix="put the photos beside the poses, or correct the file names in the capture",
        )
    compare_sizes(rescaled, notes, problems)
    if missing:
        names = shorten([path.name for path in missing])
        notes.append(f"{len(missing)} of {len(raw.frames)} frames have no photo and are left out: {names}")
    if builder.capped and frames:
        size = frames[-1].camera
        notes.append(f"The photos are smaller than asked for; they are used as they are ({size.width}x{size.height})")
    if unturned:
        notes.append(f"{unturned} photos have an EXIF orientation that their poses ignore; it is not applied")
    notes += _notes_on_files(raw, frames, builder.absent)
    return frames


def _notes_on_files(raw: RawCapture, frames: list[Frame], absent: Mapping[str, int]) -> list[str]:
    """Notes on files that are missing, and on photos outside the folder."""
    notes = [f"{count} {kind} files that the capture names are missing" for kind, count in absent.items() if count]
    root = os.path.abspath(raw.path)
    outside = [f.name for f in frames if os.path.relpath(f.image_path, root).startswith("..")]
    if outside:
        notes.append(f"{len(outside)} photos lie outside the folder; they are only read: {shorten(outside)}")
    return notes


@dataclass(frozen=True)
class _SizedPhoto:
    """A frame's photo, with its sizes (width, height) in pixels."""

    path: Path
    """The copy that is read."""
    camera: Camera
    """At the stated size."""
    size: tuple[int, int]
    """Of the copy."""
    stated: tuple[int, int]
    """That the intrinsics refer to."""
    target: tuple[int, int]
    """To be used at."""
    turned: bool
    """Whether its EXIF orientation turns it."""
    upright: bool
    """Whether that is applied."""


@dataclass
class _FrameBuilder:
    """Builds one frame after the other. It remembers lenses and folders that were checked, and counts for notes."""

    raw: RawCapture
    factor: float
    """Reduction of the photos."""
    trust: Trust
    capped: int = 0
    """Photos that are smaller than asked for."""
    absent: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COMPANIONS, 0))
    """Missing files, by kind."""
    _lenses: dict[tuple[Lens, tuple[int, int]], bool] = field(default_factory=dict[tuple[Lens, tuple[int, int]], bool])
    """Whether a lens is one, at the size that it refers to."""
    _masks: dict[Path, SceneError | None] = field(default_factory=dict[Path, SceneError | None])
    """See `check_masks`."""

    def size_photo(self, entry: RawFrame, path: Path, reduction: int, c2w: np.ndarray) -> _SizedPhoto | None:
        """Check a copy of a photo, and find its sizes. None: its lens has been refused with an earlier frame.

        Args:
            entry: of the reader.
            path: the copy to read.
            reduction: of the copy, relative to the photo.
            c2w: checked pose.

        Raises:
            SceneError: the photo or its labels may not be read, its lens is none, or it has another shape.
        """
        if path != entry.photo:  # a smaller copy may be a link
            inside(self.raw.path, path.absolute(), trust=self.trust)
        if entry.label is not None and entry.label.is_dir():
            check_masks(self.raw, entry.label, self._masks, self.trust)
        check_regular(path, what=f"photo of {entry.name}")
        header = read_header(path)
        width, height = header.upright_size
        stated = entry.lens.size or (width * reduction, height * reduction)
        lens = (entry.lens, stated)
        if lens not in self._lenses:
            self._lenses[lens] = False
            check_lens(*lens, f"{entry.file}, frame {entry.name}")  # reported once for all frames with this lens
            self._lenses[lens] = True
        if not self._lenses[lens]:
            return None
        size, upright = oriented_size(header, entry.lens.size)
        full = entry.lens.camera(c2w, stated)
        check_size(size, full, entry.name, path)
        target = (max(1, round(stated[0] / self.factor)), max(1, round(stated[1] / self.factor)))
        if target[0] > size[0] or target[1] > size[1]:
            self.capped += 1
            target = size
        return _SizedPhoto(path, full, size, stated, target, header.orientation > 1, upright)

    def build(self, entry: RawFrame, photo: _SizedPhoto) -> Frame:
        """The frame with the files beside its photo. Raises SceneError: one does not fit, or the photo is damaged."""
        fitting = dict.fromkeys(COMPANIONS, {photo.size, photo.stated, photo.target})
        if entry.depth_window is not None:
            del fitting["depth"]
        files = {
            kind: companion(getattr(entry, kind), kind, entry.name, fitting.get(kind), self.absent)
            for kind in COMPANIONS
        }
        frame = Frame(
            name=entry.name,
            image_path=photo.path,
            camera=photo.camera.scaled(*photo.target),
            mask_path=files["mask"],
            depth_path=files["depth"],
            depth_window=entry.depth_window,
            label_path=files["label"],
            near_far=entry.near_far,
            upright=photo.upright,
            max_pixels=self.trust.max_pixels,
        )
        if not ends_well(photo.path):
            load_photo(frame)
        return frame
