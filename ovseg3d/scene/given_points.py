"""Sparse points that a capture brings, as depth of its training photos.

A COLMAP model in the capture's folder says which photos observe a point. Its cameras give the similarity into the
capture's frame, which nerfstudio and others change. Points of a PLY file have no tracks: a photo is taken to observe
those that no other point near them in the photo hides.
"""

import os
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.ndimage import minimum_filter
from scipy.spatial.transform import Rotation

from ovseg3d.scene.cameras import Camera
from ovseg3d.scene.capture import Scene
from ovseg3d.scene.images import load_mask
from ovseg3d.scene.observations import MIN_ERROR_PX, Observations, relative_sigma
from ovseg3d.scene.readers.tracks import Tracks, read_tracks

UNKNOWN_SIGMA = 0.02
"""Relative deviation of the depth of points without tracks: of what is seen of them, 64 % (tum_cabinet) and 84 %
(hololens_office) lie within 5 % of the measured depth, of points with tracks 80 % and 91 %."""
MAX_TURN = 1.0
"""Largest median angle between the cameras of a model and of the capture, degrees."""
MAX_SHIFT = 0.02
"""Largest median distance between them, as a share of the spread of the cameras."""
HIDING_CELLS = 24
"""Cells along the longest side of a photo in which near points hide far ones."""
HIDING = 1.1
"""A point is hidden by one in its cell, or beside it, if its depth is this many times as large."""
MAX_POINTS = 50_000
"""Most points without tracks that are used, evenly thinned."""


def given_points(scene: Scene) -> Observations | None:
    """Observations of the points that a capture brings: those of its COLMAP model, else of its PLY file; None without.

    Raises:
        SceneError: a mask cannot be read.
    """
    tracks = read_tracks(scene.path)
    found = None if tracks is None else _observed(scene, tracks)
    if found is None and scene.points is not None and len(scene.points):
        found = _visible(scene, scene.points[:: -(-len(scene.points) // MAX_POINTS)])
        return None if found is None else replace(found, tracked=False)
    return found


def _observed(scene: Scene, tracks: Tracks) -> Observations | None:
    """Observations of tracked points; None if the model is of other cameras."""
    stems = {_stem(frame.name): index for index, frame in enumerate(scene.frames)}
    frame_of = np.array([stems.get(os.path.splitext(name)[0], -1) for name in tracks.names])
    common = np.flatnonzero(frame_of >= 0)
    poses = np.stack([frame.camera.c2w for frame in scene.frames])
    similarity = _similarity(tracks.c2w[common], poses[frame_of[common]])
    if similarity is None:
        return None
    points = tracks.points @ similarity[:3, :3].T + similarity[:3, 3]
    eyes = tracks.c2w[:, :3, 3] @ similarity[:3, :3].T + similarity[:3, 3]
    error = np.maximum(tracks.error_px, MIN_ERROR_PX) / np.median(tracks.focal_px)
    sigma = relative_sigma(points, eyes[tracks.view], tracks.point, error)
    place = np.full(len(scene.frames) + 1, -1)  # the last one is of photos that the capture lacks
    place[list(scene.train)] = np.arange(len(scene.train))
    return _collect(scene, points, sigma, tracks.point, place[frame_of[tracks.view]])


def _visible(scene: Scene, points: Float[np.ndarray, "points 3"]) -> Observations | None:
    """Observations of points without tracks, in the photos where nothing near them hides them."""
    seen, views = [], []
    for number, view in enumerate(scene.train):
        xy, z = scene.frames[view].camera.project(points)
        shown = np.flatnonzero(_inside(scene.frames[view].camera, xy, z))
        shown = shown[~_hidden(scene.frames[view].camera, xy[shown], z[shown])]
        seen.append(shown)
        views.append(np.full(len(shown), number))
    point, view = np.concatenate(seen), np.concatenate(views)
    return _collect(scene, points, np.full(len(points), UNKNOWN_SIGMA), point, view)


def _hidden(
    camera: Camera, xy: Float[np.ndarray, "points 2"], z: Float[np.ndarray, " points"]
) -> Bool[np.ndarray, " points"]:
    """Which points lie behind others that are near them in the photo."""
    side = max(camera.width, camera.height) / HIDING_CELLS
    column, row = (xy / side).astype(int).T
    nearest = np.full((int(camera.height / side) + 1, int(camera.width / side) + 1), np.inf)
    np.minimum.at(nearest, (row, column), z)
    return z > HIDING * minimum_filter(nearest, 3, mode="nearest")[row, column]


def _collect(
    scene: Scene,
    points: Float[np.ndarray, "points 3"],
    sigma: Float[np.ndarray, " points"],
    point: Int[np.ndarray, " observations"],
    view: Int[np.ndarray, " observations"],
) -> Observations | None:
    """The observations that lie inside of their photo and of its mask; `view` is -1 for photos to leave out."""
    columns: list[tuple[np.ndarray, ...]] = []
    for number, frame in enumerate(scene.frames[index] for index in scene.train):
        mine = point[view == number]
        xy, z = frame.camera.project(points[mine])
        kept = _inside(frame.camera, xy, z)
        column, row = xy[kept].astype(int).T
        kept[kept] = load_mask(frame)[row, column]
        columns.append((np.full(kept.sum(), number), xy[kept], z[kept], sigma[mine[kept]]))
    views, xy, depth_z, sigmas = (np.concatenate(column) for column in zip(*columns))
    return Observations(views, xy, depth_z, sigmas, points) if len(views) else None


def _inside(
    camera: Camera, xy: Float[np.ndarray, "points 2"], z: Float[np.ndarray, " points"]
) -> Bool[np.ndarray, " points"]:
    with np.errstate(invalid="ignore"):  # behind the camera there is no pixel
        return (z > 0) & (xy >= 0).all(1) & (xy[:, 0] < camera.width) & (xy[:, 1] < camera.height)


def _stem(name: str) -> str:
    """A frame's name as a COLMAP model has it: without its first folder, and without its suffix."""
    return os.path.splitext(name.split("/", 1)[-1])[0]


def _similarity(
    model: Float[np.ndarray, "views 4 4"], capture: Float[np.ndarray, "views 4 4"]
) -> Float[np.ndarray, "4 4"] | None:
    """The similarity that brings the cameras of a model to those of a capture; None if there is none."""
    if len(model) < 3 or not np.isfinite(model).all():
        return None
    turns = Rotation.from_matrix(capture[:, :3, :3] @ np.swapaxes(model[:, :3, :3], 1, 2))
    mean = turns.mean()
    before, after = mean.apply(model[:, :3, 3]), capture[:, :3, 3]
    centred, wanted = before - before.mean(0), after - after.mean(0)
    spread = np.square(centred).sum()
    if spread < 1e-18:
        return None
    scale = float((centred * wanted).sum() / spread)
    turn = np.degrees(np.median((mean.inv() * turns).magnitude()))
    shift = np.median(np.linalg.norm(scale * centred - wanted, axis=1))
    if scale <= 0 or turn > MAX_TURN or shift > MAX_SHIFT * np.sqrt(np.square(wanted).sum(1).mean()):
        return None
    result = np.eye(4)
    result[:3, :3] = scale * mean.as_matrix()
    result[:3, 3] = after.mean(0) - scale * before.mean(0)
    return result
