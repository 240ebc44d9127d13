"""Reader for ScanNet as its SensReader exports a scan: `color/N.jpg`, `depth/N.png`, `pose/N.txt`, `intrinsic/`.

pose/N.txt is the 4x4 camera-to-world matrix (OpenCV axes, metres, z up) of the photo with the number N, in the frame
of the scan's meshes; it holds -inf where tracking was lost. `intrinsic/intrinsic_color.txt` and `intrinsic_depth.txt`
are 4x4 matrices in which pixel centres are whole numbers. Depth files are in millimetres. They have a size and a lens
of their own, but the same centre and axes (`extrinsic_*.txt` are not read): the part of the depth file that the photo
shows is stated with the frame, and z-depth stays what it is. The scan's own `scene0000_00.txt`, if it is there, states
the sizes that the matrices are for; otherwise they are those of the files.
"""

import re
from pathlib import Path

import numpy as np

from ovseg3d.errors import SceneError
from ovseg3d.limits import MAX_FRAMES, MAX_SIDE, NO_TRUST, Trust, check_number, inside, read_text
from ovseg3d.scene.images import read_header
from ovseg3d.scene.readers.raw import Incomplete, Lens, RawCapture, RawFrame, check_lens, shorten

_NEAR_MIDDLE = 0.25
"""A principal point further than this from the middle, as a share of the side, belongs to images of another size."""


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
    poses = {number: _pose(folder, number, trust) for number in photos}
    lost = [path.name for number, path in photos.items() if poses[number] is None]
    if len(lost) == len(photos):
        raise SceneError("No photo has a pose that is finite", where=folder / "pose", fix="export the poses again")
    lens, window = _lenses(folder, photos, depths, trust)
    frames = [
        RawFrame(
            name=f"color/{photos[number].name}",
            photo=photos[number],
            c2w=pose,
            lens=lens,
            file=folder / "pose" / f"{number}.txt",
            depth=depths.get(number),
            depth_window=window,
        )
        for number, pose in poses.items()
        if pose is not None
    ]
    notes = [f"{len(lost)} of {len(photos)} photos have no pose and are left out: {shorten(lost)}"] if lost else []
    return RawCapture(folder, "scannet", frames, z_up=True, depth_unit=0.001, metric=True, notes=notes)


def _numbered(folder: Path, suffixes: str) -> dict[int, Path]:
    """The files of a folder that are called by a number, in the order of these."""
    found = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        if match := re.fullmatch(rf"(\d{{1,9}})\.({suffixes})", path.name):
            found[int(match[1])] = path
    return dict(sorted(found.items()))


def _pose(folder: Path, number: int, trust: Trust) -> np.ndarray | None:
    """The pose of a photo; None if it is missing or not finite."""
    path = inside(folder, f"pose/{number}.txt", trust=trust)
    matrix = _matrix(path, "pose") if path.exists() else None
    return matrix if matrix is not None and np.isfinite(matrix).all() else None


def _matrix(path: Path, what: str) -> np.ndarray:
    """A matrix of 4x4 numbers, finite or not."""
    try:
        rows = [[float(value) for value in line.split()] for line in read_text(path, what=what).splitlines() if line]
        if [len(row) for row in rows if row] != [4] * 4:
            raise ValueError("expected four rows of four numbers")
    except ValueError as error:
        raise SceneError(f"The {what} cannot be read: {error}", where=path, fix="export it again") from error
    return np.array([row for row in rows if row])


def _lenses(
    folder: Path, photos: dict[int, Path], depths: dict[int, Path], trust: Trust
) -> tuple[Lens, tuple[float, float, float, float] | None]:
    """The photos' lens at their own size, and the part of depth files that photos show, see `Frame.depth_window`."""
    sizes = _stated_sizes(inside(folder, f"{folder.resolve().name}.txt", trust=trust))
    lens = _lens(folder, "color", next(iter(photos.values())), sizes.get("color"), trust)
    if not depths:
        return lens, None
    other = _lens(folder, "depth", next(iter(depths.values())), sizes.get("depth"), trust)
    first, second = lens.camera(np.eye(4), (1, 1)), other.camera(np.eye(4), (1, 1))
    corners = np.array([[0.0, 0.0], [first.width, first.height]])
    focal, centre = (np.array([camera.fx, camera.fy]) for camera in (first, second)), np.array([first.cx, first.cy])
    near, far = focal
    seen = ((corners - centre) / near * far + [second.cx, second.cy]) / [second.width, second.height]
    left, top, right, bottom = seen.ravel().tolist()
    return lens, (left, top, right, bottom)


def _lens(folder: Path, kind: str, image: Path, stated: tuple[int, int] | None, trust: Trust) -> Lens:
    """A lens at the size of its images."""
    path = inside(folder, f"intrinsic/intrinsic_{kind}.txt", trust=trust)
    if not path.exists():
        raise SceneError(
            f"The lens of this scan's {kind} images is not known", where=path,
            fix="export the intrinsics with ScanNet's SensReader",
        )  # fmt: skip
    matrix = _matrix(path, "lens")
    header = read_header(inside(folder, image.absolute(), trust=trust), trust.max_pixels, what=f"{kind} image")
    size = np.array([header.width, header.height])
    scale = size / (stated or size)
    fx, fy = (np.diag(matrix)[:2] * scale).tolist()
    cx, cy = ((matrix[:2, 2] + 0.5) * scale).tolist()
    lens = Lens((header.width, header.height), fx, fy, cx, cy)
    check_lens(lens, (header.width, header.height), str(path))
    if (np.abs(np.array([cx, cy]) / size - 0.5) > _NEAR_MIDDLE).any():
        raise SceneError(
            f"The lens is for larger or smaller images: its centre is {cx:g}, {cy:g} in images of "
            f"{header.width}x{header.height}",
            where=path,
            fix=f"put the scan's own {folder.resolve().name}.txt there, which states {kind}Width and {kind}Height, "
            "or scale the matrix",
        )
    return lens


def _stated_sizes(path: Path) -> dict[str, tuple[int, int]]:
    """Width and height of "color" and "depth" images in the scan's own list, as far as it is there and states them."""
    lines = read_text(path, what="list of the scan").splitlines() if path.exists() else []
    listed = {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in lines)}
    found = {}
    for kind in ("color", "depth"):
        sides = [listed.get(f"{kind}{side}") for side in ("Width", "Height")]
        if None not in sides:
            found[kind] = tuple(_side(side, f"{kind} size", path) for side in sides)
    return found


def _side(text: str | None, name: str, path: Path) -> int:
    try:
        value = float(text or "")
    except ValueError:
        raise SceneError(f"'{name}' is no number", where=path, fix="correct the file") from None
    return int(check_number(value, name, path, 1, MAX_SIDE))
