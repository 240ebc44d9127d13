"""Views of a run: frames, cameras, and cached renders."""

from collections.abc import Callable
from functools import cached_property
from typing import TypeVar

import numpy as np
from jaxtyping import Float

from ovseg3d.errors import ConfigError
from ovseg3d.field.renderer import Renderer
from ovseg3d.points.semantic_scene import Places
from ovseg3d.query.context import RunContext
from ovseg3d.render.views import view_files
from ovseg3d.runs.devices import BackendName, DeviceName
from ovseg3d.runs.fields import refined, restore
from ovseg3d.runs.view_depth import load_view_depth
from ovseg3d.scene import Camera, Frame, Scene

MAX_DEPTH_IMAGES = 64
"""Views whose depth is cached, about 5 MB each."""
MAX_PLACES = 8
"""Views whose surface points are cached, about 40 MB each."""

_Made = TypeVar("_Made")


class ViewCache:
    """Renders the views of a run on demand, and keeps the newest.

    Args:
        context: of the run; its capture is read if it is not loaded.
        device, backend: used to render.
    """

    def __init__(self, context: RunContext, device: DeviceName, backend: BackendName) -> None:
        self._context = context
        self._device: DeviceName = device
        self._backend: BackendName = backend
        self._places: dict[str, Places] = {}
        self._depths: dict[str, np.ndarray] = {}

    @cached_property
    def scene(self) -> Scene:
        """The capture with refined training cameras (see `refined`)."""
        return refined(self._context.run, self.capture)

    @cached_property
    def capture(self) -> Scene:
        """The capture as it was read."""
        return self._context.scene or self._context.run.load_scene()

    @cached_property
    def renderer(self) -> Renderer:
        """Renders the field."""
        return restore(self._context.run, self.scene, self._device, self._backend)

    def frame(self, view: str) -> Frame:
        """The frame named `view`, with or without its folder.

        Raises:
            ConfigError: there is none, or several.
        """
        frames = self.scene.frames
        found = [frame for frame in frames if frame.name == view]
        found = found or [frame for frame in frames if frame.name.rpartition("/")[2] == view]
        if not found:
            raise ConfigError(f"There is no view {view!r}", fix=f"such as {frames[0].name}")
        if len(found) > 1:
            raise ConfigError(f"{len(found)} views are called {view!r}", fix=f"such as {found[0].name}")
        return found[0]

    def camera(self, view: str) -> Camera:
        """The view's camera. Raises ConfigError."""
        return self.frame(view).camera

    def view_file(self, view: str) -> str:
        """The name of the view's files, without suffix (see `view_files`). Raises ConfigError."""
        return self._view_files[self.frame(view).name]

    @cached_property
    def _view_files(self) -> dict[str, str]:
        return view_files(self.scene)

    def places(self, view: str) -> Places:
        """The surface points behind a view's pixels. Raises ConfigError."""
        semantics = self._context.semantics
        return _kept(self._places, MAX_PLACES, view, lambda: semantics.places(self.camera(view), self.depth(view)))

    def depth(self, view: str) -> Float[np.ndarray, "h w"]:
        """The field's z-depth in a view, input units, 0 where there is none. Raises ConfigError."""
        return _kept(self._depths, MAX_DEPTH_IMAGES, view, lambda: self._depth(self.frame(view)))

    def _depth(self, frame: Frame) -> Float[np.ndarray, "h w"]:
        kept = self._measured.get(frame.name)
        if kept is not None and kept.shape == (frame.camera.height, frame.camera.width):
            return kept
        return self.renderer.render(frame.camera)["depth_z"]

    @cached_property
    def _measured(self) -> dict[str, np.ndarray]:
        return load_view_depth(self._context.run)


def _kept(cache: dict[str, _Made], most: int, view: str, make: Callable[[], _Made]) -> _Made:
    """The cached entry of a view, made if it is missing; the oldest entry is dropped."""
    if view not in cache:
        if len(cache) >= most:
            del cache[next(iter(cache))]
        cache[view] = make()
    return cache[view]
