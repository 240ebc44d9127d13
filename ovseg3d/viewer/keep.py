"""Take away: what a visitor may carry home. Everything is written into the run's exports/ folder and nowhere else.

No name of a file comes from a visitor: folders and files are named here, by number. One export runs at a time, whoever
asked for it; a visitor who leaves ends theirs.
"""

import html
import io
import shlex
import threading
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import viser

from ovseg3d.engine import Event, Report
from ovseg3d.errors import ConfigError, OutputError, RunError
from ovseg3d.export import WHAT
from ovseg3d.files import make_folder, write_json
from ovseg3d.render.frames import What, render_film
from ovseg3d.render.images import save_picture
from ovseg3d.runs.folder import RunFolder
from ovseg3d.scene import Camera
from ovseg3d.viewer.exhibit import Exhibit, Rendered
from ovseg3d.viewer.fly import fly
from ovseg3d.viewer.layers import COLOUR, DEPTH, FEATURES, LABELS, RELEVANCY, Layer
from ovseg3d.viewer.lens import Viewpoint
from ovseg3d.viewer.record import LONGEST, MOST_KEYS, as_nerfstudio, flight

if TYPE_CHECKING:
    from ovseg3d.viewer.visitor import Visitor

PICTURE_PIXELS = 1920.0 * 1200.0
FILM_WIDTH = 640
LARGEST_DOWNLOAD = 256 * 2**20
"""Bytes; what is larger is left in its folder, which is named."""


class Keeper:
    """The tab Take away of one visitor; made inside that tab."""

    def __init__(self, visitor: "Visitor") -> None:
        self._visitor, self._client, self.exhibit = visitor, visitor.client, visitor.exhibit
        self._gone = threading.Event()
        self._stop = threading.Event()
        self.keys: list[Viewpoint] = []
        self.saved: list[Path] = []
        """Files that this visitor has had written."""
        if self.exhibit.run is None:
            self._client.gui.add_html(_card("There is nothing to take away before a run is trained."))
            return
        self._build()

    def close(self) -> None:
        """The browser has gone: its export ends."""
        self._gone.set()
        self._stop.set()

    def _build(self) -> None:
        gui, on = self._client.gui, self._visitor.guarded
        gui.add_html(_card(f"Files go to <code>{html.escape(str(self.exhibit.run.exports))}</code> and to you."))
        self.picture = gui.add_button("Save this picture", icon=viser.Icon.CAMERA)
        self.picture.on_click(on(lambda _: self.save_picture()))
        with gui.add_folder("Export"):
            for what, meaning in WHAT.items():
                button = gui.add_button(f"{what}: {meaning}", color="gray")
                button.on_click(on(lambda _, what=what: self.export(what)))
            self.points = gui.add_number(
                "Points", 0, min=0, step=10_000, hint="At most so many; 0: as the run has them."
            )
            self.las = gui.add_checkbox("Cloud as LAS too", False)
        with gui.add_folder("Film a flight"):
            self.path_text = gui.add_html("")
            self.add = gui.add_button("Add this view", icon=viser.Icon.PLUS)
            self.forget = gui.add_button("Forget the last", icon=viser.Icon.BACKSPACE, color="gray")
            self.seconds = gui.add_slider("Seconds", 1.0, LONGEST, 1.0, 8.0)
            self.play = gui.add_button("Fly it", icon=viser.Icon.PLAYER_PLAY, color="gray")
            self.film = gui.add_button("Film it", icon=viser.Icon.MOVIE)
        self.progress = gui.add_progress_bar(0.0, visible=False)
        self.cancel = gui.add_button("Stop", visible=False, color="red")
        self.told = gui.add_html("")
        self.add.on_click(on(lambda _: self.add_key()))
        self.forget.on_click(on(lambda _: self._forget()))
        self.play.on_click(on(lambda _: self._fly()))
        self.film.on_click(on(lambda _: self.save_film()))
        self.cancel.on_click(lambda _: self._stop.set())
        self._show_keys()

    # -- pictures and films --------------------------------------------------------------------------------------

    def save_picture(self) -> None:
        """The picture of now, as large as the window, into exports/pictures/."""
        viewpoint = self._viewpoint()
        layer = self._visitor.pictures.layer

        def make(run: RunFolder, report: Report) -> list[Path]:
            sheet = self.exhibit.render(viewpoint.camera(PICTURE_PIXELS))
            if sheet is None:
                raise RunError("There is no field to take a picture of", fix="train the scene")
            path = next_free(run.exports / "pictures", "picture", ".png")
            save_picture(path, layer.picture(self.exhibit, sheet))
            return [path]

        self._work(make, None)

    def add_key(self) -> None:
        """Add the view of now to the path."""
        if len(self.keys) >= MOST_KEYS:
            raise ConfigError(f"A path has at most {MOST_KEYS} views", fix="film it, then begin a new one")
        self.keys.append(self._viewpoint())
        self._show_keys()

    def _forget(self) -> None:
        del self.keys[-1:]
        self._show_keys()

    def _show_keys(self) -> None:
        count = len(self.keys)
        views = "view" if count == 1 else "views"
        self.path_text.content = _card(f"{count} {views}. Go somewhere, add the view, go on; two make a flight.")
        for button in (self.play, self.film):
            button.disabled = count < 2

    def _fly(self) -> None:
        path = flight(self.keys, self.seconds.value, FILM_WIDTH, fps=4.0)
        wanted = self._visitor.begin_flight()
        for camera in path.cameras:
            ahead = camera.position + camera.forward * 0.5 * self.exhibit.reach
            fly(self._client, camera.position, ahead, camera.up, wanted, seconds=1 / path.fps, steps=4)

    def save_film(self) -> None:
        """Film the path as it is seen now; the path is saved beside it."""
        path = flight(self.keys, self.seconds.value, FILM_WIDTH)
        layer = self._visitor.pictures.layer
        flags, (_, where) = self._film_flags(layer), self._where()
        kind: What = "depth" if layer.name == DEPTH else "colour"

        def make(run: RunFolder, report: Report) -> list[Path]:
            film = next_free(run.exports / "paths", "path", ".mp4")
            made = render_film(
                _Painted(self.exhibit, layer), path.cameras, {kind: film}, path.fps, report=report, stop=self._stop
            )
            saved = film.with_suffix(".json")
            write_json(saved, as_nerfstudio(path))  # last, so that a film that is stopped leaves nothing
            return [*made, saved]

        def command(files: Sequence[Path]) -> str:
            words = ["ovseg3d", "render", str(self.exhibit.run.folder), "--path", str(files[-1])]
            return shlex.join([*words, *(flags or ()), *where])

        self._work(make, None if flags is None else command)

    def _film_flags(self, layer: Layer) -> list[str] | None:
        """How `ovseg3d render` is told of a layer; None: it draws no such pictures."""
        pictures, reply = self._visitor.pictures, self._visitor.asking.reply
        if layer.name in (COLOUR, DEPTH, FEATURES):
            return ["--what", layer.name.lower()]
        if layer.name == LABELS and pictures.labelling is not None:
            return ["--what", "labels", "--phrases", ";".join(pictures.labelling.phrases)]
        if layer.name == RELEVANCY and reply is not None:
            asked = reply.question
            if asked.example is None and not asked.negatives and not asked.canonical:
                return ["--what", "relevancy", "--phrase", asked.phrases[pictures.shown_phrase()]]
        return None

    # -- exports -------------------------------------------------------------------------------------------------

    def export(self, what: str) -> None:
        """One of `WHAT`, into exports/."""
        if what not in WHAT:
            raise ConfigError(f"There is no export {what!r}", fix=", ".join(WHAT))
        options, flags = self._options()
        if what in ("cloud", "html") and self.points.value:
            options["points"] = int(self.points.value)
            flags = ["--points", str(options["points"]), *flags]
        if what == "cloud" and self.las.value:
            options["las"] = True
            flags = ["--las", *flags]
        command = shlex.join(["ovseg3d", "export", str(self.exhibit.run.folder), "--what", what, *flags])

        def make(run: RunFolder, report: Report) -> Sequence[Path]:
            return run.export(what, run.exports, report=report, stop=self._stop, **options)

        self._work(make, lambda _: command)

    def _options(self) -> tuple[dict[str, Any], list[str]]:
        """What an export is told besides, in Python and on the command line: the visitor's own labels, and `_where`."""
        options, flags = self._where()
        phrases = self._visitor.panel.label_list()
        if phrases and phrases != tuple(self.exhibit.scene.phrases):
            options["phrases"] = phrases
            flags = ["--phrases", ";".join(phrases), *flags]
        return options, flags

    def _where(self) -> tuple[dict[str, Any], list[str]]:
        """What computes, and where the capture is if it has moved: as the viewer was told."""
        exhibit = self.exhibit
        options: dict[str, Any] = {"device": exhibit.device, "backend": exhibit.backend}
        if exhibit.scene.path != exhibit.run.scene_path:
            options["scene"] = exhibit.scene.path
        said = {name: str(value) for name, value in options.items() if value != "auto"}
        return options, [word for name, value in said.items() for word in (f"--{name}", value)]

    def _work(
        self, make: Callable[[RunFolder, Report], Sequence[Path]], command: Callable[[Sequence[Path]], str] | None
    ) -> None:
        """Do something long; tell how far it is, then offer the files."""
        run = self.exhibit.run
        if run is None:
            raise RunError("There is nothing to take away before a run is trained", fix="ovseg3d train SCENE")
        if not self.exhibit.exporting.acquire(blocking=False):
            raise OutputError("Something else is being written just now", fix="try again when it is done")
        self._stop.clear()
        try:
            self._show_busy(True)
            make_folder(run.exports)
            files = list(make(run, self._report))
            # Before somebody else's export takes the place of these files.
            download = packed(run.exports, files) if not self._gone.is_set() else ("", None)
        except KeyboardInterrupt:
            self.told.content = _card("Stopped; nothing half-written is left.")
            return
        finally:
            self._show_busy(False)
            self.exhibit.exporting.release()
        self.saved += files
        self._offer(run, files, command(files) if command else None, *download)

    def _show_busy(self, busy: bool) -> None:
        self.progress.value = 0.0
        self.progress.visible = self.cancel.visible = busy
        if busy:
            self.told.content = ""

    def _report(self, event: Event) -> None:
        if self._gone.is_set():
            self._stop.set()
        if event.kind == "progress":
            self.progress.value = 100.0 * min(max(event.progress, 0.0), 1.0)

    def _offer(
        self, run: RunFolder, files: Sequence[Path], command: str | None, name: str, content: bytes | None
    ) -> None:
        rows = [f"<div><code>{html.escape(str(path.relative_to(run.folder)))}</code></div>" for path in files[:12]]
        if len(files) > 12:
            rows.append(f"<div>and {len(files) - 12} more</div>")
        if command is not None:
            rows.append(
                f'<div style="margin-top:4px">The same on the command line:</div><code>{html.escape(command)}</code>'
            )
        self.told.content = _card("".join(rows))
        if content is not None and not self._gone.is_set():
            self._client.send_file_download(name, content)

    def _viewpoint(self) -> Viewpoint:
        if self._visitor.pictures.viewpoint is None:
            raise RunError("The browser has not said yet where it looks from", fix="move the view")
        return self._visitor.pictures.viewpoint


class _Painted:
    """A renderer for films: the field through a layer."""

    def __init__(self, exhibit: Exhibit, layer: Layer) -> None:
        self._exhibit, self._layer = exhibit, layer

    def render(self, camera: Camera, normals: bool = False) -> Rendered:
        """What the field renders, with the layer in place of its colours."""
        sheet = self._exhibit.render(camera)
        if sheet is None:
            raise RunError("There is no field to film", fix="train the scene")
        if self._layer.name in (COLOUR, DEPTH):  # a film's depth has one scale, so its writer draws it
            return sheet.rendered
        picture = self._layer.picture(self._exhibit, sheet)
        return {**sheet.rendered, "rgb": picture.astype(np.float32) / 255}


def next_free(folder: Path, stem: str, suffix: str) -> Path:
    """folder/stem-0001.suffix, or the first number that no file has. Raises OutputError."""
    make_folder(folder)
    taken = {path.stem for path in folder.glob(f"{stem}-*")}
    return next(folder / f"{name}{suffix}" for i in range(1, 100_000) if (name := f"{stem}-{i:04d}") not in taken)


def packed(exports: Path, files: Sequence[Path]) -> tuple[str, bytes | None]:
    """Files of a run's exports/ as one download: its name and bytes; None where there is too much of it.

    Raises:
        OutputError: a file lies outside `exports`, links followed.
    """
    root = exports.resolve()
    for path in files:
        if not path.resolve().is_relative_to(root):
            raise OutputError("Only files of the run's exports can be taken away", where=path)
    if not files or sum(path.stat().st_size for path in files) > LARGEST_DOWNLOAD:
        return "", None
    if len(files) == 1:
        return files[0].name, files[0].read_bytes()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files:
            archive.write(path, path.resolve().relative_to(root).as_posix())
    folders = {path.resolve().relative_to(root).parts[0] for path in files}
    name = Path(folders.pop()).stem if len(folders) == 1 else "exports"
    return f"{name}.zip", buffer.getvalue()


def _card(content: str) -> str:
    """`content` is HTML already."""
    return f'<div style="font-size:12.5px;line-height:1.45;padding:2px 12px;overflow-wrap:anywhere">{content}</div>'
