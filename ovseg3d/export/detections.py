"""Detections as files: detections.json, detections.csv, coco3d.json, birds_eye.png (a picture from above), and, of a
photo, overlay.png."""

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8

from ovseg3d.export.coco3d import coco3d, draw_overlay
from ovseg3d.files import write_atomic, write_json, write_together
from ovseg3d.geometry import from_wxyz
from ovseg3d.heads.detection import DetectedScene, Detection
from ovseg3d.heads.lifting import LiftedPhoto
from ovseg3d.heads.pose import likely_front
from ovseg3d.render.palette import colours
from ovseg3d.scene.cameras import Camera
from ovseg3d.scene.clouds import PointCloud
from ovseg3d.scene.units import Unit, describe_scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Text

Triple = tuple[float, float, float]
FILES = ("birds_eye.png", "detections.csv", "coco3d.json", "detections.json")
OVERLAY = "overlay.png"
COLUMNS = ("label", "score", "x", "y", "z", "size_x", "size_y", "size_z", "yaw_rad", "front_x", "front_y", "front_z",
           "symmetry_order", "n_points", "id", "distance")  # fmt: skip
DRAWN_POINTS = 60_000
BELOW = 0.8
"""Share of the height that is drawn: the ceiling would hide all."""


def describe_detections(found: DetectedScene, eye: Float[np.ndarray, "3"] | None = None) -> dict[str, Any]:
    """The content of detections.json, which `detect --json` prints: lengths and positions in the input frame.

    Args:
        found: the detections.
        eye: position from which the distances of their centres are measured; None: these are null.
    """
    return {
        **describe_scale(found.metres_per_unit),
        "metres_per_unit_guess": None if found.is_scale_known else found.frame.metres_per_unit,
        "frame": found.coordinates,
        "up": list(found.frame.up),
        "warnings": list(found.frame.warnings),
        "detections": [{**one.record(), "distance": _distance(one, eye)} for one in found.detections],
    }


def _distance(detection: Detection, eye: Float[np.ndarray, "3"] | None) -> float | None:
    return None if eye is None else float(np.linalg.norm(eye - detection.center))


def describe_photo(lifted: LiftedPhoto) -> dict[str, Any]:
    """What `detect --json` adds for a photo: intrinsics of the image that was lifted, and gravity."""
    camera, focal, gravity = lifted.camera, lifted.focal, lifted.gravity
    return {
        "intrinsics": {
            "width": camera.width, "height": camera.height, "fx": camera.fx, "fy": camera.fy, "cx": camera.cx,
            "cy": camera.cy, "source": focal.source, "relative_uncertainty": focal.share,
        },
        "gravity_confidence": None if gravity is None else gravity.confidence,
    }  # fmt: skip


def save_detections(
    folder: Path,
    cloud: PointCloud,
    found: DetectedScene,
    title: str,
    photo: tuple[UInt8[np.ndarray, "h w 3"], Camera] | None = None,
    eye: Float[np.ndarray, "3"] | None = None,
) -> list[Path]:
    """Write the files into `folder`, replacing an earlier set; returns their paths.

    Args:
        folder: created if missing.
        cloud: the points.
        found: their detections.
        title: of the picture.
        photo: pixels and camera of the photo that the points come from.
        eye: see `describe_detections`.

    Raises:
        OutputError: the folder cannot be written to; nothing is half-written.
    """
    picture, table, coco, listing = FILES
    with write_together(folder, listing, (*FILES[:3], OVERLAY)) as place:
        draw_birds_eye(place / picture, cloud, found, title)
        write_atomic(place / table, _table(found.detections, eye).encode())
        write_json(place / coco, coco3d(found, title, None if photo is None else photo[1]))
        if photo is not None:
            draw_overlay(place / OVERLAY, *photo, found)
        write_json(place / listing, describe_detections(found, eye))
    return [Path(folder) / name for name in (*FILES, *([] if photo is None else [OVERLAY]))]


def _table(detections: Sequence[Detection], eye: Float[np.ndarray, "3"] | None) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for d in detections:
        front = d.front or ("", "", "")
        numbers = [d.score, *d.center, *d.size, d.yaw_rad, *front, d.symmetry_order, len(d.points), d.id]
        row = [f"{value:.4f}" if isinstance(value, float) else value for value in (*numbers, _distance(d, eye))]
        writer.writerow([d.label, *row])
    return text.getvalue()


def draw_birds_eye(path: Path, cloud: PointCloud, found: DetectedScene, title: str) -> None:
    """Draw points and boxes from above, with names, and arrows where a front is likely; see `draw_from_above`."""
    shown = [replace(one, front=likely_front(one)) for one in found.detections]
    draw_from_above(path, cloud, shown, found.frame.up, found.unit, title)


@runtime_checkable
class Boxed(Protocol):
    """What is drawn of an object."""

    @property
    def label(self) -> str | None: ...
    @property
    def score(self) -> float: ...
    @property
    def center(self) -> Triple: ...
    @property
    def size(self) -> Triple: ...
    @property
    def rotation_wxyz(self) -> tuple[float, float, float, float]: ...
    @property
    def front(self) -> Triple | None: ...


def draw_from_above(
    path: Path, cloud: PointCloud, objects: Sequence[Boxed], up: Triple, unit: Unit, title: str
) -> None:
    """Draw points and boxes from above, with names, and arrows where a front is known.

    Args:
        path: the PNG file.
        cloud: the points.
        objects: their boxes.
        up: unit vector.
        unit: of lengths.
        title: above the picture.

    Raises:
        OutputError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    basis = _basis(np.array(up))
    wide, high = np.ptp(cloud.xyz @ basis[:2].T, axis=0)
    figure = Figure(figsize=(10, float(np.clip(9 * high / max(wide, 1e-9), 3, 12)) + 1), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    _draw_points(axes, cloud, basis)
    names = [one.label or "object" for one in objects]
    tints = colours(names)[1:] / 255
    outlines = [_draw_box(axes, one, basis, rgb) for one, rgb in zip(objects, tints)]
    axes.set(title=title, xlabel=f"[{unit}]", ylabel=f"[{unit}]", aspect="equal")
    _write_names(axes, [f"{name} {one.score:.2f}" for name, one in zip(names, objects)], outlines, tints)
    write_atomic(path, lambda place: figure.savefig(place, format="png"))


def _draw_points(axes: "Axes", cloud: PointCloud, basis: np.ndarray) -> None:
    rows = np.random.default_rng(0).permutation(len(cloud))[:DRAWN_POINTS]
    xyz = cloud.xyz[rows] @ basis.T
    low, high = np.percentile(xyz[:, 2], [1, 99])
    shown = xyz[:, 2] <= low + BELOW * (high - low)
    order = np.argsort(xyz[shown, 2])
    if cloud.rgb is not None:
        shade = cloud.rgb[rows][shown][order] * 0.6 + 0.4
    else:
        shade = np.repeat(0.85 - 0.45 * (xyz[shown, 2][order, None] - low) / max(high - low, 1e-9), 3, 1).clip(0, 1)
    axes.scatter(*xyz[shown][order, :2].T, s=1.5, c=shade, linewidths=0)


def _draw_box(axes: "Axes", detection: Boxed, basis: np.ndarray, rgb: np.ndarray) -> Float[np.ndarray, "5 2"]:
    """Draw a box and its front; returns its outline."""
    half = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1], [1, 1]]) / 2 * detection.size[:2]
    turn = from_wxyz(detection.rotation_wxyz).as_matrix()
    corners = (half @ turn[:, :2].T + detection.center) @ basis.T
    axes.plot(*corners[:, :2].T, color=rgb * 0.8, linewidth=2)
    if detection.front is not None:
        x, y, _ = (float(v) for v in basis @ detection.center)
        dx, dy, _ = (float(v) for v in basis @ detection.front)
        side, length = detection.size[1] / 2, detection.size[1] / 2 + 0.3 * max(detection.size[:2])
        axes.annotate(
            "",
            (x + dx * length, y + dy * length),
            (x + dx * side, y + dy * side),
            arrowprops={"arrowstyle": "-|>", "color": rgb * 0.6, "linewidth": 2},
        )
    return corners[:, :2]


def _write_names(axes: "Axes", names: Sequence[str], outlines: Sequence[np.ndarray], tints: np.ndarray) -> None:
    """Write each name in its box, or on a side of it: where it hides least of the names before. Small boxes come
    first."""
    from matplotlib.transforms import Bbox

    axes.figure.canvas.draw()  # the layout decides how large a name is
    taken: list[Bbox] = []
    for number in sorted(range(len(names)), key=lambda k: np.ptp(outlines[k], axis=0).prod()):
        low, high = outlines[number].min(0), outlines[number].max(0)
        middle = (low + high) / 2
        text = axes.text(float(middle[0]), float(middle[1]), names[number], ha="center", va="center", fontsize=7)
        text.set(color=tints[number] * 0.5, bbox={"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 1})

        def hidden(place: tuple[float, float], text: "Text" = text) -> float:
            text.set_position(place)
            extent = text.get_window_extent().padded(2)
            shared = (Bbox.intersection(extent, other) for other in taken)
            return sum((one.width * one.height for one in shared if one is not None), 0.0)

        heights = (middle[1], high[1], low[1], (middle[1] + high[1]) / 2, (middle[1] + low[1]) / 2)
        places = [(float(x), float(y)) for x in (middle[0], low[0], high[0]) for y in heights]
        text.set_position(min(places, key=hidden))
        taken.append(text.get_window_extent())


def _basis(up: np.ndarray) -> Float[np.ndarray, "3 3"]:
    """Rows: two level axes and up. For z-up they are x, y, z."""
    from scipy.spatial.transform import Rotation

    if up[2] > 1 - 1e-6:
        return np.eye(3)
    return Rotation.align_vectors([[0.0, 0.0, 1.0]], [up])[0].as_matrix()
