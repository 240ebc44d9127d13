"""One browser: its camera, its question, what is highlighted, and what its controls do.

Callbacks come from viser's threads, several at once; `_state` guards what they change. Whatever a callback raises ends
as a message in this browser, and nowhere else.
"""

import functools
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import viser
from jaxtyping import Float

from ovseg3d.errors import Ovseg3dError
from ovseg3d.pipeline.palette import colours
from ovseg3d.semantics.things import Instance, instances_of
from ovseg3d.viewer import layers
from ovseg3d.viewer.ask import (
    SHOWN_HITS,
    Question,
    Reply,
    ask,
    hit_text,
    message_html,
    read_phrases,
    reply_html,
    with_threshold,
)
from ovseg3d.viewer.exhibit import Exhibit, Sheet
from ovseg3d.viewer.fly import ahead, fly, stand_to_see
from ovseg3d.viewer.keep import Keeper
from ovseg3d.viewer.layers import Labelling, Layer
from ovseg3d.viewer.lens import Viewpoint
from ovseg3d.viewer.nodes import Nodes, top_of
from ovseg3d.viewer.panel import NOTHING_ASKED, SHOW_MASK, SHOW_POINTS, Panel, status_html
from ovseg3d.viewer.pick import Pointed, describe, find_spot, pointed_html
from ovseg3d.viewer.stream import Stream

SHARP = 512.0 * 384.0
"""Pixels of a sharp picture on a slow machine."""
SHARP_SECONDS = 3.0
"""What a sharp picture may take on a fast one."""
FARTHEST = 167.0
"""viser's depth ends there, input units."""
KEPT_SHEETS = 3
LONGEST_HISTORY = 30
_POINTED = np.array([[255, 212, 59]], np.uint8)


class Visitor:
    """Serves one browser until it goes.

    Args:
        report: told of our own mistakes, as text for the terminal.
    """

    def __init__(self, client: viser.ClientHandle, exhibit: Exhibit, report: Callable[[BaseException], None]) -> None:
        self.client, self.exhibit, self._report = client, exhibit, report
        self._state = threading.RLock()
        self.reply: Reply | None = None
        self.pointed: Pointed | None = None
        self.labelling: Labelling | None = None
        self.history: list[Question] = []
        self.things: tuple[Instance, ...] = ()
        """All things, while they are shown."""
        self.layer: Layer = layers.plain_layer(layers.COLOUR)
        self.messages: list[str] = []
        """What this browser was told went wrong."""
        self._features: Layer | None = None
        self._viewpoint: Viewpoint | None = None
        self._version = exhibit.version
        self._sheets: dict[tuple, Sheet] = {}
        self.nodes = Nodes(client, exhibit)
        self.panel = Panel(client, exhibit)
        with self.panel.take_away:
            self.keeper = Keeper(self)
        self.stream = Stream(self._draw, self.tell, exhibit.pace, SHARP)
        self._listen()
        self._moved(client.camera)
        self._show_all()

    def close(self) -> None:
        """The browser has gone."""
        self.stream.close()
        self.keeper.close()

    def guarded(self, work: Callable[..., None]) -> Callable[..., None]:
        """A callback whose errors are told to this browser."""

        @functools.wraps(work)
        def call(*arguments: Any) -> None:
            try:
                work(*arguments)
            except Exception as error:
                self.tell(error)

        return call

    def tell(self, error: Exception) -> None:
        """Say in this browser what went wrong."""
        if isinstance(error, Ovseg3dError):
            title, text = error.what, f"Try: {error.fix}" if error.fix else ""
        else:
            title, text = "A mistake in ovseg3d", f"{type(error).__name__}: {error}"
            self._report(error)
        self.messages.append(title)
        self.client.add_notification(title, text, color="red", auto_close_seconds=12.0)

    # -- listening -----------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        panel, on = self.panel, self.guarded
        self.client.camera.on_update(on(self._moved))
        self.client.scene.on_click()(on(self._clicked))
        panel.ask.on_click(lambda _: panel.form.submit())
        panel.form.on_submit(on(lambda _: self.ask_typed()))
        panel.threshold.on_update(on(lambda _: self._again()))
        panel.opacity.on_update(on(lambda _: self._repaint()))
        panel.show_as.on_click(on(lambda _: self.show_as(panel.show_as.value)))
        panel.phrase.on_update(on(lambda _: self._repaint()))
        panel.history.on_update(on(lambda _: self._ask_before(panel.history.value)))
        panel.more_like.on_click(on(lambda _: self.more_like_this()))
        panel.fly_to.on_click(on(lambda _: self._fly_to_pointed()))
        panel.clear.on_click(on(lambda _: self.clear()))
        panel.layer.on_update(on(lambda _: self._repaint()))
        for switch in (panel.picture_on, panel.points_on, panel.cameras_on, panel.boxes_on, panel.names_on):
            switch.on_update(on(lambda _: self._show_all()))
        panel.things_on.on_update(on(lambda _: self._show_things()))
        panel.label.on_click(on(lambda _: self._label_typed()))

    # -- camera and picture --------------------------------------------------------------------------------------

    @property
    def viewpoint(self) -> Viewpoint | None:
        """Where the browser looks from; None before it has said so."""
        return self._viewpoint

    @property
    def eye(self) -> Float[np.ndarray, "3"] | None:
        """Where the visitor stands, input frame."""
        return None if self._viewpoint is None else np.array(self._viewpoint.position)

    def _moved(self, camera: viser.CameraHandle) -> None:
        if camera.image_width < 2 or camera.image_height < 2:
            return
        seen = Viewpoint(
            tuple(map(float, camera.wxyz)), tuple(map(float, camera.position)), float(camera.fov),
            int(camera.image_width), int(camera.image_height),
        )  # fmt: skip
        if seen != self._viewpoint:
            self._viewpoint = seen
            self._want()
            with self._state:
                self.nodes.show_cameras(self.panel.cameras_on.value, self.eye, self.guarded(self._stand_at))

    def _want(self) -> None:
        """Ask for a picture of what is to be seen now."""
        if self._viewpoint is not None and self.panel.picture_on.value:
            window = self._viewpoint.width * self._viewpoint.height
            fast = SHARP_SECONDS * self.exhibit.pace.pixels_per_second
            self.stream.sharp = float(min(window, max(SHARP, fast)))
            self.stream.want((self._viewpoint, self.layer))
        elif self._viewpoint is not None:
            self.stream.want(None)

    def _draw(self, wish: tuple[Viewpoint, Layer] | None, pixels: float, unwanted: Callable[[], bool]) -> float:
        if wish is None:
            self.client.scene.set_background_image(None)
            return 0.0
        viewpoint, layer = wish
        camera = viewpoint.camera(pixels)
        # Another layer of the same view goes on with what was rendered, be it complete or not.
        key = (viewpoint, camera.width, self.exhibit.version)
        sheet = self._sheets.pop(key, None) or Sheet(camera, hasty=pixels < self.stream.sharp)
        self._sheets[key] = sheet
        for old in list(self._sheets)[:-KEPT_SHEETS]:
            del self._sheets[old]
        seconds = self.exhibit.draw(sheet, unwanted)
        rendered = sheet.rendered
        if rendered is None or self.stream.closed:
            return 0.0
        picture = layer.picture(self.exhibit, sheet)
        depth_z = np.where(rendered["depth_z"] > 0, rendered["depth_z"], FARTHEST)
        # What lies on a surface (points, boxes) must not vanish in it, so the picture stands a little behind.
        depth_z = np.minimum(depth_z * 1.01 + self.nodes.point_size(), FARTHEST)
        quality = 75 if pixels < self.stream.sharp else 90
        self.client.scene.set_background_image(picture, "jpeg", jpeg_quality=quality, depth=depth_z)
        self.client.flush()
        return seconds

    def _repaint(self) -> None:
        """Choose the layer anew, and show it."""
        with self._state:
            name, opacity = self.panel.layer.value, self.panel.opacity.value
            self.layer = self._make_layer(name, opacity)
            self.panel.phrase.visible = name == layers.RELEVANCY and self.reply is not None
            self._legend()
        self._show_all()

    def _make_layer(self, name: str, opacity: float) -> Layer:
        reply = self.reply
        if name in (layers.ANSWER, layers.RELEVANCY) and reply is not None:
            threshold = self.panel.threshold.value
            if name == layers.ANSWER:
                there = np.where([answer.present for answer in reply.answers], reply.relevancies, 0.0)
                return layers.answer_layer(there, reply.tints, threshold, opacity)
            return layers.relevancy_layer(reply.relevancies[:, self._shown_phrase()], opacity)
        if name == layers.LABELS:
            if self.labelling is None:
                phrases = read_phrases(self.panel.labels.value)
                self.labelling = layers.make_labelling(self.exhibit, phrases)
            return layers.label_layer(self.labelling, opacity)
        if name == layers.FEATURES:
            return layers.feature_layer(self.exhibit, opacity)
        return layers.plain_layer(name if name == layers.DEPTH else layers.COLOUR)

    def _shown_phrase(self) -> int:
        phrases = self.reply.question.phrases if self.reply else ()
        return phrases.index(self.panel.phrase.value) if self.panel.phrase.value in phrases else 0

    def _legend(self) -> None:
        panel, reply = self.panel, self.reply
        text = ""
        if self.layer.name == layers.LABELS and self.labelling is not None:
            text = layers.label_html(self.labelling)
        elif self.layer.name == layers.RELEVANCY and reply is not None:
            title = f'relevancy of "{reply.question.phrases[self._shown_phrase()]}"'
            text = layers.scale_html(title, "0", "1", panel.threshold.value)
        elif self.layer.name in layers.EXPLAINED:
            text = layers.note_html(layers.EXPLAINED[self.layer.name])
        elif panel.layer.value in (layers.ANSWER, layers.RELEVANCY):
            text = message_html("Ask something first: the tab Ask.") if reply is None else reply_html(reply)
        panel.legend.content = text
        panel.scale.content = text if self.layer.name == layers.RELEVANCY else ""

    def _show_all(self) -> None:
        """Bring the scene in line with the switches."""
        panel, nodes = self.panel, self.nodes
        with self._state:
            points = panel.points_on.value
            nodes.show_points(self.layer.point_colours(self.exhibit) if points else self.exhibit.cloud[1], points)
            nodes.show_cameras(panel.cameras_on.value, self.eye, self.guarded(self._stand_at))
            # The other layers colour the same surface themselves.
            nodes.show("highlight", self.layer.name in (layers.COLOUR, layers.DEPTH, layers.FEATURES))
            for group in ("answer", "pointed", "all"):
                nodes.show(f"{group}-boxes", panel.boxes_on.value)
                nodes.show(f"{group}-names", panel.names_on.value)
        self._want()

    # -- asking --------------------------------------------------------------------------------------------------

    def ask_typed(self) -> None:
        """Ask what stands in the form."""
        panel = self.panel
        try:
            question = Question(
                read_phrases(panel.phrases.value), read_phrases(panel.negatives.value),
                read_phrases(panel.canonical.value), panel.threshold.value,
            )  # fmt: skip
            self.ask(question)
        except Ovseg3dError as error:
            self.messages.append(error.what)
            panel.answer.content = message_html(error.what, error.fix)

    def ask(self, question: Question) -> None:
        """Answer a question and show it."""
        reply = ask(self.exhibit, question, self.eye)
        with self._state:
            known = [earlier for earlier in self.history if earlier.title != question.title]
            self.history = [question, *known][:LONGEST_HISTORY]
            self.panel.history.options = (NOTHING_ASKED, *(earlier.title for earlier in self.history))
            self.panel.phrase.options = question.phrases
            if reply.present:
                self.panel.phrase.value = question.phrases[reply.present[0]]
            self._take(reply)

    def _take(self, reply: Reply) -> None:
        with self._state:
            self.reply = reply
            self.panel.answer.content = reply_html(reply)
            texts = [hit_text(hit, reply.question.phrases, self.exhibit.unit) for hit in reply.hits[:SHOWN_HITS]]
            self.panel.show_hits(texts, self.guarded(self._fly_to_hit))
            points, phrase = reply.found()
            shade = 0.45 + 0.55 * self.exhibit.cloud[1][points].mean(1, keepdims=True) / 255
            self.nodes.highlight(points, (reply.tints[phrase] * shade).astype(np.uint8))
            boxed = [hit for hit in reply.hits if hit.thing.id > 0]
            tints = reply.tints[[hit.phrase for hit in boxed]] if boxed else np.empty((0, 3), np.uint8)
            self.nodes.boxes("answer", [hit.thing for hit in boxed], tints)
            self._name()
        self._repaint()

    def _name(self) -> None:
        """Write names at what was found, clicked, or at all things; each thing is named once."""
        reply, up, named = self.reply, self.exhibit.up, set()
        hits = reply.hits[:SHOWN_HITS] if reply is not None else ()
        texts = [f"{reply.question.phrases[hit.phrase]} {hit.thing.score:.2f}" for hit in hits]
        self.nodes.names("answer", [top_of(hit.thing, up) for hit in hits], texts)
        named |= {hit.thing.id for hit in hits}
        pointed = self.pointed
        if pointed is not None:
            known = pointed.thing is not None and pointed.thing.id in named
            text = pointed.name if pointed.words else "here"
            self.nodes.names("pointed", [] if known else [pointed.spot.xyz], [] if known else [text])
            named |= {pointed.thing.id} if pointed.thing is not None else set()
        others = [thing for thing in self.things if thing.id not in named]
        texts = [thing.label or f"thing {thing.id}" for thing in others]
        self.nodes.names("all", [top_of(thing, up) for thing in others], texts)

    def _again(self) -> None:
        """The same question with the slider's threshold."""
        reply, threshold = self.reply, self.panel.threshold.value
        if reply is not None and reply.question.threshold != threshold:
            self._take(ask(self.exhibit, with_threshold(reply.question, threshold), self.eye))

    def _ask_before(self, title: str) -> None:
        for question in self.history:
            if question.title == title and (self.reply is None or self.reply.question.title != title):
                if question.example is None:
                    self.panel.phrases.value = title
                self.ask(replace(question, threshold=self.panel.threshold.value))
                return

    def show_as(self, way: str) -> None:
        """Show the answer as highlighted points, a mask over the picture, or relevancy."""
        names = {SHOW_POINTS: layers.COLOUR, SHOW_MASK: layers.ANSWER}
        self.panel.layer.value = names.get(way, layers.RELEVANCY)
        self._repaint()

    def clear(self) -> None:
        """Forget the answer and what was clicked."""
        with self._state:
            self.reply, self.pointed = None, None
            self.panel.answer.content, self.panel.phrases.value = "", ""
            self.panel.show_hits((), lambda _: None)
            self.panel.pointed_folder.visible = False
            for group in ("highlight", "answer-boxes", "answer-names", "pointed-boxes", "pointed-names"):
                self.nodes.clear(group)
            self._name()
            self.nodes.highlighted = 0
            if self.panel.layer.value in (layers.ANSWER, layers.RELEVANCY):
                self.panel.layer.value = layers.COLOUR
        self._repaint()

    # -- pointing ------------------------------------------------------------------------------------------------

    def _clicked(self, event: viser.SceneClickEvent) -> None:
        self.point_at(np.array(event.ray_origin, np.float64), np.array(event.ray_direction, np.float64))

    def point_at(self, origin: Float[np.ndarray, "3"], direction: Float[np.ndarray, "3"]) -> None:
        """Say what a ray meets."""
        spot = find_spot(self.exhibit, origin, direction)
        if spot is None:
            return
        phrases = self.labelling.phrases if self.labelling is not None else self.exhibit.scene.phrases
        if self.reply is not None and self.reply.question.example is None:
            phrases = (*self.reply.question.phrases, *phrases)
        pointed = describe(self.exhibit, spot, phrases)
        panel = self.panel
        with self._state:
            self.pointed = pointed
            panel.pointed.content = pointed_html(pointed)
            panel.pointed_folder.visible = True
            panel.more_like.visible = spot.point is not None and self.exhibit.semantics is not None
            thing = [pointed.thing] if pointed.thing is not None else []
            self.nodes.boxes("pointed", thing, np.repeat(_POINTED, len(thing), 0))
            self._name()
        self._show_all()

    def more_like_this(self) -> None:
        """Ask for what is like the thing that was clicked."""
        pointed = self.pointed
        if pointed is not None and pointed.spot.point is not None:
            name = f"like this {pointed.name} at {', '.join(f'{v:.1f}' for v in pointed.spot.xyz)}"
            self.ask(Question((name,), threshold=self.panel.threshold.value, example=pointed.spot.point))

    # -- going about ---------------------------------------------------------------------------------------------

    def _fly_to_hit(self, number: int) -> None:
        if self.reply is not None and number < len(self.reply.hits):
            self.fly_to(self.reply.hits[number].thing)

    def _fly_to_pointed(self) -> None:
        if self.pointed is not None and self.pointed.thing is not None:
            self.fly_to(self.pointed.thing)
        elif self.pointed is not None:
            place = tuple(self.pointed.spot.xyz.tolist())
            size = (0.2 * self.pointed.spot.distance,) * 3
            self.fly_to(Instance(0, None, 1.0, place, size, (1.0, 0.0, 0.0, 0.0), None, "input", 1, None))

    def fly_to(self, thing: Instance) -> None:
        """Take the visitor to a place from which a thing is well seen."""
        stand = stand_to_see(self.exhibit, thing, self.eye)
        fly(self.client, stand, np.array(thing.center), self.exhibit.up)

    def _stand_at(self, number: int) -> None:
        camera = self.exhibit.scene.frames[number].camera
        fly(self.client, camera.position, ahead(self.exhibit, camera), camera.up)

    # -- layers --------------------------------------------------------------------------------------------------

    def _label_typed(self) -> None:
        phrases = read_phrases(self.panel.labels.value)
        labelling = layers.make_labelling(self.exhibit, phrases)
        with self._state:
            self.labelling = labelling
            self.panel.layer.value = layers.LABELS
        self._repaint()

    def _show_things(self) -> None:
        """Boxes and names of every thing that was told apart."""
        semantics = self.exhibit.semantics
        self.nodes.clear("all-boxes")
        self.things = ()
        self._name()
        if semantics is None or not self.panel.things_on.value:
            return
        phrases = read_phrases(self.panel.labels.value)
        if self.labelling is None and phrases:
            self.labelling = layers.make_labelling(self.exhibit, phrases)
        labels = self.labelling.labels if self.labelling is not None else None
        phrases = self.labelling.phrases if self.labelling is not None else ()
        things = instances_of(semantics.surface, semantics.instance, labels=labels, phrases=phrases)
        palette = colours(phrases)
        tints = [
            palette[phrases.index(t.label) + 1] if t.label else np.array([200, 200, 200], np.uint8) for t in things
        ]
        with self._state:
            self.nodes.boxes("all", things, np.array(tints, np.uint8).reshape(-1, 3))
            self.things = things
            self._name()
        self._show_all()

    def field_changed(self, training: str = "") -> None:
        """The run was trained further; `training` says how far."""
        panel, exhibit = self.panel, self.exhibit
        panel.status.content = status_html(exhibit, training)
        if exhibit.version == self._version:
            return
        first, self._version = panel.picture_on.disabled, exhibit.version
        panel.things_on.disabled = exhibit.semantics is None
        panel.points_on.disabled = not len(exhibit.cloud[0])
        if exhibit.renderer is not None and first:
            panel.picture_on.disabled, panel.picture_on.value = False, True
        self.labelling = None
        self._repaint()
