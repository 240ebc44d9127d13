"""Checks of a capture before it is read: options, names, and that files and masks lie in its own folder.

`raw.py` checks the numbers of cameras; the readers check the sizes of their tables.
"""

import math
import os
from pathlib import Path

import numpy as np

from ovseg3d.errors import SceneError
from ovseg3d.limits import MAX_LENGTH, MAX_REDUCTION, SCALES, Trust, check_name, check_regular, inside, shorten
from ovseg3d.scene.images import read_phrases
from ovseg3d.scene.readers.raw import RawCapture, RawFrame


def check_option(name: str, value: float | int) -> None:
    """Raises SceneError: the value is not a positive number in the allowed range."""
    try:
        number = float(value)
    except OverflowError:  # an integer with hundreds of digits
        number = math.inf
    if not (math.isfinite(number) and number > 0):
        raise SceneError(f"{name} is {number:g}, expected a positive number")
    if name == "--downscale" and number < 1:
        raise SceneError(f"{name} is {number:g}: nothing is ever enlarged", fix="give 1 or more")
    low, high = {"--downscale": (1, MAX_REDUCTION), "--scale": SCALES}.get(name, (1, 1e9))
    if not low <= number <= high:
        raise SceneError(f"{name} is {number:g}, expected {low:g} to {high:g}")


def check_folder(folder: Path) -> None:
    """Raises SceneError: a name is not valid UTF-8, so that JSON cannot hold it."""
    for path in (folder.absolute(), folder.resolve()):
        try:
            str(path).encode()
        except UnicodeEncodeError as error:
            raise SceneError("This name is no text in UTF-8", where=ascii(str(path)), fix="rename it") from error
        check_name(path.name, ascii(str(path)), what="folder")


def files_inside(raw: RawCapture, trust: Trust, problems: list[SceneError]) -> list[RawFrame]:
    """The frames with a valid name whose files lie in the capture's folder; `problems` receives the others."""
    kept = []
    for frame in raw.frames:
        try:
            check_name(frame.name, f"{frame.file}, frame {ascii(frame.name)}", what="frame")
            for path in (frame.photo, frame.mask, frame.depth, frame.label):
                if path is not None:
                    inside(raw.path, path.absolute(), trust=trust)
            kept.append(frame)
        except SceneError as error:
            problems.append(error)
    return kept


def drop_far_points(raw: RawCapture, notes: list[str]) -> None:
    """Remove sparse points further away than `MAX_LENGTH`: errors of structure from motion."""
    if raw.points is None:
        return
    near = (np.abs(raw.points) <= MAX_LENGTH).all(axis=1)
    if not near.all():
        raw.points, raw.points_rgb = raw.points[near], None if raw.points_rgb is None else raw.points_rgb[near]
        notes.append(f"{(~near).sum()} sparse points lie further than {MAX_LENGTH:g} units away and are left out")


def phrases_inside(raw: RawCapture, listing: Path, trust: Trust) -> tuple[str, ...]:
    """The phrases of a list in the capture's folder. Raises SceneError: it is not valid."""
    check_regular(inside(raw.path, listing.absolute(), trust=trust), what="list of phrases")
    phrases = read_phrases(listing)
    for phrase in phrases:
        check_name(phrase, listing, what="phrase")
    return phrases


def check_masks(raw: RawCapture, folder: Path, known: dict[Path, SceneError | None], trust: Trust) -> None:
    """Reject 3D-OVS masks (one for each phrase) outside the capture's folder.

    Args:
        raw: the capture.
        folder: of masks; the list of phrases is beside it.
        known: cache of results, by folder and by list.
        trust: what the user allows.

    Raises:
        SceneError: a mask is a link to outside, or a phrase is a path.
    """
    for path, check in ((folder.parent / "classes.txt", _check_mask_names), (folder, _check_links)):
        if path not in known:
            try:
                known[path] = check(raw, path, trust)
            except SceneError as error:
                known[path] = error
        if (error := known[path]) is not None:
            raise error


def _check_mask_names(raw: RawCapture, listing: Path, trust: Trust) -> None:
    for phrase in phrases_inside(raw, listing, trust) if listing.exists() else ():
        if os.path.basename(phrase) != phrase:
            what = f"The phrase {shorten(ascii(phrase))} is to name a mask, but is a path"
            raise SceneError(what, where=listing, fix="write it without slashes")


def _check_links(raw: RawCapture, folder: Path, trust: Trust) -> None:
    links = [entry.path for entry in os.scandir(folder) if entry.is_symlink()]
    for path in (folder, *links):
        inside(raw.path, Path(path).absolute(), trust=trust)
