"""Views of a run: their frames and cameras, and what was rendered of them, each once."""

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
from ovseg3d.scene import Camera, Frame, Scene

MAX_DEPTH_IMAGES = 64
"""Views whose depth is kept, some 5 MB each."""
MAX_PLACES = 8
"""Views whose surface points are kept, some 40 MB each."""

_Made = TypeVar("_Made")


class ViewCache:
    """Renders the views of a run when they are asked for, and keeps the newest of them.

    Args:
        context: of the run; its capture is read when it is not at hand.
        device, backend: what to render on.
    """

    def __init__(self, context: RunContext, device: DeviceName, backend: BackendName) -> None:
        self._context, self._device, self._backend = context, device, backend
        self._places: dict[str, Places] = {}
        self._depths: dict[str, np.ndarray] = {}

    @cached_property
    def scene(self) -> Scene:
        """The capture, with its training cameras where the field agrees with them (see `refined`)."""
        return refined(self._context.run, self.capture)

    @cached_property
    def capture(self) -> Scene:
        """The same as it was read."""
        return self._context.scene or self._context.run.load_scene()

    @cached_property
    def renderer(self) -> Renderer:
        """The field."""
        return restore(self._context.run, self.scene, self._device, self._backend)

    def frame(self, view: str) -> Frame:
        """The frame called `view`, or so but for its folder.

        Raises:
            ConfigError: there is none, or several are.
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
        """Its camera. Raises ConfigError."""
        return self.frame(view).camera

    def view_file(self, view: str) -> str:
        """What its files are called, without suffix (see `view_files`). Raises ConfigError."""
        return self._view_files[self.frame(view).name]

    @cached_property
    def _view_files(self) -> dict[str, str]:
        return view_files(self.scene)

    def places(self, view: str) -> Places:
        """The surface points behind a view's pixels. Raises ConfigError."""
        semantics = self._context.semantics
        return _kept(self._places, MAX_PLACES, view, lambda: semantics.places(self.camera(view), self.depth(view)))

    def depth(self, view: str) -> Float[np.ndarray, "h w"]:
        """What z-depth the field has in a view, input units, 0 where nothing is. Raises ConfigError."""
        return _kept(self._depths, MAX_DEPTH_IMAGES, view, lambda: self.renderer.render(self.camera(view))["depth_z"])


def _kept(cache: dict[str, _Made], most: int, view: str, make: Callable[[], _Made]) -> _Made:
    """What a cache has of a view, or what is made now; the oldest entry gives way."""
    if view not in cache:
        if len(cache) >= most:
            del cache[next(iter(cache))]
        cache[view] = make()
    return cache[view]
