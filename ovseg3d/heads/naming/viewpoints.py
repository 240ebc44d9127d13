"""Cameras around an object of a cloud that has none: those that see most of it, with nothing in front.

Candidates stand around the object at two heights, and look at the middle of its box; its surroundings fill the rest of
the picture. What is nearer than the object's own surroundings is cut away, so that a camera may stand behind a wall or
in a cupboard. Of a candidate counts how many pixels of a small z-buffer (points as squares) show the object.

Frames are z up.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Float, Int
from scipy import ndimage

from ovseg3d.heads.naming.views import look_at
from ovseg3d.scene.cameras import Camera

AZIMUTHS = 8
"""Of candidates, evenly around."""
ELEVATIONS_DEG = (20.0, 45.0)
"""Of candidates: people look down at most things, and into flat ones."""
FIELD_OF_VIEW_DEG = 60.0
"""What a phone's camera sees along its shorter side, roughly."""
OBJECT_SHARE = 0.7
"""Share of the picture's side that the sphere around the box fills."""
CLEARANCE = 1.6
"""What is this many radii of the sphere nearer than its middle is cut away."""
CELLS = 32
"""Of a side of the z-buffer."""
MAX_POINTS = 4_000
"""Of the object, and of its surroundings, that the z-buffer takes."""


@dataclass(frozen=True)
class Viewpoint:
    """A camera that looks at an object."""

    camera: Camera
    near: float
    """z-depth up to which the view is cut away."""
    visibility: float
    """Share of the picture that shows the object."""


def candidates(box: Float[np.ndarray, "7"], side: int) -> list[tuple[Camera, float]]:
    """Candidates around a box, the first before its front, each with the z-depth up to which it is cut away.

    Args:
        box: centre, full size, yaw about +z.
        side: pixels of the picture's side.
    """
    radius = max(float(np.linalg.norm(box[3:6])) / 2, 1e-6)
    half = np.tan(np.radians(FIELD_OF_VIEW_DEG) / 2)
    away = radius / np.sin(np.arctan(OBJECT_SHARE * half))
    focal, found = side / 2 / half, []
    for step, elevation in product(range(AZIMUTHS), ELEVATIONS_DEG):
        turn = look_at(float(box[6]) + 2 * np.pi * step / AZIMUTHS, np.radians(elevation))
        c2w = np.eye(4)
        c2w[:3, :3], c2w[:3, 3] = turn.T, box[:3] - away * turn[2]
        found.append((Camera(side, side, focal, focal, side / 2, side / 2, c2w), away - CLEARANCE * radius))
    return found


def choose_viewpoints(
    xyz: Float[np.ndarray, "points 3"],
    own: Int[np.ndarray, " some"],
    box: Float[np.ndarray, "7"],
    *,
    count: int,
    side: int,
) -> list[Viewpoint]:
    """The candidates that show most of an object, best first; fewer than `count` where others do not show it.

    Args:
        xyz: the whole cloud.
        own: rows of the object's points.
        box: of the object.
        count: how many.
        side: pixels of the picture's side.
    """
    # Twice as far as cameras begin to see: rays to the object's far side cross what is there.
    around = ((xyz - box[:3]) ** 2).sum(1) < (CLEARANCE * np.linalg.norm(box[3:6])) ** 2
    around[own] = False
    mine, other = _thinned(own), _thinned(np.flatnonzero(around))
    points = xyz[np.concatenate([mine, other])]
    is_own = np.arange(len(points)) < len(mine)
    found = [
        Viewpoint(camera, near, visible_share(points, is_own, camera.scaled(CELLS, CELLS), near))
        for camera, near in candidates(box, side)
    ]
    found.sort(key=lambda one: -one.visibility)  # stable: the front first
    return [one for one in found[:count] if one.visibility > 0]


def visible_share(xyz: Float[np.ndarray, "points 3"], own: np.ndarray, camera: Camera, near: float) -> float:
    """Share of a small picture that shows some of the points.

    Args:
        xyz: all points.
        own: which of them count.
        camera: of the picture.
        near: least z-depth.
    """
    local = (xyz - camera.position) @ camera.c2w[:3, :3]
    shown = local[:, 2] > max(near, 1e-6)
    local, own = local[shown], own[shown]
    cell = np.floor(local[:, :2] / local[:, 2:] * (camera.fx, camera.fy) + (camera.cx, camera.cy)).astype(int)
    inside = ((cell >= 0) & (cell < (camera.width, camera.height))).all(1)
    cell, depth, own = cell[inside], local[inside, 2], own[inside]
    buffers = np.full((2, camera.height * camera.width), np.inf)
    np.minimum.at(buffers, (own.astype(int), cell[:, 1] * camera.width + cell[:, 0]), depth)
    # A point covers its neighbours, too.
    rest, mine = ndimage.minimum_filter(buffers.reshape(2, camera.height, camera.width), (1, 3, 3))
    return float((np.isfinite(mine) & (mine < rest)).mean())


def _thinned(rows: np.ndarray) -> np.ndarray:
    return rows[:: len(rows) // MAX_POINTS + 1]
