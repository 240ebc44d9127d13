"""The papers' own protocols on a run: 3D-OVS's masks by view and phrase, LERF's boxes and polygons.

`evaluate.metrics.ovs3d`, `.phrases` and `.lerf` define the metrics. Both papers evaluate views that they also
trained on; here held-out and training views are reported separately, and `--train-on-all` follows the papers.
"""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ovseg3d.engine import until_stopped
from ovseg3d.errors import ConfigError, SceneError
from ovseg3d.evaluate.metrics.lerf import LerfFrame, LerfParameters, LerfScene, read_lerf_folder
from ovseg3d.evaluate.metrics.ovs3d import Ovs3dViews, read_phrase_masks
from ovseg3d.evaluate.metrics.phrases import overlap, phrase_scores, relevant_pixels
from ovseg3d.evaluate.metrics.report import Scores
from ovseg3d.query.engine import QueryEngine
from ovseg3d.scene import Scene
from ovseg3d.scene.images import read_phrases
from ovseg3d.scene.readers.segmentations import annotated_photos


def measure_ovs3d(
    engine: QueryEngine,
    groups: Mapping[str, Sequence[int]],
    labels: Path | None = None,
    *,
    stop: threading.Event | None = None,
) -> dict[str, Scores]:
    """Protocol `3d-ovs`: argmax over classes.txt, at the size that the run was trained at.

    Args:
        engine: of the run.
        groups: views (indices into the scene's frames) to report separately, by name.
        labels: the folder with classes.txt and <NN>/<phrase>.png; by default segmentations/ of the scene.
        stop: set it to end after the current view.

    Returns:
        Scores of each group with an annotated view.

    Raises:
        SceneError: the folder has another layout, or belongs to more photos than there are.
        ConfigError: no view of any group is annotated.
        KeyboardInterrupt: after `stop`.
    """
    folder, phrases, annotated = _annotated(engine.scene, labels)
    scores = {}
    for name, views in groups.items():
        known = [engine.scene.frames[view] for view in views if engine.scene.frames[view].name in annotated]
        adding = Ovs3dViews(phrases)
        for frame in until_stopped(known, stop):
            found = engine.label_image(phrases, frame.name, none=False)
            masks = read_phrase_masks(annotated[frame.name], phrases, frame.camera.width, frame.camera.height)
            adding.update(frame.name, found, masks)
        if known:
            scores[name] = adding.result()
    return some_scores(scores, groups, folder)


def measure_ovs3d_phrases(
    engine: QueryEngine,
    groups: Mapping[str, Sequence[int]],
    labels: Path | None = None,
    *,
    stop: threading.Event | None = None,
) -> dict[str, Scores]:
    """Protocol `3d-ovs-phrase`: each phrase of classes.txt by itself, by LangSplat's rule (here with one level).

    Relevancy is that of protocol `lerf`, 0 to 1, not stretched. Arguments and errors as for `measure_ovs3d`.
    """
    folder, phrases, annotated = _annotated(engine.scene, labels)
    relevancy, scores = engine.relevancy(phrases), {}
    for name, views in groups.items():
        known = [engine.scene.frames[view] for view in views if engine.scene.frames[view].name in annotated]
        iou: dict[str, dict[str, float]] = {}
        for frame in until_stopped(known, stop):
            maps = engine.places(frame.name).image(relevancy)
            masks = read_phrase_masks(annotated[frame.name], phrases, frame.camera.width, frame.camera.height)
            iou[frame.name] = {
                phrase: overlap(relevant_pixels(maps[None, ..., k]), masks[k]) for k, phrase in enumerate(phrases)
            }
        if known:
            scores[name] = phrase_scores(iou)
    return some_scores(scores, groups, folder)


def measure_lerf(
    engine: QueryEngine,
    groups: Mapping[str, Sequence[int]],
    labels: Path | None = None,
    parameters: LerfParameters | None = None,
    *,
    stop: threading.Event | None = None,
) -> dict[str, Scores]:
    """Protocol `lerf`: each phrase of a frame on its own, by its relevancy against the canonical phrases (one level).

    Args:
        engine: of the run.
        groups: views to report separately, by name.
        labels: the folder with one JSON for each labelled frame; by default ../label/<scene>, as in LangSplat.
        parameters: windows and threshold, in pixels of the run's images; by default those of the published code.
        stop: set it to end after the current view.

    Returns:
        Scores of each group with a labelled frame.

    Raises:
        SceneError: the folder has another layout, or names a frame that the scene does not have.
        ConfigError: no view of any group is labelled.
        KeyboardInterrupt: after `stop`.
    """
    folder, frames = labelled_frames(engine.scene, labels)
    scores = {}
    for name, views in groups.items():
        known, adding = [view for view in views if view in frames], LerfScene(parameters or LerfParameters())
        for view in until_stopped(known, stop):
            phrases = [unit.category for unit in frames[view].units]
            if phrases:
                points, places = engine.relevancy(phrases), engine.places(engine.scene.frames[view].name)
                maps = places.image(points).astype(np.float64)
                adding.update(frames[view], {phrase: maps[None, ..., i] for i, phrase in enumerate(phrases)})
        if any(frames[view].units for view in known):
            scores[name] = adding.result()
    return some_scores(scores, groups, folder)


def labelled_frames(scene: Scene, labels: Path | None) -> tuple[Path, dict[int, LerfFrame]]:
    """The folder of LERF's labels, and the frames in it by view. Raises SceneError as `measure_lerf`."""
    folder = labels or scene.path.parent / "label" / scene.name
    if not folder.is_dir():
        raise SceneError(
            "There are no labels in LERF's layout", where=folder, fix="--labels FOLDER with its JSON files"
        )
    return folder, {_view_of(scene, frame, folder): frame for frame in read_lerf_folder(folder)}


def _annotated(scene: Scene, labels: Path | None) -> tuple[Path, tuple[str, ...], dict[str, Path]]:
    """The folder of 3D-OVS's labels, its phrases, and the masks' folder of each annotated view."""
    folder = labels or scene.path / "segmentations"
    if not (folder / "classes.txt").is_file() and (folder / "segmentations" / "classes.txt").is_file():
        folder = folder / "segmentations"
    if not (folder / "classes.txt").is_file():
        raise SceneError(
            "There are no labels in the layout of 3D-OVS", where=folder,
            fix="--labels FOLDER with classes.txt and <NN>/<phrase>.png for the annotated views",
        )  # fmt: skip
    phrases = read_phrases(folder / "classes.txt")
    return folder, phrases, annotated_photos(folder, scene.photos)


def _view_of(scene: Scene, frame: LerfFrame, folder: Path) -> int:
    """The view of a frame, by stem: labels name "frame_00041.jpg", and the photo may have another suffix."""
    stem = Path(frame.name).stem
    for view, known in enumerate(scene.frames):
        if Path(known.name).stem == stem:
            return view
    raise SceneError(f"The scene has no photo {frame.name}", where=folder, fix="labels and photos of the same scene")


def some_scores(scores: dict[str, Scores], groups: Mapping[str, Sequence[int]], folder: Path) -> dict[str, Scores]:
    """The scores. Raises ConfigError: no view of any group has labels."""
    if not scores:
        raise ConfigError(f"No {' or '.join(groups)} view has labels", where=folder, fix="--views all")
    return scores
