"""transforms.json (nerfstudio's flavour) and the sparse points beside it.

Poses are OpenGL camera-to-world (x right, y up, z backward) in a z-up frame, as readers of this format expect.
`sparse_points.ply` is in the same frame and units.
"""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from ovseg3d.files import write_atomic, write_json
from ovseg3d.scene.prepare.sfm import Lens, Reconstruction
from ovseg3d.scene.prepare.upright import apply_to_poses

_OPENGL_FROM_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])


def write_transforms(folder: Path, model: Reconstruction, transform: Float[np.ndarray, "4 4"]) -> int:
    """Write transforms.json and sparse_points.ply into `folder`; returns the number of points written."""
    poses = apply_to_poses(transform, model.c2w) @ _OPENGL_FROM_OPENCV
    shared = len(model.lenses) == 1
    content: dict[str, Any] = {"camera_model": "OPENCV"}
    if shared:
        content |= _intrinsics(model.lenses[0])
    content["ply_file_path"] = "sparse_points.ply"
    content["frames"] = [
        {"file_path": f"images/{name}"}
        | ({} if shared else _intrinsics(model.lenses[lens]))
        | {"transform_matrix": pose.tolist()}
        for name, lens, pose in zip(model.names, model.lens_of, poses)
    ]
    reliable = (model.track_lengths >= 3) & (model.errors_px <= 2.0)
    if reliable.sum() < 100:
        reliable[:] = True
    xyz = model.points[reliable] @ transform[:3, :3].T + transform[:3, 3]
    _write_points(folder / "sparse_points.ply", xyz, model.points_rgb[reliable])
    write_json(folder / "transforms.json", content)
    return int(reliable.sum())


def _intrinsics(lens: Lens) -> dict[str, float]:
    k1, k2, p1, p2 = lens.distortion
    return {
        "fl_x": lens.fx,
        "fl_y": lens.fy,
        "cx": lens.cx,
        "cy": lens.cy,
        "w": lens.width,
        "h": lens.height,
        "k1": k1,
        "k2": k2,
        "p1": p1,
        "p2": p2,
    }


def _write_points(path: Path, xyz: np.ndarray, rgb: np.ndarray) -> None:
    from plyfile import PlyData, PlyElement

    kinds = [(axis, "f4") for axis in "xyz"] + [(colour, "u1") for colour in ("red", "green", "blue")]
    vertices = np.empty(len(xyz), dtype=kinds)
    for k, (axis, colour) in enumerate(zip("xyz", ("red", "green", "blue"))):
        vertices[axis], vertices[colour] = xyz[:, k], rgb[:, k]
    data = PlyData([PlyElement.describe(vertices, "vertex")])
    write_atomic(path, lambda temporary: data.write(str(temporary)))
