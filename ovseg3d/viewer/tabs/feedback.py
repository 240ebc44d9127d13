"""Yes and no clicks to an answer, in a folder of the Ask tab: they calibrate the run, as `ovseg3d calibrate` does."""

from collections.abc import Callable

import viser

from ovseg3d.query import calibrate
from ovseg3d.query.kept_calibration import Label
from ovseg3d.viewer.answers import Reply
from ovseg3d.viewer.cards import note_html
from ovseg3d.viewer.context import Context
from ovseg3d.viewer.tabs.answer_display import NO_OPTIONS

NONE_YET = "Your clicks teach this run when a phrase is in the scene. It keeps them."


class Feedback:
    """Whether the phrases of an answer are in the scene, by the user.

    Args:
        context: of the session.
        ask_again: called once the run is calibrated anew, to answer the question again.
    """

    def __init__(self, context: Context, ask_again: Callable[[], None]) -> None:
        self._context, self._shared, self._ask_again = context, context.shared, ask_again
        gui, on = context.client.gui, context.guarded
        self.folder = gui.add_folder("Is it there?", expand_by_default=False, visible=False)
        with self.folder:
            self.phrase = gui.add_dropdown("Phrase", NO_OPTIONS)
            self.yes = gui.add_button("Yes, the scene shows it", color="gray", icon=viser.Icon.CHECK)
            self.no = gui.add_button("No, it does not", color="gray", icon=viser.Icon.X)
            self.card = gui.add_html("")
            self.forget = gui.add_button("Forget all clicks", color="red", icon=viser.Icon.TRASH, visible=False)
        self.yes.on_click(on(lambda _: self.say(True)))
        self.no.on_click(on(lambda _: self.say(False)))
        self.forget.on_click(on(lambda _: self.forget_all()))

    def offer(self, reply: Reply | None) -> None:
        """Offer the phrases of an answer that calibrations hold for; questions about places are none."""
        answers = reply.answers if reply is not None and reply.question.calibrates else ()
        phrases = tuple(answer.phrase for answer in answers if not answer.relation)
        with self._context.lock:
            self.folder.visible = bool(phrases)
            chosen = self.phrase.value
            self.phrase.options = phrases or NO_OPTIONS
            if chosen in phrases:
                self.phrase.value = chosen
            self._count()

    def say(self, present: bool) -> None:
        """Calibrate the run by one more answer: whether the scene shows the phrase."""
        with self._shared.query_lock:
            calibrate.calibrate(self._shared.need_engine(), [Label(self.phrase.value, present)])
        self._ask_again()

    def forget_all(self) -> None:
        """Remove the calibrations of the run."""
        with self._shared.query_lock:
            calibrate.reset(self._shared.need_engine())
        self._ask_again()

    def _count(self) -> None:
        """Say how many answers the run keeps."""
        engine = self._shared.engine
        kept = None if engine is None else engine.decision.kept_calibration
        self.forget.visible = kept is not None
        if kept is None:
            self.card.content = note_html(NONE_YET)
            return
        here = [label.present for label in kept.labels if label.phrase == self.phrase.value and label.image is None]
        own = f' You said {"yes" if here[0] else "no"} to "{self.phrase.value}".' if here else ""
        count = len(kept.labels)
        self.card.content = note_html(f"Calibrated by {count} answer{'s' if count != 1 else ''}.{own}")
