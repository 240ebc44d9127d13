"""The Layers tab: the layer of the image and the points, its legend, and switches for overlays."""

from ovseg3d.viewer import layers
from ovseg3d.viewer.answer_html import reply_html
from ovseg3d.viewer.cards import message_html, note_html
from ovseg3d.viewer.coalescing_lock import CoalescingLock
from ovseg3d.viewer.context import Context
from ovseg3d.viewer.layers import Layer
from ovseg3d.viewer.tabs.answer_display import SHOW_MASK, SHOW_POINTS, AnswerDisplay
from ovseg3d.viewer.tabs.detected import DetectedSwitch
from ovseg3d.viewer.tabs.labels import LabelsFolder
from ovseg3d.viewer.tabs.switches import Switches


class LayersTab:
    """Makes the selected layer whenever its inputs change.

    Args:
        context: of the session.
        display: how answers are shown.
    """

    def __init__(self, context: Context, display: AnswerDisplay) -> None:
        self._context, self._view, self._shared, self._display = context, context.view, context.shared, display
        gui, on = context.client.gui, context.guarded
        self._painting = CoalescingLock(on(self._paint))
        self._labelling = CoalescingLock(on(self._label_missing))
        self.layer = gui.add_dropdown("Layer", layers.LAYERS, hint="What the image and the points show.")
        self.switches = Switches(context)
        self.detected = DetectedSwitch(context)
        self.legend = gui.add_html("")
        self.labels = LabelsFolder(context, self._show_labels)
        self.layer.on_update(on(lambda _: self.choose()))
        display.opacity.on_update(on(lambda _: self.repaint()))
        display.phrase.on_update(on(lambda _: self.repaint()))
        display.show_as.on_click(on(lambda _: self._show_as(display.show_as.value)))
        self._view.answer_changed.connect(self._answer_changed)

    def choose(self) -> None:
        """Show the selected layer; missing labels are made first. Then at most one thread waits for the encoder."""
        self.repaint()
        self._labelling.schedule()

    def repaint(self) -> None:
        """Show the selected layer with the current controls. Does not block: if another thread is painting, it repeats,
        and missing labels are shown once they exist."""
        self._painting.schedule()

    def _show_as(self, way: str) -> None:
        """Show the answer as highlighted points, a mask over the image, or relevancy."""
        names = {SHOW_POINTS: layers.COLOUR, SHOW_MASK: layers.ANSWER}
        self.layer.value = names.get(way, layers.RELEVANCY)
        self.repaint()

    def _show_labels(self) -> None:
        self.layer.value = layers.LABELS
        self.repaint()

    def _label_missing(self) -> None:
        if self.layer.value == layers.LABELS and self._view.labelling is None:
            self.labels.make()
            self.repaint()

    def _answer_changed(self) -> None:
        if self._view.reply is None and self.layer.value in (layers.ANSWER, layers.RELEVANCY):
            self.layer.value = layers.COLOUR
        self.repaint()

    def _paint(self) -> None:
        with self._context.lock:
            self._view.layer = self._make_layer(self.layer.value, self._display.opacity.value)
            self.legend.content = self._legend()
            self._view.layer_changed.emit()

    def _make_layer(self, name: str, opacity: float) -> Layer:
        reply, labelling = self._view.reply, self._view.labelling
        if name == layers.ANSWER and reply is not None:
            return layers.answer_layer(reply.present_relevancies, reply.tints, self._display.threshold.value, opacity)
        if name == layers.RELEVANCY and reply is not None:
            return layers.relevancy_layer(reply.relevancies[:, self._display.phrase_number()], opacity)
        if name == layers.LABELS and labelling is not None:
            return layers.label_layer(labelling, opacity)
        if name == layers.FEATURES:
            return layers.feature_layer(self._shared, opacity)
        return layers.plain_layer(name if name == layers.DEPTH else layers.COLOUR)

    def _legend(self) -> str:
        name, reply, labelling = self.layer.value, self._view.reply, self._view.labelling
        if name in layers.EXPLANATIONS:
            return note_html(layers.EXPLANATIONS[name])
        if name == layers.LABELS:
            return note_html("Nothing is labelled yet.") if labelling is None else layers.label_html(labelling)
        if name in (layers.ANSWER, layers.RELEVANCY):
            if reply is None:
                return message_html("Ask something first, in the Ask tab.")
            return self._display.legend() if name == layers.RELEVANCY else reply_html(reply)
        return ""
