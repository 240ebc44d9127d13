"""One photo with depth: intrinsics, points and gravity, each with what is uncertain about it."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8

from ovseg3d.errors import SceneError
from ovseg3d.heads.lifting.focal import Focal, estimate_focal, usual_focal
from ovseg3d.heads.lifting.gravity import Gravity, estimate_gravity
from ovseg3d.heads.lifting.lift import lift_depth
from ovseg3d.scene.cameras import Camera
from ovseg3d.scene.clouds import PointCloud

MIN_POINTS = 500
"""Fewer pixels with a depth show no scene."""
PIECE = 0.02
"""Side of the pieces of surface that count once for gravity, as a share of the median distance."""
MAX_PIECES = 2**19
"""Of pieces along an axis to each side of the median; what is farther out counts as the last one."""
USUAL_DEPTH = (0.15, 30.0)
"""Median depth of photos of rooms, metres."""


@dataclass(frozen=True)
class LiftedPhoto:
    """A photo as a point cloud, metres, in the frame of its camera's `c2w`."""

    cloud: PointCloud
    camera: Camera
    gravity: Gravity | None
    """None where the capture states it."""
    up: tuple[float, float, float]
    focal: Focal
    warnings: tuple[str, ...] = ()


def lift_photo(
    depth_z: Float[np.ndarray, "h w"],
    rgb: UInt8[np.ndarray, "h w 3"] | None = None,
    *,
    intrinsics: tuple[float, float, float, float] | None = None,
    focal: Focal | None = None,
) -> LiftedPhoto:
    """Lift a photo with unknown pose; the cloud is in the camera's frame (x right, y down, z forward).

    Args:
        depth_z: metres, 0 where unknown.
        rgb: colours.
        intrinsics: fx, fy, cx, cy in pixels of the depth image.
        focal: where `intrinsics` are unknown: what is known of the focal length; None: it is estimated.

    Raises:
        SceneError: too few pixels have a depth.
    """
    height, width = depth_z.shape
    if (depth_z > 0).sum() < MIN_POINTS:
        known = int((depth_z > 0).sum())
        raise SceneError(
            f"Only {known} pixels have a depth; {MIN_POINTS} are the least that can show a scene",
            fix="check the depth image and --depth-scale; a photo of the sky has no depth",
        )
    warnings: list[str] = []
    if intrinsics is not None:
        fx, fy, cx, cy = intrinsics
        focal = Focal(fx, 0.0, "given")
    else:
        focal = focal or _estimated(depth_z)
        fx, fy, cx, cy = focal.pixels, focal.pixels, width / 2, height / 2
        if focal.source == "estimated":
            warnings.append(
                f"The focal length is not known. It is estimated as {fx:.0f} pixels of {width} +- {focal.share:.0%} (a "
                f"field of view of {focal.field_of_view(width):.0f} degrees); sizes across the view are as uncertain. "
                "State it with --intrinsics fx,fy,cx,cy."
            )
    camera = Camera(width, height, fx, fy, cx, cy, np.eye(4))
    cloud = lift_depth(depth_z, camera, rgb)
    if len(cloud) < MIN_POINTS:
        raise SceneError("The depth has no surfaces, only edges", fix="check the depth image")
    gravity = estimate_gravity(cloud.normal[_pieces(cloud.xyz)] if cloud.normal is not None else cloud.xyz[:0])
    if not gravity.sure:
        warnings.append(
            f"It is not evident which way is up (confidence {gravity.confidence:.0%}): boxes may be tilted."
        )
    usual = float(np.median(depth_z[depth_z > 0]))
    if not USUAL_DEPTH[0] <= usual <= USUAL_DEPTH[1]:
        warnings.append(
            f"The median depth is {usual:.3g} m; if that is wrong, state metres per value by --depth-scale."
        )
    return LiftedPhoto(cloud, camera, gravity, gravity.up, focal, tuple(warnings))


def lift_view(
    depth_z: Float[np.ndarray, "h w"],
    camera: Camera,
    up: tuple[float, float, float],
    rgb: UInt8[np.ndarray, "h w 3"] | None = None,
) -> LiftedPhoto:
    """Lift a photo of a capture, which states camera and up; the cloud is in the capture's frame and unit.

    Args:
        depth_z: in the capture's unit, 0 where unknown.
        camera: of the depth image's size.
        up: unit vector of the capture's frame.
        rgb: colours.

    Raises:
        SceneError: too few pixels have a depth.
    """
    cloud = lift_depth(depth_z, camera, rgb)
    if len(cloud) < MIN_POINTS:
        raise SceneError(
            f"Only {len(cloud)} pixels have a depth; {MIN_POINTS} are the least that can show a scene",
            fix="choose another view",
        )
    return LiftedPhoto(cloud, camera, None, up, Focal(camera.fx, 0.0, "given"))


def _estimated(depth_z: np.ndarray) -> Focal:
    height, width = depth_z.shape
    assumed = usual_focal(width, height)
    cloud = lift_depth(depth_z, Camera(width, height, assumed, assumed, width / 2, height / 2, np.eye(4)))
    normal = np.zeros((0, 3)) if cloud.normal is None or not len(cloud) else cloud.normal[_pieces(cloud.xyz)]
    return estimate_focal(normal, assumed)


def _pieces(xyz: Float[np.ndarray, "points 3"]) -> Int[np.ndarray, " pieces"]:
    """One point of each piece of surface: near surfaces have more pixels, but are not larger."""
    side = PIECE * float(np.median(np.linalg.norm(xyz, axis=1)))
    low = np.maximum(xyz.min(0), np.median(xyz, 0) - MAX_PIECES * side)
    cells = np.clip((xyz - low) / side, 0, 2 * MAX_PIECES).astype(np.int64)
    return np.unique(np.ravel_multi_index(tuple(cells.T), tuple(cells.max(0) + 1)), return_index=True)[1]
