"""The scene that all browsers share, with the field and semantics of its run.

A `SharedScene` is thread-safe. One thread at a time renders the field, in strips, in the order of requests; the same
holds for the encoder. During training, `version` grows with each checkpoint, and `engine` may be replaced or removed at
any time: read it once, and store its `semantics` together with indices of points.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from ovseg3d.errors import Ovseg3dError, RunError, SceneError
from ovseg3d.field.renderer import Renderer
from ovseg3d.limits import NO_TRUST, Trust
from ovseg3d.points.semantic_scene import FILE, SemanticScene
from ovseg3d.query.engine import QueryEngine
from ovseg3d.runs.config import Layout
from ovseg3d.runs.devices import BackendName, DeviceName
from ovseg3d.runs.fields import restore
from ovseg3d.runs.folder import RunFolder
from ovseg3d.runs.places import find_run
from ovseg3d.scene import Camera, Scene, load_scene
from ovseg3d.scene.images import load_photo
from ovseg3d.session import load
from ovseg3d.viewer.fair_lock import FairLock
from ovseg3d.viewer.image_stream import STRIP_SECONDS, RenderRate
from ovseg3d.viewer.render_job import RenderJob
from ovseg3d.viewer.viewpoint import ray_camera, strip_camera

THUMBNAIL_SIDE = 160
"""Longest side of a photo shown in its camera, pixels."""
MIN_STRIP_PIXELS = 12_288
"""Fewest pixels of a strip; smaller strips render slower."""


class SharedScene:
    """A scene, and its run if it has one.

    Args:
        scene: the capture.
        run: None for a capture without a run.
        device, backend: for rendering and encoding.

    Raises:
        DeviceError: they are not available.
    """

    def __init__(
        self, scene: Scene, run: RunFolder | None = None, device: DeviceName = "auto", backend: BackendName = "auto"
    ) -> None:
        self.scene, self.run = scene, run
        self.device: DeviceName = device
        self.backend: BackendName = backend
        self.renderer: Any = None
        self._draft: Any = None
        self.engine: QueryEngine | None = None
        self._known: tuple[object, ...] | None = None
        """The state of the file that the engine has read."""
        self.version = 0
        self.notes: list[str] = []
        """Notes about missing parts."""
        self.rate = RenderRate()
        self.training = False
        """Whether the run is in training; then rendering pauses for as long as it took."""
        self._thumbnails: dict[int, np.ndarray | None] = {}
        self.export_lock = threading.Lock()
        """Held while the run's exports are written."""
        self.query_lock = FairLock()
        """Held while an engine is used, since it caches encoded phrases."""
        self._render_lock = FairLock()
        self.refresh()

    def refresh(self) -> None:
        """Read the run again: its newest checkpoint, and its semantics."""
        if self.run is None:
            self.notes = ["Nothing is trained yet: cameras and sparse points only."]
            return
        notes = []
        try:
            renderer = restore(self.run, self.scene, self.device, self.backend)
            with self._render_lock:
                self.renderer, self._draft = renderer, draft_renderer(renderer)
        except RunError as error:
            notes.append(f"No field: {error.what}.")
        semantics = file_state(self.run.folder / FILE)
        if self.renderer is not None and semantics is not None:
            try:
                # A checkpoint of the field alone keeps the engine, its cache and the encoder.
                if self.engine is None or semantics != self._known:
                    self.engine, self._known = QueryEngine(self.run, self.scene, self.device, self.backend), semantics
            except RunError as error:
                notes.append(f"Queries are not available: {error.what}.")
        elif self.renderer is not None:
            self.engine = self._known = None  # they belong to an earlier field
            notes.append("Queries are not available: this run has no semantics (train with --only field,semantics).")
        self.notes, self.version = notes, self.version + 1

    def close(self) -> None:
        """Refuse queries from now on: waiting and later ones raise RunError."""
        self.query_lock.close()

    # -- geometry ----------------------------------------------------------------------------------------------

    @property
    def semantics(self) -> SemanticScene | None:
        """Surface points with their semantics; None where there are none."""
        engine = self.engine
        return None if engine is None else engine.semantics

    @property
    def cloud(self) -> tuple[Float[np.ndarray, "points 3"], UInt8[np.ndarray, "points 3"]]:
        """Points and their colours: the surface's, else the capture's sparse points; may be empty."""
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
    def extent(self) -> float:
        """Approximate size of the scene: the spread of the cameras, input units."""
        places = np.stack([frame.camera.position for frame in self.scene.frames])
        return float(max(np.linalg.norm(places - np.median(places, axis=0), axis=1).max(), 1e-3))

    def thumbnail(self, number: int) -> UInt8[np.ndarray, "h w 3"] | None:
        """A small version of a frame's photo; None if it cannot be read."""
        if number not in self._thumbnails:
            try:
                frame = self.scene.frames[number]
                width, height = frame.camera.width, frame.camera.height
                share = min(1.0, THUMBNAIL_SIDE / max(width, height))
                # JPEGs are decoded at the reduced size.
                small = frame.camera.scaled(max(1, round(width * share)), max(1, round(height * share)))
                self._thumbnails[number] = load_photo(replace(frame, camera=small))[..., :3]
            except SceneError:
                self._thumbnails[number] = None
        return self._thumbnails[number]

    # -- images ------------------------------------------------------------------------------------------------

    def draw(self, job: RenderJob, unwanted: Callable[[], bool] = lambda: False) -> float:
        """Render the missing strips of an image; returns the seconds of rendering.

        Ends early once `unwanted()`, which is checked between strips, or if there is no field.
        """
        camera, seconds = job.camera, 0.0
        rows = max(1, round(max(MIN_STRIP_PIXELS, STRIP_SECONDS * self.rate.pixels_per_second) / camera.width))
        while job.rows < camera.height:
            with self._render_lock:
                if self.renderer is None or unwanted():
                    break
                began = time.monotonic()
                strip = strip_camera(camera, job.rows, min(rows, camera.height - job.rows))
                job.parts.append((self._draft if job.draft else self.renderer).render(strip))
                took = time.monotonic() - began
            seconds += took
            if self.training:
                time.sleep(took)
        return seconds

    def render(self, camera: Camera) -> RenderJob | None:
        """A complete image of the field; None if there is no field."""
        job = RenderJob(camera)
        self.draw(job)
        return job if job.rendered is not None else None

    def cast(self, origin: Float[np.ndarray, "3"], direction: Float[np.ndarray, "3"]) -> float | None:
        """Distance along a ray to the surface of the field; None if there is no surface, or no field."""
        job = self.render(ray_camera(origin, direction))
        rendered = None if job is None else job.rendered
        if rendered is None or rendered["opacity"][0, 0] < 0.5 or not rendered["depth_z"][0, 0] > 0:
            return None
        return float(rendered["depth_z"][0, 0])

    def prepare(self) -> None:
        """Load the encoder and the caches that the first question and layer need; queries report errors later."""
        engine, phrase = self.engine, ("something",)
        if engine is None:
            return
        with contextlib.suppress(Ovseg3dError):
            # Step by step, since the encoder may take minutes to load: nothing starts after `close`.
            for step in (engine.encode, engine.ask):
                with self.query_lock:
                    step(phrase)
        first = self.scene.frames[0].camera.scaled(8, 8)
        engine.semantics.places(first, np.ones((8, 8)))

    # -- queries -----------------------------------------------------------------------------------------------

    def need_engine(self) -> QueryEngine:
        """The query engine. Raises RunError: there is none."""
        engine = self.engine
        if engine is None:
            raise RunError(
                "This run cannot be queried: it has no semantics",
                fix=f"ovseg3d train {self.scene.path} --only field,semantics",
            )
        return engine

    # -- how the run is used -----------------------------------------------------------------------------------

    def need_run(self) -> RunFolder:
        """The run. Raises RunError: there is none."""
        if self.run is None:
            raise RunError("Nothing is trained yet", fix=f"ovseg3d train {self.scene.path}")
        return self.run

    def run_options(self) -> dict[str, Any]:
        """Device, backend, and the capture's path if it has moved: keywords for methods of the run."""
        options: dict[str, Any] = {"device": self.device, "backend": self.backend}
        if self.run is not None and self.scene.path != self.run.scene_path:
            options["scene"] = self.scene.path
        return options

    def run_flags(self) -> list[str]:
        """`run_options` as flags of the command line."""
        said = {name: str(value) for name, value in self.run_options().items() if value != "auto"}
        return [word for name, value in said.items() for word in (f"--{name}", value)]


def file_state(path: Path) -> tuple[object, ...] | None:
    """A value that changes when a file is rewritten; None if there is no file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return path, found.st_mtime_ns, found.st_size


def draft_renderer(renderer: Any) -> Any:
    """The same field rendered with steps twice as long: 32 dB from the fine image, in two thirds of its time."""
    if not isinstance(renderer, Renderer):
        return renderer
    config = replace(renderer.config, step_size=2 * renderer.config.step_size, cone=2 * renderer.config.cone)
    return Renderer(
        renderer.field, renderer.backend, renderer.box, renderer.occupancy, config, renderer.workers, renderer.white
    )


def open_shared_scene(
    path: Path,
    scene_path: Path | None = None,
    device: DeviceName = "auto",
    backend: BackendName = "auto",
    trust: Trust = NO_TRUST,
    layout: Layout | None = None,
) -> SharedScene:
    """Open a run, a scene's newest run, or a scene without a run.

    Args:
        path: as for `ovseg3d.load`, or a capture.
        scene_path: the run's capture, if it has moved.
        device, backend: for rendering and encoding.
        trust: what the run and its capture may do.
        layout: as for `ovseg3d.load`.

    Raises:
        RunError, SceneError: it is neither, or cannot be read. DeviceError: see `SharedScene`.
    """
    try:
        find_run(path)
    except RunError as no_run:
        if not os.path.exists(path):  # `Path.exists` raises where a folder is not readable
            raise
        try:
            return SharedScene(load_scene(path, trust=trust), None, device, backend)
        except SceneError as no_scene:
            raise no_scene from no_run
    run = load(path, trust, layout)
    return SharedScene(run.load_scene(scene_path), run, device, backend)
