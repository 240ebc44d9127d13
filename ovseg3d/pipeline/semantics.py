"""The stage `semantics`: from a trained field and the photos' features to surface points for queries.

It renders the field from all cameras, extracts its surface, lifts the photos' features to it, smooths them along it,
and runs the method (`points.methods`) on them. Then it finds instances and encodes their crops. Only the unmasked
pixels of training photos are used; labels are never read.
"""

import shutil
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from ovseg3d.encoders.base import TextImageEncoder
from ovseg3d.engine import Event, Report, encoder_precision, ignore
from ovseg3d.errors import ConfigError, EncoderError
from ovseg3d.features.maps import Regions, normalise
from ovseg3d.features.scenes import SceneFeatures, read_photo
from ovseg3d.field.renderer import Renderer
from ovseg3d.field.surface import STAGE as SURFACE
from ovseg3d.field.surface import Surface, SurfaceConfig, Visibility, between, extract_surface, look
from ovseg3d.heads.detection import Detector, Segmentation
from ovseg3d.instances.crops import CropConfig, add_instance_crops, choose_poses, encode_instance_crops
from ovseg3d.instances.grouping import InstanceConfig, Instances, find_instances
from ovseg3d.instances.joined import joined_levels
from ovseg3d.instances.layout import StructureConfig
from ovseg3d.instances.proposals import Proposals
from ovseg3d.instances.superpoints import Superpoints
from ovseg3d.pipeline.context import Context
from ovseg3d.points.basis import Basis
from ovseg3d.points.lift import LiftConfig, Lifted, lift, lift_reduced
from ovseg3d.points.methods import FOLDER, FeatureTrainer
from ovseg3d.points.semantic_scene import SemanticScene, save_semantics
from ovseg3d.points.smooth import smooth
from ovseg3d.runs.config import Layout
from ovseg3d.runs.devices import resolve_backend
from ovseg3d.runs.fields import refined
from ovseg3d.runs.figures import EVALUATED
from ovseg3d.runs.folder import RunFolder
from ovseg3d.scene import Scene, usable_at

NAME, INSTANCE_CROPS = "semantics", "instance_crops"
HELD = 1.45
"""Height of a camera in the hand above the floor, metres."""
PROPOSAL = 0.1
"""Least score of a proposal of the detection head; more are evidence than would be detections."""
CPU_PIXELS = 30e6
"""Maximum number of pixels of all instance crops on a CPU: 600 crops of 224 x 224, about three minutes with a ViT-B/16.
The built-in encoder needs fewer for a hundred instances."""


@dataclass(frozen=True)
class _Seen:
    """The field's surface, and its visibility in the training photos."""

    scene: Scene
    """With the training poses refined by --refine-poses."""
    surface: Surface
    visibilities: Sequence[Visibility]
    """One per training photo."""


@dataclass(frozen=True)
class _Grouped:
    """Instances of the surface, and what the detection head contributed."""

    instances: Instances
    segmentation: Segmentation | None
    """Of the head; None without a room."""
    metres_per_unit: float | None
    """The capture's own, else that of the room's floor, else None."""


@dataclass(frozen=True)
class _Known:
    """Instances and vectors of the surface so far."""

    instances: Instances
    basis: Basis
    vectors: Float[np.ndarray, "points kept"]
    """Vectors of the surface points, in the basis."""
    instance_crops: np.ndarray | None = None
    """Embeddings of instances, rejected fragments and joined objects, in the basis; None without crops."""


def learn_semantics(context: Context, renderer: Renderer) -> SemanticScene | None:
    """Learn the semantics of the field's surface, and write them to the run.

    Args:
        context: with `encoded`. It receives events of the stages "surface", "semantics", "instance_crops", "rays" and
            those of the methods that train: "refine", "lerf". Its `stop` ends after the current view, step, or batch of
            crops, or after lifting or finding instances.
        renderer: renderer of the run's field.

    Returns:
        The semantics, or None after `stop`.

    Raises:
        RunError: the field has no surface. CacheError: features are missing. OutputError: the run cannot be written to.
    """
    run, config, report, stop, encoded = context.run, context.config, context.report, context.stop, context.encoded
    if encoded is None:
        raise RuntimeError("the stage features comes before semantics")
    features, encoder, scene = encoded.features, encoded.encoder, refined(run, context.scene)
    start = time.monotonic()
    surveyed = survey(scene, renderer, report, stop)
    if surveyed is None:
        return None
    surface, visibilities = surveyed
    seen = _Seen(scene, surface, visibilities)
    seconds = {"surface_seconds": time.monotonic() - start}
    start = time.monotonic()
    report(Event("start", NAME, 0, 1, message="lifting the photos' features to the surface"))
    basis, lifted, unit = lift_photos(scene, surface, visibilities, features, config.train.seed)
    seconds["lift_seconds"] = time.monotonic() - start
    start = time.monotonic()
    trainer = FeatureTrainer(
        run.folder, config.semantics, scene, renderer, resolve_backend(config.train.backend, context.device), features,
        surface, basis, unit, encoded.words, encoder.logit_scale, config.train.seed, report, stop,
    )  # fmt: skip
    found = None if stop.is_set() else trainer.learn()
    if found is None or stop.is_set():
        report(Event("interrupted", NAME, 0, 1))
        return None
    seconds["refine_seconds"] = time.monotonic() - start
    start = time.monotonic()
    report(Event("progress", NAME, 0, 1, 0.5, message="finding instances"))
    grouped = _group_points(seen, found.vectors, features, config.semantics.layout)
    known = _Known(grouped.instances, basis, found.vectors)
    seconds["instances_seconds"] = time.monotonic() - start
    settings, clip = config.semantics, encoded.clip
    if settings.method == "default" and settings.instance_crops != 0 and clip is not None and not stop.is_set():
        start = time.monotonic()
        known = _embed_instances(context, features, clip, seen, known)
        seconds["instance_crops_seconds"] = time.monotonic() - start
    if stop.is_set():
        report(Event("interrupted", NAME, 0, 1))
        return None
    instances, basis, segmentation = known.instances, known.basis, grouped.segmentation
    pieces, planes = instances.ids.astype(np.int32), instances.layout.astype(np.int8)
    learnt = SemanticScene(
        surface, basis, known.vectors, lifted.agreement, instances.instance.astype(np.int32), encoder, found.sized,
        planes, pieces, known.instance_crops,
        None if segmentation is None else _added([segmentation.describe(ids)[1:] for ids in _levels(instances)]),
        grouped.metres_per_unit, None if instances.parents is None else instances.parents.astype(np.int32),
    )  # fmt: skip
    path = save_semantics(run.folder, learnt)
    shutil.rmtree(run.folder / FOLDER, ignore_errors=True)  # only now, since a run stopped before continues from it
    figures = {
        "method": config.semantics.method,
        "surface_points": len(surface),
        "instances": instances.count,
        "rejected_fragments": instances.rejected_fragments,
        "semantics_bytes": path.stat().st_size,
        "basis_left_out": basis.left_out,
        **_odd_photos(scene, lifted.trusted),
    }
    _write_figures(run, {**seconds, **found.figures, **figures})
    report(Event("done", NAME, 1, 1, 1.0, sum(seconds.values())))
    return learnt


def survey(
    scene: Scene, renderer: Renderer, report: Report = ignore, stop: threading.Event | None = None
) -> tuple[Surface, list[Visibility]] | None:
    """A field's surface, and its visibility in each training photo; None after `stop`.

    Masked pixels of a photo, such as a passer-by, do not count as visible; the field was not trained on them either.

    Raises:
        RunError: the field has no surface. SceneError: a mask cannot be read.
    """
    start, settings = time.monotonic(), SurfaceConfig()
    frames = [scene.frames[view] for view in scene.train]
    cameras = [frame.camera for frame in frames]
    everywhere = cameras + (between(cameras) if settings.between else [])
    report(Event("start", SURFACE, 0, len(everywhere), message="rendering the field from all cameras"))
    views = list(look(renderer, everywhere, settings, report, stop))
    if stop is not None and stop.is_set():
        report(Event("interrupted", SURFACE, len(views), len(everywhere)))
        return None
    up = np.linalg.inv(scene.world_from_input[:3, :3])[:, 2]
    surface = extract_surface(renderer, views, up / np.linalg.norm(up), scene.metric, settings)
    xyz, cell = surface.xyz.astype(np.float64), surface.cell.astype(np.float64)
    visibilities = [view.see(xyz, cell, settings) for view in views[: len(cameras)]]
    visibilities = [
        visibility.where(usable_at(frame, visibility.xy)) for frame, visibility in zip(frames, visibilities)
    ]
    report(Event("done", SURFACE, len(views), len(views), 1.0, time.monotonic() - start))
    return surface, visibilities


def room_scale(scene: Scene, up: Float[np.ndarray, "3"], floor: float | None) -> float | None:
    """Metres per unit for the detection head, which needs it within a quarter: the capture's own, or that at which the
    cameras are `HELD` above the floor. None without a floor: the head knows rooms, and is too coarse for a table top.

    Args:
        scene: the capture.
        up: unit vector, input frame.
        floor: height of the room's floor along `up`.
    """
    if floor is None:
        return None
    if scene.metres_per_unit is not None:
        return scene.metres_per_unit
    above = float(np.median([scene.frames[view].camera.position @ up for view in scene.train])) - floor
    return HELD / above if above > 0 else None


def segment(surface: Surface, metres_per_unit: float | None) -> Segmentation | None:
    """What the detection head says of a surface; None without a scale, or if it has too few points for the head or
    extends too far.

    Args:
        surface: of a run.
        metres_per_unit: length of the input frame's unit, None if unknown.
    """
    if metres_per_unit is None:
        return None
    x, y, z = (float(value) for value in surface.up)
    detector = Detector(min_score=PROPOSAL)
    _ = detector.trained  # a damaged file is an error
    try:
        return detector.segment(surface.cloud, up=(x, y, z), metres_per_unit=metres_per_unit)
    except ConfigError:
        return None


def proposals_of(segmentation: Segmentation) -> Proposals:
    """The detection head's view of the points, as merging and the selection of instances take it."""
    at = segmentation.voxel
    foreground = segmentation.foreground.astype(np.float64)
    return Proposals(
        foreground, segmentation.centers[at], segmentation.log_sizes[at], segmentation.masks, segmentation.scores
    )


def lift_photos(
    scene: Scene, surface: Surface, visibilities: Sequence[Visibility], features: SceneFeatures, seed: int
) -> tuple[Basis, Lifted, Float[np.ndarray, "points kept"]]:
    """Lift the photos' features to the surface points and smooth them.

    Args:
        scene: the capture.
        surface: surface points of the field.
        visibilities: one per training photo.
        features: of all frames.
        seed: seed of the basis.

    Returns:
        The basis of the features; the lifted vectors; and the smoothed vectors, of unit length or zero.
    """
    photos = [features[view].clip.at for view in scene.train]
    xyz, config = surface.xyz.astype(np.float64), LiftConfig(seed=seed)
    # Called with arrays, `at` returns arrays.
    basis, lifted = lift_reduced(visibilities, photos, xyz, config)  # pyright: ignore[reportArgumentType]
    vectors = smooth(lifted.vectors, surface, lifted.support)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return basis, lifted, (vectors / np.maximum(lengths, 1e-9)).astype(np.float32)


def appearances(
    scene: Scene,
    surface: Surface,
    vectors: Float[np.ndarray, "points kept"],
    features: SceneFeatures,
    visibilities: Sequence[Visibility],
) -> list[Float[np.ndarray, "points _"]]:
    """Appearance features of the points: CLIP, and DINO if all photos have it.

    Args:
        scene: the capture.
        surface: surface points of the field.
        vectors: CLIP vectors of the points, in the basis.
        features: of all frames.
        visibilities: one per training photo.
    """
    maps = (features[view] for view in scene.train)
    dinos = [one.dino.at for one in maps if one.dino is not None]
    if len(dinos) < len(visibilities):
        return [vectors]
    # Called with arrays, `at` returns arrays.
    return [vectors, lift(visibilities, dinos, len(surface)).vectors]  # pyright: ignore[reportArgumentType]


def segmented(scene: Scene, features: SceneFeatures) -> list[np.ndarray]:
    """The segmenter's masks of each training photo, (layers, h, w); none if some photo lacks them."""
    maps = (features[view].clip for view in scene.train)
    masks = [clip.masks for clip in maps if isinstance(clip, Regions) and clip.masks is not None]
    return masks if len(masks) == len(scene.train) else []


def _group_points(
    seen: _Seen, vectors: Float[np.ndarray, "points kept"], features: SceneFeatures, layout: Layout
) -> _Grouped:
    """Find instances. The detection head is asked where grouping finds a floor, which tells the scale.

    Args:
        seen: the surface.
        vectors: CLIP vectors of its points, in the basis.
        features: of all frames.
        layout: the run's setting.
    """
    scene, surface = seen.scene, seen.surface
    segmentation, metres = None, scene.metres_per_unit

    def proposed(made: Superpoints) -> Proposals | None:
        nonlocal segmentation, metres
        room = room_scale(scene, surface.up, made.floor)
        segmentation, metres = segment(surface, room), metres or room
        return None if segmentation is None else proposals_of(segmentation)

    instances = find_instances(
        surface,
        appearances(scene, surface, vectors, features, seen.visibilities),
        visibilities=seen.visibilities,
        masks=segmented(scene, features),
        propose=proposed,
        config=InstanceConfig(structure=StructureConfig(layout=layout)),
    )
    return _Grouped(instances, segmentation, metres)


def _levels(instances: Instances) -> list[Int[np.ndarray, " points"]]:
    """The piece of each point, then its joined object at each height; 0 for none. A number is in one of them only."""
    parents = np.zeros(0, np.int64) if instances.parents is None else instances.parents
    return [instances.ids, *joined_levels(instances.ids, parents)] if len(parents) else [instances.ids]


def _added(parts: Sequence[Float[np.ndarray, "_ dim"]]) -> Float[np.ndarray, "numbers dim"]:
    """The sum of tables, of which all but the longest lack rows at their end."""
    total = np.zeros((max(map(len, parts)), parts[0].shape[1]), np.float32)
    for part in parts:
        total[: len(part)] += part
    return total


class _Stopped(Exception):
    """Ends the instance crops after `stop`."""


def _embed_instances(
    context: Context, features: SceneFeatures, clip: TextImageEncoder, seen: _Seen, known: _Known
) -> _Known:
    """Add embeddings of instances, rejected fragments and joined objects, from their crops. Returns `known` unchanged
    if the encoder's weights are missing, or after `stop`."""
    config, report, stop = context.config, context.report, context.stop
    levels, asked = _levels(known.instances), config.semantics.instance_crops
    settings = CropConfig() if asked is None else CropConfig(views=asked)
    report(Event("start", INSTANCE_CROPS, 0, 1, message="encoding instance crops"))

    def tick(done: int, total: int) -> None:
        report(Event("progress", INSTANCE_CROPS, done, total, done / total))
        if stop.is_set():
            raise _Stopped

    try:
        if asked is None and context.device == "cpu":
            count = max(int(ids.max(initial=0)) for ids in levels)
            settings = settings.affordable(count, clip.preprocess.size, CPU_PIXELS)
            if settings.views < CropConfig.views:
                few = f"Each instance is cropped from {settings.views} photos; {CropConfig.views} would take long"
                context.log(INSTANCE_CROPS, f"{few} on a CPU (--instance-crops {CropConfig.views})")
        poses = [choose_poses(ids, seen.visibilities, settings) for ids in levels]
        crops = sum(map(len, poses)) * settings.count
        frames = [seen.scene.frames[view] for view in seen.scene.train]
        photo = lambda view: read_photo(frames[view], features.settings)  # noqa: E731
        parts: list[np.ndarray] = []
        for ids, own, before in zip(levels, poses, accumulate(map(len, poses), initial=0)):
            ticked = lambda done, _, before=before: tick(before * settings.count + done, crops)  # noqa: E731
            with encoder_precision(context.device):
                parts.append(encode_instance_crops(own, ids, seen.visibilities, photo, clip, settings, ticked))
    except EncoderError as error:  # the photos' features came from the cache
        context.log(INSTANCE_CROPS, f"Instance crops are skipped: {error.what}")
        return known
    except _Stopped:
        report(Event("interrupted", INSTANCE_CROPS, 0, 1))
        return known
    found = _added(parts)
    report(Event("done", INSTANCE_CROPS, crops, crops, 1.0))
    basis, vectors = add_instance_crops(
        known.basis, known.vectors, levels[0], found, known.instances.layout, settings, seed=config.train.seed
    )
    return _Known(known.instances, basis, vectors, normalise(basis.reduce(found)))


def _write_figures(run: RunFolder, figures: dict[str, Any]) -> None:
    """Add figures to the run's, and remove those of an earlier method and evaluations of it, which are stale."""
    parts = ("fit_", "refine_", "lerf_", "instance_crops_")
    stale = {name: None for name in run.metrics() if name.startswith(parts) or name in EVALUATED}
    run.write_metrics({**stale, **figures})


def _odd_photos(scene: Scene, trusted: np.ndarray) -> dict[str, Any]:
    """Names of photos whose features contradict the others, such as blurred ones."""
    return {"photos_not_trusted": [scene.frames[view].name for view, good in zip(scene.train, trusted) if not good]}
