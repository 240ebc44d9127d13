"""COCO's instance annotations, which LVIS has, too: names and outlines of the objects in photos.

    {"images": [{"id": 1, "file_name": "kitchen.jpg", "width": 640, "height": 480}],
     "annotations": [{"image_id": 1, "category_id": 7, "segmentation": [[x, y, x, y, x, y]], "iscrowd": 0}],
     "categories": [{"id": 7, "name": "chair"}]}

Outlines are polygons in pixels. Crowds, and masks that are run-length encoded, are read as unknown boxes.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int16
from skimage.draw import polygon

from ovseg3d.errors import SceneError
from ovseg3d.files import read_json
from ovseg3d.limits import MAX_PIXELS, MAX_TABLE_BYTES, check_memory, first_line, inside

UNKNOWN = -1
"""Of pixels that may be of an object without a name."""
MAX_OBJECTS = 30_000
"""Of one photo: their numbers fit into 16 bits."""
PARSED = 12
"""Memory that the parsed file takes, relative to its size."""


@dataclass(frozen=True)
class AnnotatedPhoto:
    """The objects of one photo."""

    id: int
    """Of the photo in the file."""
    path: Path
    instance: Int16[np.ndarray, "h w"]
    """1 + the place of the object's name, 0 for none, `UNKNOWN`; smaller objects are in front. Pixels are those of the
    file, before EXIF's orientation."""
    names: tuple[str, ...]


def read_coco(annotations: Path, *, folder: Path | None = None) -> Iterator[AnnotatedPhoto]:
    """The photos of an annotation file that have objects, in its order. The photos themselves are not read.

    Args:
        annotations: the file, such as instances_val2017.json or lvis_v1_val.json.
        folder: of the photos; by default that of the file.

    Raises:
        SceneError: the file is not in this layout, is too large for the memory, or names a file outside the folder.
    """
    if annotations.is_file():
        check_memory(PARSED * annotations.stat().st_size, "the annotations", annotations, SceneError)
    kept = read_json(annotations, most=2 * MAX_TABLE_BYTES)
    try:
        # LVIS explains some names in parentheses: mouse_(computer_equipment).
        names = {int(one["id"]): re.sub(r"[_ ]\(.*\)", "", _text(one["name"])) for one in kept["categories"]}
        names = {number: name.replace("_", " ") for number, name in names.items()}
        objects: dict[int, list[dict[str, Any]]] = {}
        for one in kept["annotations"]:
            objects.setdefault(int(one["image_id"]), []).append(one)
        images = list(kept["images"])
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as cause:
        raise _wrong("it", annotations, cause) from cause
    for image in images:
        try:
            own = objects.get(int(image["id"]), [])
            if not own:
                continue
            # LVIS states an address, whose end is the name in COCO's folders.
            name = _text(image["file_name"]) if "file_name" in image else Path(_text(image["coco_url"])).name
            found = _photo(int(image["id"]), inside(folder or annotations.parent, name), image, own, names)
        except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as cause:
            number = image.get("id") if isinstance(image, dict) else image
            raise _wrong(f"image {number!s:.20}", annotations, cause) from cause
        yield found


def _wrong(what: str, where: Path, cause: Exception) -> SceneError:
    reason = f"no {cause}" if isinstance(cause, KeyError) else first_line(cause)
    return SceneError(
        f"{what[0].upper()}{what[1:]} is not in COCO's layout: {reason}", where=where,
        fix="use a file of instance annotations",
    )  # fmt: skip


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a name is {value!s:.20}, not text")
    return value


def _photo(
    number: int, path: Path, image: dict[str, Any], own: list[dict[str, Any]], names: dict[int, str]
) -> AnnotatedPhoto:
    width, height = int(image["width"]), int(image["height"])
    if not (width > 0 and height > 0 and width * height <= MAX_PIXELS):
        raise ValueError(f"a size of {width:.4g} x {height:.4g}")
    if len(own) > MAX_OBJECTS:
        raise ValueError(f"{len(own)} objects")
    instance, known = np.zeros((height, width), np.int16), []
    for one in sorted(own, key=lambda one: -float(one.get("area", 0))):
        outline = one.get("segmentation")
        polygons = outline if isinstance(outline, list) and not int(one.get("iscrowd", 0)) else []
        named = len(polygons) > 0
        if named:
            known.append(names[int(one["category_id"])])
        else:
            left, top, w, h = _finite(one["bbox"])
            polygons = [[left, top, left + w, top, left + w, top + h, left, top + h]]
        for corners in polygons:
            # Outlines run between pixels, whose centres are at +0.5.
            x, y = _finite(corners).reshape(-1, 2).clip(-1, max(width, height) + 1).T - 0.5
            instance[polygon(y, x, instance.shape)] = len(known) if named else UNKNOWN
    return AnnotatedPhoto(number, path, instance, tuple(known))


def _finite(values: object) -> np.ndarray:
    found = np.asarray(values, np.float64).ravel()
    if not np.isfinite(found).all() or len(found) < 4 or len(found) % 2:
        raise ValueError("coordinates that are no finite pairs")
    return found
