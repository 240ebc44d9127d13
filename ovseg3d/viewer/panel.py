"""The controls of one visitor, and nothing of what they do: the visitor's parts listen to them, see `visitor.py`.

Three tabs: Ask (type, or click on something), Layers (what is to be seen), Take away. Text that comes from a visitor or
a capture is shown as escaped HTML only.
"""

import html
from collections.abc import Callable, Sequence

import viser

from ovseg3d.export.labels import MOST
from ovseg3d.query.engine import THRESHOLD
from ovseg3d.viewer.ask import read_phrases
from ovseg3d.viewer.exhibit import Exhibit
from ovseg3d.viewer.layers import LAYERS

SHOW_POINTS, SHOW_MASK, SHOW_RELEVANCY = SHOW = ("Points", "Mask", "Relevancy")
NOTHING_ASKED = "-"
_DULL = ("floor", "ceiling", "wall", "background", "other")
"""Phrases that make no good example."""


class Panel:
    """All controls of one browser."""

    def __init__(self, client: viser.ClientHandle, exhibit: Exhibit) -> None:
        gui = client.gui
        self._gui = gui
        self._hits: list[viser.GuiButtonHandle] = []
        self.status = gui.add_html(status_html(exhibit))
        tabs = gui.add_tab_group()
        with tabs.add_tab("Ask"):
            self._build_ask(exhibit)
        with tabs.add_tab("Layers"):
            self._build_layers(exhibit)
        self.take_away = tabs.add_tab("Take away")
        """`keep.py` fills this tab."""

    def _build_ask(self, exhibit: Exhibit) -> None:
        gui = self._gui
        words = [phrase for phrase in exhibit.scene.phrases if phrase not in _DULL][:2]
        example = "; ".join(words) if words else "a chair; a red ball"
        gui.add_html(_hint(f"Type what you look for, such as: {example}. Or click on anything."))
        self.form = gui.add_form(None)
        with self.form:
            self.phrases = gui.add_text("Find", "", hint="One phrase, or several with semicolons. Enter asks.")
            with gui.add_folder("Compared with", expand_by_default=False):
                self.negatives = gui.add_text("Not meant", "", hint="What is not meant, with semicolons.")
                self.canonical = gui.add_text(
                    "Canonical",
                    "",
                    hint="What places are compared with, with semicolons: object; surface. "
                    "Empty: what suits the encoder.",
                )
            self.ask = gui.add_button("Ask", icon=viser.Icon.SEARCH)
        self.answer = gui.add_html("")
        self.show_as = gui.add_button_group("Show as", SHOW)
        self.phrase = gui.add_dropdown("Relevancy of", (NOTHING_ASKED,), visible=False)
        self.scale = gui.add_html("")
        self.threshold = gui.add_slider("Threshold", 0.05, 0.95, 0.01, THRESHOLD)
        self.opacity = gui.add_slider("Opacity", 0.0, 1.0, 0.05, 0.8)
        self.pointed_folder = gui.add_folder("Clicked", visible=False)
        with self.pointed_folder:
            self.pointed = gui.add_html("")
            self.more_like = gui.add_button("More like this", icon=viser.Icon.COPY)
            self.fly_to = gui.add_button("Fly there", icon=viser.Icon.PLANE)
        # Below what was clicked, which would be out of sight under a long list.
        self.found = gui.add_folder("Found: click to fly there", visible=False)
        with gui.add_folder("Asked before", expand_by_default=False):
            self.history = gui.add_dropdown("Question", (NOTHING_ASKED,))
        self.clear = gui.add_button("Clear", icon=viser.Icon.ERASER)

    def _build_layers(self, exhibit: Exhibit) -> None:
        gui = self._gui
        self.layer = gui.add_dropdown("Picture", LAYERS, hint="What the picture and the points show.")
        field, cloud = exhibit.renderer is not None, len(exhibit.cloud[0]) > 0
        self.picture_on = gui.add_checkbox("Field", field, disabled=not field, hint="What the field renders.")
        self.points_on = gui.add_checkbox("Points", not field and cloud, disabled=not cloud)
        self.cameras_on = gui.add_checkbox("Cameras", not field, hint="Click one to stand there. Orange: held out.")
        self.boxes_on = gui.add_checkbox("Boxes", True, hint="Of what was found, or of all things.")
        self.names_on = gui.add_checkbox("Names", True)
        self.things_on = gui.add_checkbox(
            "All things", False, disabled=exhibit.semantics is None, hint="Every thing that was told apart."
        )
        self.legend = gui.add_html("")
        with gui.add_folder("Labels", expand_by_default=False):
            gui.add_html(_hint("The closed list of the layer Labels: one phrase a line."))
            self.labels = gui.add_text("Phrases", "\n".join(exhibit.scene.phrases), multiline=True)
            self.label = gui.add_button("Label", icon=viser.Icon.TAGS)

    def label_list(self) -> tuple[str, ...]:
        """The closed list of labels as it stands here: a scene may have named many more than a question. Raises as
        `read_phrases`."""
        return read_phrases(self.labels.value, MOST)

    # -- what is shown -------------------------------------------------------------------------------------------

    def show_hits(self, texts: Sequence[str], chosen: Callable[[int], None]) -> None:
        """A button for each hit; `chosen` is told which was pressed."""
        for button in self._hits:
            button.remove()
        self._hits = []
        self.found.visible = bool(texts)
        with self.found:
            for number, text in enumerate(texts):
                button = self._gui.add_button(text, color="gray")
                button.on_click(lambda _, number=number: chosen(number))
                self._hits.append(button)


def status_html(exhibit: Exhibit, training: str = "") -> str:
    """What is looked at, and why something is missing."""
    scene = exhibit.scene
    facts, semantics = [f"{len(scene.frames)} photos"], exhibit.semantics
    if semantics is not None:
        facts.append(f"{len(semantics.surface):,} points")
        facts.append("metric" if scene.metric else "no metric scale")
    lines = [f"<b>{html.escape(scene.name)}</b> · {' · '.join(facts)}"]
    lines += [f'<span style="opacity:0.75">{html.escape(note)}</span>' for note in exhibit.notes]
    if training:
        lines.append(f'<span style="color:#e8590c">{html.escape(training)}</span>')
    return f'<div style="font-size:13px;line-height:1.45;padding:4px 12px">{"<br>".join(lines)}</div>'


def _hint(text: str) -> str:
    return f'<div style="font-size:12.5px;opacity:0.7;line-height:1.4;padding:2px 12px">{html.escape(text)}</div>'
