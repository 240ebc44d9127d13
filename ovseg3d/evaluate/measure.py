"""Compare a run with ground truth, by protocols that are named in the output.

Ground truth is read only here, never in training: label images of the scene, objects.json, the exact cloud of a
synthetic room. The list of classes is closed: every pixel takes the nearest of the scene's own classes.
"""

import json
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from ovseg3d.engine import Event, Report, ignore, until_stopped
from ovseg3d.errors import ConfigError, SceneError
from ovseg3d.evaluate.metrics.consistency import ConsistencyScores, measure_consistency
from ovseg3d.evaluate.metrics.instance_ap import FoundMasks, InstanceApScores, TrueMasks, measure_instance_ap
from ovseg3d.evaluate.metrics.instances import FoundInstance, InstanceScores, measure_instances, true_instances
from ovseg3d.evaluate.metrics.labels import Confusion, LabelScores
from ovseg3d.evaluate.metrics.points import PointScores, TrueCloud, labels_at, measure_points
from ovseg3d.field.surface import DepthView, SurfaceConfig
from ovseg3d.geometry.boxes import box_from_record
from ovseg3d.instances.records import InstancePoints
from ovseg3d.limits import read_bytes
from ovseg3d.points.semantic_scene import SemanticScene
from ovseg3d.query.engine import QueryEngine
from ovseg3d.query.words import is_structural
from ovseg3d.scene import Scene
from ovseg3d.scene.images import IGNORED, load_labels
from ovseg3d.synth.cloud import SurfaceCloud, surface_cloud

STYLES = {"seen styles": True, "unseen styles": False}
"""Whether the built-in encoders were trained on objects of the style (see synth/holdout.py)."""
LIMIT = 0.02
"""Protocol `points`: largest distance of matched points, as a share of the cloud's extent."""

Labeller = Callable[[str], Int[np.ndarray, "h w"]]
"""From a view's name to its label image: 0 none, i the i-th class of `classes_of`."""


def classes_of(scene: Scene) -> tuple[str, ...]:
    """The scene's classes in the order of their labels. Raises ConfigError: it has no label images."""
    if not scene.classes or not any(frame.label_path for frame in scene.frames):
        raise ConfigError("This scene has no label images to compare with", where=scene.path)
    return tuple(scene.classes[number] for number in sorted(scene.classes))


def true_labels(scene: Scene, view: int) -> Int[np.ndarray, "h w"]:
    """A view's true labels, renumbered 1, 2, ... in the order of `classes_of`; 0 is none, `IGNORED` stays.

    Raises SceneError: a label is none of the scene's classes.
    """
    frame = scene.frames[view]
    found = load_labels(frame, scene)
    numbers, place = np.unique(found, return_inverse=True)
    known = {0: 0, IGNORED: IGNORED} | {number: i for i, number in enumerate(sorted(scene.classes), start=1)}
    strange = [number for number in numbers.tolist() if number not in known]
    if strange:
        raise SceneError(
            f"Label {strange[0]} is none of the scene's classes", where=frame.label_path,
            fix='name it in "classes", or set "ignore_label" if it means unknown',
        )  # fmt: skip
    return np.array([known[number] for number in numbers.tolist()], np.int64)[place].reshape(found.shape)


def shown_classes(scene: Scene) -> tuple[str, ...]:
    """The classes that occur in the labels of training photos; only these can be known to a run."""
    classes, views = classes_of(scene), [view for view in scene.train if scene.frames[view].label_path]
    if not views:
        return classes
    shown = set().union(*(np.unique(true_labels(scene, view)).tolist() for view in views))
    return tuple(name for number, name in enumerate(classes, start=1) if number in shown)


def measure_index(
    scene: Scene,
    labeller: Labeller,
    views: Sequence[int],
    *,
    keep: Callable[[int], Bool[np.ndarray, "h w"]] | None = None,
    report: Report = ignore,
    stop: threading.Event | None = None,
) -> LabelScores:
    """Protocol `index` over views that have label images.

    Args:
        scene: the capture.
        labeller: returns each view's labels, at the size of the scene's.
        views: indices into `scene.frames`.
        keep: returns the pixels of a view that count; by default all.
        report: receives events of the stage "measure".
        stop: set it to end after the current view.

    Raises:
        ConfigError: no view has label images.
        SceneError: a label is none of the scene's classes.
        KeyboardInterrupt: after `stop`.
    """
    confusion = Confusion(classes_of(scene), ignore=IGNORED)
    known = [view for view in views if scene.frames[view].label_path]
    if not known:
        raise ConfigError("None of these views has a label image", where=scene.path, fix="--views all")
    for number, view in enumerate(until_stopped(known, stop)):
        found = labeller(scene.frames[view].name)
        confusion.update(found, true_labels(scene, view), keep=None if keep is None else keep(view))
        report(Event("progress", "measure", number + 1, len(known), (number + 1) / len(known)))
    return confusion.result()


def labeller_of(engine: QueryEngine, classes: Sequence[str]) -> Labeller:
    """Predicts the labels of each view."""
    return lambda view: engine.label_image(classes, view, none=False)


def exact_cloud(scene: Scene) -> SurfaceCloud:
    """The exact surface of a synthetic room. Raises ConfigError: the scene is no synthetic room."""
    try:
        return surface_cloud(scene.path, seen=True)
    except SceneError as error:
        raise ConfigError(
            "This needs an exact surface, and the scene has none", where=scene.path, fix="a synthetic room"
        ) from error


def measure_cloud(
    scene: Scene,
    learnt: SemanticScene,
    labels: Int[np.ndarray, " points"],
    *,
    truth: SurfaceCloud | None = None,
    instances: Collection[int] | None = None,
) -> PointScores:
    """Protocol `points`, against the exact surface of a synthetic room where at least two photos see it.

    Args:
        scene: a synthetic room.
        learnt: the run's surface points, input frame.
        labels: labels of these, in the order of `classes_of`.
        truth: the result of `exact_cloud`, if it exists already.
        instances: ids of the true instances that count; by default everything.

    Raises:
        ConfigError: the scene is no synthetic room.
    """
    truth = truth or exact_cloud(scene)
    keep = seen_twice(truth)
    if instances is not None:
        keep &= np.isin(truth.instance, list(instances))
    exact = TrueCloud(truth.xyz.astype(np.float64), _labels_of(truth, classes_of(scene)), keep)
    xyz = learnt.surface.xyz.astype(np.float64)
    return measure_points(xyz, labels, exact, classes_of(scene), limit=limit_of(truth.xyz))


def _labels_of(truth: SurfaceCloud, classes: Sequence[str]) -> Int[np.ndarray, " points"]:
    """Labels of the exact points in the order of `classes`; 0 for other ones."""
    place = {name: number for number, name in enumerate(classes, start=1)}
    return np.array([0, *(place.get(name, 0) for name in truth.classes)])[truth.label]


def seen_twice(truth: SurfaceCloud) -> Bool[np.ndarray, " points"]:
    """The points that at least two training photos see."""
    assert truth.seen is not None
    return truth.seen >= 2


def limit_of(true_xyz: Float[np.ndarray, "points 3"]) -> float:
    """Largest distance of a point from its match in the true cloud."""
    return LIMIT * float(np.linalg.norm(np.ptp(true_xyz, axis=0)))


def measure_run_instances(
    scene: Scene,
    learnt: SemanticScene,
    labels: Int[np.ndarray, " points"],
    truth: SurfaceCloud,
    *,
    instances: Collection[int] | None = None,
) -> InstanceScores:
    """Protocol `instances`: the run's instances against objects.json, on the exact surface that two photos see.

    An instance has the label of most of its points. The labels wall, floor and ceiling are dropped: such an instance
    belongs to the room if most of its exact points do.

    Args:
        scene: a synthetic room.
        learnt: the run's surface points with their instances, input frame.
        labels: labels of these, in the order of `classes_of`.
        truth: the result of `exact_cloud`.
        instances: ids of the true instances that count; by default all. With a subset only recall is meaningful:
            precision and counts would penalise the other instances, and are left out.

    Raises:
        SceneError: objects.json is missing or damaged.
    """
    classes = classes_of(scene)
    found = InstancePoints(learnt.surface, learnt.instance).records(labels=labels, phrases=classes)
    predicted = [
        FoundInstance(
            np.flatnonzero(learnt.instance == one.id),
            None if one.label is None or is_structural(one.label) else one.label,
            box_from_record(one.record()),
        )
        for one in found
    ]
    known = true_instances(read_objects(scene))
    scores = measure_instances(
        predicted,
        [instance for instance in known if instances is None or instance.id in instances],
        xyz=learnt.surface.xyz.astype(np.float64),
        true_xyz=truth.xyz.astype(np.float64),
        true_id=truth.instance,
        limit=limit_of(truth.xyz),
        keep=seen_twice(truth),
    )
    if instances is None:
        return scores
    unknown = dict.fromkeys(
        ("precision_25", "precision_50", "labelled_precision_25", "labelled_precision_50", "count_error"), float("nan")
    )
    return replace(scores, counts={}, **unknown)


def measure_run_instance_ap(
    scene: Scene, learnt: SemanticScene, labels: Int[np.ndarray, " points"], truth: SurfaceCloud
) -> InstanceApScores:
    """Protocol `instance-ap`: ScanNet's average precision, at the exact points that two photos see.

    An exact point belongs to the instance of the nearest surface point, within the limit of protocol `points`. An
    instance has the label of most of its points, and the mean confidence of its points. Wall, floor and ceiling are not
    among the classes, as in ScanNet: their points are void.

    Args:
        scene: a synthetic room.
        learnt: the run's surface points with their instances, input frame.
        labels: labels of these, in the order of `classes_of`.
        truth: the result of `exact_cloud`.
    """
    keep = seen_twice(truth)
    named = classes_of(scene)
    classes = [name for name in named if not is_structural(name)]
    number = {name: k for k, name in enumerate(classes, start=1)}
    predicted, _ = instances_at(learnt, labels, named, number, truth.xyz[keep], limit_of(truth.xyz))
    true = TrueMasks(_labels_of(truth, classes)[keep], truth.instance[keep])
    return measure_instance_ap({scene.name: predicted}, {scene.name: true}, classes)


def instances_at(
    learnt: SemanticScene,
    labels: Int[np.ndarray, " points"],
    named: Sequence[str],
    number: Mapping[str, int],
    true_xyz: Float[np.ndarray, "points2 3"],
    limit: float,
) -> tuple[FoundMasks, Bool[np.ndarray, " points2"]]:
    """The run's instances as sets of true points: each belongs to the instance of the nearest surface point.

    Args:
        learnt: the run's surface points with their instances.
        labels: labels of these; k is `named[k - 1]`. An instance has the label of most of its points.
        named: names of the labels.
        number: of the classes that have instances; the others become 0.
        true_xyz: in the frame of the surface points.
        limit: largest distance of a true point from its surface point.

    Returns:
        The instances, with the mean confidence of their points; and which true points have a surface point.
    """
    found = InstancePoints(learnt.surface, learnt.instance).records(labels=labels, phrases=named)
    ids, distance = labels_at(
        learnt.surface.xyz.astype(np.float64), learnt.instance, true_xyz.astype(np.float64), limit
    )
    masks = FoundMasks(
        np.stack([ids == one.id for one in found]) if found else np.zeros((0, len(ids)), bool),
        np.array([number.get(one.label or "", 0) for one in found], np.int64),
        np.array([one.score for one in found], np.float64),
    )
    return masks, distance <= limit


def read_objects(scene: Scene) -> list[dict[str, Any]]:
    """The entries of objects.json. Raises SceneError."""
    path = scene.path / "objects.json"
    try:
        found = json.loads(read_bytes(path, what="list of true objects"))
    except (ValueError, RecursionError) as error:
        raise SceneError(
            f"The true objects cannot be read: {error}", where=path, fix="ovseg3d synth writes it"
        ) from error
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise SceneError("Expected a list of objects", where=path, fix="ovseg3d synth writes it")
    return found


def styles_of(scene: Scene) -> dict[str, frozenset[int]]:
    """Ids of instances in styles that the built-in encoders were trained on, and of the others.

    Empty if objects.json does not state styles, or the scene is no synthetic room.
    """
    if not (scene.path / "objects.json").is_file() or not (scene.path / "synth.json").is_file():
        return {}
    known = {entry["id"]: entry["seen"] for entry in read_objects(scene) if isinstance(entry.get("seen"), bool)}
    groups = {name: frozenset(i for i, seen in known.items() if seen == which) for name, which in STYLES.items()}
    return {name: ids for name, ids in groups.items() if ids}


def measure_agreement(
    scene: Scene,
    learnt: SemanticScene,
    labeller: Labeller,
    depth: Callable[[str], np.ndarray],
    views: Sequence[int],
    *,
    stop: threading.Event | None = None,
) -> ConsistencyScores:
    """Protocol `consistency`: does a surface point get one label in all views that see it?

    Args:
        scene: the capture.
        learnt: the run's surface points.
        labeller: returns the labels of a view, by its name.
        depth: returns the z-depth of the field in a view, input units, at the size of its labels.
        views: indices into `scene.frames`.
        stop: set it to end after the current view.

    Raises:
        KeyboardInterrupt: after `stop`.
    """
    xyz, cell = (values.astype(np.float64) for values in (learnt.surface.xyz, learnt.surface.cell))
    labels = np.zeros((len(views), len(xyz)), np.int64)
    visible = np.zeros(labels.shape, bool)
    for row, view in enumerate(until_stopped(views, stop)):
        frame = scene.frames[view]
        depth_z, found = depth(frame.name), labeller(frame.name)
        h, w = depth_z.shape
        shown = DepthView(frame.camera.scaled(w, h), depth_z, np.ones((h, w)), np.zeros((h, w, 3)))
        visibility = shown.see(xyz, cell, SurfaceConfig())
        h, w = found.shape
        column, line = (visibility.xy * (w, h)).astype(np.int64).clip(0, (w - 1, h - 1)).T
        labels[row, visibility.point], visible[row, visibility.point] = found[line, column], True
    return measure_consistency(labels, visible)
