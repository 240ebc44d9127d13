"""Size of the photos, and whether the sizes of a frame's files agree.

`--downscale` is relative to the size that the intrinsics state. A photo of the same shape may be smaller (the
intrinsics are scaled); photos are never enlarged. Only headers are read.
"""

import math
from pathlib import Path

from ovseg3d.errors import SceneError
from ovseg3d.limits import MIN_REDUCED_SIDE, check_array, check_regular
from ovseg3d.scene.cameras import Camera
from ovseg3d.scene.copies import Copies
from ovseg3d.scene.images import Header, read_header, too_many_channels
from ovseg3d.scene.readers.raw import RawCapture, RawFrame


def reduction_for(raw: RawCapture, copies: Copies, max_side: int | None) -> float:
    """The smallest integer reduction that brings the longest side to `max_side` pixels."""
    if max_side is None:
        return 1.0
    longest = 0
    for entry in raw.frames:
        if entry.lens.size is not None:
            longest = max(longest, *entry.lens.size)
        elif (found := copies.find(entry.photo, 1)) is not None:
            try:
                check_regular(found[0], what="photo")
                longest = max(longest, *(side * found[1] for side in read_header(found[0]).upright_size))
            except SceneError:
                continue  # reported later, with its frame
    return float(max(1, math.ceil(longest / max_side)))


def check_reduced(size: tuple[int, int], full: tuple[int, int], factor: float, where: Path) -> None:
    """Raises SceneError: a photo of the size `full` (width, height) is reduced to one that shows nothing."""
    if factor > 1 and min(size) < MIN_REDUCED_SIDE:
        what = f"Photos reduced by {factor:g} have {size[0]}x{size[1]} pixels; a side has at least {MIN_REDUCED_SIDE}"
        raise SceneError(what, where=where, fix=f"--downscale {max(1, min(full) // MIN_REDUCED_SIDE)}, or less")


def oriented_size(header: Header, stated: tuple[int, int] | None) -> tuple[tuple[int, int], bool]:
    """The photo's size, and whether to apply EXIF orientation.

    Some tools ignore EXIF. If only the raw image has the stated shape, orientation is not applied.
    """
    raw, upright = (header.width, header.height), header.upright_size
    if stated is not None and _mismatch(upright, stated) > 0 and _mismatch(raw, stated) <= 0:
        return raw, False
    return upright, True


def _mismatch(size: tuple[int, int], stated: tuple[int, int]) -> float:
    """Pixels by which a photo's height differs from the stated shape's, beyond rounding; <= 0 is a match."""
    ratio = size[0] / stated[0]
    return abs(stated[1] * ratio - size[1]) - (1.0 + stated[1] / stated[0] if ratio != 1 else 0.0)


def check_size(size: tuple[int, int], camera: Camera, name: str, path: Path) -> None:
    """Raises SceneError: a photo of `size` (width, height) has another shape than its camera."""
    stated = (camera.width, camera.height)
    if _mismatch(size, stated) <= 0:
        return
    turned = _mismatch((size[1], size[0]), stated) <= 0
    advice = "the photo seems to be turned by 90 degrees: save it upright, without an EXIF orientation"
    raise SceneError(
        f"The photo of {name} is {size[0]}x{size[1]}, but its intrinsics are for {stated[0]}x{stated[1]}",
        where=path,
        fix=advice if turned else "use the photos that structure from motion saw, or correct w and h",
    )


def companion(
    path: Path | None, kind: str, name: str, sizes: set[tuple[int, int]] | None, absent: dict[str, int]
) -> Path | None:
    """A frame's mask, depth or label file if it exists, checked to fit its photo.

    Args:
        path: the file, or a folder of masks for labels; None if the frame has none.
        kind: "mask", "depth" or "label".
        name: of the frame, for messages.
        sizes: accepted (width, height); None: any.
        absent: counts of missing files by kind, updated here.

    Raises:
        SceneError: not an image or array, of another size, or depth with several channels.
    """
    if path is None:
        return None
    if not path.exists():
        absent[kind] += 1
        return None
    if kind == "label":  # not read in training; info and eval check it. May be a folder of masks.
        if not path.is_dir():
            check_regular(path, what=f"label file of {name}")
        return path
    size, channels = stated_size(path, f"{kind} file of {name}")
    if sizes is not None and size not in sizes:
        wanted = " or ".join(f"{w}x{h}" for w, h in sorted(sizes, reverse=True))
        raise SceneError(
            f"The {kind} of {name} is {size[0]}x{size[1]}, but its photo is {wanted}",
            where=path,
            fix=f"write the {kind} at the photo's size",
        )
    if kind == "depth" and channels != 1:
        raise too_many_channels(path, channels)
    return path


def stated_size(path: Path, what: str) -> tuple[tuple[int, int], int]:
    """(width, height) and channels of a mask, depth or label file, by its header. Raises SceneError."""
    check_regular(path, what=what)
    if path.suffix == ".npy":
        height, width, *channels = check_array(path, what=what, kinds="buif")
        return (width, height), math.prod(channels)
    header = read_header(path)
    return (header.width, header.height), header.channels


def compare_sizes(rescaled: dict[float, list[RawFrame]], notes: list[str], problems: list[SceneError]) -> None:
    """Add a note if all photos are rescaled alike, and a problem for each photo that differs from the others."""
    usual = max(rescaled, key=lambda ratio: len(rescaled[ratio]), default=1.0)
    for ratio, entries in rescaled.items():
        if ratio != usual:
            for entry in entries:
                width, height = entry.lens.size or (0, 0)
                problems.append(
                    SceneError(
                        f"The photo of {entry.name} is {ratio:g} times as large as its intrinsics "
                        f"({width}x{height}), unlike the others",
                        where=entry.photo,
                        fix="use the photos that structure from motion saw, or correct w and h",
                    )
                )
    if usual != 1.0:
        notes.append(f"The photos are {usual:g} times as large as their intrinsics say; these are scaled to fit")
