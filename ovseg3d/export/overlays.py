"""Semantic overlays: a renderer that also draws labels, instances, relevancy and features, for views and paths.

Features are coloured by their three largest principal components over the whole surface, so colours agree between
views. Labels and instances have fixed colours (`palette`); relevancy has a fixed scale above its threshold.
`save_semantics_preview` writes the last preview of a run.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import Image

from ovseg3d.export.drawing import over, shaded
from ovseg3d.features.images import vector_colours
from ovseg3d.query.engine import THRESHOLD, QueryEngine
from ovseg3d.query.words import is_structural
from ovseg3d.render.images import contact_sheet, photo_on_white, save_image, side_by_side, to_bytes
from ovseg3d.render.palette import colours, instance_names, legend
from ovseg3d.render.views import spread
from ovseg3d.scene import Camera

KINDS = ("features", "labels", "instances", "relevancy")
SHOWN = 3
"""Views in a run's preview."""
TRIED = 5
"""Views that these are chosen among; an engine caches this many."""
SEEN = 0.005
"""Least share of a view that counts as visible."""


class Painter:
    """Renders a run with its semantics; implements `render.frames.Renders`.

    Args:
        engine: of the run.
        what: which of `KINDS` to draw beside the field's own images.
        phrases: the closed list of the labels.
        phrase: the phrase whose relevancy is drawn.
        none: whether a pixel may belong to none of the list.
    """

    def __init__(
        self, engine: QueryEngine, what: Sequence[str], phrases: Sequence[str] = (), phrase: str = "", none: bool = True
    ) -> None:
        self.engine, self.what, self.phrases, self.phrase, self.none = engine, tuple(what), tuple(phrases), phrase, none

    def render(self, camera: Camera, normals: bool = False) -> dict[str, np.ndarray]:
        """The field's images, and an image (h, w, 3) uint8 for each of `what`."""
        shown = self.engine.renderer.render(camera, normals=normals)
        places = self.engine.semantics.places(camera, shown["depth_z"])
        if "features" in self.what:
            shown["features"] = to_bytes(places.image(self._colours))
        if "labels" in self.what:
            found = self.engine.labels_at(places, self.phrases, none=self.none)
            shown["labels"] = shaded(shown["rgb"], found, colours(self.phrases, self.engine.phrases))
        if "instances" in self.what:
            ids = self.engine.semantics.instance.astype(np.int64)
            tints = colours(instance_names(int(ids.max(initial=0))))
            shown["instances"] = shaded(shown["rgb"], places.nearest(ids), tints)
        if "relevancy" in self.what:
            found = places.image(self._relevancy)[..., 0]
            shown["relevancy"] = over(to_bytes(shown["rgb"]), found, THRESHOLD)
        return shown

    @cached_property
    def _relevancy(self) -> Float[np.ndarray, "points 1"]:
        return self.engine.ask([self.phrase])[0].relevancy[:, None]

    @cached_property
    def _colours(self) -> Float[np.ndarray, "points 3"]:
        """A colour for each surface point."""
        return vector_colours(self.engine.semantics.vectors)


def save_semantics_preview(path: Path, engine: QueryEngine) -> None:
    """Write the preview of a run: photo, render, features, and labels and one query, or instances without phrases.

    The views are held-out ones. The query is the phrase, other than wall, floor or ceiling, that most of the views
    show, and among these the one with the highest score; the views that show it most are used.

    Raises OutputError.
    """
    scene, phrases = engine.scene, engine.phrases
    views = spread(scene.test or scene.train, TRIED)
    names = [scene.frames[view].name for view in views]
    phrase, seen = _surest(engine, phrases, names) if phrases else ("", {})
    views = sorted(sorted(views, key=lambda view: -seen.get(scene.frames[view].name, 0.0))[:SHOWN])
    titles = {"features": "features", "labels": "labels", "relevancy": f'"{phrase}"', "instances": "instances"}
    what = ("features", "labels", "relevancy") if phrases else ("features", "instances")
    painter, rows, found = Painter(engine, what, phrases, phrase, none=False), [], set()
    for view in views:
        frame = scene.frames[view]
        shown = painter.render(frame.camera)
        images = [("photo", to_bytes(photo_on_white(frame))), ("render", to_bytes(shown["rgb"]))]
        rows.append(side_by_side([*images, *((titles[kind], shown[kind]) for kind in what)]))
        if phrases:
            counts = np.bincount(engine.label_image(phrases, frame.name, none=False).ravel())
            found |= set(np.flatnonzero(counts > SEEN / 2 * counts.sum()).tolist()) - {0}
    names = [phrases[number - 1] for number in sorted(found)]
    sheets: list[Image.Image] = [*rows, legend(names, own=phrases)] if names else rows
    save_image(path, contact_sheet(sheets))


def _surest(engine: QueryEngine, phrases: Sequence[str], views: Sequence[str]) -> tuple[str, dict[str, float]]:
    """The phrase that is visible in most views (up to `SHOWN`), by score among equals; its share of each view."""
    instances = [phrase for phrase in phrases if not is_structural(phrase)] or list(phrases)
    score: dict[str, float] = {}
    seen: dict[str, dict[str, float]] = {}
    for phrase in instances:  # one by one: images of two hundred phrases take gigabytes
        (answer,) = engine.ask([phrase], views=views)
        score[phrase] = answer.score
        seen[phrase] = {view: float(mask.mean()) for view, mask in answer.masks.items()}
    best = max(instances, key=lambda one: (min(SHOWN, sum(share > SEEN for share in seen[one].values())), score[one]))
    return best, seen[best]
