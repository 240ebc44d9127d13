"""Output shared by the commands.

Results go to stdout. With `--json`, progress, notes and errors go to stderr, so that stdout holds exactly one JSON
object.
"""

import io
import json
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ovseg3d.errors import Ovseg3dError, printable

if TYPE_CHECKING:
    from rich.console import Console


def get_console(json_output: bool = False, file: io.StringIO | None = None, width: int | None = None) -> "Console":
    """The console to print on: stdout, or stderr if stdout is reserved for JSON, or `file`."""
    from rich.console import Console
    from rich.segment import Segment

    class Pipe(Console):
        """A console that raises BrokenPipeError if its reader closes it (`| head`); rich would exit with an error.

        Control characters in text, such as in file names, are written as escapes.
        """

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

        def _render_buffer(self, buffer: Iterable[Segment]) -> str:
            return super()._render_buffer(
                part if part.control else Segment(printable(part.text), part.style) for part in buffer
            )

    return Pipe(stderr=json_output, file=file, width=width, highlight=False)


def print_json(value: Any) -> None:
    """Print one JSON object on stdout; NaN becomes null, numpy and paths become plain values."""
    from ovseg3d.files import plain

    text = json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False)
    # JSON escapes only some control characters.
    text = "".join(c if c == "\n" or printable(c) == c else json.dumps(c)[1:-1] for c in text)
    print(text, file=getattr(sys.stdout, "results", None), flush=True)


_STDOUT, _STDERR = 1, 2


class _Diverted(io.TextIOBase):
    """Writes to stderr; `results` is the true stdout, which may be any object that is written to."""

    def __init__(self, results: Any) -> None:
        self.results = results

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


@contextmanager
def json_only() -> Generator[None, None, None]:
    """Send what others print meanwhile to stderr, so that stdout holds what `print_json` writes and nothing else.

    Encoders of other packages, and libraries below them, print from Python, from compiled code and from other
    processes; so the file descriptor is redirected, too.
    """
    true = sys.stdout
    true.flush()
    try:
        saved = os.dup(_STDOUT)
    except OSError:  # closed, as in a service
        with redirect_stdout(_Diverted(true)):
            yield
        return
    with open(saved, "w", encoding="utf-8") as kept:
        os.dup2(_STDERR, _STDOUT)
        try:
            with redirect_stdout(_Diverted(kept if _descriptor(true) == _STDOUT else true)):
                yield
        finally:
            os.dup2(saved, _STDOUT)


def _descriptor(stream: Any) -> int | None:
    try:
        return stream.fileno()
    except (OSError, ValueError):  # a stream in memory
        return None


def show_error(error: Ovseg3dError) -> None:
    """Print the error, its location and its fix in one box on stderr."""
    from rich.panel import Panel
    from rich.text import Text

    body = Text(error.what.rstrip(".") + ".")
    if error.where is not None:
        body.append("\n\nWhere: ", style="bold")
        body.append(str(error.where))
    if error.fix is not None:
        body.append("\n\n" if error.where is None else "\n")
        body.append("Try:   ", style="bold")
        body.append(str(error.fix))
    titles = {
        "SceneError": "the scene",
        "ConfigError": "the command or its settings",
        "DeviceError": "the device",
        "RunError": "the run",
        "EncoderError": "the encoder",
        "ShapeError": "the shape",
        "CacheError": "the feature cache",
        "OutputError": "the output",
    }
    title = f"[bold]Problem with {titles.get(type(error).__name__, 'the input')}[/bold]"
    panel = Panel(body, title=title, border_style="red", title_align="left", expand=False)
    get_console(json_output=True).print(panel)


def format_seconds(seconds: int | float) -> str:
    """A readable duration: 8.3 s, 2 min 05 s, 1 h 02 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def format_bytes(count: int | float) -> str:
    """A readable size, in powers of 1024."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def shell_path(path: str | Path) -> str:
    """A path for the shell: relative if that is shorter, quoted if needed."""
    text = str(path)
    try:
        relative = os.path.relpath(text)
    except ValueError:  # another drive
        relative = text
    return shlex.quote(relative if len(relative) < len(text) else text)


@contextmanager
def interruptible(stop: threading.Event) -> Generator[None, None, None]:
    """Let the first Ctrl-C (or SIGTERM) set `stop`, so that a checkpoint is written; the second one exits at once.

    During a download the first one already exits.
    """
    from ovseg3d.encoders.hub import stoppable

    def handle(*_: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    here = threading.current_thread() is threading.main_thread()
    old = {name: signal.signal(name, handle) for name in (signal.SIGINT, signal.SIGTERM)} if here else {}
    try:
        with stoppable(stop):
            yield
    finally:
        for name, handler in old.items():
            signal.signal(name, handler)


def wait_for(stop: threading.Event) -> None:
    """Return once `stop` is set. `stop.wait` would hold a lock that the handler of `interruptible` needs."""
    while not stop.is_set():
        time.sleep(0.1)
