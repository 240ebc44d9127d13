"""The Export tab: images, files and videos of a run, written into its exports/ folder only.

File names never come from a browser: files are numbered here.
"""

import html
import shlex
from collections.abc import Sequence
from pathlib import Path
from threading import Event
from typing import Any

import viser

from ovseg3d.engine import Report
from ovseg3d.errors import ConfigError, RunError
from ovseg3d.export import WHAT
from ovseg3d.export.run import export_run
from ovseg3d.render.images import save_image
from ovseg3d.runs.folder import RunFolder
from ovseg3d.viewer.cards import card
from ovseg3d.viewer.context import Context
from ovseg3d.viewer.downloads import next_free_path
from ovseg3d.viewer.navigation import Navigator
from ovseg3d.viewer.tabs.answer_display import AnswerDisplay
from ovseg3d.viewer.tabs.export_jobs import ExportJobs
from ovseg3d.viewer.tabs.labels import LabelsFolder
from ovseg3d.viewer.tabs.video import VideoFolder

IMAGE_PIXELS = 1920.0 * 1200.0


class ExportTab:
    """The controls for exports of one browser.

    Args:
        context: of the session.
        navigator: flies camera paths.
        labels: the user's closed list, which exports use.
        display: which relevancy is shown.
    """

    def __init__(self, context: Context, navigator: Navigator, labels: LabelsFolder, display: AnswerDisplay) -> None:
        self._view, self._shared, self._labels = context.view, context.shared, labels
        gui, on = context.client.gui, context.guarded
        if self._shared.run is None:
            gui.add_html(card("There is nothing to export before a run is trained."))
        else:
            folder = html.escape(str(self._shared.run.exports))
            gui.add_html(card(f"Files are saved in <code>{folder}</code> and downloaded.", 12.5))
            self.image = gui.add_button("Save this image", icon=viser.Icon.CAMERA)
            self.image.on_click(on(lambda _: self.save_image()))
            with gui.add_folder("Files"):
                for what, description in WHAT.items():
                    button = gui.add_button(f"{what}: {description}", color="gray")
                    button.on_click(on(lambda _, what=what: self.save(what)))
                self.points = gui.add_number(
                    "Max. points", 0, min=0, step=10_000, hint="Of cloud and html; 0: as many as the run has."
                )
                self.las = gui.add_checkbox("Also as LAS", False, hint="Write the cloud as LAS, too.")
            self.video = VideoFolder(context, navigator, display, lambda *job: self.jobs.run(*job))  # noqa: PLW0108 - it comes later
        self.jobs = ExportJobs(context)

    def close(self) -> None:
        """Stop the export; the browser has disconnected."""
        self.jobs.close()

    def save_image(self) -> None:
        """Write the current image, at the window's size, into exports/images/."""
        viewpoint, layer = self._view.need_viewpoint(), self._view.layer

        def make(run: RunFolder, report: Report, stop: Event) -> list[Path]:
            job = self._shared.render(viewpoint.camera(IMAGE_PIXELS))
            if job is None:
                raise RunError("There is no field to render", fix="train the scene")
            path = next_free_path(run.exports / "images", "image", ".png")
            save_image(path, layer.image(self._shared, job))
            return [path]

        self.jobs.run(make, None)

    def save(self, what: str) -> None:
        """Write one of `WHAT` into exports/. Raises ConfigError: there is no such export."""
        if what not in WHAT:
            raise ConfigError(f"There is no export {what!r}", fix=", ".join(WHAT))
        options, flags = self._options(what)
        command = shlex.join(["ovseg3d", "export", str(self._shared.need_run().folder), "--what", what, *flags])

        def make(run: RunFolder, report: Report, stop: Event) -> Sequence[Path]:
            return export_run(run, what, run.exports, report=report, stop=stop, **options)

        self.jobs.run(make, lambda _: command)

    def _options(self, what: str) -> tuple[dict[str, Any], list[str]]:
        """Settings of an export, in Python and on the command line."""
        options, flags = self._shared.run_options(), self._shared.run_flags()
        phrases = self._labels.phrases()
        if phrases and phrases != tuple(self._shared.scene.phrases):
            options["phrases"] = phrases
            flags = ["--phrases", ";".join(phrases), *flags]
        if what in ("cloud", "html") and self.points.value:
            options["points"] = int(self.points.value)
            flags = ["--points", str(options["points"]), *flags]
        if what == "cloud" and self.las.value:
            options["las"] = True
            flags = ["--las", *flags]
        return options, flags
