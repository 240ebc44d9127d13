"""Reader for ScanNet as its SensReader exports a scan: `color/N.jpg`, `depth/N.png`, `pose/N.txt`, `intrinsic/`.

pose/N.txt is the 4x4 camera-to-world matrix (OpenCV axes, metres, z up) of the photo with the number N (it may have
leading zeros), in the frame of the scan's meshes; it holds -inf where tracking was lost. Depth files are in
millimetres. `scannet_lenses.py` reads the lenses.
"""

import re
from pathlib import Path

import numpy as np

from ovseg3d.errors import SceneError
from ovseg3d.limits import MAX_FRAMES, NO_TRUST, Trust, inside
from ovseg3d.scene.readers.raw import Incomplete, RawCapture, RawFrame, shorten
from ovseg3d.scene.readers.scannet_lenses import lenses, read_matrix, same_place


def read_scannet(folder: Path, trust: Trust = NO_TRUST) -> RawCapture:
    """Read a scan of ScanNet. Photos without a pose, and those whose pose is not finite, are left out with a note.

    Raises:
        Incomplete: there is no color/ or no pose/.
        SceneError: a pose or a lens is missing, broken or for images of another size, or no photo has a pose.
    """
    for name in ("color", "pose"):
        if not (folder / name).is_dir():
            raise Incomplete(f"{name}/ is missing")
    photos = _numbered(inside(folder, "color", trust=trust), "jpg|png")
    depths = _numbered(inside(folder, "depth", trust=trust), "png")
    if not 0 < len(photos) <= MAX_FRAMES:
        raise SceneError(
            f"There are {len(photos)} photos color/N.jpg, expected 1 to {MAX_FRAMES}", where=folder / "color",
            fix="export the scan again with ScanNet's SensReader",
        )  # fmt: skip
    poses = {number: _pose(folder, photo.stem, trust) for number, photo in photos.items()}
    lost = [path.name for number, path in photos.items() if poses[number] is None]
    if len(lost) == len(photos):
        raise SceneError("No photo has a pose that is finite", where=folder / "pose", fix="export the poses again")
    notes = [f"{len(lost)} of {len(photos)} photos have no pose and are left out: {shorten(lost)}"] if lost else []
    if depths and not same_place(folder, trust):
        depths = {}
        notes.append(
            "Depth is left out: its camera stands or looks elsewhere than that of the photos (extrinsic_*.txt)"
        )
    lens, window = lenses(folder, photos, depths, trust)
    frames = [
        RawFrame(
            name=f"color/{photos[number].name}",
            photo=photos[number],
            c2w=pose,
            lens=lens,
            file=folder / "pose" / f"{photos[number].stem}.txt",
            depth=depths.get(number),
            depth_window=window,
        )
        for number, pose in poses.items()
        if pose is not None
    ]
    return RawCapture(folder, "scannet", frames, z_up=True, depth_unit=0.001, metric=True, notes=notes)


def _numbered(folder: Path, suffixes: str) -> dict[int, Path]:
    """The files of a folder that are called by a number, in the order of these."""
    found = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        if match := re.fullmatch(rf"(\d{{1,9}})\.({suffixes})", path.name):
            found[int(match[1])] = path
    return dict(sorted(found.items()))


def _pose(folder: Path, name: str, trust: Trust) -> np.ndarray | None:
    """The pose of a photo; None if it is missing or not finite."""
    path = inside(folder, f"pose/{name}.txt", trust=trust)
    matrix = read_matrix(path, "pose") if path.exists() else None
    return matrix if matrix is not None and np.isfinite(matrix).all() else None
