"""What stands in one visitor's 3D view before the picture, as the switches say: points, cameras, boxes, names.

Three groups have boxes and names: what was found ("answer"), what was clicked ("pointed"), and all things ("all").
"""

from typing import TYPE_CHECKING

import numpy as np

from ovseg3d.instances.records import Instance, instances_of
from ovseg3d.viewer import layers
from ovseg3d.viewer.ask import SHOWN_HITS
from ovseg3d.viewer.nodes import top_of

if TYPE_CHECKING:
    from ovseg3d.viewer.visitor import Visitor

GROUPS = ("answer", "pointed", "all")
_UNNAMED = np.array([200, 200, 200], np.uint8)


class Scenery:
    """Keeps a visitor's nodes in line with the switches."""

    def __init__(self, visitor: "Visitor") -> None:
        self._visitor, self._panel, self._nodes = visitor, visitor.panel, visitor.nodes
        self._exhibit = visitor.exhibit
        self.things: tuple[Instance, ...] = ()
        """All things, while they are shown."""

    def listen(self) -> None:
        """Follow the switches."""
        panel, on = self._panel, self._visitor.guarded
        for switch in (panel.picture_on, panel.points_on, panel.cameras_on, panel.boxes_on, panel.names_on):
            switch.on_update(on(lambda _: self.show_all()))
        panel.things_on.on_update(on(lambda _: self.show_things()))

    def show_all(self) -> None:
        """Bring the scene in line with the switches."""
        panel, nodes, layer = self._panel, self._nodes, self._visitor.pictures.layer
        with self._visitor.state:
            points = panel.points_on.value
            nodes.show_points(layer.point_colours(self._exhibit) if points else self._exhibit.cloud[1], points)
            self.show_cameras()
            # The other layers colour the same surface themselves.
            nodes.show("highlight", layer.name in (layers.COLOUR, layers.DEPTH, layers.FEATURES))
            for group in GROUPS:
                nodes.show(f"{group}-boxes", panel.boxes_on.value)
                nodes.show(f"{group}-names", panel.names_on.value)
        self._visitor.pictures.want()

    def show_cameras(self) -> None:
        """The training cameras, but for those that the visitor stands in."""
        visitor = self._visitor
        with visitor.state:
            stand = visitor.guarded(visitor.pointing.stand_at)
            self._nodes.show_cameras(self._panel.cameras_on.value, visitor.pictures.eye, stand)

    def show_things(self) -> None:
        """Boxes and names of every thing that was told apart."""
        semantics, pictures = self._exhibit.semantics, self._visitor.pictures
        with self._visitor.state:
            self._nodes.clear("all-boxes")
            self.things = ()
            self.name()
        if semantics is None or not self._panel.things_on.value:
            return
        if pictures.labelling is None and self._panel.label_list():
            pictures.label()
        known, labels, phrases, palette = pictures.labelling, None, (), ()
        if known is not None and known.semantics is semantics:
            labels, phrases, palette = known.labels, known.phrases, known.tints
        things = instances_of(semantics.surface, semantics.instance, labels=labels, phrases=phrases)
        tints = [palette[phrases.index(thing.label) + 1] if thing.label else _UNNAMED for thing in things]
        with self._visitor.state:
            if semantics is not self._exhibit.semantics:
                return  # the visitor is about to be told of another surface
            self._nodes.boxes("all", things, np.array(tints, np.uint8).reshape(-1, 3))
            self.things = things
            self.name()
        self.show_all()

    def name(self) -> None:
        """Write names at what was found, clicked, or at all things; each thing is named once."""
        reply, pointed = self._visitor.asking.reply, self._visitor.pointing.pointed
        up, named = self._exhibit.up, set()
        hits = reply.hits[:SHOWN_HITS] if reply is not None else ()
        texts = [f"{reply.question.phrases[hit.phrase]} {hit.thing.score:.2f}" for hit in hits]
        self._nodes.names("answer", [top_of(hit.thing, up) for hit in hits], texts)
        named |= {hit.thing.id for hit in hits}
        if pointed is not None:
            known = pointed.thing is not None and pointed.thing.id in named
            text = pointed.name if pointed.words else "here"
            self._nodes.names("pointed", [] if known else [pointed.spot.xyz], [] if known else [text])
            named |= {pointed.thing.id} if pointed.thing is not None else set()
        others = [thing for thing in self.things if thing.id not in named]
        texts = [thing.label or f"thing {thing.id}" for thing in others]
        self._nodes.names("all", [top_of(thing, up) for thing in others], texts)
