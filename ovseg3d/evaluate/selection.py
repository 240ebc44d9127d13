"""Direct 3D selection on a run: what a phrase selects, against exact points or LERF's polygons.

Each phrase is asked by itself, as `ovseg3d query` does; a phrase that is reported as absent selects nothing. In a
labelled frame a pixel is selected if most of the surface behind it is: what stands before it hides it. (Papers that
render only the selected elements see through what hides them; the reference for this protocol leaves that open.)
"""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from ovseg3d.engine import until_stopped
from ovseg3d.evaluate.measure import limit_of, seen_twice, shown_classes
from ovseg3d.evaluate.metrics.lerf import polygon_mask
from ovseg3d.evaluate.metrics.phrases import SelectionScores, lerf_selection_scores, overlap, selection_scores
from ovseg3d.evaluate.metrics.points import nearest
from ovseg3d.evaluate.metrics.report import Scores
from ovseg3d.evaluate.papers import labelled_frames, some_scores
from ovseg3d.query.engine import QueryEngine
from ovseg3d.synth.cloud import SurfaceCloud


def measure_run_selection(
    engine: QueryEngine, truth: SurfaceCloud, *, stop: threading.Event | None = None
) -> SelectionScores:
    """Protocol `selection`, at the exact points of a synthetic room that two photos see.

    Each class that training photos show is a phrase. An exact point is selected if the nearest surface point is, within
    the limit of protocol `points`. Classes without an exact point that counts are left out.

    Args:
        engine: of the run.
        truth: the result of `measure.exact_cloud`.
        stop: set it to end after the current phrase.

    Raises:
        ConfigError: the scene has no label images.
        KeyboardInterrupt: after `stop`.
    """
    keep = seen_twice(truth)
    names = np.array(["", *truth.classes])[truth.label[keep]]
    true = {phrase: names == phrase for phrase in shown_classes(engine.scene)}
    true = {phrase: points for phrase, points in true.items() if points.any()}
    xyz = engine.semantics.surface.xyz.astype(np.float64)
    index, distance = nearest(xyz, truth.xyz[keep].astype(np.float64))
    near = distance <= limit_of(truth.xyz)
    iou = {
        phrase: overlap(_selected(engine, phrase)[index] & near, true[phrase])
        for phrase in until_stopped(list(true), stop)
    }
    return selection_scores({engine.scene.name: iou})


def measure_lerf_selection(
    engine: QueryEngine,
    groups: Mapping[str, Sequence[int]],
    labels: Path | None = None,
    *,
    stop: threading.Event | None = None,
) -> dict[str, Scores]:
    """Protocol `lerf-3d`: points that a phrase selects, shown in the labelled frames.

    Args:
        engine: of the run.
        groups: views to report separately, by name.
        labels: as for `papers.measure_lerf`.
        stop: set it to end after the current view.

    Raises:
        SceneError: the folder has another layout, or names a frame that the scene does not have.
        ConfigError: no view of any group is labelled.
        KeyboardInterrupt: after `stop`.
    """
    folder, frames = labelled_frames(engine.scene, labels)
    chosen: dict[str, np.ndarray] = {}
    scores: dict[str, Scores] = {}
    for name, views in groups.items():
        iou: dict[str, dict[str, float]] = {}
        for view in until_stopped([view for view in views if view in frames and frames[view].units], stop):
            frame, places = frames[view], engine.places(engine.scene.frames[view].name)
            height, width = places.size
            scale = (width / frame.width, height / frame.height)
            for unit in frame.units:
                if unit.category not in chosen:
                    chosen[unit.category] = _selected(engine, unit.category)
                shown = places.image(chosen[unit.category][:, None].astype(np.float32))[..., 0] > 0.5
                true = polygon_mask(unit.polygons, width, height, scale)
                iou.setdefault(frame.name, {})[unit.category] = overlap(shown, true)
        if iou:
            scores[name] = lerf_selection_scores(iou)
    return some_scores(scores, groups, folder)


def _selected(engine: QueryEngine, phrase: str) -> Bool[np.ndarray, " points"]:
    """The surface points that a phrase selects."""
    chosen = np.zeros(len(engine.semantics.surface), dtype=bool)
    chosen[engine.ask([phrase])[0].point_index] = True
    return chosen
