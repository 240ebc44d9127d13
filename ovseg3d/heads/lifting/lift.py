"""From a depth image to a point cloud with normals and colours."""

import numpy as np
from jaxtyping import Float, UInt8

from ovseg3d.heads.lifting.edges import depth_edges
from ovseg3d.heads.lifting.normals import depth_normals
from ovseg3d.scene.cameras import Camera
from ovseg3d.scene.clouds import PointCloud


def lift_depth(
    depth_z: Float[np.ndarray, "h w"], camera: Camera, rgb: UInt8[np.ndarray, "h w 3"] | None = None
) -> PointCloud:
    """The pixels with a depth as points, without depth edges.

    Args:
        depth_z: z-depth in the camera's unit, 0 where unknown.
        camera: of the depth image's size; points are in the frame of its `c2w`.
        rgb: colours.

    Returns:
        Points row by row, with normals towards the camera. Pixels without a normal are left out: they are alone.
    """
    origins, rays = camera.rays(camera.pixel_centres())
    local = rays @ camera.c2w[:3, :3]
    forward = local[:, 2].reshape(depth_z.shape)
    known = (depth_z > 0) & (forward > 1e-3) & ~depth_edges(depth_z)
    xy = (local[:, :2] / np.maximum(local[:, 2:], 1e-3)).reshape(*depth_z.shape, 2)
    normal = depth_normals(depth_z, known, xy)
    chosen = np.flatnonzero((known & np.isfinite(normal[..., 0])).ravel())
    distance = depth_z.ravel()[chosen, None] / local[chosen, 2:]
    xyz = origins[chosen] + rays[chosen] * distance
    turned = (normal.reshape(-1, 3)[chosen] @ camera.c2w[:3, :3].T).astype(np.float32)
    colours = None if rgb is None else rgb.reshape(-1, 3)[chosen].astype(np.float32) / 255
    return PointCloud(xyz.astype(np.float64), turned, colours)
