"""`ovseg3d view`: show a run or a scene in the browser, with queries and exports."""

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ovseg3d.cli.console import get_console, interruptible, wait_for
from ovseg3d.cli.flags import SceneOrRunPath, Where, WhereFlags
from ovseg3d.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class View:
    """Open a run in the browser: move through it, query it, click on objects, export from it.

    The viewer is reachable from this machine only, unless --host is given. A scene without a run is shown as cameras
    and sparse points. Ctrl-C ends it.

    Examples:
      ovseg3d view outputs/playroom/latest
      ovseg3d view scenes/playroom --port 7008
    """

    run: SceneOrRunPath
    port: int = 7007
    """Port to listen on; if it is in use, the next free one is taken."""
    host: str = "127.0.0.1"
    """Address to listen on. 127.0.0.1: this machine only; 0.0.0.0: everybody who can reach this machine and has the
    printed address with its token."""
    where: WhereFlags = Where()

    def main(self) -> None:
        """Serve until Ctrl-C. Raises ConfigError: the port is out of range."""
        from ovseg3d.viewer import open_shared_scene

        if not 0 < self.port < 65536:
            raise ConfigError(f"--port must be from 1 to 65535, not {self.port}", fix="--port 7007")
        console = get_console()
        where = self.where
        shared = open_shared_scene(
            self.run, where.scene, where.device, where.backend, where.trust(clip=where.clip), where.layout
        )
        stop = threading.Event()
        with _serve(console, shared, self.host, self.port) as viewer, interruptible(stop):
            console.print(f"Open {_bold(viewer.url)} in a browser. Ctrl-C ends the viewer.", soft_wrap=True)
            if self.host not in ("127.0.0.1", "localhost", "::1"):
                console.print(
                    "Everybody who has this address with its token can view, query and write exports. The connection"
                    " is not encrypted. On an untrusted network, use ssh -L instead."
                )
            for note in shared.notes:
                console.print(note, markup=False, soft_wrap=True)
            wait_for(stop)
        console.print("Closed.")


def _bold(url: str) -> str:
    """An address as bold markup; the brackets of an IPv6 address are escaped."""
    from rich.markup import escape

    return f"[bold]{escape(url)}[/bold]"


def _serve(console: "Console", shared: Any, host: str = "127.0.0.1", port: int = 7007) -> Any:
    """A viewer that prints its messages on the console."""
    from ovseg3d.viewer import Viewer

    return Viewer(shared, host, port, lambda text: console.print(text, markup=False, soft_wrap=True))


class Live:
    """The viewer of `train --view`: shows the run in training, and after training the last run until `stop`.

    Args:
        console: where to print the address.
        stop: set by Ctrl-C.
        wanted: False disables the viewer.
    """

    def __init__(self, console: "Console", stop: threading.Event, wanted: bool) -> None:
        self._console, self._stop, self._wanted = console, stop, wanted
        self._viewer: Any = None

    def on_start(self, run: Any) -> None:
        """Show this run from now on, in place of the previous one."""
        if not self._wanted:
            return
        from ovseg3d.viewer import SharedScene

        if self._viewer is not None:
            self._viewer.stop()
        self._viewer = _serve(self._console, SharedScene(run.load_scene(), run, run.config.train.device))
        self._console.print(f"Watch it at {_bold(self._viewer.url)}", soft_wrap=True)

    def __enter__(self) -> "Live":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._viewer is None:
            return
        if kind is None and not self._stop.is_set():
            self._console.print(
                f"The scene is still open at {_bold(self._viewer.url)}. Ctrl-C ends the viewer.", soft_wrap=True
            )
            wait_for(self._stop)
        self._viewer.stop()
