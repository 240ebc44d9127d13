"""Label images of a run's views from a closed list of phrases.

<folder>/<view>.png     index image: 0 none, i the i-th phrase; with a palette
<folder>/labels.json    phrases with label, colour and counts; which file is which view
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
from ovseg3d.pipeline.palette import colours, index_image, legend
from ovseg3d.pipeline.pictures import contact_sheet, save_picture, side_by_side
from ovseg3d.pipeline.query import Asker
from ovseg3d.scene.images import load_photo
from ovseg3d.semantics.scene import Places

SHOWN = 6
"""Views in the overview."""
MOST = 254
"""Phrases that fit into a label image."""


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
    counts, files, rows = np.zeros(len(phrases) + 1, np.int64), {}, []
    shown = set(list(views)[:: max(1, len(views) // SHOWN)][:SHOWN])
    for number, view in enumerate(views):
        if stop is not None and stop.is_set():
            raise KeyboardInterrupt
        # Each view is looked at once, so the asker need not keep it: memory must not grow with the number of photos.
        camera = asker.camera(view)
        places = asker.semantics.places(camera, asker.renderer.render(camera)["depth_z"])
        found = asker.labels_at(places, phrases, none=none)
        if each is not None:
            each(view, found, places)
        counts += np.bincount(found.ravel(), minlength=len(counts))
        files[view] = folder / f"{view_file(view)}.png"
        save_picture(files[view], index_image(found, phrases))
        if view in shown:
            rows.append(_row(asker, view, found, phrases))
        report(Event("progress", "segment", number + 1, len(views), (number + 1) / len(views)))
    picture = folder / "overview.png"
    save_picture(picture, contact_sheet([*rows, legend(phrases)]))
    labels = [
        {"label": number, "phrase": phrase, "colour": colour.tolist(), "pixels": int(count)}
        for number, (phrase, colour, count) in enumerate(zip(["none", *phrases], colours(phrases), counts))
    ]
    told = {"labels": labels, "views": {view: path.name for view, path in files.items()}}
    write_json(folder / "labels.json", told)
    return {"folder": folder, "picture": picture, **told}


def _row(asker: Asker, view: str, found: np.ndarray, phrases: Sequence[str]) -> Image.Image:
    frame = next(frame for frame in asker.scene.frames if frame.name == view)
    photo = np.asarray(load_photo(frame))[..., :3]
    painted = colours(phrases)[found]
    return side_by_side([(f"photo {view_file(view)}", photo), ("labels", painted)])
