"""Shapes from files: point clouds as they are, meshes sampled evenly over their surface.

| suffix | content |
|---|---|
| `.ply` | cloud or mesh |
| `.obj`, `.off`, `.stl`, `.glb` | mesh (OBJ and OFF without faces: cloud); materials and textures are not read |
| `.pcd` | cloud, text or uncompressed binary |
| `.npy`, `.npz` | array (points, 3 or more); of a .npz the array `xyz`, `points` or `pc`, or the only one |
| `.bin` | ScanObjectNN's (a count, then 11 numbers a point), KITTI's (x y z intensity), mmdet3d's (x y z r g b) |
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from ovseg3d.errors import ShapeError, nearest
from ovseg3d.limits import MAX_LENGTH, MAX_POINTS, MAX_TABLE_BYTES, first_line, read_bytes
from ovseg3d.scene.clouds import XYZ_KEYS
from ovseg3d.scene.readers.bin import read_bin
from ovseg3d.scene.readers.pcd import read_pcd

SAMPLES = 10_000
"""Points that a mesh is sampled with."""
_MESHES = ("ply", "obj", "off", "stl", "glb")


@dataclass(frozen=True)
class Shape:
    """Points of one object.

    Attributes:
        points: positions in the file's frame and unit.
        up: the axis that the format defines as up, if it does ("y" for glTF).
    """

    points: Float[np.ndarray, "points 3"]
    up: str | None = None


def read_shape(path: Path, samples: int = SAMPLES) -> Shape:
    """The shape in a file; see the module's docstring for formats. Points that are not finite are left out.

    Args:
        path: the file.
        samples: points on the surface of a mesh, evenly by area and the same in every call.

    Raises:
        ShapeError: the format is unknown, the file is broken or too large, or it holds no surface and no points.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SHAPE_SUFFIXES:
        close = nearest(suffix, SHAPE_SUFFIXES)
        raise ShapeError(
            f"Shapes cannot be read from {suffix or 'files without a suffix'}",
            where=path,
            fix=f"save it as {close or '.ply'}; known are {', '.join(SHAPE_SUFFIXES)}",
        )
    data = read_bytes(path, ShapeError, "shape", MAX_TABLE_BYTES)
    try:
        with np.errstate(all="ignore"):  # numbers that their type cannot hold
            found = _read_mesh(data, suffix[1:], samples) if suffix[1:] in _MESHES else _READERS[suffix](data)
        points = np.asarray(found, np.float64)
        if points.ndim != 2 or points.shape[1] < 3:
            raise ValueError(f"its points have the shape {points.shape}, expected (points, 3)")
    except MemoryError:
        raise
    except Exception as error:  # trimesh and numpy raise whatever their parsers raised
        what = f"The shape cannot be read: {first_line(error)}"
        raise ShapeError(what, where=path, fix="export it again") from error
    points = points[:, :3]
    points = points[(np.abs(points) <= MAX_LENGTH).all(1)]
    if not len(points):
        raise ShapeError("The shape has no points with finite coordinates", where=path, fix="export it again")
    if len(points) > MAX_POINTS:
        raise ShapeError(f"The shape has more than {MAX_POINTS:,} points", where=path, fix="thin it out")
    return Shape(points, "y" if suffix == ".glb" else None)


def find_shapes(folder: Path) -> list[Path]:
    """All files with a known suffix in a folder and its subfolders, by name.

    Raises:
        ShapeError: there is no such folder, or no shape in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ShapeError("There is no such folder", where=folder, fix="check its name")
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SHAPE_SUFFIXES and p.is_file())
    if not found:
        raise ShapeError("No shape is in this folder", where=folder, fix=f"known are {', '.join(SHAPE_SUFFIXES)}")
    return found


def _read_mesh(data: bytes, kind: str, samples: int) -> np.ndarray:
    import trimesh

    # From memory, so that no other file that this one names is opened.
    loaded = trimesh.load(io.BytesIO(data), file_type=kind, skip_materials=True, process=False)
    if isinstance(loaded, trimesh.Scene):
        parts = [part for part in loaded.dump() if isinstance(part, trimesh.Trimesh | trimesh.PointCloud)]
        meshes = [part for part in parts if isinstance(part, trimesh.Trimesh) and len(part.faces)]
        loaded = trimesh.util.concatenate(meshes) if meshes else parts[0] if parts else loaded
    if isinstance(loaded, trimesh.Trimesh) and len(loaded.faces):
        if not np.isfinite(loaded.area) or loaded.area <= 0:
            raise ValueError("its faces have no area")
        return np.asarray(trimesh.sample.sample_surface(loaded, samples, seed=0)[0])
    if isinstance(loaded, trimesh.Trimesh | trimesh.PointCloud) and len(loaded.vertices):
        return np.asarray(loaded.vertices)
    raise ValueError("it has neither faces nor points")


def _read_npy(data: bytes) -> np.ndarray:
    return np.load(io.BytesIO(data), allow_pickle=False)


def _read_npz(data: bytes) -> np.ndarray:
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        key = next((key for key in XYZ_KEYS if key in arrays), arrays.files[0] if len(arrays.files) == 1 else None)
        if key is None:
            held = ", ".join(arrays.files[:5]) or "nothing"
            raise ValueError(f"it has none of the arrays {', '.join(XYZ_KEYS)}, but {held}")
        return arrays[key]


_READERS: dict[str, Callable[[bytes], np.ndarray]] = {
    ".pcd": lambda data: read_pcd(io.BytesIO(data)),
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".bin": read_bin,
}
SHAPE_SUFFIXES = (*(f".{kind}" for kind in _MESHES), *_READERS)
"""Known formats."""
