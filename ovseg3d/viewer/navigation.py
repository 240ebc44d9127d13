"""Moving a browser's camera: viewpoints, and flights to them.

Viewpoints are camera positions of photos, since they are in free space; the view is turned to the target.
"""

import time
from collections.abc import Callable

import numpy as np
import viser
from jaxtyping import Float

from ovseg3d.instances.records import Instance
from ovseg3d.render.paths import CameraPath
from ovseg3d.scene import Camera
from ovseg3d.viewer.context import Context
from ovseg3d.viewer.shared_scene import SharedScene
from ovseg3d.viewer.viewpoint import vertical_fov

FLIGHT_SECONDS = 0.8
FLIGHT_STEPS = 16
MAX_TRIED_PLACES = 12
"""Most positions that are tested with a ray."""
BEST_DISTANCE = 2.2
"""Preferred distance to an instance, in lengths of its diagonal."""


class Navigator:
    """Flies one browser's camera; a new flight ends an older one."""

    def __init__(self, context: Context) -> None:
        self._client, self._shared, self._view = context.client, context.shared, context.view
        self._flight: object = None
        """Identifies the newest flight; None once the browser has disconnected."""

    def close(self) -> None:
        """End the flight; the browser has disconnected."""
        self._flight = None

    def begin(self) -> Callable[[], bool]:
        """Start a flight; the returned function is False once a newer one starts, or the browser has disconnected."""
        mine = self._flight = object()
        return lambda: self._flight is mine

    def fly_to_instance(self, instance: Instance) -> None:
        """Fly to a position with a good view of an instance."""
        wanted = self.begin()
        stand = stand_to_see(self._shared, instance, self._view.eye)
        fly(self._client, stand, np.array(instance.center), self._shared.up, wanted)

    def fly_to_frame(self, number: int) -> None:
        """Fly to the camera of a photo."""
        wanted = self.begin()
        camera = self._shared.scene.frames[number].camera
        fly(self._client, camera.position, ahead(self._shared, camera), camera.up, wanted)

    def follow(self, path: CameraPath) -> None:
        """Fly along a camera path."""
        wanted = self.begin()
        for camera in path.cameras:
            target = camera.position + camera.forward * 0.5 * self._shared.extent
            fly(self._client, camera.position, target, camera.up, wanted, seconds=1 / path.fps, steps=4)


def stand_to_see(
    shared: SharedScene, instance: Instance, eye: Float[np.ndarray, "3"] | None = None
) -> Float[np.ndarray, "3"]:
    """A position from which the whole instance is visible and not occluded; of equal ones the nearest to `eye`."""
    center = np.array(instance.center)
    diagonal = max(float(np.linalg.norm(instance.size)), 0.02 * shared.extent)
    places = np.stack([frame.camera.position for frame in shared.scene.frames])
    away = np.linalg.norm(places - center, axis=1)
    cost = np.abs(np.log(np.maximum(away, 1e-6) / (BEST_DISTANCE * diagonal)))
    cost += np.where(away < 0.75 * diagonal, 10.0, 0.0)
    if eye is not None:
        cost += 0.1 * np.linalg.norm(places - eye, axis=1) / shared.extent
    tried = np.argsort(cost, kind="stable")[:MAX_TRIED_PLACES]
    for number in tried:
        if shared.renderer is None:
            break
        met = shared.cast(places[number], center - places[number])
        if met is not None and met > away[number] - 0.75 * diagonal:
            return places[number]
    return places[tried[0]]


def fly(
    client: viser.ClientHandle,
    position: Float[np.ndarray, "3"],
    target: Float[np.ndarray, "3"],
    up: Float[np.ndarray, "3"],
    wanted: Callable[[], bool],
    seconds: float = FLIGHT_SECONDS,
    steps: int = FLIGHT_STEPS,
) -> None:
    """Move a browser's camera smoothly; returns at the end, or once not `wanted()`.

    Args:
        client: the browser.
        position, target, up: final camera position, look-at point and up direction; input frame.
        wanted: checked before each step.
        seconds, steps: of the flight.
    """
    camera = client.camera
    from_place, from_target = np.array(camera.position), np.array(camera.look_at)
    for step in range(1, steps + 1):
        if not wanted():
            return
        share = step / steps
        share = share * share * (3 - 2 * share)
        place = from_place + share * (position - from_place)
        aim = from_target + share * (target - from_target)
        if np.linalg.norm(aim - place) < 1e-6:
            continue
        with client.atomic():
            camera.up_direction = up
            camera.position = place
            camera.look_at = aim
        client.flush()
        time.sleep(seconds / steps)


def ahead(shared: SharedScene, camera: Camera) -> Float[np.ndarray, "3"]:
    """The point in the middle of a camera's view, about which the camera orbits."""
    far = shared.cast(camera.position, camera.forward)
    return camera.position + camera.forward * (0.7 * shared.extent if far is None else far)


def first_view(shared: SharedScene) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3"], float]:
    """The first view of a session: position, target, and vertical field of view in radians.

    It is the photo that shows most points; without points, one that looks farther than most.
    """
    cameras = [frame.camera for frame in shared.scene.frames]
    xyz, _ = shared.cloud
    some = xyz[:: max(1, len(xyz) // 2000)].astype(np.float64)
    if len(some):
        best = max(cameras, key=lambda camera: _in_view(camera, some))
        _, z = best.project(some)
        target = best.position + best.forward * float(np.median(z[z > 0])) if (z > 0).any() else ahead(shared, best)
    else:
        tried = cameras[:: max(1, len(cameras) // MAX_TRIED_PLACES)]
        targets = [ahead(shared, camera) for camera in tried]
        away = [float(np.linalg.norm(target - camera.position)) for camera, target in zip(tried, targets)]
        chosen = int(np.argsort(away, kind="stable")[len(away) * 3 // 4])
        best, target = tried[chosen], targets[chosen]
    return best.position, target, float(np.clip(vertical_fov(best), 0.5, 1.4))


def _in_view(camera: Camera, xyz: np.ndarray) -> int:
    """Number of points in a photo's frame."""
    xy, z = camera.project(xyz)
    with np.errstate(invalid="ignore"):
        return int(((z > 0) & (xy > 0).all(1) & (xy[:, 0] < camera.width) & (xy[:, 1] < camera.height)).sum())
