"""Taking a visitor somewhere: where to stand, and how to get there.

One stands where a photo was taken from, since nothing is in the way there; the view is turned to what is to be seen.
"""

import time
from collections.abc import Callable

import numpy as np
import viser
from jaxtyping import Float

from ovseg3d.instances.records import Instance
from ovseg3d.scene import Camera
from ovseg3d.viewer.exhibit import Exhibit
from ovseg3d.viewer.lens import vertical_fov

SECONDS = 0.8
STEPS = 16
TRIED = 12
"""Places that are tried with a ray."""
FITS = 2.2
"""The best distance to a thing, in lengths of its diagonal."""


def stand_to_see(
    exhibit: Exhibit, thing: Instance, eye: Float[np.ndarray, "3"] | None = None
) -> Float[np.ndarray, "3"]:
    """A place from which a thing is seen whole and nothing stands before it; near `eye` among equals."""
    center = np.array(thing.center)
    diagonal = max(float(np.linalg.norm(thing.size)), 0.02 * exhibit.reach)
    places = np.stack([frame.camera.position for frame in exhibit.scene.frames])
    away = np.linalg.norm(places - center, axis=1)
    cost = np.abs(np.log(np.maximum(away, 1e-6) / (FITS * diagonal)))
    cost += np.where(away < 0.75 * diagonal, 10.0, 0.0)
    if eye is not None:
        cost += 0.1 * np.linalg.norm(places - eye, axis=1) / exhibit.reach
    tried = np.argsort(cost, kind="stable")[:TRIED]
    for number in tried:
        if exhibit.renderer is None:
            break
        met = exhibit.cast(places[number], center - places[number])
        if met is not None and met > away[number] - 0.75 * diagonal:
            return places[number]
    return places[tried[0]]


def fly(
    client: viser.ClientHandle,
    position: Float[np.ndarray, "3"],
    target: Float[np.ndarray, "3"],
    up: Float[np.ndarray, "3"],
    wanted: Callable[[], bool],
    seconds: float = SECONDS,
    steps: int = STEPS,
) -> None:
    """Move a browser's camera smoothly; returns when it is there, or no longer `wanted()`."""
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


def ahead(exhibit: Exhibit, camera: Camera) -> Float[np.ndarray, "3"]:
    """What lies in the middle of a camera's view: what a visitor who stands there turns about."""
    far = exhibit.cast(camera.position, camera.forward)
    return camera.position + camera.forward * (0.7 * exhibit.reach if far is None else far)


def first_view(exhibit: Exhibit) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3"], float]:
    """Where a visitor begins: position, target, and vertical field of view in radians.

    The photo that shows most of the points, so that one sees the whole; without points one
    that looks farther than most.
    """
    cameras = [frame.camera for frame in exhibit.scene.frames]
    xyz, _ = exhibit.cloud
    some = xyz[:: max(1, len(xyz) // 2000)].astype(np.float64)
    if len(some):
        best = max(cameras, key=lambda camera: _in_view(camera, some))
        _, z = best.project(some)
        target = best.position + best.forward * float(np.median(z[z > 0])) if (z > 0).any() else ahead(exhibit, best)
    else:
        tried = cameras[:: max(1, len(cameras) // TRIED)]
        targets = [ahead(exhibit, camera) for camera in tried]
        away = [float(np.linalg.norm(target - camera.position)) for camera, target in zip(tried, targets)]
        chosen = int(np.argsort(away, kind="stable")[len(away) * 3 // 4])
        best, target = tried[chosen], targets[chosen]
    return best.position, target, float(np.clip(vertical_fov(best), 0.5, 1.4))


def _in_view(camera: Camera, xyz: np.ndarray) -> int:
    """How many points a photo has in its frame."""
    xy, z = camera.project(xyz)
    with np.errstate(invalid="ignore"):
        return int(((z > 0) & (xy > 0).all(1) & (xy[:, 0] < camera.width) & (xy[:, 1] < camera.height)).sum())
