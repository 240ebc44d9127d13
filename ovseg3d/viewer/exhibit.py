"""What all visitors look at: a scene, and where there is a run its field and its meaning.

An `Exhibit` may be used from many threads. The field is rendered by one of them at a time, in strips, in the order of
asking; so is the encoder. While a run is being trained, `version` grows with each checkpoint, and `asker` may become
another one at any moment, or none: whoever uses it reads it once, and keeps its `semantics` beside numbers of points.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from ovseg3d.errors import Ovseg3dError, RunError, SceneError
from ovseg3d.field.renderer import Renderer
from ovseg3d.limits import NO_TRUST, Trust
from ovseg3d.points.semantic_scene import FILE, Places, SemanticScene
from ovseg3d.query.engine import Asker
from ovseg3d.runs.devices import BackendName, DeviceName
from ovseg3d.runs.fields import restore
from ovseg3d.runs.folder import RunFolder, find_run
from ovseg3d.scene import Camera, Scene, load_scene
from ovseg3d.scene.images import load_photo
from ovseg3d.session import load
from ovseg3d.viewer.lens import beside, ray_camera
from ovseg3d.viewer.stream import STRIP_SECONDS, Pace, Turns

Rendered = dict[str, np.ndarray]
THUMBNAIL = 160
"""Longest side of a photo in its camera, pixels."""
LEAST_STRIP = 12_288
"""Pixels; fewer at once make rendering slower."""


@dataclass
class Sheet:
    """A picture of the field that is being made, strip by strip from the top."""

    camera: Camera
    hasty: bool = False
    """With larger steps along the rays, in two thirds of the time."""
    parts: list[Rendered] = field(default_factory=list)
    _places: Places | None = None
    _of: SemanticScene | None = None

    def places(self, semantics: SemanticScene) -> Places:
        """The surface points behind the whole picture's pixels; looked up once."""
        if self._places is None or self._of is not semantics:
            self._places, self._of = semantics.places(self.camera, self.rendered["depth_z"]), semantics
        return self._places

    @property
    def rows(self) -> int:
        """How many are there."""
        return sum(len(part["rgb"]) for part in self.parts)

    @property
    def rendered(self) -> Rendered | None:
        """The whole picture; None while some of it is missing."""
        if self.rows < self.camera.height:
            return None
        if len(self.parts) > 1:
            self.parts = [{name: np.concatenate([part[name] for part in self.parts]) for name in self.parts[0]}]
        return self.parts[0]


class Exhibit:
    """A scene, and its run if it has one.

    Args:
        scene: the capture.
        run: None for a capture without a run.
        device, backend: what to render and encode on.

    Raises:
        DeviceError: they are not there.
    """

    def __init__(
        self, scene: Scene, run: RunFolder | None = None, device: DeviceName = "auto", backend: BackendName = "auto"
    ) -> None:
        self.scene, self.run, self.device, self.backend = scene, run, device, backend
        self.renderer: Any = None
        self._hasty: Any = None
        self.asker: Asker | None = None
        self._known: tuple[object, ...] | None = None
        """The state of the file that the asker has read."""
        self.version = 0
        self.notes: list[str] = []
        """Why something is not to be seen."""
        self.pace = Pace()
        self.training = False
        """Whether the run is being trained: then a picture leaves as much time to that as it took."""
        self._thumbnails: dict[int, np.ndarray | None] = {}
        self.exporting = threading.Lock()
        """Held by whoever writes into the run's exports."""
        self.asking = Turns()
        """Held while an asker is used: it keeps what it has encoded."""
        self._turns = Turns()
        self.refresh()

    def refresh(self) -> None:
        """Read the run again: its newest checkpoint, and what it knows about meaning."""
        if self.run is None:
            self.notes = ["Nothing is trained yet: cameras and sparse points only."]
            return
        notes = []
        try:
            renderer = restore(self.run, self.scene, self.device, self.backend)
            with self._turns:
                self.renderer, self._hasty = renderer, hasty(renderer)
        except RunError as error:
            notes.append(f"No field to be seen: {error.what}.")
        meaning = file_state(self.run.folder / FILE)
        if self.renderer is not None and meaning is not None:
            try:
                # A checkpoint of the field alone leaves what is known, what was asked, and the encoder as they are.
                if self.asker is None or meaning != self._known:
                    self.asker, self._known = Asker(self.run, self.scene, self.device, self.backend), meaning
            except RunError as error:
                notes.append(f"Nothing can be asked: {error.what}.")
        elif self.renderer is not None:
            self.asker = self._known = None  # what was learnt of a former field
            notes.append("Nothing can be asked: this run has learnt no meaning (train with --only field,semantics).")
        self.notes, self.version = notes, self.version + 1

    def close(self) -> None:
        """Nothing is answered any more: whoever waits to ask, or comes to, is told so."""
        self.asking.close()

    # -- geometry ----------------------------------------------------------------------------------------------

    @property
    def semantics(self) -> SemanticScene | None:
        """Surface points and what they mean."""
        asker = self.asker
        return None if asker is None else asker.semantics

    @property
    def cloud(self) -> tuple[Float[np.ndarray, "points 3"], UInt8[np.ndarray, "points 3"]]:
        """Points to be shown and their colours: the surface's, else the capture's sparse ones; perhaps none."""
        semantics = self.semantics
        if semantics is not None:
            return semantics.surface.xyz, semantics.surface.rgb
        xyz = self.scene.points if self.scene.points is not None else np.empty((0, 3))
        rgb = self.scene.points_rgb
        return xyz.astype(np.float32), rgb if rgb is not None else np.full(xyz.shape, 128, np.uint8)

    @cached_property
    def up(self) -> Float[np.ndarray, "3"]:
        """Unit vector of the input frame that points up."""
        up = self.scene.world_from_input[2, :3]
        return up / np.linalg.norm(up)

    @property
    def unit(self) -> str:
        return self.scene.unit

    @cached_property
    def reach(self) -> float:
        """About the size of what was walked through: the spread of the cameras, input units."""
        places = np.stack([frame.camera.position for frame in self.scene.frames])
        return float(max(np.linalg.norm(places - np.median(places, axis=0), axis=1).max(), 1e-3))

    def thumbnail(self, number: int) -> UInt8[np.ndarray, "h w 3"] | None:
        """A frame's photo, small; None where it cannot be read."""
        if number not in self._thumbnails:
            try:
                frame = self.scene.frames[number]
                width, height = frame.camera.width, frame.camera.height
                share = min(1.0, THUMBNAIL / max(width, height))
                # Asked for small, a JPEG is decoded small.
                small = frame.camera.scaled(max(1, round(width * share)), max(1, round(height * share)))
                self._thumbnails[number] = load_photo(replace(frame, camera=small))[..., :3]
            except SceneError:
                self._thumbnails[number] = None
        return self._thumbnails[number]

    # -- pictures ----------------------------------------------------------------------------------------------

    def draw(self, sheet: "Sheet", unwanted: Callable[[], bool] = lambda: False) -> float:
        """Go on with a picture until it is complete; returns the seconds that it took.

        Ends early once `unwanted()`, which is asked between strips, or where there is no field.
        """
        camera, seconds = sheet.camera, 0.0
        rows = max(1, round(max(LEAST_STRIP, STRIP_SECONDS * self.pace.pixels_per_second) / camera.width))
        while sheet.rows < camera.height:
            with self._turns:
                if self.renderer is None or unwanted():
                    break
                began = time.monotonic()
                strip = beside(camera, sheet.rows, min(rows, camera.height - sheet.rows))
                sheet.parts.append((self._hasty if sheet.hasty else self.renderer).render(strip))
                took = time.monotonic() - began
            seconds += took
            if self.training:
                time.sleep(took)
        return seconds

    def render(self, camera: Camera) -> Sheet | None:
        """The field from a camera, complete; None where there is no field."""
        sheet = Sheet(camera)
        self.draw(sheet)
        return sheet if sheet.rendered is not None else None

    def cast(self, origin: Float[np.ndarray, "3"], direction: Float[np.ndarray, "3"]) -> float | None:
        """Distance along a ray to where the field stops its light; None where nothing is, or no field."""
        sheet = self.render(ray_camera(origin, direction))
        rendered = None if sheet is None else sheet.rendered
        if rendered is None or rendered["opacity"][0, 0] < 0.5 or not rendered["depth_z"][0, 0] > 0:
            return None
        return float(rendered["depth_z"][0, 0])

    def prepare(self) -> None:
        """Load the encoder, and what a first question and a first layer would wait for; errors are left for them."""
        asker, phrase = self.asker, ("something",)
        if asker is None:
            return
        with contextlib.suppress(Ovseg3dError):
            # One by one, since the encoder may take minutes to come: after `close` nothing more is done.
            for step in (asker.encode, asker.ask):
                with self.asking:
                    step(phrase)
        first = self.scene.frames[0].camera.scaled(8, 8)
        asker.semantics.places(first, np.ones((8, 8)))

    # -- words -------------------------------------------------------------------------------------------------

    def need_asker(self) -> Asker:
        """The asker. Raises RunError: there is none."""
        asker = self.asker
        if asker is None:
            raise RunError(
                "This run cannot be asked: it has learnt no meaning",
                fix=f"ovseg3d train {self.scene.path} --only field,semantics",
            )
        return asker


def file_state(path: Path) -> tuple[object, ...] | None:
    """What is another once a file has been written anew; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return path, found.st_mtime_ns, found.st_size


def hasty(renderer: Any) -> Any:
    """The same field rendered with steps twice as long: 32 dB from the fine picture, in two thirds of its time."""
    if not isinstance(renderer, Renderer):
        return renderer
    config = replace(renderer.config, step_size=2 * renderer.config.step_size, cone=2 * renderer.config.cone)
    return Renderer(
        renderer.field, renderer.backend, renderer.box, renderer.occupancy, config, renderer.workers, renderer.white
    )


def open_exhibit(
    path: Path,
    scene_path: Path | None = None,
    device: DeviceName = "auto",
    backend: BackendName = "auto",
    trust: Trust = NO_TRUST,
) -> Exhibit:
    """What `path` means: a run, a scene's newest run, or a scene without one.

    Args:
        path: as for `pipeline.load`, or a capture.
        scene_path: where the run's capture is now, if it has moved.
        trust: what the user allows the run and its capture to ask for.

    Raises:
        RunError, SceneError: it is neither, or cannot be read. DeviceError: see `Exhibit`.
    """
    try:
        find_run(path)
    except RunError as no_run:
        if not os.path.exists(path):  # `Path` asks in vain where a folder is closed
            raise
        try:
            return Exhibit(load_scene(path, trust=trust), None, device, backend)
        except SceneError as no_scene:
            raise no_scene from no_run
    run = load(path, trust)
    return Exhibit(run.load_scene(scene_path), run, device, backend)
