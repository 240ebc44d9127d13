"""`ovseg3d view`: look at a run or a scene in the browser, ask it, export from it."""

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
    """Open a run in the browser: walk through it, ask it, click on objects, export from it.

    Listens on this machine only, unless --host says otherwise. A scene without a run shows its cameras and sparse
    points. Ctrl-C ends it.

    Examples:
      ovseg3d view outputs/playroom/latest
      ovseg3d view scenes/playroom --port 7008
    """

    run: SceneOrRunPath
    port: int = 7007
    """Where to listen; the next free one is taken when another program has it."""
    host: str = "127.0.0.1"
    """Who can come: 127.0.0.1 is this machine, 0.0.0.0 everybody who can reach it and has the
    address with its token, which is printed."""
    where: WhereFlags = Where()

    def main(self) -> None:
        """Serve until Ctrl-C. Raises ConfigError: a wrong port."""
        from ovseg3d.viewer import open_shared_scene

        if not 0 < self.port < 65536:
            raise ConfigError(f"--port must lie between 1 and 65535, not at {self.port}", fix="--port 7007")
        console = get_console()
        shared = open_shared_scene(
            self.run, self.where.scene, self.where.device, self.where.backend, self.where.trust(clip=self.where.clip)
        )
        stop = threading.Event()
        with _serve(console, shared, self.host, self.port) as viewer, interruptible(stop):
            console.print(f"Open {_bold(viewer.url)} in a browser. Ctrl-C ends.", soft_wrap=True)
            if self.host not in ("127.0.0.1", "localhost", "::1"):
                console.print(
                    "Who has this address, token and all, can look, ask and write exports. The connection is"
                    " not encrypted: over a network that you do not trust, use ssh -L instead."
                )
            for note in shared.notes:
                console.print(note, markup=False, soft_wrap=True)
            wait_for(stop)
        console.print("Closed.")


def _bold(url: str) -> str:
    """An address as markup: one in brackets (IPv6) is none itself."""
    from rich.markup import escape

    return f"[bold]{escape(url)}[/bold]"


def _serve(console: "Console", shared: Any, host: str = "127.0.0.1", port: int = 7007) -> Any:
    """A viewer that complains on the console."""
    from ovseg3d.viewer import Viewer

    return Viewer(shared, host, port, lambda text: console.print(text, markup=False, soft_wrap=True))


class Live:
    """What `train --view` shows: the run that is being trained, and at the end the last one until `stop`.

    Args:
        wanted: without it nothing is shown.
    """

    def __init__(self, console: "Console", stop: threading.Event, wanted: bool) -> None:
        self._console, self._stop, self._wanted = console, stop, wanted
        self._viewer: Any = None

    def on_start(self, run: Any) -> None:
        """Show this run from now on."""
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
            self._console.print(f"Still to be seen at {_bold(self._viewer.url)}. Ctrl-C ends.", soft_wrap=True)
            wait_for(self._stop)
        self._viewer.stop()
