"""Runs one export: progress bar, stop button, and the written files."""

import html
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from ovseg3d.engine import Event, Report
from ovseg3d.errors import OutputError
from ovseg3d.files import make_folder
from ovseg3d.runs.folder import RunFolder
from ovseg3d.viewer import downloads
from ovseg3d.viewer.cards import card
from ovseg3d.viewer.context import Context

Make = Callable[[RunFolder, Report, threading.Event], Sequence[Path]]
"""make(run, report, stop) writes into the run's exports and returns the files; it raises KeyboardInterrupt once `stop`
is set."""
Command = Callable[[Sequence[Path]], str]
"""command(files) returns the command line that makes the same files."""
SHOWN_FILES = 12


class ExportJobs:
    """One export at a time over all browsers; a browser that disconnects ends its own."""

    def __init__(self, context: Context) -> None:
        self._client, self._shared = context.client, context.shared
        self._closed, self._stop = threading.Event(), threading.Event()
        self.saved: list[Path] = []
        """Files written for this browser."""
        gui = context.client.gui
        self.progress = gui.add_progress_bar(0.0, visible=False)
        self.stop_button = gui.add_button("Stop", visible=False, color="red")
        self.result = gui.add_html("")
        self.stop_button.on_click(lambda _: self._stop.set())

    def close(self) -> None:
        """Stop the export; the browser has disconnected."""
        self._closed.set()
        self._stop.set()

    def run(self, make: Make, command: Command | None) -> None:
        """Make files, then send them to the browser.

        Args:
            make: see `Make`.
            command: None if the command line cannot make them.

        Raises:
            RunError: there is no run. OutputError: another export is being written.
        """
        run = self._shared.need_run()
        if not self._shared.export_lock.acquire(blocking=False):
            raise OutputError("Another export is being written", fix="try again when it is done")
        self._stop.clear()
        try:
            self._show_busy(True)
            make_folder(run.exports)
            files = list(make(run, self._report, self._stop))
            # Before another browser's export replaces these files.
            download = downloads.pack_files(run.exports, files) if not self._closed.is_set() else ("", None)
        except KeyboardInterrupt:
            self.result.content = _card("Stopped; no partial files are left.")
            return
        finally:
            self._show_busy(False)
            self._shared.export_lock.release()
        self.saved += files
        self._show_files(run, files, command(files) if command else None)
        name, content = download
        if content is not None and not self._closed.is_set():
            self._client.send_file_download(name, content)

    def _show_busy(self, busy: bool) -> None:
        self.progress.value = 0.0
        self.progress.visible = self.stop_button.visible = busy
        if busy:
            self.result.content = ""

    def _report(self, event: Event) -> None:
        if self._closed.is_set():
            self._stop.set()
        if event.kind == "progress":
            self.progress.value = 100.0 * min(max(event.progress, 0.0), 1.0)

    def _show_files(self, run: RunFolder, files: Sequence[Path], command: str | None) -> None:
        names = [html.escape(str(path.relative_to(run.folder))) for path in files[:SHOWN_FILES]]
        rows = [f"<div><code>{name}</code></div>" for name in names]
        if len(files) > SHOWN_FILES:
            rows.append(f"<div>and {len(files) - SHOWN_FILES} more</div>")
        if command is not None:
            rows.append('<div style="margin-top:4px">The same on the command line:</div>')
            rows.append(f"<code>{html.escape(command)}</code>")
        self.result.content = _card("".join(rows))


def _card(content: str) -> str:
    return card(content, 12.5)
