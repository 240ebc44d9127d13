"""Measure what a run says against the truth, by protocols that are named in the output.

Truth is read here and nowhere in training: label images of the scene, objects.json, the exact cloud of a synthetic
room. A list is closed here: every pixel takes the nearest of the scene's own classes.
"""

import threading
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Int

from ovseg3d.engine import Event, Report, ignore
from ovseg3d.errors import ConfigError, SceneError
from ovseg3d.metrics import Confusion, ConsistencyScores, LabelScores, PointScores, measure_consistency, measure_points
from ovseg3d.pipeline.query import Asker
from ovseg3d.scene import Scene
from ovseg3d.scene.images import load_labels
from ovseg3d.semantics.scene import SemanticScene

LIMIT = 0.02
"""Protocol `points`: how far a point may be from its neighbour, as a share of the cloud's extent."""

Labeller = Callable[[str], Int[np.ndarray, "h w"]]
"""From a view's name to its label image: 0 none, i the i-th class of `classes_of`."""


def classes_of(scene: Scene) -> tuple[str, ...]:
    """The scene's classes in the order of their labels. Raises ConfigError: it has no label images."""
    if not scene.classes or not any(frame.label_path for frame in scene.frames):
        raise ConfigError("This scene has no label images to compare with", where=scene.path)
    return tuple(scene.classes[number] for number in sorted(scene.classes))


def true_labels(scene: Scene, view: int) -> Int[np.ndarray, "h w"]:
    """A view's true labels, renumbered 1, 2, ... in the order of `classes_of`; the scene's ignore label stays."""
    found = load_labels(scene.frames[view])
    numbers = sorted(scene.classes)
    if numbers == list(range(1, len(numbers) + 1)):
        return found
    renumbered = np.zeros_like(found)
    for place, number in enumerate(numbers, start=1):
        renumbered[found == number] = place
    if scene.ignore_label is not None:
        renumbered[found == scene.ignore_label] = scene.ignore_label
    return renumbered


def measure_index(
    scene: Scene,
    labeller: Labeller,
    views: Sequence[int],
    *,
    report: Report = ignore,
    stop: threading.Event | None = None,
) -> LabelScores:
    """Protocol `index` over views that have label images.

    Args:
        labeller: gives each view's labels, at the size of the scene's.

    Raises:
        ConfigError: no view has label images. KeyboardInterrupt: after `stop`.
    """
    confusion = Confusion(classes_of(scene), ignore=scene.ignore_label)
    known = [view for view in views if scene.frames[view].label_path]
    if not known:
        raise ConfigError("None of these views has a label image", where=scene.path, fix="--views all")
    for number, view in enumerate(known):
        if stop is not None and stop.is_set():
            raise KeyboardInterrupt
        confusion.update(labeller(scene.frames[view].name), true_labels(scene, view))
        report(Event("progress", "measure", number + 1, len(known), (number + 1) / len(known)))
    return confusion.result()


def labeller_of(asker: Asker, classes: Sequence[str]) -> Labeller:
    """What a run says of each view."""
    return lambda view: asker.label_picture(classes, view, none=False)


def measure_cloud(scene: Scene, learnt: SemanticScene, labels: Int[np.ndarray, " points"]) -> PointScores:
    """Protocol `points`, against the exact surface of a synthetic room, as far as two photos see it.

    Args:
        labels: of the run's surface points, in the order of `classes_of`.

    Raises:
        ConfigError: the scene is no synthetic room.
    """
    from ovseg3d.synth.cloud import surface_cloud

    try:
        truth = surface_cloud(scene.path, seen=True)
    except SceneError as error:
        raise ConfigError(
            "Protocol points needs an exact surface, and this scene has none", where=scene.path, fix="a synthetic room"
        ) from error
    place = {name: number for number, name in enumerate(classes_of(scene), start=1)}
    renumbered = np.array([0, *(place.get(name, 0) for name in truth.classes)])[truth.label]
    extent = float(np.linalg.norm(np.ptp(truth.xyz, axis=0)))
    return measure_points(
        learnt.surface.xyz.astype(np.float64), labels, truth.xyz.astype(np.float64), renumbered, classes_of(scene),
        limit=LIMIT * extent, keep=truth.seen >= 2,
    )  # fmt: skip


def measure_agreement(
    scene: Scene, learnt: SemanticScene, labeller: Labeller, depth: Callable[[str], np.ndarray], views: Sequence[int]
) -> ConsistencyScores:
    """Protocol `consistency`: does a surface point get one label in all views that see it?

    Args:
        depth: z-depth of the field in a view, at the size of its labels.
    """
    xyz = learnt.surface.xyz.astype(np.float64)
    labels = np.zeros((len(views), len(xyz)), np.int64)
    visible = np.zeros(labels.shape, bool)
    for row, view in enumerate(views):
        frame = scene.frames[view]
        z_map, found = depth(frame.name), labeller(frame.name)
        xy, z = frame.camera.project(xyz)
        with np.errstate(invalid="ignore"):
            inside = (z > 0) & (xy >= 0).all(-1) & (xy[:, 0] < found.shape[1]) & (xy[:, 1] < found.shape[0])
        column, line = xy[inside].astype(np.int64).T
        labels[row, inside] = found[line, column]
        visible[row, inside] = np.abs(z_map[line, column] - z[inside]) < 1.5 * learnt.surface.cell[inside]
    return measure_consistency(labels, visible)
