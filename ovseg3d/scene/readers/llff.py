"""Reader for LLFF captures: `poses_bounds.npy` and photos in `images/` (or only `images_N/`).

A row of 17 numbers for each photo, in the order of the sorted file names: 3x5 [R | t | h, w, f] whose rotation has
the columns (down, right, backwards), then the nearest and farthest z-depth. 3D-OVS scenes have this format. The
poses are in COLMAP's frame, so the sparse points of a COLMAP model beside it are used. Up and scale are unknown.
"""

import re
from pathlib import Path

import numpy as np

from ovseg3d.errors import SceneError
from ovseg3d.limits import MAX_FRAMES, MAX_LENGTH, NO_TRUST, Trust, check_array, inside
from ovseg3d.scene.images import PHOTO_SUFFIXES
from ovseg3d.scene.readers.colmap import find_mask, find_model, read_points
from ovseg3d.scene.readers.raw import Incomplete, Lens, RawCapture, RawFrame, shorten


def read_llff(folder: Path, trust: Trust = NO_TRUST) -> RawCapture:
    """Read an LLFF capture.

    Raises:
        Incomplete: there is no poses_bounds.npy.
        SceneError: the file is broken or of another shape, or the number of photos is another.
    """
    path = folder / "poses_bounds.npy"
    if not path.exists():
        raise Incomplete("poses_bounds.npy is missing")
    rows, columns = check_array(inside(folder, path.name, trust=trust), what="table of poses", dims=(2,))
    if columns != 17 or rows > MAX_FRAMES:
        raise SceneError(
            f"The poses have the shape {rows}x{columns}, expected N x 17 with at most {MAX_FRAMES} rows",
            where=path,
            fix="write poses_bounds.npy again: 3x5 pose and size, then near and far, for each photo",
        )
    with np.errstate(all="ignore"):  # each number is checked later
        table = np.load(path, allow_pickle=False).astype(np.float64)
    photos = _photos(folder)
    if len(photos) != len(table):
        where = photos[0].parent.name if photos else "images"
        raise SceneError(
            f"There are {len(table)} poses but {len(photos)} photos in {where}/",
            where=folder,
            fix="each photo, in the order of the file names, needs one row of poses_bounds.npy",
        )
    frames, boundless = [], []
    for photo, row in zip(photos, table):
        pose, (height, width, focal) = row[:15].reshape(3, 5)[:, :4], row[:15].reshape(3, 5)[:, 4].tolist()
        if not (np.isfinite([height, width, focal]).all() and min(height, width, focal) > 0):
            raise SceneError(
                f"The size or focal length of {photo.name} is impossible: {width:g}x{height:g}, {focal:g}",
                where=path,
                fix="write poses_bounds.npy again",
            )
        c2w = np.eye(4)
        c2w[:3] = np.stack([pose[:, 1], pose[:, 0], -pose[:, 2], pose[:, 3]], axis=1)
        near, far = float(row[15]), float(row[16])
        bounded = 0 < near < far <= MAX_LENGTH
        if not bounded:
            boundless.append(photo.name)
        frames.append(
            RawFrame(
                name=f"{photo.parent.name}/{photo.name}",
                photo=folder / "images" / photo.name,  # `Copies` finds it in images_N, and knows N from there
                c2w=c2w,
                lens=Lens((round(width), round(height)), focal, focal),
                file=path,
                mask=find_mask(folder, photo.name),
                near_far=(near, far) if bounded else None,
            )
        )
    model = find_model(folder)
    points, points_rgb = read_points(folder, model, trust) if model else (None, None)
    if points is not None and not _fit(points, frames):
        points = points_rgb = None
    notes = []
    if boundless:
        notes = [f"{len(boundless)} photos state near and far bounds that cannot be: {shorten(boundless)}"]
    return RawCapture(folder, "llff", frames, z_up=False, points=points, points_rgb=points_rgb, notes=notes)


def _photos(folder: Path) -> list[Path]:
    """The photos of `images/`, else of the `images_N/` with the smallest N, sorted by name."""
    versions = {1: folder / "images"}
    for path in folder.glob("images_*"):
        if match := re.fullmatch(r"images_(\d{1,4})", path.name):
            versions[int(match[1])] = path
    for _, version in sorted(versions.items()):
        if version.is_dir():
            photos = sorted(p for p in version.iterdir() if p.suffix.lower() in PHOTO_SUFFIXES)
            if photos:
                return photos
    return []


def _fit(points: np.ndarray, frames: list[RawFrame]) -> bool:
    """Whether most points lie in front of most cameras: else the model has another frame than the poses."""
    poses = np.stack([frame.c2w for frame in frames])
    if not np.isfinite(poses).all():
        return False
    some = points[:: max(1, len(points) // 1000)]
    with np.errstate(over="ignore", invalid="ignore"):  # poses are not checked yet
        z = np.einsum("pvk,vk->pv", some[:, None] - poses[None, :, :3, 3], poses[:, :3, 2])
    return bool((z > 0).mean() > 0.8)
