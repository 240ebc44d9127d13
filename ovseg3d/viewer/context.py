"""The context of a session's components: the browser, the shared scene, the view, the lock, and error handling.

Components (`tabs/`, `BackgroundImage`, `Overlays`, `AllInstances`, `Navigator`) take a `Context` and, as arguments, the
few others whose controls they read. None of them knows the `ClientSession`.
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
        shared: the scene.
        report: called with internal errors.
    """

    def __init__(
        self, client: viser.ClientHandle, shared: SharedScene, report: Callable[[BaseException], None]
    ) -> None:
        self.client, self.shared, self._report = client, shared, report
        self.view = View()
        self.nodes = SceneNodes(client, shared)
        self.lock = CoalescingLock(self.guarded(self.view.viewpoint_changed.emit))
        """Held while the view changes, since callbacks run in several of viser's threads."""
        self.messages: list[str] = []
        """Errors shown in this browser so far."""

    def guarded(self, work: Callable[..., None]) -> Callable[..., None]:
        """Wrap a callback, so that its errors are shown in this browser."""

        @functools.wraps(work)
        def call(*arguments: Any) -> None:
            try:
                work(*arguments)
            except Exception as error:
                self.show_error(error)

        return call

    def show_error(self, error: Exception) -> None:
        """Show an error in this browser."""
        if isinstance(error, Ovseg3dError):
            title, text = error.what, f"Try: {error.fix}" if error.fix else ""
        else:
            title, text = "A mistake in ovseg3d", f"{type(error).__name__}: {error}"
        self.messages.append(title)
        self.client.add_notification(title, text, color="red", auto_close_seconds=12.0)
        if not isinstance(error, Ovseg3dError):
            self._report(error)
