"""A camera path that the user records view by view, and the video of it: a folder of the Export tab."""

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event

import numpy as np
import viser

from ovseg3d.engine import Report
from ovseg3d.errors import ConfigError, RunError
from ovseg3d.files import write_json
from ovseg3d.render.frames import What, render_video
from ovseg3d.runs.folder import RunFolder
from ovseg3d.scene import Camera
from ovseg3d.viewer.camera_path import MAX_SECONDS, MAX_VIEWS, as_nerfstudio, smooth_path
from ovseg3d.viewer.cards import card
from ovseg3d.viewer.context import Context
from ovseg3d.viewer.downloads import next_free_path
from ovseg3d.viewer.layers import COLOUR, DEPTH, FEATURES, LABELS, RELEVANCY, Layer
from ovseg3d.viewer.navigation import Navigator
from ovseg3d.viewer.render_job import Rendered
from ovseg3d.viewer.shared_scene import SharedScene
from ovseg3d.viewer.tabs.answer_display import AnswerDisplay
from ovseg3d.viewer.tabs.export_jobs import Command, Make
from ovseg3d.viewer.viewpoint import Viewpoint

VIDEO_WIDTH = 640


class VideoFolder:
    """Records a path, flies it, and renders it.

    Args:
        context: of the session.
        navigator: flies the path.
        display: which relevancy is shown.
        run_job: `ExportJobs.run`.
    """

    def __init__(
        self,
        context: Context,
        navigator: Navigator,
        display: AnswerDisplay,
        run_job: Callable[[Make, Command | None], None],
    ) -> None:
        self._view, self._shared, self._display = context.view, context.shared, display
        self._navigator, self._run_job = navigator, run_job
        self.views: list[Viewpoint] = []
        gui, on = context.client.gui, context.guarded
        with gui.add_folder("Video of a camera path"):
            self.path_text = gui.add_html("")
            self.add = gui.add_button("Add this view", icon=viser.Icon.PLUS)
            self.remove = gui.add_button("Remove the last view", icon=viser.Icon.BACKSPACE, color="gray")
            self.seconds = gui.add_slider("Seconds", 1.0, MAX_SECONDS, 1.0, 8.0)
            self.play = gui.add_button("Preview the path", icon=viser.Icon.PLAYER_PLAY, color="gray")
            self.save = gui.add_button("Render the video", icon=viser.Icon.MOVIE)
        self.add.on_click(on(lambda _: self.add_view()))
        self.remove.on_click(on(lambda _: self.remove_view()))
        self.play.on_click(on(lambda _: self.fly_path()))
        self.save.on_click(on(lambda _: self.save_video()))
        self._show_views()

    def add_view(self) -> None:
        """Add the current view to the path. Raises ConfigError: the path is full."""
        if len(self.views) >= MAX_VIEWS:
            raise ConfigError(f"A path has at most {MAX_VIEWS} views", fix="render it, then start a new one")
        self.views.append(self._view.need_viewpoint())
        self._show_views()

    def remove_view(self) -> None:
        """Remove the view that was added last."""
        del self.views[-1:]
        self._show_views()

    def _show_views(self) -> None:
        count = len(self.views)
        text = f"{count} {'view' if count == 1 else 'views'}. Move, add the view, move on; a path needs two."
        self.path_text.content = card(text, 12.5)
        for button in (self.play, self.save):
            button.disabled = count < 2
        self.remove.disabled = count == 0

    def fly_path(self) -> None:
        """Fly the browser along the path."""
        self._navigator.follow(smooth_path(self.views, self.seconds.value, VIDEO_WIDTH, fps=4.0))

    def save_video(self) -> None:
        """Render the path through the current layer into exports/paths/; the path is saved beside it."""
        path, layer = smooth_path(self.views, self.seconds.value, VIDEO_WIDTH), self._view.layer
        flags = self._layer_flags(layer)
        kind: What = "depth" if layer.name == DEPTH else "colour"

        def make(run: RunFolder, report: Report, stop: Event) -> list[Path]:
            video = next_free_path(run.exports / "paths", "path", ".mp4")
            renderer = _LayerRenderer(self._shared, layer)
            made = render_video(renderer, path.cameras, {kind: video}, path.fps, report=report, stop=stop)
            saved = video.with_suffix(".json")
            write_json(saved, as_nerfstudio(path))  # last, so that a stopped video leaves no file
            return [*made, saved]

        def command(files: Sequence[Path]) -> str:
            words = ["ovseg3d", "render", str(self._shared.need_run().folder), "--path", str(files[-1])]
            return shlex.join([*words, *(flags or ()), *self._shared.run_flags()])

        self._run_job(make, None if flags is None else command)

    def _layer_flags(self, layer: Layer) -> list[str] | None:
        """Flags of `ovseg3d render` for a layer; None: it cannot render it."""
        reply, labelling = self._view.reply, self._view.labelling
        if layer.name in (COLOUR, DEPTH, FEATURES):
            return ["--what", layer.name.lower()]
        if layer.name == LABELS and labelling is not None:
            return ["--what", "labels", "--phrases", ";".join(labelling.phrases)]
        if layer.name == RELEVANCY and reply is not None:
            asked = reply.question
            if asked.example is None and not asked.negatives and not asked.canonical:
                return ["--what", "relevancy", "--phrase", asked.phrases[self._display.phrase_number()]]
        return None


class _LayerRenderer:
    """A renderer for videos: the field through a layer."""

    def __init__(self, shared: SharedScene, layer: Layer) -> None:
        self._shared, self._layer = shared, layer

    def render(self, camera: Camera, normals: bool = False) -> Rendered:
        """The field's images, with the layer instead of its colours. Raises RunError: there is no field."""
        job = self._shared.render(camera)
        if job is None:
            raise RunError("There is no field to render", fix="train the scene")
        rendered = job.complete()
        if self._layer.name in (COLOUR, DEPTH):  # a video's depth has one scale, so its writer draws it
            return rendered
        return {**rendered, "rgb": self._layer.image(self._shared, job).astype(np.float32) / 255}
