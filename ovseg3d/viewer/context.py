"""What every piece of a session needs: the browser, the shared scene, what is shown, the lock, and where errors go.

Pieces (`tabs/`, `BackgroundImage`, `Overlays`, `AllInstances`, `Navigator`) take a `Context` and, as arguments, the few
others whose controls they read. None knows the `ClientSession` that makes and joins them.
"""

import functools
from collections.abc import Callable
from typing import Any

import viser

from ovseg3d.errors import Ovseg3dError
from ovseg3d.viewer.coalescing_lock import CoalescingLock
from ovseg3d.viewer.scene_nodes import SceneNodes
from ovseg3d.viewer.shared_scene import SharedScene
from ovseg3d.viewer.view import View


class Context:
    """One browser's connection and state.

    Args:
        client: the browser.
        shared: the scene that all browsers look at.
        report: called with errors that are our own mistakes.
    """

    def __init__(
        self, client: viser.ClientHandle, shared: SharedScene, report: Callable[[BaseException], None]
    ) -> None:
        self.client, self.shared, self._report = client, shared, report
        self.view = View()
        self.nodes = SceneNodes(client, shared)
        self.lock = CoalescingLock(self.guarded(self.view.viewpoint_changed.emit))
        """Held while what is shown changes: callbacks come from viser's threads, several at once."""
        self.messages: list[str] = []
        """Errors that were shown in this browser."""

    def guarded(self, work: Callable[..., None]) -> Callable[..., None]:
        """A callback whose errors are shown in this browser, and nowhere else."""

        @functools.wraps(work)
        def call(*arguments: Any) -> None:
            try:
                work(*arguments)
            except Exception as error:
                self.tell(error)

        return call

    def tell(self, error: Exception) -> None:
        """Show an error in this browser."""
        if isinstance(error, Ovseg3dError):
            title, text = error.what, f"Try: {error.fix}" if error.fix else ""
        else:
            title, text = "A mistake in ovseg3d", f"{type(error).__name__}: {error}"
        self.messages.append(title)
        self.client.add_notification(title, text, color="red", auto_close_seconds=12.0)
        if not isinstance(error, Ovseg3dError):
            self._report(error)
