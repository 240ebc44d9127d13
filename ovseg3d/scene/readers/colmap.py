"""Reader for COLMAP models: `sparse/0`, `colmap/sparse/0` or `sparse`, binary or text, with photos in `images/`.

COLMAP states world-to-camera with OpenCV axes and a quaternion (w, x, y, z); pixel centres are at +0.5, as ours. The
files are parsed here because pycolmap ends the process on some broken ones, and a broken model should only make
this reader yield to the next (`Incomplete`). Up is unknown, and so is scale.
"""

import os
import struct
from collections.abc import Iterator
from itertools import chain, dropwhile, islice
from pathlib import Path

import numpy as np

from ovseg3d.errors import SceneError, printable
from ovseg3d.geometry.rotations import from_wxyz
from ovseg3d.limits import (
    MAX_FRAMES,
    MAX_PATH_BYTES,
    MAX_POINTS,
    MAX_TEXT_BYTES,
    NO_TRUST,
    Trust,
    inside,
    open_regular,
    read_bytes,
    read_text,
    shorten,
)
from ovseg3d.scene.cameras import LensModel
from ovseg3d.scene.readers.raw import Incomplete, Lens, RawCapture, RawFrame

MODEL_FOLDERS = ("sparse/0", "colmap/sparse/0", "sparse", "colmap/sparse")

# COLMAP's model ids, names and numbers of parameters.
_MODELS = {
    0: ("SIMPLE_PINHOLE", 3),
    1: ("PINHOLE", 4),
    2: ("SIMPLE_RADIAL", 4),
    3: ("RADIAL", 5),
    4: ("OPENCV", 8),
    5: ("OPENCV_FISHEYE", 8),
    6: ("FULL_OPENCV", 12),
    7: ("FOV", 5),
    8: ("SIMPLE_RADIAL_FISHEYE", 4),
    9: ("RADIAL_FISHEYE", 5),
    10: ("THIN_PRISM_FISHEYE", 12),
    11: ("RAD_TAN_THIN_PRISM_FISHEYE", 16),
}
_COUNTS = dict(_MODELS.values())


def find_model(folder: Path) -> Path | None:
    """The model folder inside a capture, or None."""
    for name in MODEL_FOLDERS:
        for suffix in (".bin", ".txt"):
            if any((folder / name / (stem + suffix)).is_file() for stem in ("cameras", "images", "points3D")):
                return folder / name
    return None


def read_colmap(folder: Path, trust: Trust = NO_TRUST) -> RawCapture:
    """Read a capture's COLMAP model.

    Raises:
        Incomplete: there is no model, or files of it are missing or cut short.
        SceneError: a camera model that we have no rays for.
    """
    model = find_model(folder)
    if model is None:
        raise Incomplete("there is no sparse/0 with a COLMAP model")
    where = model.relative_to(folder).as_posix()
    kind = next((k for k in ("bin", "txt") if (model / f"images.{k}").is_file()), None)
    if kind is None:
        raise Incomplete(f"the COLMAP model in {where} lacks images.bin (or images.txt)")
    if not (model / f"cameras.{kind}").is_file():
        raise Incomplete(f"the COLMAP model in {where} lacks cameras.{kind}")
    cameras_file = inside(folder, f"{where}/cameras.{kind}", trust=trust)
    images_file = inside(folder, f"{where}/images.{kind}", trust=trust)
    try:
        lenses = dict(read_cameras(cameras_file))
        images = list(islice(read_images(images_file), MAX_FRAMES + 1))
    except (struct.error, ValueError, IndexError, UnicodeDecodeError, OverflowError) as error:
        raise Incomplete(f"the COLMAP model in {where} is broken or cut short") from error
    if not images:
        raise Incomplete(f"the COLMAP model in {where} holds no photos")
    if len(images) > MAX_FRAMES:
        raise SceneError(f"The COLMAP model holds more than {MAX_FRAMES} photos", where=images_file, fix="split it")
    frames = []
    for _, name, camera_id, c2w in images:
        if camera_id not in lenses:
            raise Incomplete(f"the COLMAP model in {where} lacks camera {camera_id}")
        photo = folder / "images" / name
        mask = find_mask(folder, name)
        frames.append(RawFrame(f"images/{name}", photo, c2w, lenses[camera_id], cameras_file, mask))
    points, points_rgb = read_points(folder, model, trust)
    notes = [] if points is not None else [f"The COLMAP model in {where} has no readable points3D"]
    return RawCapture(folder, "colmap", frames, z_up=False, points=points, points_rgb=points_rgb, notes=notes)


def read_cameras(path: Path) -> Iterator[tuple[int, Lens]]:
    """Number and lens of each camera of a table, binary or text. Raises ValueError or struct.error: it is broken."""
    return _cameras_bin(path) if path.suffix == ".bin" else _cameras_txt(path)


def read_images(path: Path) -> Iterator[tuple[int, str, int, np.ndarray]]:
    """Number, name, camera and c2w of each photo of a table. Raises ValueError or struct.error: it is broken."""
    return _images_bin(path) if path.suffix == ".bin" else _images_txt(path)


def find_mask(folder: Path, name: str) -> Path | None:
    """`masks/NAME.png` (COLMAP's habit) or `masks/STEM.png` for a photo of `images/`."""
    candidates = (f"{name}.png", f"{os.path.splitext(name)[0]}.png", name)
    return next((folder / "masks" / path for path in candidates if os.path.isfile(folder / "masks" / path)), None)


def read_points(folder: Path, model: Path, trust: Trust = NO_TRUST) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Sparse points (n, 3) float64 and colours (n, 3) uint8 of a model in a capture; (None, None) without any."""
    for name, read in (("points3D.bin", _points_bin), ("points3D.txt", _points_txt)):
        if (model / name).is_file():
            path = inside(folder, (model / name).relative_to(folder), trust=trust)
            try:
                points, colours = read(path)
            except (struct.error, ValueError, IndexError, SceneError):
                return None, None
            finite = np.isfinite(points).all(axis=1)
            return (points[finite], colours[finite]) if finite.any() else (None, None)
    return None, None


def _pose(quaternion: tuple[float, ...], translation: tuple[float, ...]) -> np.ndarray:
    """Camera-to-world 4x4 of a world-to-camera quaternion (w, x, y, z) and translation; NaN where there is none."""
    with np.errstate(all="ignore"):
        scaled = np.array(quaternion) / np.abs(quaternion).max()  # its square may overflow
    rotation = from_wxyz(scaled).as_matrix() if np.isfinite(scaled).all() else np.full((3, 3), np.nan)
    c2w = np.eye(4)
    with np.errstate(all="ignore"):
        c2w[:3, :3], c2w[:3, 3] = rotation.T, -rotation.T @ np.array(translation)
    return c2w


def _lens(model: str, width: int, height: int, p: tuple[float, ...], where: Path) -> Lens:
    kind: LensModel = "OPENCV"
    distortion: tuple[float, ...] = ()
    if model == "SIMPLE_PINHOLE":
        fx, fy, cx, cy = p[0], p[0], p[1], p[2]
    elif model in ("SIMPLE_RADIAL", "RADIAL"):
        fx, fy, cx, cy, distortion = p[0], p[0], p[1], p[2], p[3:]
    elif model in ("PINHOLE", "OPENCV", "OPENCV_FISHEYE"):
        fx, fy, cx, cy, distortion = p[0], p[1], p[2], p[3], p[4:]
        kind = "OPENCV_FISHEYE" if model == "OPENCV_FISHEYE" else "OPENCV"
    else:
        raise SceneError(
            f"The COLMAP camera model {shorten(printable(model))} is not supported",
            where=where,
            fix="use `colmap image_undistorter`, or solve again with OPENCV or OPENCV_FISHEYE cameras",
        )
    if min(width, height) < 1 or not (fx > 0 and fy > 0):
        raise ValueError("impossible camera")
    return Lens((width, height), fx, fy, cx, cy, model=kind, distortion=distortion if any(distortion) else ())


def _cameras_bin(path: Path) -> Iterator[tuple[int, Lens]]:
    data = read_bytes(path, what="table of cameras")
    (count,), at = struct.unpack_from("<Q", data, 0), 8
    for _ in range(count):
        camera_id, model_id, width, height = struct.unpack_from("<iiQQ", data, at)
        name, parameters = _MODELS.get(model_id, (f"number {model_id}", 0))
        values = struct.unpack_from(f"<{parameters}d", data, at + 24)
        at += 24 + 8 * parameters
        yield camera_id, _lens(name, width, height, values, path)


def _cameras_txt(path: Path) -> Iterator[tuple[int, Lens]]:
    for line in read_text(path, what="table of cameras").splitlines():
        if line.strip() and not line.startswith("#"):
            camera_id, name, width, height, *values = line.split()
            if name in _COUNTS and len(values) != _COUNTS[name]:
                raise ValueError("wrong number of camera parameters")
            yield int(camera_id), _lens(name, int(width), int(height), tuple(map(float, values)), path)


# Photos and points come with lists of observations, which make up most of these files and are skipped.


def _images_bin(path: Path) -> Iterator[tuple[int, str, int, np.ndarray]]:
    with open_regular(path, what="table of photos") as file:
        size = os.fstat(file.fileno()).st_size
        (count,), at = struct.unpack("<Q", file.read(8)), 8
        for _ in range(count):
            file.seek(at)
            record = file.read(64 + MAX_PATH_BYTES + 9)
            number, *pose, camera_id = struct.unpack_from("<i7di", record, 0)
            end = record.index(b"\0", 64)
            (observations,) = struct.unpack_from("<Q", record, end + 1)
            at += end + 9 + 24 * observations
            if at > size:
                raise ValueError("cut short")
            yield number, record[64:end].decode(), camera_id, _pose(tuple(pose[:4]), tuple(pose[4:]))


def _images_txt(path: Path) -> Iterator[tuple[int, str, int, np.ndarray]]:
    # Every second line lists observations and may be empty, so that empty lines count here.
    lines = (line for line in _lines(path) if not line.startswith(b"#"))
    for line in islice(dropwhile(lambda line: not line.strip(), lines), 0, None, 2):
        if not line.strip():
            continue
        fields = line.decode().split(maxsplit=9)
        values = tuple(map(float, fields[1:8]))
        yield int(fields[0]), fields[9].strip(), int(fields[8]), _pose(values[:4], values[4:])


_POINT = np.dtype([("xyz", "<f8", 3), ("rgb", "u1", 3)])


def _points_bin(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with open_regular(path, what="table of points") as file:
        (count,) = struct.unpack("<Q", file.read(8))
        if count > min(MAX_POINTS, os.fstat(file.fileno()).st_size // _POINT_BYTES):
            raise ValueError("more points than the file holds")
        table, done, at = np.empty(count, _POINT), 0, 8
        while done < count:
            file.seek(at)
            block, starts, here = file.read(_BLOCK_BYTES), [], 0
            while done + len(starts) < count and here + _POINT_BYTES <= len(block):
                starts.append(here)
                here += _POINT_BYTES + 8 * _TRACK.unpack_from(block, here + _POINT_BYTES - 8)[0]
            if not starts:
                raise ValueError("cut short")
            # A record is its number (8 bytes), position and colour, then what is of no use here.
            rows = np.frombuffer(block, np.uint8)[np.array(starts)[:, None] + np.arange(8, 8 + _POINT.itemsize)]
            table[done : done + len(starts)] = rows.view(_POINT)[:, 0]
            done, at = done + len(starts), at + here
    return table["xyz"].astype(np.float64), table["rgb"].copy()


_TRACK, _POINT_BYTES, _BLOCK_BYTES = struct.Struct("<Q"), 51, 2**20


def _points_txt(path: Path) -> tuple[np.ndarray, np.ndarray]:
    lines = (line.decode("latin-1") for line in _lines(path) if line.strip() and not line.startswith(b"#"))
    if (first := next(lines, None)) is None:
        raise ValueError("no points")
    table = np.loadtxt(islice(chain([first], lines), MAX_POINTS + 1), usecols=range(1, 7), ndmin=2, comments=None)
    if len(table) > MAX_POINTS:
        raise ValueError("too many points")
    table = table[np.isfinite(table).all(axis=1)]
    return table[:, :3].copy(), np.clip(table[:, 3:], 0, 255).astype(np.uint8)


def _lines(path: Path) -> Iterator[bytes]:
    """Lines of a text. Raises ValueError: one is longer than any photo's or point's."""
    with open_regular(path, what="table") as file:
        while line := file.readline(MAX_TEXT_BYTES):
            if len(line) == MAX_TEXT_BYTES:
                raise ValueError("a line without an end")
            yield line
