"""Reader for COLMAP models: `sparse/0`, `colmap/sparse/0` or `sparse`, binary or text, with photos in `images/`.

COLMAP states world-to-camera with OpenCV axes and a quaternion (w, x, y, z); pixel centres are at +0.5, as ours. The
files are parsed here because pycolmap ends the process on some broken ones, and a broken model should only make
this reader step aside (`Incomplete`). Up is unknown, and so is scale.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ovseg3d.errors import SceneError
from ovseg3d.scene.cameras import LensModel
from ovseg3d.scene.raw import Incomplete, Lens, RawCapture, RawFrame

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


def read_colmap(folder: Path) -> RawCapture:
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
    try:
        lenses = dict((_cameras_bin if kind == "bin" else _cameras_txt)(model / f"cameras.{kind}"))
        images = list((_images_bin if kind == "bin" else _images_txt)(model / f"images.{kind}"))
    except (struct.error, ValueError, IndexError, UnicodeDecodeError, OverflowError) as error:
        raise Incomplete(f"the COLMAP model in {where} is broken or cut short") from error
    if not images:
        raise Incomplete(f"the COLMAP model in {where} holds no photos")
    frames = []
    for name, camera_id, c2w in images:
        if camera_id not in lenses:
            raise Incomplete(f"the COLMAP model in {where} lacks camera {camera_id}")
        photo = folder / "images" / name
        frames.append(RawFrame(f"images/{name}", photo, c2w, lenses[camera_id], mask=find_mask(folder, Path(name))))
    points, points_rgb = read_points(model)
    notes = [] if points is not None else [f"The COLMAP model in {where} has no readable points3D"]
    return RawCapture(folder, "colmap", frames, z_up=False, points=points, points_rgb=points_rgb, notes=notes)


def find_mask(folder: Path, name: Path) -> Path | None:
    """`masks/NAME.png` (COLMAP's habit) or `masks/STEM.png` for a photo of `images/`."""
    masks = folder / "masks"
    candidates = (masks / f"{name}.png", masks / name.with_suffix(".png"), masks / name)
    return next((path for path in candidates if path.is_file()), None)


def read_points(model: Path) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Sparse points (n, 3) float64 and colours (n, 3) uint8 of a model folder; (None, None) without any."""
    try:
        if (model / "points3D.bin").is_file():
            rows = list(_points_bin(model / "points3D.bin"))
        elif (model / "points3D.txt").is_file():
            rows = [[float(v) for v in line.split()[1:7]] for line in _lines(model / "points3D.txt")]
        else:
            return None, None
    except (struct.error, ValueError, IndexError):
        return None, None
    if not rows:
        return None, None
    table = np.array(rows, dtype=np.float64)
    table = table[np.isfinite(table).all(axis=1)]
    return table[:, :3], table[:, 3:6].astype(np.uint8)


def _pose(quaternion: tuple[float, ...], translation: tuple[float, ...]) -> np.ndarray:
    """Camera-to-world 4x4 of a world-to-camera quaternion (w, x, y, z) and translation."""
    w, x, y, z = np.array(quaternion) / np.linalg.norm(quaternion)
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    c2w = np.eye(4)
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
            f"The COLMAP camera model {model} is not supported",
            where=where,
            fix="use `colmap image_undistorter`, or solve again with OPENCV or OPENCV_FISHEYE cameras",
        )
    if min(width, height) < 1 or not (fx > 0 and fy > 0):
        raise ValueError("impossible camera")
    return Lens((width, height), fx, fy, cx, cy, model=kind, distortion=distortion if any(distortion) else ())


def _cameras_bin(path: Path) -> Iterator[tuple[int, Lens]]:
    data = path.read_bytes()
    (count,), at = struct.unpack_from("<Q", data, 0), 8
    for _ in range(count):
        camera_id, model_id, width, height = struct.unpack_from("<iiQQ", data, at)
        name, parameters = _MODELS.get(model_id, (f"number {model_id}", 0))
        values = struct.unpack_from(f"<{parameters}d", data, at + 24)
        at += 24 + 8 * parameters
        yield camera_id, _lens(name, width, height, values, path)


def _cameras_txt(path: Path) -> Iterator[tuple[int, Lens]]:
    for line in _lines(path):
        camera_id, name, width, height, *values = line.split()
        if name in _COUNTS and len(values) != _COUNTS[name]:
            raise ValueError("wrong number of camera parameters")
        yield int(camera_id), _lens(name, int(width), int(height), tuple(map(float, values)), path)


def _images_bin(path: Path) -> Iterator[tuple[str, int, np.ndarray]]:
    data = path.read_bytes()
    (count,), at = struct.unpack_from("<Q", data, 0), 8
    for _ in range(count):
        _, *pose, camera_id = struct.unpack_from("<i7di", data, at)
        end = data.index(b"\0", at + 64)
        name = data[at + 64 : end].decode()
        (observations,) = struct.unpack_from("<Q", data, end + 1)
        at = end + 9 + 24 * observations
        if at > len(data):
            raise ValueError("cut short")
        yield name, camera_id, _pose(tuple(pose[:4]), tuple(pose[4:]))


def _images_txt(path: Path) -> Iterator[tuple[str, int, np.ndarray]]:
    # Every second line lists observations and may be empty, so that empty lines count here.
    text = path.read_text(encoding="utf-8").splitlines()
    lines = [line for line in text if not line.startswith("#")]
    while lines and not lines[0].strip():
        lines.pop(0)
    for line in lines[::2]:
        if not line.strip():
            continue
        fields = line.split(maxsplit=9)
        values = tuple(map(float, fields[1:8]))
        yield fields[9].strip(), int(fields[8]), _pose(values[:4], values[4:])


def _points_bin(path: Path) -> Iterator[tuple[float, ...]]:
    data = path.read_bytes()
    (count,), at = struct.unpack_from("<Q", data, 0), 8
    for _ in range(count):
        _, x, y, z, r, g, b, _, track = struct.unpack_from("<QdddBBBdQ", data, at)
        at += 51 + 8 * track
        yield x, y, z, r, g, b


def _lines(path: Path) -> Iterator[str]:
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            yield line
