"""Point clouds as files: PLY, PCD, NPY, NPZ, BIN, and meshes, whose surface is sampled."""

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from ovseg3d.errors import ConfigError, SceneError
from ovseg3d.limits import MAX_LENGTH, MAX_POINTS, MAX_TABLE_BYTES, check_regular, first_line, read_bytes
from ovseg3d.scene.readers.bin import COLOURED_COLUMNS, read_bin
from ovseg3d.scene.readers.pcd import read_pcd
from ovseg3d.scene.readers.ply import read_vertices

MESHES = (".glb", ".gltf", ".obj", ".off", ".stl")
_TABLES: dict[str, Callable[[bytes], np.ndarray]] = {
    ".bin": read_bin,
    ".pcd": lambda data: read_pcd(io.BytesIO(data)),
}
SUFFIXES = (*sorted((".npy", ".npz", ".ply", *_TABLES)), *MESHES)
MESH_SAMPLES = 200_000
"""Points sampled on a mesh."""
XYZ_KEYS = ("xyz", "points", "pc")
"""Names of an .npz file's array of positions."""
_KEYS = {"xyz": XYZ_KEYS, "rgb": ("rgb", "colors", "colours"), "normal": ("normal", "normals")}


@dataclass(frozen=True)
class PointCloud:
    """Points with what is known of them."""

    xyz: Float[np.ndarray, "points 3"]
    normal: Float[np.ndarray, "points 3"] | None = None
    """Unit normals; their sign may be arbitrary."""
    rgb: Float[np.ndarray, "points 3"] | None = None
    """Colours, 0 to 1."""

    def __len__(self) -> int:
        return len(self.xyz)

    def take(self, rows: Int[np.ndarray, " some"]) -> "PointCloud":
        """Some of the points."""
        normal, rgb = (None if values is None else values[rows] for values in (self.normal, self.rgb))
        return replace(self, xyz=self.xyz[rows], normal=normal, rgb=rgb)


def read_cloud(path: Path) -> tuple[PointCloud, int]:
    """The points of a file that are finite, and how many are not.

    A PLY file gives its vertices, also if it is a mesh; other meshes are sampled. An .npy array has columns x y z and,
    if there are six, colours; an .npz file has `xyz` (or points, pc), and optionally `rgb` and `normal`, or one such
    array. Of a .pcd file, and of a .bin file of ScanObjectNN's or KITTI's layout, only the positions are read;
    mmdet3d's layout (x y z r g b) has colours.

    Raises:
        SceneError: the file is missing, of another format, broken, or has no finite point.
    """
    path = Path(path)
    check_regular(path, what="point cloud")
    suffix = path.suffix.lower()
    if suffix == ".ply":
        xyz, rgb, normal = read_vertices(path)
    elif suffix in (".npy", ".npz"):
        xyz, rgb, normal = _arrays(path)
    elif suffix in _TABLES:
        (xyz, rgb), normal = _table(path), None
    elif suffix in MESHES:
        xyz, rgb, normal = _sampled(path)
    else:
        raise SceneError("This is no point cloud", where=path, fix=f"use one of: {', '.join(SUFFIXES)}")
    finite = np.isfinite(xyz).all(1) & (np.abs(xyz) < MAX_LENGTH).all(1)
    if not finite.any():
        raise SceneError("The cloud has no finite point", where=path, fix="export it again")
    cloud = PointCloud(xyz.astype(np.float64), _unit(normal), _colours(rgb)).take(np.flatnonzero(finite))
    return cloud, len(xyz) - len(cloud)


def cloud_of_array(table: Float[np.ndarray, "points columns"]) -> PointCloud:
    """The cloud of an array with columns x y z or x y z r g b (colours of 0 to 1, or 0 to 255).

    Raises:
        ConfigError: it has other columns, no rows, or values that are no positions or colours.
    """
    given: Any = table  # whatever a caller passes
    try:
        table = np.asarray(given, np.float64)
    except (TypeError, ValueError):
        table = np.zeros((0, 0))
    if table.ndim != 2 or table.shape[1] not in (3, 6) or not np.isfinite(table).all():
        found = "x".join(map(str, getattr(given, "shape", ()))) or type(given).__name__
        raise ConfigError(
            f"A cloud is an array of finite numbers x y z or x y z r g b, one row for each point, not {found}",
            fix='for a file: cloud, _ = ovseg3d.scene.read_cloud("room.ply")',
        )
    if not len(table) or (np.abs(table[:, :3]) >= MAX_LENGTH).any():
        raise ConfigError("The array has no points, or some that are too far away", fix="keep the points of the scene")
    if (table[:, 3:] < 0).any():
        raise ConfigError("The columns 4 to 6 of the array are no colours", fix="leave normals out: array[:, :3]")
    return PointCloud(table[:, :3], rgb=_colours(table[:, 3:]) if table.shape[1] == 6 else None)


def _unit(normal: np.ndarray | None) -> np.ndarray | None:
    """Normals of unit length; None if many are missing."""
    if normal is None:
        return None
    length = np.linalg.norm(normal, axis=1, keepdims=True)
    usable = np.isfinite(length) & (length > 1e-6)
    if usable.mean() < 0.9:
        return None
    return np.where(usable, normal / np.where(usable, length, 1), 0.0).astype(np.float32)


def _colours(rgb: np.ndarray | None) -> np.ndarray | None:
    if rgb is None:
        return None
    rgb = np.nan_to_num(rgb.astype(np.float32))
    return np.clip(rgb / (255.0 if rgb.max(initial=0) > 1 else 1.0), 0, 1)


def _arrays(path: Path) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    try:
        found = _named(np.load(path, allow_pickle=False))
        if "xyz" not in found:
            raise ValueError("it has none of the arrays xyz, points, pc")
        for name, values in found.items():
            if values.ndim != 2 or values.shape[1] != 3 or len(values) != len(found["xyz"]):
                raise ValueError(f"{name} has the shape {values.shape}, not (points, 3)")
        if len(found["xyz"]) > MAX_POINTS:
            raise ValueError(f"it holds {len(found['xyz'])} points, more than {MAX_POINTS}: thin them out")
        arrays = {name: np.asarray(values, np.float64) for name, values in found.items()}
    except MemoryError:
        raise
    except Exception as error:  # numpy and zipfile raise errors of all kinds
        raise SceneError(
            f"The points cannot be read: {first_line(error)}", where=path, fix="save a float array of shape (points, 3)"
        ) from error
    return arrays["xyz"], arrays.get("rgb"), arrays.get("normal")


def _table(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    data = read_bytes(path, what="point cloud", most=MAX_TABLE_BYTES)
    try:
        with np.errstate(all="ignore"):  # numbers that their type cannot hold
            rows = _TABLES[path.suffix.lower()](data)
        if len(rows) > MAX_POINTS:
            raise ValueError(f"it holds {len(rows)} points, more than {MAX_POINTS}: thin them out")
    except MemoryError:
        raise
    except Exception as error:  # numpy raises whatever its parsers raised
        what = f"The points cannot be read: {first_line(error)}"
        raise SceneError(what, where=path, fix="export it again, or convert it to .ply") from error
    return rows[:, :3], rows[:, 3:] if rows.shape[1] == COLOURED_COLUMNS else None


def _named(loaded: Any) -> dict[str, np.ndarray]:
    """An array's columns, or the arrays of an .npz file, by our names."""
    if isinstance(loaded, np.ndarray):
        table: Any = loaded
        return {"xyz": table[:, :3]} | ({"rgb": table[:, 3:]} if table.shape[1] == 6 else {})
    held: list[str] = loaded.files
    if len(held) == 1 and held[0] not in XYZ_KEYS:
        return _named(loaded[held[0]])
    first = {name: next((key for key in keys if key in held), None) for name, keys in _KEYS.items()}
    return {name: loaded[key] for name, key in first.items() if key is not None}


def _sampled(path: Path) -> tuple[np.ndarray, None, np.ndarray]:
    import trimesh

    try:
        mesh: Any = trimesh.load(path, force="mesh")
        sampled: Any = trimesh.sample.sample_surface(mesh, MESH_SAMPLES, seed=0)
        return np.asarray(sampled[0]), None, np.asarray(mesh.face_normals)[sampled[1]]
    except Exception as error:  # trimesh raises whatever its many readers raise
        raise SceneError(
            f"The mesh cannot be read: {first_line(error)}", where=path, fix="export it again, or convert it to .ply"
        ) from error
