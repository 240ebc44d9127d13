"""PASCAL3D+ (Xiang et al., WACV 2014): photos of 12 categories of PASCAL VOC with viewpoints.

    Annotations/<category>_<source>/<id>.mat      a struct `record`: imgsize and objects
    Images/<category>_<source>/<id>.JPEG or .jpg
    Image_sets/<category>_imagenet_{train,val}.txt   ids of the photos of ImageNet, one a line

An object has class, bbox, difficult, truncated, occluded, cad_index, and a viewpoint with azimuth, elevation and theta
in degrees, distance, focal, px, py and viewport. Objects without a viewpoint are left out, and those with a coarse one.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ovseg3d.datasets.imagenet3d import read_lines
from ovseg3d.datasets.matlab import read_matlab
from ovseg3d.datasets.posed_objects import PosedObject, category_of, plain_number, plain_row, viewpoint_of
from ovseg3d.datasets.sunrgbd import copy_photo
from ovseg3d.datasets.tables import named_files
from ovseg3d.errors import SceneError
from ovseg3d.files import write_together
from ovseg3d.geometry import CONVENTIONS

_DEGREE = CONVENTIONS["pascal3d+"].angle_unit_rad or 1.0
_SUFFIXES = {"imagenet": ".JPEG", "pascal": ".jpg"}


def read_pascal3d(
    folder: Path,
    category: str,
    split: str | None = "val",
    *,
    source: Literal["imagenet", "pascal"] = "imagenet",
    whole: bool = True,
) -> Iterator[PosedObject]:
    """Objects of one category. A photo may show objects of other categories; these are left out.

    Args:
        folder: of the data set.
        category: such as car.
        split: of the photos of ImageNet; None for all photos. The lists of PASCAL's photos are those of VOC.
        source: where the photos are from.
        whole: leave out objects that are truncated or occluded, as published figures do.

    Raises:
        SceneError: a file is missing, damaged or not in this layout.
    """
    annotations = folder / "Annotations" / f"{category}_{source}"
    if split is None or source == "pascal":
        names = named_files(annotations, ".mat")
    else:
        names = read_lines(folder / "Image_sets" / f"{category}_{source}_{split}.txt")
    for name in names:
        path = annotations / f"{category_of(name, folder)}.mat"
        photo = folder / "Images" / annotations.name / f"{name}{_SUFFIXES[source]}"
        record = _record_of(path)
        width, height = plain_row({"imgsize": np.ravel(record.get("imgsize", ()))[:2]}, "imgsize", 2, path)
        for number, one in enumerate(_objects_of(record, path)):
            seen = one.get("viewpoint")
            if one.get("class") != category or not isinstance(seen, Mapping) or "distance" not in seen:
                continue
            if not (whole and any(plain_number(one, key, path, 0.0) for key in ("truncated", "occluded"))):
                yield _posed(one, seen, photo, f"{annotations.name}/{name}", number, (int(width), int(height)), path)


def write_pascal3d(folder: Path, objects: Iterable[PosedObject], split: str = "val") -> None:
    """Write objects of photos of ImageNet and their photos in PASCAL3D+'s layout, all or none. Photos are copied.

    Raises:
        SceneError: a name is not CATEGORY_imagenet/ID, or a photo is missing.
        OutputError: the folder is not writable, or the like.
    """
    from scipy.io import savemat

    photos: dict[str, list[PosedObject]] = {}
    for one in objects:
        photos.setdefault(one.name, []).append(one)
    lists: dict[str, list[str]] = {}
    with write_together(folder, None) as staging:
        for name, own in photos.items():
            kind, _, identity = name.partition("/")
            if not kind.endswith("_imagenet"):
                raise SceneError(f"The name {name!r} is not CATEGORY_imagenet/ID", fix="rename the photo")
            for part in (kind, identity):
                category_of(part, Path(name))
            for parent in ("Images", "Annotations"):
                (staging / parent / kind).mkdir(parents=True, exist_ok=True)
            copy_photo(own[0].photo, staging / "Images" / kind / f"{identity}.JPEG")
            rows = [_struct_of(one) for one in sorted(own, key=lambda one: one.number)]
            structs = np.array([tuple(row.values()) for row in rows], dtype=[(key, object) for key in rows[0]])
            record = {"imgsize": np.array([*own[0].size, 3]), "objects": structs}
            savemat(staging / "Annotations" / kind / f"{identity}.mat", {"record": record})
            lists.setdefault(kind, []).append(identity)
        (staging / "Image_sets").mkdir()
        for kind, identities in lists.items():
            text = "\n".join(identities) + "\n"
            (staging / "Image_sets" / f"{kind}_{split}.txt").write_text(text, encoding="utf-8")


def _record_of(path: Path) -> Mapping[str, Any]:
    record = read_matlab(path, "record")
    if not isinstance(record, Mapping):
        raise SceneError("The annotation is no struct", where=path, fix="fetch it again")
    return record


def _objects_of(record: Mapping[str, Any], path: Path) -> list[Mapping[str, Any]]:
    found = record.get("objects", [])
    objects = [found] if isinstance(found, Mapping) else list(np.ravel(found))
    if not all(isinstance(one, Mapping) for one in objects):
        raise SceneError("The objects are no structs", where=path, fix="fetch the file again")
    return objects


def _posed(
    one: Mapping[str, Any],
    seen: Mapping[str, Any],
    photo: Path,
    name: str,
    number: int,
    size: tuple[int, int],
    path: Path,
) -> PosedObject:
    x1, y1, x2, y2 = plain_row(one, "bbox", 4, path)
    return PosedObject(
        photo=photo,
        name=name,
        number=number,
        category=category_of(one["class"], path),
        viewpoint=viewpoint_of(seen, path, _DEGREE),
        center_px=(plain_number(seen, "px", path), plain_number(seen, "py", path)),
        bbox=(x1, y1, x2, y2),
        focal_px=plain_number(seen, "focal", path, 1.0) * plain_number(seen, "viewport", path, 3000.0),
        size=size,
        ignore=plain_number(one, "difficult", path, 0.0) > 0,
        cad_index=int(plain_number(one, "cad_index", path)) if "cad_index" in one else None,
    )


def _struct_of(one: PosedObject) -> dict[str, Any]:
    seen, (x, y) = one.viewpoint, one.center_px
    angles = {"azimuth": seen.azimuth_rad, "elevation": seen.elevation_rad, "theta": seen.theta_rad}
    return {
        "class": one.category,
        "bbox": np.array(one.bbox),
        "difficult": int(one.ignore),
        "truncated": 0,
        "occluded": 0,
        "cad_index": one.cad_index or 0,
        "viewpoint": {name: angle / _DEGREE for name, angle in angles.items()}
        | {"distance": seen.distance, "focal": 1, "px": x, "py": y, "viewport": one.focal_px},
    }
