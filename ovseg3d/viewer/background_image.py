"""The background image of one browser's 3D view: the field from its viewpoint, through the chosen layer.

The browser sends its viewpoint. `ImageStream` requests coarse and sharp images, which are sent to the browser as its
background, with a depth, so that points and boxes are occluded correctly.
"""

import threading
from collections.abc import Callable

import numpy as np
import viser
from jaxtyping import Float

from ovseg3d.viewer.context import Context
from ovseg3d.viewer.image_stream import ImageStream
from ovseg3d.viewer.layers import Layer
from ovseg3d.viewer.shared_scene import RenderJob
from ovseg3d.viewer.viewpoint import Viewpoint

SHARP_PIXELS = 512.0 * 384.0
"""Pixels of a sharp image on a slow machine."""
SHARP_SECONDS = 3.0
"""Most time of a sharp image on a fast machine."""
MAX_DEPTH = 167.0
"""Greatest depth that viser supports, input units."""
MAX_KEPT_JOBS = 3


class BackgroundImage:
    """Renders and sends the image whenever the view or the layer changes.

    Args:
        context: of the session.
        switch: whether the image is shown.
    """

    def __init__(self, context: Context, switch: viser.GuiCheckboxHandle) -> None:
        self._context, self._view, self._shared = context, context.view, context.shared
        self._client, self._switch = context.client, switch
        self._requesting = threading.RLock()
        """Held while a new viewpoint or layer is requested."""
        self._jobs: dict[tuple, RenderJob] = {}
        self.stream = ImageStream(self._draw, context.show_error, self._shared.rate, SHARP_PIXELS)
        self._client.camera.on_update(context.guarded(self.move))
        switch.on_update(context.guarded(lambda _: self.request()))
        self._view.layer_changed.connect(self.request)

    def close(self) -> None:
        """Stop; the browser has disconnected."""
        self.stream.close()

    def join(self, seconds: float) -> None:
        """After `close`: wait for the current image to end."""
        self.stream.join(seconds)

    def move(self, camera: viser.CameraHandle) -> None:
        """Take a new viewpoint from the browser; called many times a second, so it must not block."""
        # Two threads may handle two moves at once: the last one must not restore an older viewpoint.
        with self._requesting:
            seen = read_viewpoint(camera)
            if seen is None or seen == self._view.viewpoint:
                return
            self._view.viewpoint = seen
            self.request()
        self._context.lock.schedule()

    def request(self) -> None:
        """Request an image of the current viewpoint and layer."""
        with self._requesting:
            viewpoint = self._view.viewpoint
            if viewpoint is None:
                return
            if not self._switch.value:
                self.stream.request(None)
                return
            window = viewpoint.width * viewpoint.height
            fast = SHARP_SECONDS * self._shared.rate.pixels_per_second
            self.stream.sharp = float(min(window, max(SHARP_PIXELS, fast)))
            self.stream.request((viewpoint, self._view.layer))

    def _draw(
        self, request: tuple[Viewpoint, Layer] | None, pixels: float, unwanted: Callable[[], bool]
    ) -> float | None:
        if request is None:
            self._client.scene.set_background_image(None)
            return None
        viewpoint, layer = request
        camera = viewpoint.camera(pixels)
        # Another layer of the same viewpoint reuses what was rendered, complete or not.
        key = (viewpoint, camera.width, self._shared.version)
        job = self._jobs.pop(key, None) or RenderJob(camera, draft=pixels < self.stream.sharp)
        self._jobs[key] = job
        for old in list(self._jobs)[:-MAX_KEPT_JOBS]:
            del self._jobs[old]
        seconds = self._shared.draw(job, unwanted)
        rendered = job.rendered
        if rendered is None or self.stream.closed:
            return None
        image = layer.image(self._shared, job)
        quality = 75 if pixels < self.stream.sharp else 90
        depth_z = self._depth(rendered["depth_z"])
        if self.stream.closed:  # the browser has disconnected meanwhile
            return None
        self._client.scene.set_background_image(image, "jpeg", jpeg_quality=quality, depth=depth_z)
        self._client.flush()
        return seconds

    def _depth(self, depth_z: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"] | None:
        """The depth of the image; None (behind everything) where depths exceed viser's range."""
        known = depth_z[depth_z > 0]
        if len(known) and np.median(known) > MAX_DEPTH:
            return None
        # The image lies slightly behind the surface, so that points and boxes on it stay visible.
        away = np.where(depth_z > 0, depth_z, MAX_DEPTH) * 1.01 + self._context.nodes.point_size()
        return np.minimum(away, MAX_DEPTH)


def read_viewpoint(camera: viser.CameraHandle) -> Viewpoint | None:
    """A browser's viewpoint; None while its window has no size."""
    while True:
        said = camera.update_timestamp
        width, height = int(camera.image_width), int(camera.image_height)
        (w, x, y, z), (left, front, up) = map(float, camera.wxyz), map(float, camera.position)
        pose = (w, x, y, z), (left, front, up), float(camera.fov)
        if camera.update_timestamp == said:  # else it moved while it was read
            return Viewpoint(*pose, width, height) if min(width, height) > 1 else None
