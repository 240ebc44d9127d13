"""Detections of 3D boxes in a COCO-like file, and drawn over a photo.

The file has COCO's lists `images` (one of a photo, none of a cloud), `categories` and `annotations`. An annotation has
COCO's `id`, `image_id` (null for a cloud), `category_id`, `score`, and for a photo `bbox` (x, y, width, height of the
projected box in pixels, cut at the image's border); besides `center`, full `size`, `rotation_wxyz`, `front`,
`symmetry_order`, and `corners`: corner i has + along axis k of the box where bit k of i is set. Positions are in the
frame that `info` states.
"""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from ovseg3d import __version__
from ovseg3d.export.picture_labels import Rect, draw_labels
from ovseg3d.files import write_atomic
from ovseg3d.geometry import from_wxyz
from ovseg3d.heads.detection import DetectedScene, Detection
from ovseg3d.render.palette import colours
from ovseg3d.scene.cameras import Camera
from ovseg3d.scene.units import describe_scale

SIGNS = np.array([[1 if i >> axis & 1 else -1 for axis in range(3)] for i in range(8)])
EDGES = np.array([(i, i | bit) for i in range(8) for bit in (1, 2, 4) if not i & bit])
SAMPLES = 50
"""Points of an edge that are looked for in the picture."""
NEAR = 0.05
"""Edges are cut this far before the camera, in units of the points."""


def corners_of(detection: Detection) -> Float[np.ndarray, "8 3"]:
    """The corners of a box, in the order that the file states."""
    turn = from_wxyz(detection.rotation_wxyz)
    return turn.apply(SIGNS * np.array(detection.size) / 2) + np.array(detection.center)


def coco3d(found: DetectedScene, name: str, camera: Camera | None = None) -> dict[str, Any]:
    """The content of coco3d.json.

    Args:
        found: the detections.
        name: of the photo or the cloud.
        camera: of the photo; None for a cloud.
    """
    names = sorted({d.label or "object" for d in found.detections})
    annotations = []
    for number, detection in enumerate(found.detections, start=1):
        box = {} if camera is None else {"bbox": _bounds(camera, detection)}
        annotations.append(
            {
                "id": number,
                "image_id": None if camera is None else 1,
                "category_id": names.index(detection.label or "object") + 1,
                "score": detection.score,
                "center": list(detection.center),
                "size": list(detection.size),
                "rotation_wxyz": list(detection.rotation_wxyz),
                "front": None if detection.front is None else list(detection.front),
                "symmetry_order": detection.symmetry_order,
                "corners": corners_of(detection).tolist(),
                **box,
            }
        )
    return {
        "info": {
            "description": f"{name}, detected by ovseg3d {__version__}",
            "version": __version__,
            "frame": found.coordinates,
            **describe_scale(found.metres_per_unit),
            "up": list(found.frame.up),
        },
        "images": [] if camera is None else [_image(camera, name)],
        "categories": [{"id": k, "name": label} for k, label in enumerate(names, start=1)],
        "annotations": annotations,
    }


def draw_overlay(path: Path, rgb: UInt8[np.ndarray, "h w 3"], camera: Camera, found: DetectedScene) -> None:
    """Write the photo with the edges and names of the boxes.

    Args:
        path: the PNG file.
        rgb: the photo.
        camera: of the photo, in the frame of the detections.
        found: the detections.

    Raises:
        OutputError: the file cannot be written.
    """
    from PIL import Image, ImageDraw

    zoom = max(1, round(800 / rgb.shape[1]))
    image = Image.fromarray(rgb).resize((rgb.shape[1] * zoom, rgb.shape[0] * zoom), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    names = [detection.label or "object" for detection in found.detections]
    labels: list[tuple[str, Rect]] = []
    for name, detection, tint in zip(names, found.detections, colours(names)[1:].tolist()):
        lines = _projected(camera, detection) * zoom
        for (x0, y0), (x1, y1) in lines.tolist():
            draw.line((x0, y0, x1, y1), fill=tuple(tint), width=2)
        if (seen := _seen(lines, image.size)) is not None:
            labels.append((f"{name} {detection.score:.2f}", seen))
    draw_labels(draw, labels)
    write_atomic(path, lambda place: image.save(place, format="PNG"))


def _image(camera: Camera, name: str) -> dict[str, Any]:
    matrix = [[camera.fx, 0.0, camera.cx], [0.0, camera.fy, camera.cy], [0.0, 0.0, 1.0]]
    size = {"width": camera.width, "height": camera.height}
    return {"id": 1, "file_name": name, **size, "K": matrix, "c2w": camera.c2w.tolist()}


def _projected(camera: Camera, detection: Detection) -> Float[np.ndarray, "lines 2 2"]:
    """Edges of a box in pixels, cut before the camera."""
    ends = corners_of(detection)[EDGES]
    depth = (ends - camera.position) @ camera.forward
    ahead = (depth >= NEAR).any(1)
    ends, depth = ends[ahead], depth[ahead]
    for end in (0, 1):
        share = np.clip((NEAR - depth[:, end]) / np.where(depth[:, 1 - end] != depth[:, end],
                        depth[:, 1 - end] - depth[:, end], 1), 0, 1)  # fmt: skip
        share = np.where(depth[:, end] < NEAR, share, 0.0)[:, None]
        ends[:, end] += share * (ends[:, 1 - end] - ends[:, end])
    return camera.project(ends.reshape(-1, 3))[0].reshape(-1, 2, 2)


def _seen(lines: Float[np.ndarray, "lines 2 2"], size: tuple[int, int]) -> Rect | None:
    """The bounds of what lines show of themselves in a picture; None: nothing."""
    along = np.linspace(0, 1, SAMPLES)[:, None, None]
    points = (lines[:, 0] * (1 - along) + lines[:, 1] * along).reshape(-1, 2)
    points = points[((points >= 0) & (points <= size)).all(1)]
    if not len(points):
        return None
    (x0, y0), (x1, y1) = points.min(0).tolist(), points.max(0).tolist()
    return x0, y0, x1, y1


def _bounds(camera: Camera, detection: Detection) -> list[float] | None:
    """x, y, width, height of the projected box within the image; None if it is outside."""
    lines = _projected(camera, detection).reshape(-1, 2)
    if not len(lines):
        return None
    low, high = np.clip([lines.min(0), lines.max(0)], 0, [camera.width, camera.height])
    return [*low.tolist(), *(high - low).tolist()] if (high > low).all() else None
