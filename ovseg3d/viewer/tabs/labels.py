"""The closed list of phrases of the layer Labels, in a folder of the Layers tab."""

from collections.abc import Callable

import viser

from ovseg3d.export.labels import MAX_PHRASES
from ovseg3d.viewer.answers import read_phrases
from ovseg3d.viewer.cards import hint_html
from ovseg3d.viewer.context import Context
from ovseg3d.viewer.layers import make_labelling


class LabelsFolder:
    """The user's list, and the labels made from it.

    Args:
        context: of the session.
        on_labelled: called after the user has labelled the surface.
    """

    def __init__(self, context: Context, on_labelled: Callable[[], None]) -> None:
        self._context, self._on_labelled = context, on_labelled
        gui = context.client.gui
        with gui.add_folder("Labels", expand_by_default=False):
            gui.add_html(hint_html("The closed list of the layer Labels: one phrase a line."))
            self.text = gui.add_text("Phrases", "\n".join(context.shared.scene.phrases), multiline=True)
            self.button = gui.add_button("Label", icon=viser.Icon.TAGS)
        self.button.on_click(context.guarded(lambda _: self.make_typed()))

    def phrases(self) -> tuple[str, ...]:
        """The current list, which may be much longer than a question.

        Raises:
            ConfigError: see `read_phrases`.
        """
        return read_phrases(self.text.value, MAX_PHRASES)

    def make(self) -> None:
        """Label the surface with the list.

        Raises:
            RunError, EncoderError, ConfigError: see `make_labelling`.
        """
        made = make_labelling(self._context.shared, self.phrases())
        with self._context.lock:
            if made.semantics is self._context.shared.semantics:
                self._context.view.labelling = made

    def make_typed(self) -> None:
        """Label the surface again, and show it."""
        self.make()
        self._on_labelled()

    def forget(self) -> None:
        """Remove the labels, which belong to an earlier surface."""
        with self._context.lock:
            self._context.view.labelling = None
