"""Lenses of ScanNet's photos and depth files, and which part of a depth file a photo shows.

`intrinsic/intrinsic_color.txt` and `intrinsic_depth.txt` are 4x4 matrices in which pixel centres are whole numbers.
Depth files have a size and a lens of their own, but the centre and the axes of the photos, unless `extrinsic_color.txt`
and `extrinsic_depth.txt` say otherwise. So z-depth stays what it is, and a pixel of a photo has that of the pixel in
which the depth file's lens sees it. The scan's own list, scene0000_00.txt, states the sizes that the matrices are for;
without it they are those of the files.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from ovseg3d.errors import SceneError
from ovseg3d.limits import MAX_SIDE, Trust, check_number, inside, read_text
from ovseg3d.scene.images import read_header
from ovseg3d.scene.readers.raw import Lens, check_lens

_SAME_PLACE = 1e-3
_NEAR_MIDDLE = 0.25
"""A principal point further than this from the middle, as a share of the side, belongs to images of another size."""


def read_matrix(path: Path, what: str) -> Float[np.ndarray, "4 4"]:
    """A matrix of 4x4 numbers, finite or not. Raises SceneError: the file holds anything else."""
    try:
        rows = [[float(value) for value in line.split()] for line in read_text(path, what=what).splitlines() if line]
        if [len(row) for row in rows if row] != [4] * 4:
            raise ValueError("expected four rows of four numbers")
    except ValueError as error:
        raise SceneError(f"The {what} cannot be read: {error}", where=path, fix="export it again") from error
    return np.array([row for row in rows if row])


def same_place(folder: Path, trust: Trust) -> bool:
    """Whether photos and depth have one centre and the same axes, as they do where no file says otherwise.

    Raises SceneError: a file is broken.
    """
    found = []
    for kind in ("color", "depth"):
        path = inside(folder, f"intrinsic/extrinsic_{kind}.txt", trust=trust)
        found.append(read_matrix(path, "extrinsic matrix") if path.exists() else np.eye(4))
    return bool(np.abs(found[0] - found[1]).max() < _SAME_PLACE)


def lenses(
    folder: Path, photos: dict[int, Path], depths: dict[int, Path], trust: Trust
) -> tuple[Lens, tuple[float, float, float, float] | None]:
    """The photos' lens at their own size, and the part of depth files that photos show, see `Frame.depth_window`.

    Args:
        folder: the scan's.
        photos: all of one size; only the first one's header is read.
        depths: the same; None is returned if there are none.
        trust: what the user allows.

    Raises:
        SceneError: a lens is missing, broken, or for images of another size.
    """
    sizes = _stated_sizes(inside(folder, f"{folder.resolve().name}.txt", trust=trust))
    lens = _lens(folder, "color", next(iter(photos.values())), sizes.get("color"), trust)
    if not depths:
        return lens, None
    other = _lens(folder, "depth", next(iter(depths.values())), sizes.get("depth"), trust)
    first, second = lens.camera(np.eye(4), (1, 1)), other.camera(np.eye(4), (1, 1))
    corners = np.array([[0.0, 0.0], [first.width, first.height]]) - [first.cx, first.cy]
    seen = corners * [second.fx / first.fx, second.fy / first.fy] + [second.cx, second.cy]
    seen /= [second.width, second.height]
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
    matrix = read_matrix(path, "lens")
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
