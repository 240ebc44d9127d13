"""Label images of a run's views: from a closed list of phrases, or of class-agnostic instances.

<folder>/<view>.png         index image: 0 none, i the i-th phrase or the instance with id i; with a palette
<folder>/labels.json        phrases with label, colour and counts, or instances with their boxes; the file of each view
<folder>/annotations.json   of phrases: the same as COCO annotations, see `export.coco`
<folder>/overview.png       photo | labels of some views, and the legend

`ovseg3d segment` and `ovseg3d export --what labels` both write this set. It is replaced as a whole: an interrupted
write leaves the earlier set unchanged.
"""

import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from ovseg3d.engine import Event, Report, ignore
from ovseg3d.errors import ConfigError, OutputError
from ovseg3d.export.coco import annotations_of, coco
from ovseg3d.export.drawing import beside_photo, photo_of
from ovseg3d.files import listed_files, plain, read_json, write_atomic, write_json, write_together
from ovseg3d.instances.records import Instance
from ovseg3d.points.semantic_scene import Places
from ovseg3d.query.engine import QueryEngine
from ovseg3d.render.images import contact_sheet, save_image
from ovseg3d.render.palette import colours, index_image, instance_names, legend
from ovseg3d.render.views import spread
from ovseg3d.scene import describe_scale

LISTING, ANNOTATIONS, OVERVIEW = "labels.json", "annotations.json", "overview.png"
SHOWN = 6
"""Views in the overview."""
MAX_PHRASES = 254
"""Phrases that fit into a label image with a palette."""


def label_views(
    folder: Path,
    engine: QueryEngine,
    phrases: Sequence[str],
    views: Sequence[str],
    *,
    none: bool = True,
    report: Report = ignore,
    stop: threading.Event | None = None,
) -> dict[str, Any]:
    """Write label images.

    Args:
        folder: receives the files.
        engine: of the run.
        phrases: the list.
        views: names of frames.
        none: whether a pixel may belong to none of the list.
        report: receives events of the stage "segment".
        stop: set it to end after the current view: KeyboardInterrupt then, and nothing has changed.

    Returns:
        The JSON record of the set.

    Raises:
        ConfigError: too many phrases.
        OutputError: the folder cannot be written to.
        KeyboardInterrupt: after `stop`.
    """
    if len(phrases) > MAX_PHRASES:
        raise ConfigError(
            f"A list may have {MAX_PHRASES} phrases, this one has {len(phrases)}", fix="ask in several calls"
        )
    numbers = {phrase: k for k, phrase in enumerate(phrases, start=1)}
    instances = _instances(engine, phrases, none)
    categories = {instance.id: numbers.get(instance.label or "", 0) for instance in instances}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    with write_together(folder, LISTING, _earlier(folder)) as place:
        written = _LabelImages(place, engine, phrases, engine.phrases, views)
        for view, places in _rendered(engine, views, report, stop):
            found = engine.labels_at(places, phrases, none=none)
            h, w = found.shape
            file = written.add(view, found)
            images.append({"id": len(images) + 1, "file_name": view, "width": w, "height": h, "label_file": file})
            instance = places.nearest(engine.semantics.instance)
            annotations.extend(annotations_of(len(images), found.astype(np.int64), instance, categories))
        written.finish()
        scale = engine.scene.metres_per_unit
        everything = coco(images, annotations, phrases, engine.run.scene_name, instances, scale)
        # No indent: it would put each run length on a line.
        text = json.dumps(plain(everything), ensure_ascii=False, allow_nan=False)
        write_atomic(place / ANNOTATIONS, (text + "\n").encode())
        names = ["none", *phrases]
        labels = [{"label": k, "phrase": name, **rest} for k, (name, rest) in enumerate(zip(names, written.facts()))]
        listing = {"labels": labels, "views": written.files}
        write_json(place / LISTING, listing)
    return {"folder": folder, "image": folder / OVERVIEW, "annotations": folder / ANNOTATIONS, **listing}


def instance_views(
    folder: Path,
    engine: QueryEngine,
    views: Sequence[str],
    *,
    phrases: Sequence[str] = (),
    report: Report = ignore,
    stop: threading.Event | None = None,
) -> dict[str, Any]:
    """Write images of the run's instances, each in a colour of its own.

    Args:
        phrases: candidate names; an instance takes the label of most of its points. Without, no encoder is needed.
        folder, engine, views, report, stop: as for `label_views`.

    Returns:
        The JSON record of the set.

    Raises:
        OutputError: the folder cannot be written to.
        KeyboardInterrupt: after `stop`.
    """
    ids = engine.semantics.instance
    instances = _instances(engine, phrases)
    names = instance_names(int(ids.max(initial=0)))

    with write_together(folder, LISTING, _earlier(folder)) as place:
        written = _LabelImages(place, engine, names, (), views)
        for view, places in _rendered(engine, views, report, stop):
            written.add(view, places.nearest(ids.astype(np.int64)))
        labels = {instance.id: instance.label for instance in instances}
        written.finish([f"{name} {labels.get(int(name)) or ''}".rstrip() for name in names])
        facts = written.facts()
        found = [{**instance.record(), **facts[instance.id]} for instance in instances]
        scale = describe_scale(engine.scene.metres_per_unit)
        listing = {"frame": "input", **scale, "instances": found, "views": written.files}
        write_json(place / LISTING, listing)
    return {"folder": folder, "image": folder / OVERVIEW, **listing}


def _instances(engine: QueryEngine, phrases: Sequence[str], none: bool = True) -> tuple[Instance, ...]:
    """The run's instances with the poses that it keeps, and with labels if there are phrases."""
    labels = engine.labels(phrases, none=none) if phrases else None
    return engine.context.posed(engine.context.instances.records(labels=labels, phrases=phrases))


def _earlier(folder: Path) -> list[str]:
    """The files of an earlier set in a folder: those that its listing names."""
    try:
        views = read_json(folder / LISTING, OutputError)["views"]
    except (OutputError, KeyError):
        return []
    named = views.values() if isinstance(views, dict) else ()
    return listed_files(folder, [*named, ANNOTATIONS, OVERVIEW])


def _rendered(
    engine: QueryEngine, views: Sequence[str], report: Report, stop: threading.Event | None
) -> Iterator[tuple[str, Places]]:
    """Each view with the surface points behind its pixels.

    Raises:
        KeyboardInterrupt: after `stop`.
    """
    for number, view in enumerate(views):
        if stop is not None and stop.is_set():
            raise KeyboardInterrupt
        # Each view is used once, so the engine's cache is bypassed: memory must not grow with the number of photos.
        camera = engine.camera(view)
        yield view, engine.semantics.places(camera, engine.renderer.render(camera)["depth_z"])
        report(Event("progress", "segment", number + 1, len(views), (number + 1) / len(views)))


class _LabelImages:
    """Writes the index images of a set and their overview, and counts pixels.

    Args:
        folder: receives the files.
        engine: of the run.
        names, own: as for `palette.colours`.
        views: names of all views that will be added.
    """

    def __init__(
        self, folder: Path, engine: QueryEngine, names: Sequence[str], own: Sequence[str], views: Sequence[str]
    ) -> None:
        self._folder, self._engine, self._names, self._own = folder, engine, names, own
        self._tints = colours(names, own)
        self._counts, self._rows = np.zeros(len(names) + 1, np.int64), []
        self._shown = set(spread(views, SHOWN))
        self.files: dict[str, str] = {}
        """By the name of the view."""

    def add(self, view: str, labels: Int[np.ndarray, "h w"]) -> str:
        """Write the image of a view, and return its file name. Raises OutputError."""
        self._counts += np.bincount(labels.ravel(), minlength=len(self._counts))
        self.files[view] = file = f"{self._engine.view_file(view)}.png"
        save_image(self._folder / file, index_image(labels, self._names, self._own))
        if view in self._shown:
            photo = photo_of(self._engine, view)
            self._rows.append(beside_photo(view, photo, "labels", self._tints[labels]))
        return file

    def finish(self, texts: Sequence[str] = ()) -> None:
        """Write the overview, with these texts in its legend, by default the names. Raises OutputError."""
        sheets = [*self._rows, legend(self._names, own=self._own, texts=texts)]
        save_image(self._folder / OVERVIEW, contact_sheet(sheets))

    def facts(self) -> list[dict[str, Any]]:
        """Colour and number of pixels of each label, none first."""
        pairs = zip(self._tints, self._counts)
        return [{"colour": colour.tolist(), "pixels": int(count)} for colour, count in pairs]
