"""The Ask tab: the form, the answer, yes and no clicks to it, its hits, the selection, and the history.

Answers may arrive in another order than their questions: only the answer to the newest question is shown, with the
slider's current threshold.
"""

import threading
from dataclasses import replace

import viser

from ovseg3d.errors import Ovseg3dError
from ovseg3d.viewer.answer_html import SHOWN_HITS, hit_size, hit_text, reply_html
from ovseg3d.viewer.answers import Question, Reply, ask, read_phrases, with_threshold
from ovseg3d.viewer.cards import hint_html, message_html
from ovseg3d.viewer.context import Context
from ovseg3d.viewer.navigation import Navigator
from ovseg3d.viewer.pick import Selection
from ovseg3d.viewer.tabs.answer_display import NO_OPTIONS, NOTHING, AnswerDisplay
from ovseg3d.viewer.tabs.feedback import Feedback
from ovseg3d.viewer.tabs.selection import SelectionFolder

MAX_HISTORY = 30
FLY = "click to fly there"
_POOR_EXAMPLES = ("floor", "ceiling", "wall", "background", "other")
"""Phrases that the hint does not use as examples."""


class AskTab:
    """A user's questions, and the answer that is shown."""

    def __init__(self, context: Context, navigator: Navigator) -> None:
        self._context, self._view, self._shared = context, context.view, context.shared
        self._navigator = navigator
        self.history: list[Question] = []
        """Newest first."""
        self._newest: object = None
        """Identifies the newest question."""
        self._adjusting = threading.Lock()
        self._hits: list[viser.GuiButtonHandle] = []
        self._build()
        self._listen()

    def _build(self) -> None:
        gui = self._context.client.gui
        words = [phrase for phrase in self._shared.scene.phrases if phrase not in _POOR_EXAMPLES][:2]
        example = "; ".join(words) if words else "a chair; a red ball"
        gui.add_html(hint_html(f"Type what you look for, such as: {example}. Or click on anything."))
        self.form = gui.add_form(None)
        with self.form:
            self.phrases = gui.add_text("Find", "", hint="One phrase, or several with semicolons. Enter asks.")
            with gui.add_folder("Compared with", expand_by_default=False):
                self.negatives = gui.add_text("Negatives", "", hint="What is not meant, with semicolons.")
                self.canonical = gui.add_text(
                    "Canonical",
                    "",
                    hint="Phrases to compare with, with semicolons: object; surface. Empty: those of the encoder.",
                )
            self.submit = gui.add_button("Ask", icon=viser.Icon.SEARCH)
        self.answer = gui.add_html("")
        self.feedback = Feedback(self._context, self._answer_anew)
        self.display = AnswerDisplay(self._context)
        # Above the list of hits: below a long list it would not be visible.
        self.selection = SelectionFolder(self._context, self._navigator, self.ask_similar)
        self.found = gui.add_folder(f"Found: {FLY}", visible=False)
        with gui.add_folder("History", expand_by_default=False):
            self.earlier = gui.add_dropdown("Question", NO_OPTIONS)
        self.clear_button = gui.add_button("Clear", icon=viser.Icon.ERASER)

    def _listen(self) -> None:
        on = self._context.guarded
        self.submit.on_click(lambda _: self.form.submit())
        self.form.on_submit(on(lambda _: self.ask_typed()))
        self.display.threshold.on_update(on(lambda _: self._ask_again()))
        self.earlier.on_update(on(lambda _: self._ask_earlier(self.earlier.value)))
        self.clear_button.on_click(on(lambda _: self.clear()))

    # -- asking --------------------------------------------------------------------------------------------------

    def ask_typed(self) -> None:
        """Ask the question in the form."""
        try:
            question = Question(
                read_phrases(self.phrases.value), read_phrases(self.negatives.value),
                read_phrases(self.canonical.value), self.display.threshold.value,
            )  # fmt: skip
            self.ask(question)
        except Ovseg3dError as error:
            self._context.messages.append(error.what)
            self.answer.content = message_html(error.what, error.fix)

    def ask_similar(self, selection: Selection) -> None:
        """Ask for instances that are similar to the selection."""
        name = f"like this {selection.name} at {', '.join(f'{v:.1f}' for v in selection.spot.xyz)}"
        self.ask(Question((name,), threshold=self.display.threshold.value, example=selection.spot))

    def ask(self, question: Question) -> None:
        """Answer a question and show it, unless there is a newer question or another surface by then."""
        mine = self._newest = object()
        before = self.answer.content
        self.answer.content = hint_html("Looking…")
        try:
            reply = ask(self._shared, question, self._view.eye)
        except BaseException:
            self.answer.content = before
            raise
        with self._context.lock:
            if mine is not self._newest:
                return
            if reply.semantics is not self._shared.semantics:
                self.answer.content = hint_html("There is a newer surface by now: ask again")
                return
            # Before any control changes, since their callbacks read it.
            self._view.reply = reply
            known = [earlier for earlier in self.history if earlier.title != question.title]
            self.history = [question, *known][:MAX_HISTORY]
            self._show_history()
            self.display.offer(question.phrases, reply.present)
            self._show(reply)
        self._ask_again()

    def _ask_again(self) -> None:
        """Answer the same question with the slider's threshold; one thread at a time, until they agree."""
        while self._is_behind() and self._adjusting.acquire(blocking=False):
            try:
                reply, threshold = self._view.reply, self.display.threshold.value
                if reply is None:
                    continue
                question = with_threshold(reply.question, threshold)
                self._replace(reply, question)
            finally:
                self._adjusting.release()

    def _answer_anew(self) -> None:
        """Answer the shown question again: the run is calibrated in another way."""
        reply = self._view.reply
        if reply is not None:
            self._replace(reply, reply.question)

    def _replace(self, reply: Reply, question: Question) -> None:
        """Show the answer to a question in place of another one, if that is still shown."""
        anew = ask(self._shared, question, self._view.eye)
        with self._context.lock:
            if self._view.reply is reply:
                self._show(anew)

    def _is_behind(self) -> bool:
        """Whether the answer's threshold differs from the slider's."""
        reply = self._view.reply
        return reply is not None and reply.question.threshold != self.display.threshold.value

    # -- showing -------------------------------------------------------------------------------------------------

    def _show(self, reply: Reply) -> None:
        with self._context.lock:
            self._view.reply = reply
            self.answer.content = reply_html(reply)
            self.feedback.offer(reply)
            self._show_hits(reply)
            self._view.answer_changed.emit()

    def _show_hits(self, reply: Reply | None) -> None:
        """Show a button for each hit, which flies there."""
        for button in self._hits:
            button.remove()
        self._hits = []
        self.found.visible = reply is not None and bool(reply.hits)
        if reply is None:
            return
        many = len(reply.hits) > SHOWN_HITS
        self.found.label = f"The best {SHOWN_HITS} of {len(reply.hits)}: {FLY}" if many else f"Found: {FLY}"
        with self.found:
            for number, hit in enumerate(reply.hits[:SHOWN_HITS]):
                text, size = hit_text(hit, reply.name_of(hit), self._shared.unit), hit_size(hit, self._shared.unit)
                button = self._context.client.gui.add_button(text, color="gray", hint=size)
                button.on_click(self._context.guarded(lambda _, number=number: self.fly_to_hit(number)))
                self._hits.append(button)

    def fly_to_hit(self, number: int) -> None:
        """Fly to a hit, by its index in the list."""
        reply = self._view.reply
        if reply is not None and number < len(reply.hits):
            self._navigator.fly_to_instance(reply.hits[number].instance)

    # -- history -------------------------------------------------------------------------------------------------

    def _show_history(self) -> None:
        titles = (NOTHING, *(question.title for question in self.history))
        self.earlier.options = tuple(dict.fromkeys(titles))

    def _ask_earlier(self, title: str) -> None:
        if title == NOTHING:
            return
        for question in self.history:
            if question.title == title:
                if question.example is None:
                    # All fields, so that the form asks the same question.
                    self.phrases.value = "; ".join(question.phrases)
                    self.negatives.value = "; ".join(question.negatives)
                    self.canonical.value = "; ".join(question.canonical)
                try:
                    self.ask(replace(question, threshold=self.display.threshold.value))
                finally:
                    # The selected entry cannot be selected again.
                    self.earlier.value = NOTHING
                return

    def clear(self) -> None:
        """Clear the question, the answer and the selection."""
        with self._context.lock:
            self.phrases.value = ""
            self._forget()

    def forget_points(self) -> None:
        """Clear answers, selection and examples, whose indices of points are invalid for a new surface."""
        with self._context.lock:
            self._forget()
            self.history = [question for question in self.history if question.example is None]
            self._show_history()

    def _forget(self) -> None:
        self._view.reply = self._newest = None
        self.answer.content = ""
        self.feedback.offer(None)
        self._show_hits(None)
        self.selection.forget()
        self._view.answer_changed.emit()
