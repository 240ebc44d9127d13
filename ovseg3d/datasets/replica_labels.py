"""True labels of a room of Replica, at the vertices of its semantic mesh, in the frame of the data set.

    habitat/mesh_semantic.ply    vertices; faces with `vertex_indices` and `object_id`
    habitat/info_semantic.json   `objects`: `id` and `class_id` of each; `id_to_label`: the class by id, for the others

A vertex belongs to the object of the last face that has it.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Int

from ovseg3d.datasets.labelled_clouds import LabelledCloud, checked_cloud, entries, whole_numbers
from ovseg3d.datasets.segmentation_protocols import SegmentationProtocol, segmentation_protocol
from ovseg3d.errors import SceneError
from ovseg3d.files import looking, read_json
from ovseg3d.scene.readers.ply import read_element


@looking(SceneError)
def read_replica_labels(
    folder: Path, protocol: str | SegmentationProtocol = "replica", instances: bool = False
) -> LabelledCloud:
    """The labelled mesh of a room.

    Args:
        folder: of the room, such as replica_v1/room_0, or its folder habitat.
        protocol: which classes.
        instances: whether to read instances.

    Raises:
        SceneError: a file is missing or damaged, or does not belong to the other.
        ConfigError: there is no such protocol.
    """
    chosen = segmentation_protocol(protocol) if isinstance(protocol, str) else protocol
    home = folder / "habitat" if (folder / "habitat").is_dir() else folder
    mesh, info = home / "mesh_semantic.ply", home / "info_semantic.json"
    for path in (mesh, info):
        if not path.exists():
            raise SceneError(
                f"There is no {path.name}", where=path, fix="--labels FOLDER of the room as Replica ships it"
            )
    what, fix = "semantic mesh", "fetch it again"
    vertices = read_element(mesh, "vertex", ["x", "y", "z"], what, fix)
    xyz = np.stack([vertices[key] for key in "xyz"], axis=-1)
    faces = read_element(mesh, "face", ["vertex_indices", "object_id"], what, fix)
    objects = _of_vertices(len(xyz), faces["vertex_indices"], faces["object_id"], mesh)
    classes = _classes(info)
    known, place = np.unique(objects, return_inverse=True)
    numbers = np.array([classes.get(number, -1) for number in known.tolist()])[place.reshape(-1)]
    label = np.where(objects >= 0, chosen.labels(numbers), 0)
    return checked_cloud(xyz, label, chosen.classes, objects + 1 if instances else None, mesh)


def _of_vertices(
    count: int, corners: Int[np.ndarray, "faces corners"], objects: Int[np.ndarray, " faces"], where: Path
) -> Int[np.ndarray, " points"]:
    """The object of each vertex; -1 for none."""
    if corners.size and not 0 <= corners.min() <= corners.max() < count:
        raise SceneError(f"A face has a vertex that is none of the {count}", where=where, fix="fetch it again")
    found = np.full(count, -1, dtype=np.int64)
    found[corners.reshape(-1)] = np.repeat(objects.astype(np.int64).clip(min=-1), corners.shape[1])
    return found


def _classes(path: Path) -> dict[int, int]:
    """The class of each object, by its id; negative ones are undefined."""
    info = read_json(path)
    listed = whole_numbers(info.get("id_to_label", []), "id_to_label", path)
    objects = entries(info, "objects", {"id": int, "class_id": int}, path)
    numbers = whole_numbers([entry["class_id"] for entry in objects], "class_id", path)
    return dict(enumerate(listed.tolist())) | dict(zip([entry["id"] for entry in objects], numbers.tolist()))
