"""One browser, from when it comes until it goes: `pictures` (what it sees), `scenery` (what stands in its 3D view),
`asking`, `pointing`, and `keeper` (what it takes away), each with a part of the controls and of what is known.

Callbacks come from viser's threads, several at once; `state` is held while what is shown changes. Whatever a callback
raises ends as a message in this browser, and nowhere else.
"""

import functools
from collections.abc import Callable
from typing import Any

import viser

from ovseg3d.errors import Ovseg3dError
from ovseg3d.viewer.asking import Asking
from ovseg3d.viewer.exhibit import Exhibit
from ovseg3d.viewer.keep import Keeper
from ovseg3d.viewer.nodes import Nodes
from ovseg3d.viewer.panel import Panel, status_html
from ovseg3d.viewer.pictures import Pictures
from ovseg3d.viewer.pointing import Pointing
from ovseg3d.viewer.scenery import Scenery
from ovseg3d.viewer.state import State


class Visitor:
    """Serves one browser until it goes.

    Args:
        report: told of our own mistakes, as text for the terminal.
    """

    def __init__(self, client: viser.ClientHandle, exhibit: Exhibit, report: Callable[[BaseException], None]) -> None:
        self.client, self.exhibit, self._report = client, exhibit, report
        self.state = State(self.guarded(lambda: self.scenery.show_cameras()))  # noqa: PLW0108 - it comes later
        self.messages: list[str] = []
        """What this browser was told went wrong."""
        self._version, self._semantics = exhibit.version, exhibit.semantics
        self._flight: object = None
        """Stands for the newest flight; None once the browser has gone."""
        self.nodes = Nodes(client, exhibit)
        self.panel = Panel(client, exhibit)
        with self.panel.take_away:
            self.keeper = Keeper(self)
        self.pictures = Pictures(self)
        self.scenery = Scenery(self)
        self.asking = Asking(self)
        self.pointing = Pointing(self)
        # Only now, since each of them may call the others.
        for part in (self.pictures, self.scenery, self.asking, self.pointing):
            part.listen()
        self.pictures.moved(client.camera)
        self.scenery.show_all()

    def close(self) -> None:
        """The browser has gone."""
        self._flight = None
        self.pictures.stream.close()
        self.keeper.close()

    def join(self, seconds: float) -> None:
        """Wait for what is being drawn to end after `close`."""
        self.pictures.stream.join(seconds)

    def begin_flight(self) -> Callable[[], bool]:
        """What tells a new flight whether it may go on: until a newer one begins, or the browser has gone."""
        mine = self._flight = object()
        return lambda: self._flight is mine

    def guarded(self, work: Callable[..., None]) -> Callable[..., None]:
        """A callback whose errors are told to this browser."""

        @functools.wraps(work)
        def call(*arguments: Any) -> None:
            try:
                work(*arguments)
            except Exception as error:
                self.tell(error)

        return call

    def tell(self, error: Exception) -> None:
        """Say in this browser what went wrong."""
        ours = not isinstance(error, Ovseg3dError)
        if isinstance(error, Ovseg3dError):
            title, text = error.what, f"Try: {error.fix}" if error.fix else ""
        else:
            title, text = "A mistake in ovseg3d", f"{type(error).__name__}: {error}"
        self.messages.append(title)
        self.client.add_notification(title, text, color="red", auto_close_seconds=12.0)
        if ours:
            self._report(error)

    def field_changed(self, training: str = "") -> None:
        """The run was trained further; `training` says how far."""
        panel, exhibit = self.panel, self.exhibit
        panel.status.content = status_html(exhibit, training)
        if exhibit.version == self._version:
            return
        first, self._version = panel.picture_on.disabled, exhibit.version
        panel.things_on.disabled = exhibit.semantics is None
        panel.points_on.disabled = not len(exhibit.cloud[0])
        if exhibit.renderer is not None and first:
            panel.picture_on.disabled, panel.picture_on.value = False, True
        if exhibit.semantics is not self._semantics:
            self._semantics = exhibit.semantics
            self.pictures.forget_labels()
            self.asking.forget_points()
            self.scenery.show_things()
        self.pictures.choose()
