"""The session of one browser, from connection to disconnection: creates and connects its components.

Data flows one way: the tabs write `View`, its signals reach `Overlays` and `BackgroundImage`, and those write to the
browser. The Layers tab reads controls of the Ask tab, the Export tab those of both, never the other way.
"""

import html
from collections.abc import Callable

import viser

from ovseg3d.viewer.all_instances import AllInstances
from ovseg3d.viewer.background_image import BackgroundImage
from ovseg3d.viewer.context import Context
from ovseg3d.viewer.navigation import Navigator
from ovseg3d.viewer.overlays import Overlays
from ovseg3d.viewer.shared_scene import SharedScene
from ovseg3d.viewer.tabs.ask import AskTab
from ovseg3d.viewer.tabs.export import ExportTab
from ovseg3d.viewer.tabs.layers import LayersTab


class ClientSession:
    """Serves one browser until it disconnects.

    Args:
        client: the browser.
        shared: the scene.
        report: called with internal errors.
    """

    def __init__(
        self, client: viser.ClientHandle, shared: SharedScene, report: Callable[[BaseException], None]
    ) -> None:
        self.context = context = Context(client, shared, report)
        self.view = context.view
        self._version, self._semantics = shared.version, shared.semantics
        self.status = client.gui.add_html(status_html(shared))
        tabs = client.gui.add_tab_group()
        self.navigator = Navigator(context)
        with tabs.add_tab("Ask"):
            self.ask = AskTab(context, self.navigator)
        with tabs.add_tab("Layers"):
            self.layers = LayersTab(context, self.ask.display)
        with tabs.add_tab("Export"):
            self.export = ExportTab(context, self.navigator, self.layers.labels, self.ask.display)
        switches = self.layers.switches
        self.instances = AllInstances(context, switches.instances, self.layers.labels)
        self.overlays = Overlays(context, switches, self.ask.display.opacity, self.navigator.fly_to_frame)
        self.image = BackgroundImage(context, switches.field)
        self.image.move(client.camera)
        self.overlays.show_all()

    def close(self) -> None:
        """Stop; the browser has disconnected."""
        self.navigator.close()
        self.image.close()
        self.layers.detected.close()
        self.export.close()

    def join(self, seconds: float) -> None:
        """After `close`: wait for rendering to end."""
        self.image.join(seconds)

    def field_changed(self, training: str = "") -> None:
        """Handle a change of the run; `training` is its progress. Errors are shown in this browser."""
        self.context.guarded(self._field_changed)(training)

    def _field_changed(self, training: str) -> None:
        shared = self.context.shared
        self.status.content = status_html(shared, training)
        if shared.version == self._version:
            return
        self._version = shared.version
        self.layers.switches.refresh()
        if shared.semantics is not self._semantics:
            self._semantics = shared.semantics
            self.layers.labels.forget()
            self.ask.forget_points()
            self.instances.show()
            self.layers.detected.refresh()
        self.layers.choose()


def status_html(shared: SharedScene, training: str = "") -> str:
    """The scene, and notes about missing parts."""
    scene = shared.scene
    facts, semantics = [f"{len(scene.frames)} photos"], shared.semantics
    if semantics is not None:
        facts.append(f"{len(semantics.surface):,} points")
        facts.append("metric" if scene.metric else "no metric scale")
    lines = [f"<b>{html.escape(scene.name)}</b> · {' · '.join(facts)}"]
    lines += [f'<span style="opacity:0.75">{html.escape(note)}</span>' for note in shared.notes]
    if training:
        lines.append(f'<span style="color:#e8590c">{html.escape(training)}</span>')
    return f'<div style="font-size:13px;line-height:1.45;padding:4px 12px">{"<br>".join(lines)}</div>'
