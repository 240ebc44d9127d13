"""What one visitor asks and is answered: the tab Ask, from the form to the list of hits; `ask.py` finds the answer.

Answers may be ready in another order than they were asked for: only that to the newest question is shown, with the
threshold that the slider has now.
"""

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, UInt8

from ovseg3d.errors import Ovseg3dError
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
from ovseg3d.viewer.panel import NOTHING_ASKED, SHOW_MASK, SHOW_POINTS
from ovseg3d.viewer.state import State

if TYPE_CHECKING:
    from ovseg3d.viewer.visitor import Visitor

LONGEST_HISTORY = 30


class Asking:
    """A visitor's questions, and the answer that is shown."""

    def __init__(self, visitor: "Visitor") -> None:
        self._visitor, self._panel, self._nodes = visitor, visitor.panel, visitor.nodes
        self._exhibit = visitor.exhibit
        self.reply: Reply | None = None
        self.history: list[Question] = []
        """Newest first."""
        self._newest: object = None
        """Stands for the question whose answer may be shown."""
        self._adjusting = threading.Lock()
        self._shading = State(visitor.guarded(self._shade))

    def listen(self) -> None:
        """Follow the controls of the tab."""
        panel, on = self._panel, self._visitor.guarded
        panel.ask.on_click(lambda _: panel.form.submit())
        panel.form.on_submit(on(lambda _: self.ask_typed()))
        panel.threshold.on_update(on(lambda _: self._again()))
        panel.opacity.on_update(lambda _: self._shading.soon())
        panel.show_as.on_click(on(lambda _: self.show_as(panel.show_as.value)))
        panel.history.on_update(on(lambda _: self._ask_before(panel.history.value)))
        panel.clear.on_click(on(lambda _: self.clear()))

    def ask_typed(self) -> None:
        """Ask what stands in the form."""
        panel = self._panel
        try:
            question = Question(
                read_phrases(panel.phrases.value), read_phrases(panel.negatives.value),
                read_phrases(panel.canonical.value), panel.threshold.value,
            )  # fmt: skip
            self.ask(question)
        except Ovseg3dError as error:
            self._visitor.messages.append(error.what)
            panel.answer.content = message_html(error.what, error.fix)

    def ask(self, question: Question) -> None:
        """Answer a question and show it, unless by then a newer one has been asked or there is another surface."""
        mine = self._newest = object()
        reply = ask(self._exhibit, question, self._visitor.pictures.eye)
        with self._visitor.state:
            if mine is not self._newest or reply.semantics is not self._exhibit.semantics:
                return
            # Before any control, since those that change show what is known.
            self.reply = reply
            known = [earlier for earlier in self.history if earlier.title != question.title]
            self.history = [question, *known][:LONGEST_HISTORY]
            self._show_history()
            self._panel.phrase.options = question.phrases
            if reply.present:
                self._panel.phrase.value = question.phrases[reply.present[0]]
            self._take(reply)
        self._again()

    def _show_history(self) -> None:
        titles = (NOTHING_ASKED, *(question.title for question in self.history))
        self._panel.history.options = tuple(dict.fromkeys(titles))

    def _take(self, reply: Reply) -> None:
        with self._visitor.state:
            self.reply = reply
            self._panel.answer.content = reply_html(reply)
            texts = [hit_text(hit, reply.question.phrases, self._exhibit.unit) for hit in reply.hits[:SHOWN_HITS]]
            self._panel.show_hits(texts, self._visitor.guarded(self.fly_to_hit))
            self._nodes.highlight(*self._marked(reply))
            boxed = [hit for hit in reply.hits if hit.thing.id > 0]
            tints = reply.tints[[hit.phrase for hit in boxed]] if boxed else np.empty((0, 3), np.uint8)
            self._nodes.boxes("answer", [hit.thing for hit in boxed], tints)
            self._visitor.scenery.name()
        self._visitor.pictures.repaint()

    def _marked(self, reply: Reply) -> tuple[Float[np.ndarray, "found 3"], UInt8[np.ndarray, "found 3"]]:
        """The surface points that were found, in the colours of their phrases, as opaque as the slider says."""
        (points, phrase), surface = reply.found(), reply.semantics.surface
        own = surface.rgb[points].astype(np.float64)
        # The light and shade of the picture stay to be seen.
        lit = reply.tints[phrase] * (0.45 + 0.55 * own.mean(1, keepdims=True) / 255)
        opacity = self._panel.opacity.value
        return surface.xyz[points], (opacity * lit + (1 - opacity) * own).astype(np.uint8)

    def _shade(self) -> None:
        """The same points as opaque as the slider says now."""
        with self._visitor.state:
            if self.reply is not None:
                self._nodes.tint_highlight(self._marked(self.reply)[1])

    def _again(self) -> None:
        """The same question with the slider's threshold; whoever is at it already looks at the slider again."""
        while self._behind() and self._adjusting.acquire(blocking=False):
            try:
                reply, threshold = self.reply, self._panel.threshold.value
                if reply is None:
                    continue
                question = with_threshold(reply.question, threshold)
                adjusted = ask(self._exhibit, question, self._visitor.pictures.eye)
                with self._visitor.state:
                    if self.reply is reply:
                        self._take(adjusted)
            finally:
                self._adjusting.release()

    def _behind(self) -> bool:
        """Whether the answer that is shown has another threshold than the slider."""
        reply = self.reply
        return reply is not None and reply.question.threshold != self._panel.threshold.value

    def _ask_before(self, title: str) -> None:
        if title == NOTHING_ASKED:
            return
        for question in self.history:
            if question.title == title:
                if question.example is None:
                    # All of it, so that asking again from the form asks the same.
                    self._panel.phrases.value = "; ".join(question.phrases)
                    self._panel.negatives.value = "; ".join(question.negatives)
                    self._panel.canonical.value = "; ".join(question.canonical)
                try:
                    self.ask(replace(question, threshold=self._panel.threshold.value))
                finally:
                    # What is chosen already cannot be chosen again.
                    self._panel.history.value = NOTHING_ASKED
                return

    def show_as(self, way: str) -> None:
        """Show the answer as highlighted points, a mask over the picture, or relevancy."""
        names = {SHOW_POINTS: layers.COLOUR, SHOW_MASK: layers.ANSWER}
        self._panel.layer.value = names.get(way, layers.RELEVANCY)
        self._visitor.pictures.repaint()

    def clear(self) -> None:
        """Forget the question, the answer and what was clicked."""
        with self._visitor.state:
            self._panel.phrases.value = ""
            self._forget()
        self._visitor.pictures.repaint()

    def forget_points(self) -> None:
        """There is another surface: the numbers of points that answers, clicks and examples hold mean nothing now."""
        with self._visitor.state:
            self._forget()
            self.history = [question for question in self.history if question.example is None]
            self._show_history()

    def _forget(self) -> None:
        """The answer, and what was clicked."""
        with self._visitor.state:
            self.reply = self._newest = None
            self._panel.answer.content = ""
            self._panel.show_hits((), lambda _: None)
            for group in ("highlight", "answer-boxes", "answer-names"):
                self._nodes.clear(group)
            self._nodes.highlighted = 0
            self._visitor.pointing.forget()
            self._visitor.scenery.name()
            if self._panel.layer.value in (layers.ANSWER, layers.RELEVANCY):
                self._panel.layer.value = layers.COLOUR

    def fly_to_hit(self, number: int) -> None:
        """Take the visitor to a hit, by its place in the list."""
        if self.reply is not None and number < len(self.reply.hits):
            self._visitor.pointing.fly_to(self.reply.hits[number].thing)
