"""Label images of views as COCO annotations with run-length masks.

An instance is one annotation in each view that shows it: `iscrowd` 0, its phrase as category, and `instance_id`, which
is the same in all views. Pixels of no instance (floor, wall) are one annotation for each label and view, `iscrowd` 1.
Masks are COCO's uncompressed run lengths (counts of 0s and 1s in turn, column by column), which pycocotools reads.
Boxes are x, y, width, height in pixels. Category ids are the labels of the index images.

Besides COCO's keys, an instance has its box in 3D and its pose, as in labels.json, in the frame that `info` states.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from ovseg3d import __version__
from ovseg3d.export.records import box_of
from ovseg3d.instances.records import Instance
from ovseg3d.scene import describe_scale


def run_lengths(mask: Bool[np.ndarray, "h w"]) -> dict[str, Any]:
    """A mask as COCO's uncompressed run lengths."""
    flat = mask.T.ravel()
    ends = np.append(np.flatnonzero(flat[1:] != flat[:-1]) + 1, len(flat))
    counts = np.diff(ends, prepend=0).tolist()
    return {"size": list(mask.shape), "counts": [0, *counts] if flat[0] else counts}


def annotations_of(
    image_id: int, label: Int[np.ndarray, "h w"], instance: Int[np.ndarray, "h w"], categories: Mapping[int, int]
) -> list[dict[str, Any]]:
    """The annotations of one view, without ids.

    Args:
        image_id: of the view.
        label, instance: of each pixel, 0 for none.
        categories: label of each instance; pixels of instances without one keep their own labels.
    """
    named = np.isin(instance, [number for number, category in categories.items() if category])
    found = []
    for number in np.unique(instance[named]).tolist():
        found.append(_annotation(image_id, instance == number, categories[number], 0) | {"instance_id": number})
    rest = np.where(named, 0, label)
    for number in np.unique(rest[rest > 0]).tolist():
        found.append(_annotation(image_id, rest == number, number, 1))
    return found


def _annotation(image_id: int, mask: np.ndarray, category: int, crowd: int) -> dict[str, Any]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    left, top = int(columns[0]), int(rows[0])
    box = [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top]
    return {
        "image_id": image_id, "category_id": int(category), "iscrowd": crowd, "area": int(mask.sum()), "bbox": box,
        "segmentation": run_lengths(mask),
    }  # fmt: skip


def coco(
    images: Sequence[Mapping[str, Any]],
    annotations: Sequence[Mapping[str, Any]],
    phrases: Sequence[str],
    name: str,
    instances: Sequence[Instance] = (),
    metres_per_unit: float | None = None,
) -> dict[str, Any]:
    """The content of a COCO file.

    Args:
        images: as {id, file_name, width, height, ...}.
        annotations: numbered in their order.
        phrases: the categories.
        name: of the scene.
        instances: those that annotations name by `instance_id`, input frame.
        metres_per_unit: of that frame; None: unknown.
    """
    placed: dict[int | None, dict[str, Any]] = {one.id: {**box_of(one), "pose": one.pose} for one in instances}
    about = {"description": f"{name}, labelled by ovseg3d {__version__}", "version": __version__}
    return {
        "info": {**about, "frame": "input", **describe_scale(metres_per_unit)},
        "images": list(images),
        "categories": [{"id": k, "name": phrase} for k, phrase in enumerate(phrases, start=1)],
        "annotations": [
            {"id": k, **one, **placed.get(one.get("instance_id"), {})} for k, one in enumerate(annotations, start=1)
        ],
    }
