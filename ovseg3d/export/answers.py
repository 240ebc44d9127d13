"""Answers as files: points, masks and an overview.

<folder>/<phrase>/points.ply       surface points above the threshold: xyz, colour, relevancy
<folder>/<phrase>/masks/<view>.png     255 inside the mask
<folder>/<phrase>/overview.png     views with a relevancy overlay

Files of an earlier answer are replaced once the new ones are complete.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from ovseg3d.export.drawing import beside_photo, over, photo_of
from ovseg3d.files import write_atomic, write_together
from ovseg3d.query.engine import Answer, QueryEngine
from ovseg3d.render.images import contact_sheet, save_image
from ovseg3d.render.views import free_name

POINTS, MASKS, OVERVIEW = "points.ply", "masks", "overview.png"
SHOWN = 6
"""Views in an overview: those with the largest masks."""


def save_answers(
    folder: Path, engine: QueryEngine, answers: Sequence[Answer], views: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Write the files of each answer.

    Args:
        folder: receives one folder for each phrase.
        engine: of the run.
        answers: from `engine.ask`.
        views: names of frames to make masks of. Views are rendered one by one for all answers, and only the images of
            the overviews are held in memory.

    Returns:
        The JSON record of each answer.

    Raises:
        ConfigError: an unknown view.
        OutputError: the folder cannot be written to.
    """
    masks, taken = {view: f"{MASKS}/{engine.view_file(view)}.png" for view in views}, set()
    folders = [folder / unique_name(answer.phrase, taken) for answer in answers]
    with ExitStack() as stack:
        for own in folders:
            stack.callback(_remove_empty, own)  # after the files were moved there
        places = [stack.enter_context(write_together(own, None, _earlier(own))) for own in folders]
        for answer, place in zip(answers, places):
            if len(answer.points):
                rgb = engine.semantics.surface.rgb[answer.point_index]
                write_points(place / POINTS, answer.points, rgb, answer.point_scores)
        best: list[list[tuple[int, str, np.ndarray]]] = [[] for _ in answers]
        for view, file in masks.items():
            for answer, place, shown in zip(answers, places, best):
                image = engine.image(answer, view)
                save_image(place / file, Image.fromarray(answer.mask(image).astype(np.uint8) * 255))
                shown.append((int((image >= answer.threshold).sum()), view, image))
                shown.sort(key=lambda one: -one[0])
                del shown[SHOWN:]
        for answer, place, shown in zip(answers, places, best):
            if shown:
                rows = [_row(engine, view, answer, image) for _, view, image in shown]
                save_image(place / OVERVIEW, contact_sheet(rows))
    return [_record(own, answer, masks) for own, answer in zip(folders, answers)]


def _record(folder: Path, answer: Answer, masks: Mapping[str, str]) -> dict[str, Any]:
    """The JSON record of an answer whose files are in `folder`."""
    return {
        "phrase": answer.phrase,
        "present": answer.present,
        "score": answer.score,
        "probability": answer.probability,
        "calibrated": answer.calibrated,
        "calibrated_by": answer.calibrated_by,
        "threshold": answer.threshold,
        "alternative": answer.alternative,
        "relation": None if answer.relation is None else answer.relation.record(),
        "n_points": len(answer.points),
        "instances": [instance.record() for instance in answer.instances],
        "points": folder / POINTS if len(answer.points) else None,
        "masks": {view: folder / name for view, name in masks.items()},
        "image": folder / OVERVIEW if masks else None,
    }


def _remove_empty(folder: Path) -> None:
    """Absent phrases have no files, and then no folder."""
    with suppress(OSError):
        folder.rmdir()


def _earlier(folder: Path) -> list[str]:
    """Files of an earlier answer; masks belong to it only if there is an overview."""
    masks = (folder / MASKS).glob("*.png") if (folder / OVERVIEW).exists() else ()
    return [POINTS, OVERVIEW, *(f"{MASKS}/{mask.name}" for mask in masks)]


def _row(engine: QueryEngine, view: str, answer: Answer, image: Float[np.ndarray, "h w"]) -> Image.Image:
    photo = photo_of(engine, view)
    return beside_photo(view, photo, f'"{answer.phrase}"', over(photo, image, answer.threshold))


def write_points(
    path: Path,
    xyz: Float[np.ndarray, "points 3"],
    rgb: UInt8[np.ndarray, "points 3"],
    relevancy: Float[np.ndarray, " points"],
) -> None:
    """A binary PLY of points with their relevancy. Raises OutputError."""
    from plyfile import PlyData, PlyElement

    kinds = [("x", "f4"), ("y", "f4"), ("z", "f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1"), ("relevancy", "f4")]
    rows = np.empty(len(xyz), dtype=kinds)
    columns = [*xyz.T, *rgb.T, relevancy]
    for (name, _), column in zip(kinds, columns):
        rows[name] = column
    write_atomic(path, lambda temporary: PlyData([PlyElement.describe(rows, "vertex")]).write(str(temporary)))


def unique_name(phrase: str, taken: set[str]) -> str:
    """A phrase as the name of a folder that is not in `taken`; it is added to `taken`."""
    plain = re.sub(r"[^\w]+", "_", phrase.strip().lower()).strip("_")[:60] or "phrase"
    return free_name(plain, taken)
