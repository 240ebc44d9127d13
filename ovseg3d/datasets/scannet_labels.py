"""True labels of a scan of ScanNet, at the vertices of its mesh, in the frame of its poses.

    SCENE_vh_clean_2.labels.ply          vertices; `label` is a class of NYU40 (protocols scannet-20 and -19)
    SCENE_vh_clean_2.ply                 the same vertices, for the 200 classes if the file above is not there
    SCENE_vh_clean_2.0.010000.segs.json  `segIndices`: the segment of each vertex
    SCENE.aggregation.json               `segGroups`: the segments of each object, its `objectId` and its `label`
    scannetv2-labels.combined.tsv        from `label` (column raw_category) to the 200 classes (column id)

The last file lies with the scan or up to two folders above it, as ScanNet's download script puts it. What two objects
claim belongs to the later one.
"""

import csv
from pathlib import Path

import numpy as np
from jaxtyping import Int

from ovseg3d.datasets.labelled_clouds import LabelledCloud, checked_cloud, entries, whole_numbers
from ovseg3d.datasets.segmentation_protocols import SegmentationProtocol, segmentation_protocol
from ovseg3d.errors import SceneError
from ovseg3d.files import looking, read_json
from ovseg3d.limits import read_text
from ovseg3d.scene.readers.ply import read_element

_MESH, _LABELLED = "_vh_clean_2.ply", "_vh_clean_2.labels.ply"
_SEGMENTS, _OBJECTS, _NAMES = "_vh_clean_2.0.010000.segs.json", ".aggregation.json", "scannetv2-labels.combined.tsv"


@looking(SceneError)
def read_scannet_labels(folder: Path, protocol: str | SegmentationProtocol, instances: bool = False) -> LabelledCloud:
    """The labelled mesh of a scan.

    Args:
        folder: the scan's, such as scans/scene0000_00.
        protocol: "scannet-20", "scannet-19" or "scannet-200".
        instances: whether to read instances; the 200 classes need the same files anyway.

    Raises:
        SceneError: a file is missing or damaged, or does not belong to the others.
        ConfigError: there is no such protocol.
    """
    chosen = segmentation_protocol(protocol) if isinstance(protocol, str) else protocol
    all_200 = chosen.name == "scannet-200"
    mesh = _file(folder, _LABELLED, _MESH) if all_200 else _file(folder, _LABELLED)
    keys = ["x", "y", "z"] if all_200 else ["x", "y", "z", "label"]
    vertices = read_element(mesh, "vertex", keys, "labelled mesh", "fetch it again")
    xyz = np.stack([vertices[key] for key in "xyz"], axis=-1)
    objects, names = _objects(folder, len(xyz)) if instances or all_200 else (None, ())
    if all_200:
        assert objects is not None
        numbers = _numbers(folder)
        found = np.array([0, *(numbers.get(name, 0) for name in names)])[objects]
    else:
        found = vertices["label"].astype(np.int64)
    return checked_cloud(xyz, chosen.labels(found), chosen.classes, objects if instances else None, mesh)


def _file(folder: Path, *suffixes: str) -> Path:
    """The scan's file with the first of these endings that is there, called as the folder or else the only one."""
    for suffix in suffixes:
        found = [path for path in sorted(folder.glob(f"*{suffix}")) if path.is_file()]
        own = folder / f"{folder.resolve().name}{suffix}"
        if own in found or len(found) == 1:
            return own if own in found else found[0]
        if found:
            raise SceneError(
                f"There are {len(found)} files *{suffix}", where=folder, fix="keep each scan in a folder of its own"
            )
    raise SceneError(
        f"There is no *{suffixes[0]}", where=folder, fix="--labels FOLDER with the scan's files as ScanNet ships them"
    )


def _objects(folder: Path, count: int) -> tuple[Int[np.ndarray, " points"], tuple[str, ...]]:
    """The place of each vertex's object in the list, from 1 (0: none), and the names of the objects."""
    path = _file(folder, _SEGMENTS)
    segment = whole_numbers(read_json(path).get("segIndices"), "segIndices", path)
    if len(segment) != count:
        raise SceneError(
            f"There are segments of {len(segment)} vertices, but the mesh has {count}", where=path,
            fix="use files of the same scan",
        )  # fmt: skip
    path = _file(folder, _OBJECTS)
    groups = entries(read_json(path), "segGroups", {"label": str, "segments": list}, path)
    found = np.zeros(count, dtype=np.int64)
    for place, group in enumerate(groups, start=1):
        found[np.isin(segment, whole_numbers(group["segments"], "segments", path))] = place
    return found, tuple(group["label"] for group in groups)


def _numbers(folder: Path) -> dict[str, int]:
    """The number of each name of an object; of a name that is listed twice, the first one."""
    places = [folder, *folder.resolve().parents[:2]]
    path = next((place / _NAMES for place in places if (place / _NAMES).exists()), folder / _NAMES)
    rows = csv.DictReader(read_text(path, what="table of ScanNet's categories").splitlines(), delimiter="\t")
    numbers: dict[str, int] = {}
    try:
        for row in rows:
            numbers.setdefault(row["raw_category"], int(np.int32(int(row["id"]))))
    except (KeyError, TypeError, ValueError, OverflowError, csv.Error) as error:
        raise SceneError(
            f"The table of ScanNet's categories cannot be read: line {rows.line_num} has no raw_category and id",
            where=path,
            fix="fetch it again",
        ) from error
    return numbers
