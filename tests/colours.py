"""What is known of the tiny scene (a red box, a blue box, sand): settings, labels in several layouts."""

import json
from pathlib import Path

import numpy as np
from exact import flags_of
from PIL import Image
from scipy.spatial import ConvexHull
from tiny import BOXES, camera_to_world, draw

CLASSES = ("sand", "red box", "blue box")
"""What the boxes of tiny.py are called, in their order."""


RED, BLUE = (np.array(BOXES[i][:2]) for i in (1, 2))


def flags(**train: object) -> dict:
    """Settings of a run that lifts, and no more."""
    return flags_of("lift", **train)


def share_inside(points: np.ndarray, box: np.ndarray, margin: float = 0.12) -> float:
    """Share of the points in or near a box."""
    return float(((points > box[0] - margin) & (points < box[1] + margin)).all(-1).mean())


def true_labels(c2w: np.ndarray, size: int = 32) -> np.ndarray:
    """Label image of a view: 0 sky, else the number in `CLASSES`."""
    rgb, depth = draw(c2w, size, 30.0 * size / 32)
    colours = np.array([colour for _, _, colour in BOXES])
    unit = lambda rows: rows / np.linalg.norm(rows, axis=-1, keepdims=True)  # noqa: E731 - shade only scales colours
    return np.where(depth > 0, (unit(rgb) @ unit(colours).T).argmax(-1) + 1, 0).astype(np.uint8)


def with_label_images(folder: Path, size: int = 32) -> Path:
    """Give a copy of the tiny scene label images of `size` pixels, and classes."""
    described = json.loads((folder / "transforms.json").read_text())
    (folder / "labels").mkdir()
    for view, frame in enumerate(described["frames"]):
        frame["label_file_path"] = f"labels/{view:04d}.png"
        Image.fromarray(true_labels(camera_to_world(view), size)).save(folder / frame["label_file_path"])
    described["classes"] = {str(number): name for number, name in enumerate(CLASSES, start=1)}
    (folder / "transforms.json").write_text(json.dumps(described))
    return folder


def with_masks(folder: Path, views: tuple[int, ...]) -> Path:
    """3D-OVS's layout."""
    (folder / "segmentations").mkdir(parents=True)
    (folder / "segmentations" / "classes.txt").write_text("\n".join(sorted(CLASSES)))
    for view in views:
        place = folder / "segmentations" / f"{view:02d}"
        place.mkdir()
        for number, name in enumerate(CLASSES, start=1):
            mask = true_labels(camera_to_world(view), 64) == number
            Image.fromarray(mask.astype(np.uint8) * 255).save(place / f"{name}.png")
    return folder


def with_polygons(folder: Path, views: tuple[int, ...], suffix: str = ".jpg") -> Path:
    """LERF's layout, labels at twice the size of the photos."""
    folder.mkdir(parents=True)
    for view in views:
        labels, objects = true_labels(camera_to_world(view), 64), []
        for number in (2, 3):
            row, column = np.nonzero(labels == number)
            corners = np.stack([column, row], -1)
            corners = corners[ConvexHull(corners).vertices]
            box = [*corners.min(0).tolist(), *corners.max(0).tolist()]
            objects.append({"category": CLASSES[number - 1], "bbox": box, "segmentation": corners.tolist()})
        info = {"name": f"{view:04d}{suffix}", "width": 64, "height": 64}
        (folder / f"{view:04d}.json").write_text(json.dumps({"info": info, "objects": objects}))
    return folder
