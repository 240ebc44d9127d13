"""How an answer is shown: the controls in the Ask tab that the Layers and Export tabs read, too."""

from collections.abc import Sequence

from ovseg3d.query.engine import THRESHOLD
from ovseg3d.viewer.answer_html import relevancy_html
from ovseg3d.viewer.context import Context
from ovseg3d.viewer.layers import RELEVANCY

SHOW_POINTS, SHOW_MASK, SHOW_RELEVANCY = SHOW = ("Points", "Mask", "Relevancy")
NOTHING = "-"
"""The entry of an empty list."""
NO_OPTIONS: tuple[str, ...] = (NOTHING,)


class AnswerDisplay:
    """Representation, threshold and opacity of an answer, and the legend of its relevancy."""

    def __init__(self, context: Context) -> None:
        self._view, gui = context.view, context.client.gui
        self.show_as = gui.add_button_group("Show as", SHOW)
        self.phrase = gui.add_dropdown("Relevancy of", NO_OPTIONS, visible=False)
        self.scale = gui.add_html("")
        self.threshold = gui.add_slider("Threshold", 0.05, 0.95, 0.01, THRESHOLD)
        self.opacity = gui.add_slider("Opacity", 0.0, 1.0, 0.05, 0.8)
        self._view.layer_changed.connect(self._show_scale)

    def offer(self, phrases: Sequence[str], present: Sequence[int]) -> None:
        """Offer the phrases of a question; the first one that is present is selected."""
        self.phrase.options = tuple(phrases)
        if present:
            self.phrase.value = phrases[present[0]]

    def phrase_number(self) -> int:
        """Index of the phrase whose relevancy is shown."""
        reply = self._view.reply
        phrases = reply.question.phrases if reply else ()
        return phrases.index(self.phrase.value) if self.phrase.value in phrases else 0

    def legend(self) -> str:
        """The legend of the relevancy; empty if there is no answer."""
        reply = self._view.reply
        return "" if reply is None else relevancy_html(reply, self.phrase_number(), self.threshold.value)

    def _show_scale(self) -> None:
        shown = self._view.layer.name == RELEVANCY
        self.phrase.visible = shown
        self.scale.content = self.legend() if shown else ""
