"""Label images of a run's views: from a closed list of phrases, or of the things that were found without any.

<folder>/<view>.png     index image: 0 none, i the i-th phrase or the thing with id i; with a palette
<folder>/labels.json    phrases with label, colour and counts, or things with their boxes; which file is which view
<folder>/overview.png   photo | labels of some views, and the legend
"""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from PIL import Image

from ovseg3d.engine import Event, Report, ignore
from ovseg3d.errors import ConfigError
from ovseg3d.files import write_json
from ovseg3d.pipeline.answers import view_file
from ovseg3d.pipeline.palette import colours, index_image, legend, thing_names
from ovseg3d.pipeline.pictures import contact_sheet, save_picture, side_by_side
from ovseg3d.pipeline.query import Asker
from ovseg3d.scene.images import load_photo
from ovseg3d.semantics.scene import Places
from ovseg3d.semantics.things import instances_of

SHOWN = 6
"""Views in the overview."""
MOST = 254
"""Phrases that fit into a label image with a palette."""


def label_views(
    folder: Path,
    asker: Asker,
    phrases: Sequence[str],
    views: Sequence[str],
    *,
    none: bool = True,
    each: Callable[[str, Int[np.ndarray, "h w"], Places], None] | None = None,
    report: Report = ignore,
    stop: threading.Event | None = None,
) -> dict[str, Any]:
    """Write label images; returns what JSON says of them.

    Args:
        folder: where to.
        asker: of the run.
        phrases: the list.
        views: names of frames.
        none: whether a pixel may belong to none of the list.
        each: is told each view's name, labels, and the surface points behind its pixels.
        report: receives events of the stage "segment".
        stop: set it to end after the current view: KeyboardInterrupt then, and no labels.json.

    Raises:
        ConfigError: too many phrases. OutputError: the folder cannot be written to.
    """
    if len(phrases) > MOST:
        raise ConfigError(f"A list may have {MOST} phrases, this one has {len(phrases)}", fix="ask in several calls")
    found = lambda places: asker.labels_at(places, phrases, none=none)  # noqa: E731
    told = _write(folder, asker, found, phrases, views, each, report, stop)
    names = ["none", *phrases]
    labels = [{"label": number, "phrase": name, **rest} for number, (name, rest) in enumerate(zip(names, told["each"]))]
    return _keep(folder, {"labels": labels, "views": told["views"]})


def instance_views(
    folder: Path,
    asker: Asker,
    views: Sequence[str],
    *,
    phrases: Sequence[str] = (),
    report: Report = ignore,
    stop: threading.Event | None = None,
) -> dict[str, Any]:
    """Write images of the run's things, each in a colour of its own; returns what JSON says of them.

    Args:
        phrases: names for the things, each the nearest to most of its points; without, no encoder is needed.
        folder, asker, views, report, stop: as for `label_views`.

    Raises:
        OutputError: the folder cannot be written to.
    """
    ids = asker.semantics.instance
    labels = asker.labels(phrases) if phrases else None
    things = instances_of(asker.semantics.surface, ids, labels=labels, phrases=phrases)
    names = thing_names(int(ids.max(initial=0)))
    shown = lambda places: places.nearest(ids.astype(np.int64))  # noqa: E731
    told = _write(folder, asker, shown, names, views, None, report, stop)
    found = [{**thing.record(), **told["each"][thing.id]} for thing in things]
    return _keep(folder, {"instances": found, "views": told["views"]})


def _write(
    folder: Path,
    asker: Asker,
    labelled: Callable[[Places], Int[np.ndarray, "h w"]],
    names: Sequence[str],
    views: Sequence[str],
    each: Callable[[str, Int[np.ndarray, "h w"], Places], None] | None,
    report: Report,
    stop: threading.Event | None,
) -> dict[str, Any]:
    """Images and overview; colour and number of pixels of each label, and the files' names."""
    counts, files, rows = np.zeros(len(names) + 1, np.int64), {}, []
    shown = set(list(views)[:: max(1, len(views) // SHOWN)][:SHOWN])
    for number, view in enumerate(views):
        if stop is not None and stop.is_set():
            raise KeyboardInterrupt
        # Each view is looked at once, so the asker need not keep it: memory must not grow with the number of photos.
        camera = asker.camera(view)
        places = asker.semantics.places(camera, asker.renderer.render(camera)["depth_z"])
        found = labelled(places)
        if each is not None:
            each(view, found, places)
        counts += np.bincount(found.ravel(), minlength=len(counts))
        files[view] = f"{view_file(view)}.png"
        save_picture(folder / files[view], index_image(found, names))
        if view in shown:
            rows.append(_row(asker, view, found, names))
        report(Event("progress", "segment", number + 1, len(views), (number + 1) / len(views)))
    save_picture(folder / "overview.png", contact_sheet([*rows, legend(names)]))
    told = [{"colour": colour.tolist(), "pixels": int(count)} for colour, count in zip(colours(names), counts)]
    return {"each": told, "views": files}


def _keep(folder: Path, told: dict[str, Any]) -> dict[str, Any]:
    write_json(folder / "labels.json", told)
    return {"folder": folder, "picture": folder / "overview.png", **told}


def _row(asker: Asker, view: str, found: np.ndarray, names: Sequence[str]) -> Image.Image:
    frame = next(frame for frame in asker.scene.frames if frame.name == view)
    photo = np.asarray(load_photo(frame))[..., :3]
    return side_by_side([(f"photo {view_file(view)}", photo), ("labels", colours(names)[found])])
