"""What one visitor sees: the field from their camera, through the layer that they chose, and its legend.

The browser says where it looks from; `Stream` asks for pictures of that, coarse and sharp, and they go to the browser
as what lies behind everything else, with a depth, so that points and boxes stand before or behind it.
"""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import viser
from jaxtyping import Float

from ovseg3d.viewer import layers
from ovseg3d.viewer.ask import message_html, reply_html
from ovseg3d.viewer.exhibit import Sheet
from ovseg3d.viewer.layers import Labelling, Layer
from ovseg3d.viewer.lens import Viewpoint
from ovseg3d.viewer.state import State
from ovseg3d.viewer.stream import Stream

if TYPE_CHECKING:
    from ovseg3d.viewer.visitor import Visitor

SHARP = 512.0 * 384.0
"""Pixels of a sharp picture on a slow machine."""
SHARP_SECONDS = 3.0
"""What a sharp picture may take on a fast one."""
FARTHEST = 167.0
"""viser's depth ends there, input units."""
KEPT_SHEETS = 3


class Pictures:
    """The picture behind a visitor's 3D view."""

    def __init__(self, visitor: "Visitor") -> None:
        self._visitor, self._client, self._panel = visitor, visitor.client, visitor.panel
        self._exhibit = visitor.exhibit
        self.layer: Layer = layers.plain_layer(layers.COLOUR)
        self.labelling: Labelling | None = None
        """The closed list, once it was asked for."""
        self.viewpoint: Viewpoint | None = None
        """Where the browser looks from; None before it has said so."""
        self._looking = threading.RLock()
        """Held while a view or a layer that has just been chosen becomes what is wanted."""
        self._painting = State(visitor.guarded(self._paint))
        self._labels = State(visitor.guarded(self._label_missing))
        self._sheets: dict[tuple, Sheet] = {}
        self.stream = Stream(self._draw, visitor.tell, self._exhibit.pace, SHARP)

    def listen(self) -> None:
        """Follow the camera and the controls of layers."""
        panel, on = self._panel, self._visitor.guarded
        self._client.camera.on_update(on(self.moved))
        panel.layer.on_update(on(lambda _: self.choose()))
        for control in (panel.opacity, panel.phrase):
            control.on_update(on(lambda _: self.repaint()))
        panel.label.on_click(on(lambda _: self.label_typed()))

    # -- camera and picture --------------------------------------------------------------------------------------

    @property
    def eye(self) -> Float[np.ndarray, "3"] | None:
        """Where the visitor stands, input frame."""
        return None if self.viewpoint is None else np.array(self.viewpoint.position)

    def moved(self, camera: viser.CameraHandle) -> None:
        """The browser says where it looks from, many times a second: nothing here may wait."""
        # Two threads may be told of two moves at once: whoever comes last must not bring back what it read first.
        with self._looking:
            seen = read_viewpoint(camera)
            if seen is None or seen == self.viewpoint:
                return
            self.viewpoint = seen
            self.want()
        self._visitor.state.soon()

    def want(self) -> None:
        """Ask for a picture of what is to be seen now."""
        with self._looking:
            if self.viewpoint is not None and self._panel.picture_on.value:
                window = self.viewpoint.width * self.viewpoint.height
                fast = SHARP_SECONDS * self._exhibit.pace.pixels_per_second
                self.stream.sharp = float(min(window, max(SHARP, fast)))
                self.stream.want((self.viewpoint, self.layer))
            elif self.viewpoint is not None:
                self.stream.want(None)

    def _draw(self, wish: tuple[Viewpoint, Layer] | None, pixels: float, unwanted: Callable[[], bool]) -> float | None:
        if wish is None:
            self._client.scene.set_background_image(None)
            return None
        viewpoint, layer = wish
        camera = viewpoint.camera(pixels)
        # Another layer of the same view goes on with what was rendered, be it complete or not.
        key = (viewpoint, camera.width, self._exhibit.version)
        sheet = self._sheets.pop(key, None) or Sheet(camera, hasty=pixels < self.stream.sharp)
        self._sheets[key] = sheet
        for old in list(self._sheets)[:-KEPT_SHEETS]:
            del self._sheets[old]
        seconds = self._exhibit.draw(sheet, unwanted)
        rendered = sheet.rendered
        if rendered is None or self.stream.closed:
            return None
        picture = layer.picture(self._exhibit, sheet)
        quality = 75 if pixels < self.stream.sharp else 90
        depth_z = self._depth(rendered["depth_z"])
        if self.stream.closed:  # the browser has gone meanwhile
            return None
        self._client.scene.set_background_image(picture, "jpeg", jpeg_quality=quality, depth=depth_z)
        self._client.flush()
        return seconds

    def _depth(self, depth_z: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"] | None:
        """How far away the picture stands; None, behind everything, where units are too small for viser."""
        known = depth_z[depth_z > 0]
        if len(known) and np.median(known) > FARTHEST:
            return None
        # What lies on a surface (points, boxes) must not vanish in it, so the picture stands a little behind.
        away = np.where(depth_z > 0, depth_z, FARTHEST) * 1.01 + self._visitor.nodes.point_size()
        return np.minimum(away, FARTHEST)

    # -- layers --------------------------------------------------------------------------------------------------

    def choose(self) -> None:
        """Show the layer that the panel names; where that is labels, have them made if there are none. Waits for the
        encoder then, as one thread at most."""
        self.repaint()
        self._labels.soon()

    def repaint(self) -> None:
        """Show the layer that the panel names, as its controls say. Waits for nobody: whoever is painting looks again,
        and what is still to be made is shown when it is there."""
        self._painting.soon()

    def _paint(self) -> None:
        with self._visitor.state:
            name, opacity = self._panel.layer.value, self._panel.opacity.value
            self.layer = self._make_layer(name, opacity)
            self._panel.phrase.visible = name == layers.RELEVANCY and self._visitor.asking.reply is not None
            self._legend()
        self._visitor.scenery.show_all()

    def _make_layer(self, name: str, opacity: float) -> Layer:
        reply = self._visitor.asking.reply
        if name in (layers.ANSWER, layers.RELEVANCY) and reply is not None:
            threshold = self._panel.threshold.value
            if name == layers.ANSWER:
                there = np.where([answer.present for answer in reply.answers], reply.relevancies, 0.0)
                return layers.answer_layer(there, reply.tints, threshold, opacity)
            return layers.relevancy_layer(reply.relevancies[:, self.shown_phrase()], opacity)
        if name == layers.LABELS and self.labelling is not None:
            return layers.label_layer(self.labelling, opacity)
        if name == layers.FEATURES:
            return layers.feature_layer(self._exhibit, opacity)
        return layers.plain_layer(name if name == layers.DEPTH else layers.COLOUR)

    def shown_phrase(self) -> int:
        """Whose relevancy is shown, by its number in the question."""
        reply = self._visitor.asking.reply
        phrases = reply.question.phrases if reply else ()
        return phrases.index(self._panel.phrase.value) if self._panel.phrase.value in phrases else 0

    def _legend(self) -> None:
        panel, reply = self._panel, self._visitor.asking.reply
        text = ""
        if self.layer.name == layers.LABELS and self.labelling is not None:
            text = layers.label_html(self.labelling)
        elif self.layer.name == layers.RELEVANCY and reply is not None:
            title = f'relevancy of "{reply.question.phrases[self.shown_phrase()]}"'
            text = layers.scale_html(title, "0", "1", panel.threshold.value)
        elif self.layer.name in layers.EXPLAINED:
            text = layers.note_html(layers.EXPLAINED[self.layer.name])
        elif panel.layer.value in (layers.ANSWER, layers.RELEVANCY):
            text = message_html("Ask something first: the tab Ask.") if reply is None else reply_html(reply)
        elif panel.layer.value == layers.LABELS:
            text = layers.note_html("Nothing is labelled yet.")
        panel.legend.content = text
        panel.scale.content = text if self.layer.name == layers.RELEVANCY else ""

    def label(self) -> None:
        """Label the surface with the list that stands in the panel. Raises RunError, EncoderError, ConfigError."""
        made = layers.make_labelling(self._exhibit, self._panel.label_list())
        with self._visitor.state:
            if made.semantics is self._exhibit.semantics:
                self.labelling = made

    def _label_missing(self) -> None:
        if self._panel.layer.value == layers.LABELS and self.labelling is None:
            self.label()
            self.repaint()

    def label_typed(self) -> None:
        """Label anew, and show it."""
        self.label()
        self._panel.layer.value = layers.LABELS
        self.repaint()

    def forget_labels(self) -> None:
        """They were of an earlier surface."""
        with self._visitor.state:
            self.labelling = None


def read_viewpoint(camera: viser.CameraHandle) -> Viewpoint | None:
    """Where a browser looks from; None while its window has no size."""
    while True:
        said = camera.update_timestamp
        width, height = int(camera.image_width), int(camera.image_height)
        pose = tuple(map(float, camera.wxyz)), tuple(map(float, camera.position)), float(camera.fov)
        if camera.update_timestamp == said:  # else it moved while it was read
            return Viewpoint(*pose, width, height) if min(width, height) > 1 else None
