"""Tracks of a COLMAP model: which photos observe each of its points, and how well.

`colmap.py` skips them, as only sparse depth needs them. The observed pixels are not read: the projection of a point
differs from them by its reprojection error. Models with more points than `MAX_TRACKED` are thinned out evenly.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from ovseg3d.errors import SceneError
from ovseg3d.limits import MAX_FRAMES, MAX_POINTS, MAX_TABLE_BYTES, inside, read_bytes, read_text
from ovseg3d.scene.readers.colmap import find_model, read_cameras, read_images

MAX_TRACKED = 200_000
"""Most points that are kept; photos at training size show fewer."""
_POINT = struct.Struct("<Q3d3BdQ")
"""Number, position, colour, error and length of the track, which follows."""


@dataclass(frozen=True)
class Tracks:
    """Points of a COLMAP model, in its own frame, and the photos that observe them."""

    names: tuple[str, ...]
    """Photos, as the model names them."""
    c2w: Float[np.ndarray, "views 4 4"]
    """Their poses in the model."""
    focal_px: Float[np.ndarray, " views"]
    """Their focal lengths, pixels of the model's photos."""
    points: Float[np.ndarray, "points 3"]
    error_px: Float[np.ndarray, " points"]
    """Mean reprojection error, pixels of the model's photos."""
    point: Int[np.ndarray, " observations"]
    """Index into `points`."""
    view: Int[np.ndarray, " observations"]
    """Index into `names`."""


def read_tracks(folder: Path) -> Tracks | None:
    """The tracks of the model in a capture's folder.

    None if there is no model, if a file of it is missing, broken or outside the folder, or if no point has a track.
    """
    model = find_model(folder)
    if model is None:
        return None
    try:
        cameras, images, table = (_file(folder, model, stem) for stem in ("cameras", "images", "points3D"))
        lenses = dict(read_cameras(cameras))
        photos = list(islice(read_images(images), MAX_FRAMES))
        place = {number: index for index, (number, *_) in enumerate(photos)}
        points, seen = [], []
        rows = _points_bin(table) if table.suffix == ".bin" else _points_txt(table)
        for xyz, error, track in rows:
            views = {place[number] for number in track if number in place}
            if len(views) > 1 and np.isfinite([*xyz, error]).all():
                points.append((*xyz, error))
                seen.append(sorted(views))
        focal = np.array([lenses[camera].fx for _, _, camera, _ in photos], dtype=np.float64)
    except (SceneError, struct.error, ValueError, KeyError, IndexError, OverflowError):
        return None
    if not points:
        return None
    columns = np.array(points)
    return Tracks(
        names=tuple(name for _, name, *_ in photos),
        c2w=np.stack([c2w for *_, c2w in photos]),
        focal_px=focal,
        points=columns[:, :3],
        error_px=columns[:, 3],
        point=np.repeat(np.arange(len(seen)), [len(views) for views in seen]),
        view=np.concatenate(seen),
    )


def _file(folder: Path, model: Path, stem: str) -> Path:
    """A table of the model. Raises SceneError: it is outside the capture. KeyError: there is none."""
    for suffix in (".bin", ".txt"):
        if (model / (stem + suffix)).is_file():
            return inside(folder, (model / (stem + suffix)).relative_to(folder))
    raise KeyError(stem)


def _points_bin(path: Path) -> Iterator[tuple[tuple[float, ...], float, tuple[int, ...]]]:
    data = read_bytes(path, what="table of points", most=MAX_TABLE_BYTES)
    (count,), at = struct.unpack_from("<Q", data, 0), 8
    if count > MAX_POINTS:
        raise ValueError("too many points")
    every = -(-count // MAX_TRACKED)
    for index in range(count):
        _, x, y, z, _, _, _, error, length = _POINT.unpack_from(data, at)
        at += _POINT.size
        if at + 8 * length > len(data):
            raise ValueError("cut short")
        if index % every == 0:
            yield (x, y, z), error, struct.unpack_from(f"<{2 * length}i", data, at)[::2]
        at += 8 * length


def _points_txt(path: Path) -> Iterator[tuple[tuple[float, ...], float, tuple[int, ...]]]:
    lines = [
        line
        for line in read_text(path, what="table of points", most=MAX_TABLE_BYTES).splitlines()
        if line and line[0] != "#"
    ]
    for line in lines[:: -(-max(1, len(lines)) // MAX_TRACKED)]:
        _, x, y, z, _, _, _, error, *track = line.split()
        yield (float(x), float(y), float(z)), float(error), tuple(map(int, track[::2]))
