"""Runs of the tiny scene that know colours: an encoder of mean colours, and a renderer that has learnt the scene.

The tiny scene has a red box, a blue box and sandy ground, so that every answer is known. A test has no time to learn
it, so that what a field shows is taken from the scene's own geometry.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from fake_encoders import MeanColour, MeanPatch
from PIL import Image
from scipy.spatial import ConvexHull
from tiny import BOXES, camera_to_world, draw, small_settings

from ovseg3d.encoders import register_clip, register_dino, registry
from ovseg3d.field.renderer import Renderer
from ovseg3d.pipeline.fields import _read_box, newest_checkpoint
from ovseg3d.pipeline.run import Run
from ovseg3d.scene import Camera, Scene

CLASSES = ("sand", "red box", "blue box")
"""What the boxes of tiny.py are called, in their order."""


class Exact(Renderer):
    """A renderer that has learnt the tiny scene perfectly."""

    def __init__(self, run: Run, scene: Scene, *_: object) -> None:
        self.box = _read_box(newest_checkpoint(run), run)

    def render(self, camera: Camera, normals: bool = False, focus: bool = False) -> dict[str, np.ndarray]:
        rgb, depth_z = draw(camera.c2w, camera.width, camera.fx)
        opacity = (depth_z > 0).astype(np.float64)
        return {"rgb": rgb, "depth_z": depth_z, "opacity": opacity, "focus": opacity}


RED, BLUE = (np.array(BOXES[i][:2]) for i in (1, 2))


def register(patch: pytest.MonkeyPatch, cache: Path) -> None:
    """The encoders, and the renderer for all runs."""
    register_encoders(patch, cache)
    patch.setattr("ovseg3d.pipeline.fields.restore", Exact)
    patch.setattr("ovseg3d.pipeline.query.restore", Exact)


def register_encoders(patch: pytest.MonkeyPatch, cache: Path) -> None:
    """The encoders "colours" and "patches", and a cache of their own."""
    patch.setattr(registry, "_clips", dict(registry._clips))
    patch.setattr(registry, "_dinos", dict(registry._dinos))
    register_clip("colours", lambda device: MeanColour(logit_scale=10.0))
    register_dino("patches", lambda device: MeanPatch())
    patch.setenv("OVSEG3D_CACHE_DIR", str(cache))


def flags(**train: object) -> dict:
    encode = {"clip": "colours", "dino": "patches", "features": "dense", "clip_side": 64}
    return small_settings(**train) | {"encode": encode, "only": "field,semantics"}


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
