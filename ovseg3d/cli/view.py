"""`ovseg3d view`: look at a run or a scene in the browser, ask it, take things away."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ovseg3d.errors import ConfigError


@dataclass(frozen=True)
class View:
    """Open a run in the browser: walk through it, ask it, click on things, take exports away.

    Listens on this machine only, unless --host says otherwise. A scene without a run shows its cameras and sparse
    points. Ctrl-C ends it.

    Examples:
      ovseg3d view outputs/playroom/latest
      ovseg3d view scenes/playroom --port 7008
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SCENE|RUN")]
    """A run folder, outputs/SCENE/latest, or a scene (its newest run)."""
    port: int = 7007
    """Where to listen; the next free one is taken when another program has it."""
    host: str = "127.0.0.1"
    """Who can come: 127.0.0.1 is this machine, 0.0.0.0 everybody who can reach it (there is no password)."""
    scene: Path | None = None
    """The scene's folder, if it has moved since training."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to render and encode."""
    backend: Literal["auto", "warp", "torch", "tcnn"] = "auto"
    """What computes the field."""

    def main(self) -> None:
        """Serve until Ctrl-C."""
        import threading

        from ovseg3d.cli.console import get_console, interruptible
        from ovseg3d.viewer import Viewer, open_exhibit

        if not 0 < self.port < 65536:
            raise ConfigError(f"--port must lie between 1 and 65535, not at {self.port}", fix="--port 7007")
        console = get_console()
        exhibit = open_exhibit(self.run, self.scene, self.device, self.backend)
        stop = threading.Event()

        def notice(text: str) -> None:
            console.print(text, markup=False, soft_wrap=True)

        with Viewer(exhibit, self.host, self.port, notice) as viewer, interruptible(stop):
            console.print(f"Open [bold]{viewer.url}[/bold] in a browser. Ctrl-C ends.")
            if self.host not in ("127.0.0.1", "localhost", "::1"):
                console.print("Everybody who can reach this machine can look, ask and write exports of this run.")
            for note in exhibit.notes:
                console.print(note, markup=False, soft_wrap=True)
            stop.wait()
        console.print("Closed.")
