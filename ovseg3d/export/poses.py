"""Poses as files: poses.json, poses.npz (their distributions), and pictures with axes: of the object's front in red, of
its up axis in blue."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from ovseg3d.errors import OutputError
from ovseg3d.export.detections import draw_from_above
from ovseg3d.export.picture_labels import Rect, draw_labels
from ovseg3d.files import listed_files, read_json, write_atomic, write_json, write_together
from ovseg3d.geometry import Viewpoint, from_wxyz
from ovseg3d.heads.pose import Box, Pose
from ovseg3d.scene.cameras import Camera
from ovseg3d.scene.clouds import PointCloud
from ovseg3d.scene.units import describe_scale, unit_name

LISTING, DISTRIBUTIONS, ABOVE, OVERLAY = "poses.json", "poses.npz", "birds_eye.png", "overlay.png"
AXES = (((0.0, -1.0, 0.0), (225, 40, 40)), ((0.0, 0.0, 1.0), (60, 110, 255)))
"""The front and up of an object, and their colours."""
WAYS = {0: "round", 2: "both ways", 4: "four ways"}
"""What is said of objects without a front."""
HEAD, ARROW_SAMPLES = 10, 12
"""Pixels of the head of an arrow; places along it that labels avoid."""
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class PosedObject:
    """One object with its pose."""

    label: str | None
    pose: Pose
    center: Triple | None = None
    """None in a photo."""
    size: Triple | None = None
    bbox: Box | None = None
    """Pixels of the photo or the view, as it is drawn."""
    bbox_scale: float = 1.0
    """Width of the drawn photo over that of the file."""
    view: Viewpoint | None = None
    """From the photo or the view; its distance means nothing in a lone photo."""
    sources: Mapping[str, Pose] = field(default_factory=dict)
    """By each source alone."""
    photos: int = 0
    """How many photos say it."""
    id: int | None = None
    """Of a run's instance, as answers and exports have it."""

    @property
    def score(self) -> float:
        """See `Pose`."""
        return self.pose.score

    @property
    def rotation_wxyz(self) -> tuple[float, float, float, float]:
        """See `Pose`."""
        return self.pose.rotation_wxyz

    @property
    def front(self) -> Triple | None:
        """See `Pose`."""
        return self.pose.front


@dataclass(frozen=True)
class PosedScene:
    """Objects in one frame, and how to draw them."""

    objects: tuple[PosedObject, ...]
    frame: str
    metres_per_unit: float | None = None
    """None: unknown, as in a photo."""
    up: Triple = (0.0, 0.0, 1.0)
    cloud: PointCloud | None = None
    photos: tuple[tuple[str, UInt8[np.ndarray, "h w 3"], Camera], ...] = ()
    """Names, pixels and cameras of views to draw."""


def describe_poses(posed: PosedScene, distributions: str | None = None) -> dict[str, Any]:
    """The content of poses.json, which `pose --json` prints.

    Args:
        posed: the objects.
        distributions: the file of their distributions.
    """
    return {
        **describe_scale(posed.metres_per_unit),
        "frame": posed.frame,
        "up": None if posed.frame == "camera" else list(posed.up),
        "objects": [_described(number, one, distributions) for number, one in enumerate(posed.objects)],
    }


def _described(number: int, one: PosedObject, distributions: str | None) -> dict[str, Any]:
    view = one.view
    return {
        "id": one.id,
        "label": one.label,
        "bbox": None if one.bbox is None else [value / one.bbox_scale for value in one.bbox],
        "center": None if one.center is None else list(one.center),
        "size": None if one.size is None else list(one.size),
        **one.pose.record(),
        "azimuth_rad": None if view is None else view.azimuth_rad,
        "elevation_rad": None if view is None else view.elevation_rad,
        "theta_rad": None if view is None else view.theta_rad,
        "pose_probabilities": None if distributions is None else f"{distributions}#{number}",
        "sources": {name: pose.record() for name, pose in one.sources.items()},
        "n_photos": one.photos,
    }


def save_poses(folder: Path, posed: PosedScene, title: str) -> list[Path]:
    """Write the files into `folder`, replacing an earlier set; returns their paths.

    Args:
        folder: created if missing.
        posed: the objects.
        title: of the picture from above.

    Raises:
        OutputError: the folder cannot be written to; nothing is half-written.
    """
    pictures = [f"overlay_{name}.png" if len(posed.photos) > 1 else OVERLAY for name, _, _ in posed.photos]
    if posed.cloud is not None:
        pictures.insert(0, ABOVE)
    with write_together(folder, LISTING, [DISTRIBUTIONS, *pictures, *_earlier_pictures(folder)]) as place:
        write_atomic(place / DISTRIBUTIONS, lambda path: _save_distributions(path, posed.objects))
        if posed.cloud is not None:
            boxed: Any = [one for one in posed.objects if one.center is not None]
            draw_from_above(place / ABOVE, posed.cloud, boxed, posed.up, unit_name(posed.metres_per_unit), title)
        for name, (_, rgb, camera) in zip(pictures[-len(posed.photos) :], posed.photos):
            draw_axes(place / name, rgb, camera, posed)
        write_json(place / LISTING, {**describe_poses(posed, DISTRIBUTIONS), "pictures": pictures})
    return [Path(folder) / name for name in (LISTING, DISTRIBUTIONS, *pictures)]


def _earlier_pictures(folder: Path) -> list[str]:
    """The pictures of an earlier set in a folder: those that its listing names."""
    try:
        named = read_json(folder / LISTING, OutputError).get("pictures")
    except OutputError:
        return []
    return listed_files(folder, named if isinstance(named, list) else ())


def _save_distributions(path: Path, objects: Sequence[PosedObject]) -> None:
    arrays: Any = {f"{k}/{name}": values for k, one in enumerate(objects) for name, values in _distributions(one)}
    with open(path, "wb") as file:
        np.savez_compressed(file, **arrays)


def _distributions(one: PosedObject) -> list[tuple[str, np.ndarray]]:
    found = [(name, values) for name, values in one.pose.pose_probabilities.items()]
    for source, pose in one.sources.items():
        found += [(f"{source}/{name}", values) for name, values in pose.pose_probabilities.items()]
    return [(name, values.astype(np.float32)) for name, values in found]


def draw_axes(path: Path, rgb: UInt8[np.ndarray, "h w 3"], camera: Camera, posed: PosedScene) -> None:
    """Write a photo with the axes of its objects.

    Args:
        path: the PNG file.
        rgb: the photo.
        camera: of the photo, in the frame of the poses.
        posed: the objects; those behind the camera are left out.

    Raises:
        OutputError: the file cannot be written.
    """
    from PIL import Image, ImageDraw

    zoom = max(1.0, 900 / rgb.shape[1])
    size = round(rgb.shape[1] * zoom), round(rgb.shape[0] * zoom)
    image = Image.fromarray(rgb).resize(size, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    labels: list[tuple[str, Rect]] = []
    taken: list[Rect] = []
    for one in posed.objects:
        lines = _lines(one, camera)
        if lines is None:
            continue
        start = lines[0] * zoom
        for end, (axis, tint) in zip(lines[1:] * zoom, AXES):
            if axis[1] and one.front is None:
                continue  # it has no front
            end = _shortened(start, end, size)
            _arrow(draw, start, end, tint)
            taken += [_around(point) for point in np.linspace(start, end, ARROW_SAMPLES)]
        said = WAYS.get(one.pose.symmetry_order, f"{one.score:.0%}")
        labels.append((f"{one.label or 'object'} {said}", _around(start)))
    draw_labels(draw, labels, taken)
    write_atomic(path, lambda place: image.save(place, format="PNG"))


def _lines(one: PosedObject, camera: Camera) -> Float[np.ndarray, "3 2"] | None:
    """The object's middle and the ends of its axes, pixels; None where it is not in the picture."""
    turn = from_wxyz(one.pose.rotation_wxyz)
    ends = turn.apply(np.array([axis for axis, _ in AXES]))
    if one.center is not None and one.size is not None:
        reach = 0.6 * np.array([[max(one.size[0], one.size[1])], [one.size[2]]])
        xyz = np.concatenate([[one.center], np.array(one.center) + ends * np.maximum(reach, 0.35 * max(one.size))])
        if ((xyz - camera.position) @ camera.forward < 1e-3).any():
            return None
        lines = camera.project(xyz)[0]
        return lines if (lines[0] >= 0).all() and (lines[0] <= [camera.width, camera.height]).all() else None
    assert one.bbox is not None, "an object is somewhere"
    x0, y0, x1, y1 = one.bbox
    middle = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
    # Without a distance the drawing is parallel.
    flat = ends @ camera.c2w[:3, :3]
    return np.concatenate([[middle], middle + 0.45 * max(x1 - x0, y1 - y0) * flat[:, :2]])


def _shortened(start: np.ndarray, end: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The end of an arrow, drawn back along it so that its head is in the picture."""
    along = end - start
    low, high = np.full(2, HEAD), np.array(size) - HEAD
    room = np.where(along > 0, high - start, low - start)
    shares = np.divide(room, along, out=np.ones(2), where=np.abs(along) > 1e-9)
    return start + along * float(np.clip(shares.min(), 0, 1))


def _around(point: np.ndarray) -> Rect:
    x, y = (float(value) for value in point)
    return x - HEAD / 2, y - HEAD / 2, x + HEAD / 2, y + HEAD / 2


def _arrow(draw: Any, start: np.ndarray, end: np.ndarray, tint: tuple[int, int, int]) -> None:
    draw.line([*start, *end], fill=(255, 255, 255), width=6)
    draw.line([*start, *end], fill=tint, width=4)
    along = end - start
    length = float(np.hypot(*along))
    if length < 6:
        draw.ellipse([*(end - 6), *(end + 6)], fill=tint, outline=(255, 255, 255))
        return
    ahead = along / length
    across = np.array([-ahead[1], ahead[0]])
    head = [end + 8 * ahead, end - 6 * ahead + 7 * across, end - 6 * ahead - 7 * across]
    draw.polygon([tuple(point) for point in head], fill=tint, outline=(255, 255, 255))
