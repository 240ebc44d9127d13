"""COCO's instance annotations, which LVIS has, too: names and outlines of the objects in photos.

    {"images": [{"id": 1, "file_name": "kitchen.jpg", "width": 640, "height": 480}],
     "annotations": [{"image_id": 1, "category_id": 7, "segmentation": [[x, y, x, y, x, y]], "iscrowd": 0}],
     "categories": [{"id": 7, "name": "chair"}]}

Outlines are polygons in pixels. Crowds, and masks that are run-length encoded, are read as unknown.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int16
from PIL import Image, ImageDraw

from ovseg3d.errors import SceneError
from ovseg3d.files import read_json
from ovseg3d.limits import first_line, inside

UNKNOWN = -1
"""Of pixels that may be of an object without a name."""


@dataclass(frozen=True)
class AnnotatedPhoto:
    """The objects of one photo."""

    path: Path
    instance: Int16[np.ndarray, "h w"]
    """1 + the place of the object's name, 0 for none, `UNKNOWN`; smaller objects are in front."""
    names: tuple[str, ...]


def read_coco(annotations: Path, *, folder: Path | None = None) -> Iterator[AnnotatedPhoto]:
    """The photos of an annotation file that have objects, in its order.

    Args:
        annotations: the file, such as instances_val2017.json or lvis_v1_val.json.
        folder: of the photos; by default that of the file.

    Raises:
        SceneError: the file is not in this layout, or names a file outside the folder.
    """
    kept = read_json(annotations)
    try:
        names = {int(one["id"]): str(one["name"]).replace("_", " ") for one in kept["categories"]}
        objects: dict[int, list[dict[str, Any]]] = {}
        for one in kept["annotations"]:
            objects.setdefault(int(one["image_id"]), []).append(one)
        for image in kept["images"]:
            own = objects.get(int(image["id"]), [])
            if own:
                # LVIS states an address, whose end is the name in COCO's folders.
                name = str(image.get("file_name") or Path(image["coco_url"]).name)
                path = inside(folder or annotations.parent, name)
                yield _photo(path, int(image["width"]), int(image["height"]), own, names)
    except (KeyError, TypeError, ValueError, AttributeError) as cause:
        reason = f"It is not in COCO's layout: {first_line(cause)}"
        raise SceneError(reason, where=annotations, fix="use a file of instance annotations") from cause


def _photo(path: Path, width: int, height: int, own: list[dict[str, Any]], names: dict[int, str]) -> AnnotatedPhoto:
    canvas = Image.new("I", (width, height), 0)
    draw, known = ImageDraw.Draw(canvas), []
    for one in sorted(own, key=lambda one: -float(one.get("area", 0))):
        outline = one.get("segmentation")
        polygons = outline if isinstance(outline, list) and not one.get("iscrowd") else []
        if not polygons:
            left, top, w, h = (float(value) for value in one["bbox"])
            draw.rectangle([left, top, left + w, top + h], fill=UNKNOWN)
            continue
        known.append(names[int(one["category_id"])])
        for polygon in polygons:
            draw.polygon([float(value) for value in polygon], fill=len(known))
    return AnnotatedPhoto(path, np.asarray(canvas).astype(np.int16), tuple(known))
