"""Meaning as pictures: a renderer that also draws labels, things, relevancy and features, for views and paths.

Features become colours by their three largest principal components over the whole surface, so that one colour means
one thing in all views. Labels and things have lasting colours (`palette`); relevancy glows above its threshold, on a
fixed scale. `save_semantics_preview` is the picture that a run ends with.
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
"""Views that these are chosen among; an asker keeps what it needs of so many."""
SEEN = 0.005
"""Share of a view that a query has to cover to be seen there."""


class Painter:
    """Renders a run with its meaning: a `evaluate.views.Renders`.

    Args:
        asker: of the run.
        what: which of `KINDS` to draw besides what the field draws.
        phrases: the closed list of the labels.
        phrase: whose relevancy to draw.
        none: whether a pixel may belong to none of the list.
    """

    def __init__(
        self, engine: QueryEngine, what: Sequence[str], phrases: Sequence[str] = (), phrase: str = "", none: bool = True
    ) -> None:
        self.engine, self.what, self.phrases, self.phrase, self.none = engine, tuple(what), tuple(phrases), phrase, none

    def render(self, camera: Camera, normals: bool = False) -> dict[str, np.ndarray]:
        """What the field renders, and a picture (h, w, 3) uint8 for each kind that was asked for."""
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
    """Write what a run ends with: photo, render, features, and labels and one query, or things without phrases.

    The views are some held-out ones; the query is the phrase that the run is surest of among those that some of these
    views show, wall and floor aside, and the views that show it come first.

    Raises OutputError.
    """
    scene, phrases = engine.scene, engine.phrases
    views = spread(scene.test or scene.train, TRIED)
    names = [scene.frames[view].name for view in views]
    phrase, seen = _surest(engine, phrases, names) if phrases else ("", {})
    views = sorted(sorted(views, key=lambda view: -seen.get(scene.frames[view].name, 0.0))[:SHOWN])
    titles = {"features": "features", "labels": "labels", "relevancy": f'"{phrase}"', "instances": "instances"}
    what = ("features", "labels", "relevancy") if phrases else ("features", "instances")
    painter, rows, told = Painter(engine, what, phrases, phrase, none=False), [], set()
    for view in views:
        frame = scene.frames[view]
        shown = painter.render(frame.camera)
        images = [("photo", to_bytes(photo_on_white(frame))), ("render", to_bytes(shown["rgb"]))]
        rows.append(side_by_side([*images, *((titles[kind], shown[kind]) for kind in what)]))
        if phrases:
            counts = np.bincount(engine.label_image(phrases, frame.name, none=False).ravel())
            told |= set(np.flatnonzero(counts > SEEN / 2 * counts.sum()).tolist()) - {0}
    names = [phrases[number - 1] for number in sorted(told)]
    sheets: list[Image.Image] = [*rows, legend(names, own=phrases)] if names else rows
    save_image(path, contact_sheet(sheets))


def _surest(engine: QueryEngine, phrases: Sequence[str], views: Sequence[str]) -> tuple[str, dict[str, float]]:
    """The phrase that most of the views to be shown can show, and of those the best; its share of each view."""
    instances = [phrase for phrase in phrases if not is_structural(phrase)] or list(phrases)
    score: dict[str, float] = {}
    seen: dict[str, dict[str, float]] = {}
    for phrase in instances:  # one by one: pictures of two hundred phrases are gigabytes
        (answer,) = engine.ask([phrase], views=views)
        score[phrase] = answer.score
        seen[phrase] = {view: float(mask.mean()) for view, mask in answer.masks.items()}
    best = max(instances, key=lambda one: (min(SHOWN, sum(share > SEEN for share in seen[one].values())), score[one]))
    return best, seen[best]
