"""ImageNet3D (Ma et al., NeurIPS 2024): photos of 200 categories with viewpoints.

    images/<category>/<id>.JPEG
    annotations/<category>/<id>.npz             'annotations': a list of dictionaries, one for each object
    lists/<category>_imagenet_{train,val}.txt   ids, one a line

An object has azimuth, elevation, theta (radians, 0 to 2 pi), distance, focal (1), viewport (pixels for a focal length
of 1), px, py, bbox, width, height, class, cad_index, object_status, dense, and sometimes ignore. A list of objects in a
.npz is a pickle; it is read as plain data. The category is the object's `class`. (The released experiments take the
folder's.)
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ovseg3d.datasets.plain_pickle import read_plain_objects
from ovseg3d.datasets.posed_objects import (
    TEST_SETS,
    PosedObject,
    TestSet,
    category_of,
    plain_number,
    plain_row,
    viewpoint_of,
)
from ovseg3d.datasets.sunrgbd import copy_photo
from ovseg3d.datasets.tables import named_files
from ovseg3d.errors import ConfigError, SceneError, nearest
from ovseg3d.files import read_json, write_together
from ovseg3d.limits import read_text

ENDING = "_imagenet_{split}.txt"


def read_imagenet3d(
    folder: Path,
    split: str = "val",
    *,
    test_set: TestSet | None = "dataset",
    categories: Sequence[str] | None = None,
) -> Iterator[PosedObject]:
    """Objects of a folder, by category and then in the order of the lists.

    Args:
        folder: with images, annotations and lists.
        split: `train` or `val`.
        test_set: which objects count, see `TEST_SETS`; None for all.
        categories: of the lists; by default all.

    Raises:
        ConfigError: there is no such test set or category.
        SceneError: a file is missing, damaged or not in this layout.
    """
    counts = TEST_SETS[_known(test_set, TEST_SETS, "test set")] if test_set is not None else None
    ending = ENDING.format(split=split)
    present = named_files(folder / "lists", ending)
    for category in present if categories is None else categories:
        _known(category, present, "category")
        for name in read_lines(folder / "lists" / f"{category}{ending}"):
            for one in _read_photo(folder, category, category_of(name.removesuffix(".JPEG"), folder / "lists")):
                if counts is None or counts(one):
                    yield one


def write_imagenet3d(folder: Path, objects: Iterable[PosedObject], split: str = "val") -> None:
    """Write objects and their photos in ImageNet3D's layout, all or none. The photos are copied.

    Raises:
        SceneError: a name is not CATEGORY/ID, numbers of a photo's objects have gaps, or a photo is missing.
        OutputError: the folder is not writable, or the like.
    """
    photos: dict[str, list[PosedObject]] = {}
    for one in objects:
        photos.setdefault(one.name, []).append(one)
    lists: dict[str, list[str]] = {}
    with write_together(folder, None) as staging:
        for name, own in photos.items():
            category, _, identity = name.partition("/")
            for part in (category, identity):
                category_of(part, Path(name))
            own.sort(key=lambda one: one.number)
            if [one.number for one in own] != list(range(len(own))):
                raise SceneError("The objects of a photo are not numbered from 0", where=name, fix="give all of them")
            for kind in ("images", "annotations"):
                (staging / kind / category).mkdir(parents=True, exist_ok=True)
            copy_photo(own[0].photo, staging / "images" / category / f"{identity}.JPEG")
            records: Any = [_record(one) for one in own]
            np.savez(staging / "annotations" / category / f"{identity}.npz", annotations=records)
            lists.setdefault(category, []).append(identity)
        (staging / "lists").mkdir()
        for category, identities in lists.items():
            text = "\n".join(identities) + "\n"
            (staging / "lists" / f"{category}{ENDING.format(split=split)}").write_text(text, encoding="utf-8")


def read_lines(path: Path) -> list[str]:
    """Names of a list, one a line. Raises SceneError: it is missing or no text."""
    return [line.strip() for line in read_text(path, SceneError, "list").splitlines() if line.strip()]


def read_meta_classes(path: Path) -> dict[str, list[str]]:
    """Categories by meta-class, as in imagenet3d_metaclasses_189.json. Raises SceneError: the file is not like that."""
    found = read_json(path)
    if not all(
        isinstance(members, list) and all(isinstance(one, str) for one in members) for members in found.values()
    ):
        raise SceneError("Meta-classes are lists of categories by name", where=path, fix='{"Furniture": ["bed"]}')
    return found


def read_symmetry_orders(path: Path) -> dict[str, int]:
    """Orders of symmetry about the up axis by category. Raises SceneError: the file is not like that."""
    found = read_json(path)
    if not all(type(order) is int and order in (0, 1, 2, 4) for order in found.values()):
        raise SceneError("Orders of symmetry are 0, 1, 2 or 4, by category", where=path, fix='{"bottle": 0, "key": 2}')
    return found


def _known(name: str, names: Iterable[str], what: str) -> str:
    if name not in (known := list(names)):
        close = nearest(name, known)
        raise ConfigError(
            f"There is no {what} {name!r}", fix=f"{close}?" if close else f"one of {', '.join(known[:20])}"
        )
    return name


def _read_photo(folder: Path, category: str, identity: str) -> Iterator[PosedObject]:
    path = folder / "annotations" / category / f"{identity}.npz"
    for number, record in enumerate(read_plain_objects(path, "annotations")):
        if not isinstance(record, dict):
            raise SceneError("An annotation is no dictionary", where=path, fix="fetch it again")
        x1, y1, x2, y2 = plain_row(record, "bbox", 4, path)
        status, dense, cad = (record.get(key) for key in ("object_status", "dense", "cad_index"))
        yield PosedObject(
            photo=folder / "images" / category / f"{identity}.JPEG",
            name=f"{category}/{identity}",
            number=number,
            category=category_of(record.get("class", category), path),
            viewpoint=viewpoint_of(record, path),
            center_px=(plain_number(record, "px", path), plain_number(record, "py", path)),
            bbox=(x1, y1, x2, y2),
            focal_px=plain_number(record, "focal", path, 1.0) * plain_number(record, "viewport", path),
            size=(int(plain_number(record, "width", path)), int(plain_number(record, "height", path))),
            status=status if isinstance(status, str) else None,
            dense=None if dense is None else dense == "dense_yes",
            ignore=plain_number(record, "ignore", path, 0.0) > 0,
            cad_index=None if cad is None else int(plain_number(record, "cad_index", path)),
        )


def _record(one: PosedObject) -> dict[str, Any]:
    seen, (x, y), (width, height) = one.viewpoint, one.center_px, one.size
    record: dict[str, Any] = {
        "azimuth": seen.azimuth_rad,
        "elevation": seen.elevation_rad % (2 * math.pi),
        "theta": seen.theta_rad % (2 * math.pi),
        "distance": seen.distance,
        "focal": 1,
        "viewport": one.focal_px,
        "px": x,
        "py": y,
        "principal": np.array([x, y]),
        "width": np.uint16(width),
        "height": np.uint16(height),
        "bbox": np.array(one.bbox),
        "class": one.category,
        "ignore": int(one.ignore),
    }
    if one.cad_index is not None:
        record["cad_index"] = one.cad_index
    if one.status is not None:
        record["object_status"] = one.status
    if one.dense is not None:
        record["dense"] = "dense_yes" if one.dense else "dense_no"
    return record
