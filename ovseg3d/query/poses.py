"""Which way the instances of a run face: their photos and their points together, and each by itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from ovseg3d.field.surface import SurfaceConfig, Visibility, look
from ovseg3d.geometry import from_wxyz
from ovseg3d.heads.detection import Detector
from ovseg3d.heads.pose import (
    Box,
    CropPose,
    PhotoPoser,
    Pose,
    fuse,
    pose_in_camera,
    pose_of_detection,
    square_crop,
    turn_to_box,
)
from ovseg3d.instances.crops import CropConfig, choose_poses
from ovseg3d.instances.kept_poses import posed, save_poses
from ovseg3d.instances.records import Instance, InstancePoints
from ovseg3d.query.engine import QueryEngine
from ovseg3d.query.matching import detections_of
from ovseg3d.render.views import spread
from ovseg3d.runs.phrases import in_list
from ovseg3d.scene import Camera
from ovseg3d.scene.images import load_photo

MAX_VIEWS = 48
"""Photos that are looked at, evenly spread."""
CROPS = 8
"""Most photos of each instance."""


@dataclass(frozen=True)
class SeenInstance:
    """An instance in one photo."""

    view: str
    """Name of the frame."""
    camera: Camera
    """Of the photo, input frame."""
    bbox: Box
    """Pixels of the photo."""
    seen: CropPose
    pose: Pose
    """By this photo alone, input frame."""


@dataclass(frozen=True)
class InstancePose:
    """The pose of an instance, by all there is and by each source alone; None where a source does not know it."""

    instance: Instance
    """Its box; the rotation is the pose's where the front is known."""
    pose: Pose | None
    photo: Pose | None = None
    """By all photos."""
    cloud: Pose | None = None
    views: tuple[SeenInstance, ...] = ()


def pose_in_run(
    engine: QueryEngine,
    poser: PhotoPoser | None = None,
    detector: Detector | None = None,
    *,
    phrases: Sequence[str] | None = None,
    max_views: int = MAX_VIEWS,
) -> tuple[InstancePose, ...]:
    """The poses of a run's instances, in the input frame and in the order of their ids.

    Args:
        engine: of the run.
        poser: by default one with the shipped weights.
        detector: the same.
        phrases: names of the instances, which tell the photo head what it sees; None: those of the run.
        max_views: photos that are looked at.

    Raises:
        ConfigError: the surface has too few points, or weights cannot be used.
        EncoderError: a phrase is too long, or an encoder is not available.
        SceneError: a photo cannot be read.
    """
    semantics = engine.semantics
    surface, ids = semantics.surface, semantics.instance
    if not (ids > 0).any():
        return ()
    level = level_of(surface.up)
    names = tuple(engine.phrases if phrases is None else in_list(phrases))
    labels = engine.labels(names) if names else None
    instances = InstancePoints(surface, ids).records(labels=labels, phrases=names)
    seen = _photos(engine, poser or PhotoPoser(), {i.id: i.label for i in instances}, max_views)
    if detector is None:
        found = engine.detections.of_instances
    else:
        found = detections_of(ids, engine.detections.detect(detector).detections)
    made = []
    for instance in instances:
        views, detection = seen.get(instance.id, ()), found.get(instance.id)
        crops, cameras = [one.seen for one in views], [turn_to_box(one.camera, one.bbox) for one in views]
        cloud = None if detection is None else pose_of_detection(detection)
        yaw = None if detection is None else (detection.yaw_probabilities, detection.symmetry_order)
        along = float((level * from_wxyz(instance.rotation_wxyz)).as_euler("ZYX")[0])
        pose = fuse(crops, cameras, yaw, level, box_yaw_rad=along)
        kept = {} if pose is None else {instance.id: pose.record()}
        (placed,) = posed([instance], kept, surface.xyz, ids, surface.up)
        made.append(InstancePose(placed, pose, fuse(crops, cameras, None, level, box_yaw_rad=along), cloud, views))
    return tuple(made)


def keep_poses(engine: QueryEngine, found: Sequence[InstancePose]) -> None:
    """Keep poses in the run, in place of earlier ones; `engine` answers with them from now on. Raises OutputError."""
    kept = {one.instance.id: one.pose.record() for one in found if one.pose is not None}
    save_poses(engine.run.folder, engine.semantics.instance, kept)
    engine.context.forget_poses()


def level_of(up: np.ndarray) -> Rotation:
    """The smallest rotation that takes the up direction to z."""
    if up[2] > 1 - 1e-6:
        return Rotation.identity()
    return Rotation.align_vectors([[0, 0, 1]], [up])[0]


def _photos(
    engine: QueryEngine, poser: PhotoPoser, names: Mapping[int, str | None], max_views: int
) -> dict[int, tuple[SeenInstance, ...]]:
    """The photos that show each instance best, and what they say."""
    frames = [engine.scene.frames[view] for view in spread(engine.scene.train, max_views)]
    surface, config = engine.semantics.surface, SurfaceConfig()
    looks = look(engine.renderer, [frame.camera for frame in frames], config)
    visibilities: list[Visibility] = [view.see(surface.xyz, surface.cell, config) for view in looks]
    found = choose_poses(engine.semantics.instance, visibilities, CropConfig(views=CROPS))
    crops, boxes, side = [], [], poser.encoder.preprocess.size[0]
    for number, frame in enumerate(frames):
        own = [one for one in found if one.view == number]
        if not own:
            continue
        rgb = np.asarray(load_photo(frame))[..., :3]
        for one in own:
            boxes.append(_pixels(one.box, rgb.shape[1], rgb.shape[0]))
            crops.append(square_crop(rgb, boxes[-1], side))
    if not crops:
        return {}
    said = poser.look(np.stack(crops), [names.get(one.instance) for one in found])
    made: dict[int, list[SeenInstance]] = {}
    for one, box, seen in zip(found, boxes, said):
        frame = frames[one.view]
        pose = pose_in_camera(seen, turn_to_box(frame.camera, box), "input")
        made.setdefault(one.instance, []).append(SeenInstance(frame.name, frame.camera, box, seen, pose))
    return {instance: tuple(views) for instance, views in made.items()}


def _pixels(box: Box, width: int, height: int) -> Box:
    x0, y0, x1, y1 = box
    return x0 * width, y0 * height, x1 * width, y1 * height
