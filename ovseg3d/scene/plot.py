"""Plot of a capture: cameras and view directions from above and from the side.

Drawn in the world frame (z up; metres if the scene is metric) with matplotlib's Agg backend, without the global state
of pyplot. Training views are blue, held-out views orange, sparse points grey, bounds dashed.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from ovseg3d.scene.capture import Scene
from ovseg3d.scene.check import common_focus

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TRAIN, _TEST = "#1f6fb4", "#e8730c"


def plot_scene(
    scene: Scene,
    path: Path,
    bounds: Float[np.ndarray, "2 3"] | None = None,
    title: str | None = None,
) -> None:
    """Write a plot of the cameras as PNG.

    Args:
        scene: the capture.
        path: the file to write.
        bounds: lower and upper corner of the content, input frame.
        title: above the plot; None: the scene's name and counts.

    Raises:
        OutputError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from ovseg3d.files import write_atomic

    figure = Figure(figsize=(13, 6.6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    corners = None if bounds is None else _transform(scene, _corners(bounds))
    points = None if scene.points is None else _transform(scene, scene.points)
    unit = "m" if scene.metric else "units"
    size = _extent(scene, corners)
    top, side = figure.subplots(1, 2)
    across = _side_axis(scene)
    along = np.array([across, [0.0, 0.0, 1.0]])
    for axes, plane, name, labels in (
        (top, np.eye(3)[:2], "from above", ("x", "y")),
        (side, along, "from the side", ("horizontal", "z (up)")),
    ):
        _draw(axes, scene, plane, points, corners, size)
        axes.set(title=name, xlabel=f"{labels[0]} [{unit}]", ylabel=f"{labels[1]} [{unit}]")
    handles, texts = top.get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside lower center", ncols=5, frameon=False, markerscale=1.6)
    held_out = f", {len(scene.test)} held out" if scene.test else ""
    figure.suptitle(title or f"{scene.name} ({scene.format}): {len(scene.train)} photos to train on{held_out}")
    write_atomic(path, lambda place: figure.savefig(place, format="png"))


def _draw(
    axes: "Axes",
    scene: Scene,
    plane: np.ndarray,
    points: np.ndarray | None,
    corners: np.ndarray | None,
    size: float,
) -> None:
    """One projection: `plane` holds the two world directions that become right and up."""
    from matplotlib.collections import LineCollection

    if points is not None and len(points):
        some = points[:: max(1, len(points) // 6000)]
        colours = "#9aa0a6"
        if scene.points_rgb is not None:
            colours = scene.points_rgb[:: max(1, len(points) // 6000)] / 255
        flat = some @ plane.T
        axes.scatter(*flat.T, s=2.5, c=colours, linewidths=0, alpha=0.6, label="sparse points", zorder=1)
    drawn = []
    for indices, colour, label, order in (
        (scene.train, _TRAIN, "training view", 2),
        (scene.test, _TEST, "held-out view", 3),
    ):
        if not len(indices):
            continue
        shapes, tips = [], []
        for index in indices:
            frustum = _transform(scene, _frustum(scene, index, size)) @ plane.T
            centre, rim = frustum[0], frustum[1:]
            shapes += [np.stack([centre, corner]) for corner in rim]
            shapes.append(np.concatenate([rim, rim[:1]]))
            tips.append(centre)
            drawn.append(frustum)
        axes.add_collection(LineCollection(shapes, colors=colour, linewidths=0.7, alpha=0.75, zorder=order))
        axes.scatter(*np.array(tips).T, s=11, color=colour, label=label, zorder=order)
    if corners is not None:
        flat = corners @ plane.T
        edges = [flat[[i, i ^ (1 << k)]] for i in range(8) for k in range(3) if not i & (1 << k)]
        style = {"colors": "#555555", "linestyles": "dashed", "linewidths": 0.8}
        axes.add_collection(LineCollection(edges, label="bounds", zorder=1, **style))
        drawn.append(flat)
    focus = common_focus(scene)
    if focus is not None:
        flat = _transform(scene, focus[None]) @ plane.T
        axes.scatter(*flat.T, marker="x", s=60, color="#c2185b", linewidths=1.6, label="common focus", zorder=4)
        drawn.append(flat)
    # Outliers of the sparse points don't affect the limits of the axes.
    if points is not None and len(points):
        drawn.append(np.percentile(points @ plane.T, [3, 97], axis=0))
    everything = np.concatenate(drawn)
    low, high = everything.min(axis=0), everything.max(axis=0)
    middle, half = (low + high) / 2, max(0.54 * (high - low).max(), 1e-6)
    axes.set_xlim(middle[0] - half, middle[0] + half)
    axes.set_ylim(middle[1] - half, middle[1] + half)
    axes.set_aspect("equal")
    axes.grid(True, color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)


def _frustum(scene: Scene, index: int, size: float) -> np.ndarray:
    """Optical centre and the image's four corners at z-depth `size` (input units)."""
    camera = scene.frames[index].camera
    w, h = float(camera.width), float(camera.height)
    origins, directions = camera.rays(np.array([[0.0, 0.0], [w, 0.0], [w, h], [0.0, h]]))
    # A fisheye's corners may be at 90 degrees and more, so z-depth is bounded below.
    z = np.maximum(directions @ camera.forward, 0.5)
    return np.concatenate([camera.position[None], origins + directions * (size / z)[:, None]])


def _extent(scene: Scene, corners: np.ndarray | None) -> float:
    """Length of the drawn frustums in input units: a small part of the plot, less with many cameras."""
    positions = np.stack([frame.camera.position for frame in scene.frames])
    reach = float(np.ptp(positions, axis=0).max())
    if scene.points is not None and len(scene.points):
        reach = max(reach, float(np.ptp(np.percentile(scene.points, [3, 97], axis=0), axis=0).max()))
    if corners is not None:
        scale = np.cbrt(np.linalg.det(scene.world_from_input[:3, :3]))
        reach = max(reach, float(np.ptp(corners, axis=0).max() / scale))
    return (reach or 1.0) * float(np.clip(0.5 / np.sqrt(len(scene.frames)), 0.02, 0.08))


def _side_axis(scene: Scene) -> np.ndarray:
    """The horizontal world direction that becomes the side view's x axis.

    If the cameras mostly look one way, it is that way, so that directions are visible; else that of largest spread.
    """
    forwards = np.stack([frame.camera.forward for frame in scene.frames]) @ scene.world_from_input[:3, :3].T
    mean = forwards.mean(axis=0)[:2] / np.linalg.norm(forwards[0])
    if np.linalg.norm(mean) > 0.5:
        return np.array([*(mean / np.linalg.norm(mean)), 0.0])
    positions = _transform(scene, np.stack([frame.camera.position for frame in scene.frames]))[:, :2]
    centred = positions - positions.mean(axis=0)
    _, directions = np.linalg.eigh(centred.T @ centred)
    axis = directions[:, 1] * (1.0 if directions[np.abs(directions[:, 1]).argmax(), 1] > 0 else -1.0)
    return np.array([axis[0], axis[1], 0.0])


def _corners(bounds: np.ndarray) -> np.ndarray:
    """The 8 corners of a box; corner i takes the upper bound on axis k where bit k of i is set."""
    return np.array([[bounds[(i >> k) & 1, k] for k in range(3)] for i in range(8)])


def _transform(scene: Scene, points: np.ndarray) -> np.ndarray:
    matrix = scene.world_from_input
    return points @ matrix[:3, :3].T + matrix[:3, 3]
