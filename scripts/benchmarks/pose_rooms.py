"""Objects of procedural rooms in several rendered photos and in the cloud of their depth: examples for fused poses."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial.transform import Rotation

from ovseg3d.heads.detection import Detector
from ovseg3d.heads.pose import Box, CropPose, PhotoPoser, mask_box, square_crop, turn_to_box
from ovseg3d.instances.records import fit_box
from ovseg3d.query.matching import detections_of
from ovseg3d.scene import Camera, PointCloud
from ovseg3d.synth.cameras import look
from ovseg3d.synth.quick import look_at_room, shade_room
from ovseg3d.synth.render import develop
from ovseg3d.synth.room_views import Furnished, room_of
from ovseg3d.synth.rooms import Placed
from scripts.training.pose_crops import FACING, IRREGULAR, symmetry_of

PHOTOS, SIDE = 12, 320
"""Photos of a room, and pixels along their sides."""
FIELD_OF_VIEW = np.radians(70.0)
CROPS = 8
"""Most photos of an object, the largest first."""
LEAST_PIXELS = 150
POINTS = 80_000
NOISE = 0.005
"""Of the cloud, metres."""


@dataclass(frozen=True)
class RoomObject:
    """One object with what its photos and its cloud say; photos are sorted, the largest first."""

    kind: str
    order: int
    yaw: float
    """The truth, radians."""
    photos: tuple[CropPose, ...]
    cameras: tuple[Rotation, ...]
    cloud: tuple[Float[np.ndarray, " bins"], int] | None
    box_yaw: float
    """Of the box of least footprint around its points, which has no front."""


@dataclass(frozen=True)
class SeenRoom:
    """A room as its photos show it.

    Attributes:
        objects: all of the room; `ids` and `crops` count from 1.
        crops: of each object that a photo shows: pixels, the crop, and `turn_to_box`; the largest first.
        xyz: points of the photos' depth, z up, metres.
        rgb: 0 to 1.
        ids: the object of each point; 0 is none.
    """

    objects: Sequence[Placed]
    crops: dict[int, list[tuple[float, np.ndarray, Rotation]]]
    xyz: Float[np.ndarray, "points 3"]
    rgb: Float[np.ndarray, "points 3"]
    ids: Int[np.ndarray, " points"]


def room_objects(seed: int, poser: PhotoPoser, detector: Detector, *, named: bool = True) -> list[RoomObject]:
    """The objects of a room that a photo shows.

    Args:
        seed: of the room.
        poser: the photo head.
        detector: finds objects in the cloud.
        named: whether the photo head is told the kinds.
    """
    room = see_room(seed, poser.encoder.preprocess.size[0])
    xyz, rgb, ids = room.xyz, room.rgb, room.ids
    found = detections_of(ids, detector.detect(PointCloud(xyz, None, rgb)))
    objects = []
    for own, crops in room.crops.items():
        placed = room.objects[own - 1]
        kind = placed.category
        order = 1 if kind in FACING else 0 if kind in IRREGULAR else symmetry_of(placed)
        said = poser.look(np.stack([crop[1] for crop in crops[:CROPS]]), [kind if named else None] * len(crops[:CROPS]))
        detection = found.get(own)
        cloud = None if detection is None else (detection.yaw_probabilities, detection.symmetry_order)
        turn = placed.rotation
        box_yaw = fit_box(xyz[ids == own].astype(np.float64), np.array([0.0, 0.0, 1.0])).yaw_rad or 0.0
        objects.append(
            RoomObject(kind, order, float(np.arctan2(turn[1, 0], turn[0, 0])), tuple(said),
                       tuple(crop[2] for crop in crops[:CROPS]), cloud, box_yaw)
        )  # fmt: skip
    return objects


def see_room(seed: int, side: int) -> SeenRoom:
    """Take photos of a room of unseen kinds of looks.

    Args:
        seed: of the room.
        side: pixels of a crop.
    """
    made, rng = room_of(seed, 0, "unseen"), np.random.default_rng([seed, 37])
    seen: dict[int, list[tuple[float, np.ndarray, Rotation]]] = {}
    parts = []
    for number in range(PHOTOS):
        camera = _camera(rng, made, number)
        view = look_at_room(made.tracer, camera.c2w, SIDE, camera.fx)
        image = develop(shade_room(made.tracer, view), made.tracer.exposure)
        wide = SIDE * view.side
        instance = np.where(view.face >= 0, made.face_instance[view.face], 0).reshape(wide, wide)
        parts.append(_points(rng, camera, view.depth_z.reshape(wide, wide), instance, image))
        for own in np.unique(instance[instance > 0]).tolist():
            mask = instance[:: view.side, :: view.side] == own
            if mask.sum() < LEAST_PIXELS:
                continue
            box: Box = mask_box(mask)
            crop = square_crop(image, box, side)
            seen.setdefault(own, []).append((float(mask.sum()), crop, turn_to_box(camera, box)))
    xyz, rgb, ids = (np.concatenate(part) for part in zip(*parts))
    crops = {own: sorted(found, key=lambda crop: -crop[0]) for own, found in sorted(seen.items())}
    return SeenRoom(made.room.objects, crops, xyz, rgb, ids)


def _camera(rng: np.random.Generator, made: Furnished, number: int) -> Camera:
    """Somebody walks around the room and looks across it."""
    around = 2 * np.pi * (number + rng.uniform(0, 0.6)) / PHOTOS
    eye = np.array([*(0.36 * np.array(made.room.size[:2]) * [np.cos(around), np.sin(around)]), rng.uniform(1.2, 1.7)])
    c2w = look(eye, around + np.pi + rng.normal(0, 0.5), rng.uniform(-0.45, -0.1))
    focal = SIDE / 2 / np.tan(FIELD_OF_VIEW / 2)
    return Camera(SIDE, SIDE, focal, focal, SIDE / 2, SIDE / 2, c2w)


def _points(
    rng: np.random.Generator, camera: Camera, depth_z: np.ndarray, instance: np.ndarray, image: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Some of the points that a photo sees, their colours and objects."""
    wide = len(depth_z)
    row, column = np.divmod(rng.choice(wide * wide, POINTS // PHOTOS, replace=False), wide)
    scale = wide / SIDE
    local = np.stack([(column + 0.5) / scale - SIDE / 2, (row + 0.5) / scale - SIDE / 2], 1) / camera.fx
    z = depth_z[row, column]
    hit = z < 100
    xyz = np.concatenate([local, np.ones((len(z), 1))], 1) * z[:, None]
    xyz = xyz[hit] @ camera.c2w[:3, :3].T + camera.position + rng.normal(0, NOISE, (int(hit.sum()), 3))
    rgb = image[(row[hit] / scale).astype(int), (column[hit] / scale).astype(int)] / 255
    return xyz.astype(np.float32), rgb.astype(np.float32), instance[row[hit], column[hit]]
