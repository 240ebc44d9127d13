"""The switch of the Layers tab for detected objects, with its progress."""

import threading

from ovseg3d.errors import Ovseg3dError
from ovseg3d.viewer.cards import message_html, note_html
from ovseg3d.viewer.coalescing_lock import CoalescingLock
from ovseg3d.viewer.context import Context
from ovseg3d.viewer.detected import find_detected


class DetectedSwitch:
    """Finds the objects in the background, while the switch is on.

    Args:
        context: of the session.
    """

    def __init__(self, context: Context) -> None:
        self._context, self._view, self._shared = context, context.view, context.shared
        gui = context.client.gui
        self.switch = gui.add_checkbox(
            "Detected objects",
            False,
            disabled=self._shared.semantics is None,
            hint="What the detection head finds: boxes with names, and an arrow where the front is known.",
        )
        self.progress = gui.add_progress_bar(100.0, visible=False, animated=True)
        self.card = gui.add_html("", visible=False)
        self._closed = False
        self._finding = CoalescingLock(self._find)
        self.switch.on_update(context.guarded(lambda _: self.show()))

    def close(self) -> None:
        """Show nothing more; the browser has disconnected."""
        self._closed = True

    def refresh(self) -> None:
        """Handle a new surface."""
        self.switch.disabled = self._shared.semantics is None
        self.show()

    def show(self) -> None:
        """Show the current objects once they are found, or remove them. Does not block."""
        with self._context.lock:
            self._view.detected = None
            self._view.detected_changed.emit()
        if self._wanted:
            # A thread of its own: the encoder may take minutes to load. One finds, the others leave it to that one.
            threading.Thread(target=self._finding.schedule, name="ovseg3d-detect", daemon=True).start()
        else:
            self._say("")

    @property
    def _wanted(self) -> bool:
        return not self._closed and self.switch.value and self._shared.semantics is not None

    def _find(self) -> None:
        """Find the objects, and show them or the error."""
        if not self._wanted:
            return
        labelling = self._view.labelling
        try:
            found = find_detected(self._shared, None if labelling is None else labelling.phrases, self._work)
        except Exception as error:
            if not self._closed:
                self._fail(error)
            return
        with self._context.lock:
            if not self._wanted or found.semantics is not self._shared.semantics:
                return
            self._say(note_html(found.sentence))
            self._view.detected = found
            self._view.detected_changed.emit()

    def _work(self, stage: str) -> None:
        self._say(note_html(f"{stage} ..."), busy=True)

    def _fail(self, error: Exception) -> None:
        self._context.show_error(error)
        self._say(message_html(error.what, error.fix) if isinstance(error, Ovseg3dError) else message_html(str(error)))

    def _say(self, content: str, busy: bool = False) -> None:
        """Show what is done, or what it came to; empty: nothing."""
        if not self._closed:
            self.progress.visible, self.card.visible, self.card.content = busy, bool(content), content
