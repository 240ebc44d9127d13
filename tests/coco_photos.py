"""Photos with annotations in COCO's layout, and a depth model that knows them."""

import json
from pathlib import Path

import numpy as np
from PIL import Image


def coco(folder: Path, **changes: object) -> Path:
    """Two annotated photos: a square chair before a table, and a crowd."""
    for name in ("a.png", "b.png"):
        Image.fromarray(np.full((40, 60, 3), 100, np.uint8)).save(folder / name)
    square = [10, 10, 29, 10, 29, 29, 10, 29]
    kept = {
        "images": [
            {"id": 1, "file_name": "a.png", "width": 60, "height": 40},
            {"id": 2, "coco_url": "http://x.y/z/b.png", "width": 60, "height": 40},
            {"id": 3, "file_name": "without.png", "width": 60, "height": 40},
        ],
        "annotations": [
            {"image_id": 1, "category_id": 5, "segmentation": [square], "area": 400, "bbox": [10, 10, 20, 20]},
            {"image_id": 1, "category_id": 6, "segmentation": [[0, 20, 59, 20, 59, 39, 0, 39]], "area": 1200},
            {"image_id": 2, "category_id": 5, "segmentation": {"counts": "x"}, "iscrowd": 1, "bbox": [2, 3, 4, 5]},
        ],
        "categories": [{"id": 5, "name": "folding_chair"}, {"id": 6, "name": "table"}],
    } | changes
    path = folder / "instances.json"
    path.write_text(json.dumps(kept))
    return path


class SquareInFront:
    """A metric depth model: the chair of `coco` is a metre before a wall."""

    weight_hash = ""

    def metric_depth(self, photo: np.ndarray, intrinsics: tuple[float, ...]) -> tuple[np.ndarray, float]:
        """z-depth and focal length."""
        depth = np.full(photo.shape[:2], 3.0)
        depth[10:30, 10:30] = 2.0
        return depth, 55.0
