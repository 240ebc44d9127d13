"""Examples for the network of faces (`ovseg3d/heads/detection/faces.py`): what the detection head says of disturbed
rooms.

Each room is shown as an exact cloud, or with noise; twice as the surface of a field may be; and as one photo sees it,
or by few points, as scans are kept. The objects are its true ones, with parts missing and parts of their neighbours, as
instances of runs have them, and those that the head finds. What is off, and how far, was compared with the instances of
eight runs of development; none of them is learnt from.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree  # pyright: ignore[reportAttributeAccessIssue] - not in SciPy's list of names

from ovseg3d.geometry import rotated_iou
from ovseg3d.heads.detection import DetectionNetwork, Detector
from ovseg3d.heads.detection.align import manhattan_yaw, rotated
from ovseg3d.heads.detection.decode import decode, decode_groups, voxel_groups
from ovseg3d.heads.detection.detector import LEAST_SCORE
from ovseg3d.heads.detection.faces import evidence
from ovseg3d.heads.detection.passes import predict
from ovseg3d.scene.clouds import PointCloud
from scripts.training.detection_rooms import make_detection_room
from scripts.training.detection_stage import seen_from, stray
from scripts.training.field_like import Offsets, SmoothNoise, field_like

POINTS = 200_000
"""Of a room; a cloud has fewer."""
THINNED = {
    "exact": (70_000, 150_000), "noise": (70_000, 150_000), "field": (110_000, 200_000), "photo": (100_000, 200_000),
    "sparse": (12_000, 50_000),
}  # fmt: skip
"""Fewest and most points of a cloud before holes."""
CAMERAS = {"field": (4, 20), "photo": (1, 2)}
"""Fewest cameras that see a cloud, and one more than most; of other kinds..."""
FEW_CAMERAS = (1, 5)
"""...if it has holes at all."""
PHOTO_ANGLE = 40.0
"""Degrees from its middle that a photo shows."""
ON_SURFACE = 0.08
"""Points of a field that are farther off belong to no object, metres..."""
HELD = (0.05, 0.35)
"""...but instances may hold them: up to a distance between these."""
WALL = 0.15
"""Depth of walls with what hangs on them, metres: fields are rougher there."""
MATCHED = 0.25
"""Least IoU, of points or of boxes, of an object with the true one whose faces it learns."""
FEWEST = 5
"""Objects of fewer points are left as they are."""


@dataclass(frozen=True)
class BoxExamples:
    """Objects of one cloud."""

    places: Float[np.ndarray, "boxes 3 2 places"]
    features: Float[np.ndarray, "boxes 3 2 features"]
    boxes: Float[np.ndarray, "boxes 7"]
    """Before they are refined."""
    scores: Float[np.ndarray, " boxes"]
    true: Float[np.ndarray, "boxes 3 2"]
    """Offsets of the true faces, outwards from where they are, metres."""
    matched: Bool[np.ndarray, " boxes"]
    """Whether the object is a true one; else it has no true faces."""
    rough: Bool[np.ndarray, " boxes"]
    """Whether the cloud is as of a field."""


def box_examples(seed: int, network: DetectionNetwork) -> BoxExamples:
    """Those of the room of a seed."""
    room, rng = make_detection_room(seed, POINTS), np.random.default_rng(seed)
    found = []
    for kind in ("exact" if seed % 2 == 0 else "noise", "field", "field", "photo" if seed % 4 < 2 else "sparse"):
        cloud, instance, held = _disturbed(rng, kind, (room.xyz, room.normal / 127, room.rgb / 255, room.instance))
        given = corrupted(rng, cloud.xyz, held)
        found += _examples(network, cloud, instance, given, room.boxes, kind == "field")
    return BoxExamples(*(np.concatenate([getattr(part, name) for part in found]) for name in vars(found[0])))


@torch.inference_mode()
def _examples(
    network: DetectionNetwork,
    cloud: PointCloud,
    instance: Int[np.ndarray, " points"],
    given: Int[np.ndarray, " points"],
    true: Float[np.ndarray, "boxes 7"],
    rough: bool,
) -> Iterator[BoxExamples]:
    """Of one cloud: of the instances that are given, and of the head's own; `instance` are the true ones."""
    assert cloud.normal is not None
    turned, true = rotated(cloud, true.astype(np.float64), -manhattan_yaw(cloud.normal))
    voxels, said = predict(network, turned, Detector.passes)
    voxel = voxels.point_voxel.numpy()
    group, of_given = voxel_groups(voxel, given, len(voxels.xyz))
    own = decode(network, said, min_score=LEAST_SCORE, nms_iou=Detector.nms_iou)
    ways = (
        (decode_groups(network, said, torch.from_numpy(group), voxels.xyz), of_given),
        (own, own.voxel_box[voxel]),
    )
    for found, members in ways:
        count = len(found.boxes)
        if not count:
            continue
        overlap = _overlap(instance, members, count, len(true))
        iou = rotated_iou(found.boxes, true)
        fit = np.maximum(overlap, iou) if found is own else overlap + 0.01 * iou
        faces = [true_faces(box, true[row]) for box, row in zip(found.boxes, fit.argmax(1))]
        yield BoxExamples(
            *evidence(found, said, voxels.xyz, turned.xyz, members),
            found.boxes,
            found.scores,
            np.array(faces, np.float32),
            fit.max(1) > MATCHED,
            np.full(count, rough),
        )


def true_faces(box: Float[np.ndarray, "7"], true: Float[np.ndarray, "7"]) -> Float[np.ndarray, "3 2"]:
    """How far outwards the true faces are from those of a box, along its own axes: a box that is turned by a quarter
    has its sides swapped."""
    cos, sin = np.cos(box[6]), np.sin(box[6])
    x, y, z = true[:3] - box[:3]
    middle = np.array([cos * x + sin * y, cos * y - sin * x, z])
    swapped = round((box[6] - true[6]) / (np.pi / 2)) % 2
    half = true[[4, 3, 5] if swapped else [3, 4, 5]] / 2
    return np.stack([half - middle, half + middle], 1) - box[3:6, None] / 2


def _overlap(instance: np.ndarray, members: np.ndarray, found: int, true: int) -> Float[np.ndarray, "found true"]:
    """IoU of the points of found objects with those of true ones."""
    both = np.zeros((found + 1, true + 1))
    np.add.at(both, (members + 1, instance), 1)
    union = both.sum(1, keepdims=True) + both.sum(0) - both
    return (both / np.maximum(union, 1))[1:, 1:]


def _disturbed(
    rng: np.random.Generator, kind: str, arrays: tuple[np.ndarray, ...]
) -> tuple[PointCloud, Int[np.ndarray, " points"], Int[np.ndarray, " points"]]:
    """A cloud of a kind of `THINNED`, its true instances, and those that may hold points that are far off."""
    few, many = np.log(THINNED[kind])
    kept = rng.permutation(len(arrays[0]))[: int(np.exp(rng.uniform(few, many)))]
    xyz, normal, rgb, instance = (array[kept] for array in arrays)
    instance = instance.astype(np.int64)
    if kind in CAMERAS or rng.random() < 0.5:
        seen = _seen(rng, kind, xyz, normal)
        xyz, normal, rgb, instance = xyz[seen], normal[seen], rgb[seen], instance[seen]
    held = instance
    if kind == "field":
        xyz, normal, rgb, instance, held = _as_field(rng, xyz, normal, rgb, instance)
    elif kind != "exact":
        xyz = xyz + rng.normal(0, np.exp(rng.uniform(np.log(0.002), np.log(0.02))), xyz.shape)
    return PointCloud(xyz.astype(np.float32), normal.astype(np.float32), rgb.astype(np.float32)), instance, held


def _seen(rng: np.random.Generator, kind: str, xyz: np.ndarray, normal: np.ndarray) -> Bool[np.ndarray, " points"]:
    """Which points some cameras see; of the kinds of `CAMERAS` only what faces them."""
    seen = np.zeros(len(xyz), bool)
    low, high = np.percentile(xyz, [2, 98], axis=0)
    for _ in range(rng.integers(*CAMERAS.get(kind, FEW_CAMERAS))):
        eye = rng.uniform(low * 0.85 + high * 0.15, low * 0.15 + high * 0.85)
        eye[2] = low[2] + rng.uniform(0.9, 2.0)
        now, ray = seen_from(eye, xyz), xyz - eye
        ray /= np.linalg.norm(ray, axis=1, keepdims=True)
        if kind in CAMERAS:
            now &= (normal * ray).sum(1) < -0.1
        if kind == "photo":
            ahead = (low + high) / 2 - eye + rng.normal(0, 0.5, 3)
            now &= ray @ ahead > np.cos(np.radians(PHOTO_ANGLE)) * np.linalg.norm(ahead)
        seen |= now
    return seen


def _as_field(
    rng: np.random.Generator, xyz: np.ndarray, normal: np.ndarray, rgb: np.ndarray, instance: np.ndarray
) -> tuple[np.ndarray, ...]:
    """`field_like` with more kinds of errors: smoother and rougher surfaces, rougher walls, objects that swell, and
    stray points. Also returns what instances may hold."""
    noise, fine = np.exp(rng.uniform(np.log(0.0005), np.log(0.05))), rng.uniform(0.55, 0.75)
    offsets = Offsets(
        median=(0.012, 0.06),
        fine=(rng.uniform(0.1, 0.25), fine * (1 - noise)),
        coarse=(0.7, (1 - fine) * (1 - noise)),
        inwards=rng.uniform(0.25, 0.6),
        on_surface=np.inf,
    )
    low, high = np.quantile(xyz[:, :2], [0.005, 0.995], axis=0)
    wall = ((xyz[:, :2] < low + WALL) | (xyz[:, :2] > high - WALL)).any(1)
    factor = np.where(wall, np.exp(rng.uniform(0, np.log(4))), 1.0)
    swell = rng.uniform(0, 0.02) * (rng.random() < 0.6)
    before, swollen = xyz, np.abs(SmoothNoise(rng, xyz.min(0), xyz.max(0), 0.5)(xyz))
    xyz, normal, rgb, _ = field_like(
        rng, xyz + (swell * swollen)[:, None] * normal, normal, rgb, instance, offsets, factor
    )
    off = np.linalg.norm(xyz - before, axis=1)
    held = np.where(off < np.exp(rng.uniform(*np.log(HELD))), instance, 0)
    instance = np.where(off < ON_SURFACE, instance, 0)
    if rng.random() < 0.5:
        lost = stray(rng, xyz)
        held[lost] = instance[lost] = 0
    if rng.random() < 0.5:
        xyz = xyz + rng.normal(0, np.exp(rng.uniform(np.log(0.0005), np.log(0.005))), xyz.shape)
    return xyz, normal, rgb, instance, held


def corrupted(
    rng: np.random.Generator, xyz: Float[np.ndarray, "points 3"], instance: Int[np.ndarray, " points"]
) -> Int[np.ndarray, " points"]:
    """Instances as grouping finds them: parts are missing, and parts of neighbours are theirs."""
    found = instance.copy()
    if rng.random() < 0.15:
        return found
    objects = [points for one in np.unique(instance[instance > 0]) if len(points := np.flatnonzero(instance == one))]
    if rng.random() < 0.75 and (instance == 0).any():
        _lose_contacts(rng, xyz, instance, found, objects)
    tree = cKDTree(xyz)
    for row in rng.permutation(len(objects)):
        points = objects[row]
        if len(points) >= FEWEST:
            _lose_parts(rng, xyz[points], points, found)
            if rng.random() < 0.7:
                _gain_parts(rng, xyz, instance, found, points, tree)
    if rng.random() < 0.5:
        found[rng.random(len(found)) < rng.uniform(0, 0.15)] = 0
    return found


def _lose_contacts(
    rng: np.random.Generator,
    xyz: np.ndarray,
    instance: np.ndarray,
    found: np.ndarray,
    objects: list[Int[np.ndarray, " n"]],
) -> None:
    """The room takes what is at the foot of objects, or near to it."""
    wobble = SmoothNoise(rng, xyz.min(0), xyz.max(0), rng.uniform(0.08, 0.4))
    room, near = cKDTree(rng.permutation(xyz[instance == 0])[:60_000]), rng.uniform(0, 0.05)
    for points in objects:
        if rng.random() < 0.3:
            continue
        if rng.random() < 0.7:
            height = xyz[points, 2] - np.quantile(xyz[points, 2], 0.01)
            over = (height - rng.uniform(-0.03, 0.1) - 0.03 * wobble(xyz[points])) / rng.uniform(0.01, 0.04)
            found[points[rng.random(len(points)) < 1 / (1 + np.exp(np.clip(over, -30, 30)))]] = 0
        if rng.random() < 0.5:
            found[points[room.query(xyz[points], distance_upper_bound=near)[0] < near]] = 0


def _lose_parts(rng: np.random.Generator, own: np.ndarray, points: np.ndarray, found: np.ndarray) -> None:
    """Some balls of an object, or an end of it, are missing."""
    diagonal = np.linalg.norm(np.ptp(own, axis=0))
    if rng.random() < 0.6:
        for _ in range(rng.integers(1, 4)):
            middle = own[rng.integers(len(own))]
            found[points[np.linalg.norm(own - middle, axis=1) < rng.uniform(0.05, 0.35) * diagonal]] = 0
    if rng.random() < 0.35:
        direction = rng.normal(size=3)
        if rng.random() < 0.6:
            direction = np.eye(3)[rng.integers(3)] * rng.choice([-1, 1])
        along = own @ direction
        found[points[along > np.quantile(along, 1 - rng.uniform(0.02, 0.3))]] = 0


def _gain_parts(
    rng: np.random.Generator,
    xyz: np.ndarray,
    instance: np.ndarray,
    found: np.ndarray,
    points: np.ndarray,
    tree: cKDTree,
) -> None:
    """An object takes points near to it, within some balls."""
    own, number = xyz[points], instance[points[0]]
    diagonal = np.linalg.norm(np.ptp(own, axis=0))
    band = np.exp(rng.uniform(np.log(0.015), np.log(0.35)))
    nearest = cKDTree(rng.permutation(own)[:3000])
    for _ in range(rng.integers(1, 5)):
        radius = rng.uniform(0.1, 0.6) * diagonal + rng.uniform(0, 0.15)
        near = np.array(tree.query_ball_point(own[rng.integers(len(own))], radius), int)
        near = rng.permutation(near[instance[near] != number])[:6000]
        near = near[nearest.query(xyz[near], distance_upper_bound=band)[0] < band] if len(near) else near
        found[near[instance[near] == 0] if rng.random() < 0.5 else near] = number
