"""Tiny copies of the layouts of ScanNet's and Replica's labels, written from arrays, independently of the readers."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

SCAN = "scene0000_00"
CATEGORIES = (
    # id (of the 200), raw_category, nyu40id
    (2, "chair", 5), (4, "table", 7), (1, "wall", 1), (3, "floor", 2), (1191, "mattress", 39), (12, "bag of flour", 40),
)  # fmt: skip


def write_scannet_labels(
    folder: Path, xyz: np.ndarray, label: np.ndarray, objects: Mapping[str, Sequence[np.ndarray]], above: bool = False
) -> Path:
    """The files of a labelled scan.

    Args:
        folder: made if need be.
        xyz: the vertices.
        label: NYU40 number of each.
        objects: masks over the vertices, by name of the object.
        above: the table of categories lies two folders above.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_ply(folder / f"{SCAN}_vh_clean_2.labels.ply", xyz, [("label", "ushort", label.astype("<u2"))])
    write_ply(folder / f"{SCAN}_vh_clean_2.ply", xyz, [])
    flat = [(name, mask) for name, masks in objects.items() for mask in masks]
    # Segments: each vertex's set of objects, each in two halves.
    member = np.array([mask for _, mask in flat]).reshape(len(flat), len(xyz))
    _, segment = np.unique(np.vstack([member, np.arange(len(xyz)) % 2]), axis=1, return_inverse=True)
    segment = segment.reshape(-1) * 7 + 3
    groups = [
        {"id": i, "objectId": i, "segments": np.unique(segment[mask]).tolist(), "label": name}
        for i, (name, mask) in enumerate(flat)
    ]
    (folder / f"{SCAN}_vh_clean_2.0.010000.segs.json").write_text(json.dumps({"segIndices": segment.tolist()}))
    (folder / f"{SCAN}.aggregation.json").write_text(json.dumps({"sceneId": SCAN, "segGroups": groups}))
    table = folder.parent.parent if above else folder
    rows = [f"{i}\t{name}\t{name}\t9\t{nyu}\n" for i, name, nyu in CATEGORIES]
    (table / "scannetv2-labels.combined.tsv").write_text("id\traw_category\tcategory\tcount\tnyu40id\n" + "".join(rows))
    return folder


def write_replica_labels(
    folder: Path, xyz: np.ndarray, objects: np.ndarray, classes: Mapping[int, int], listed: Sequence[int] = ()
) -> Path:
    """The files of a labelled room; `xyz` are fours of vertices, each a quad of one object.

    Args:
        folder: made if need be.
        xyz: the vertices.
        objects: the object of each quad.
        classes: the class of objects in the list of objects.
        listed: the class of each object in `id_to_label`.
    """
    home = folder / "habitat"
    home.mkdir(parents=True, exist_ok=True)
    write_ply(home / "mesh_semantic.ply", xyz, [], np.arange(len(xyz)).reshape(-1, 4), objects)
    entries = [{"id": i, "class_id": kind, "class_name": "thing", "oriented_bbox": {}} for i, kind in classes.items()]
    info = {"classes": [], "id_to_label": list(listed), "objects": entries}
    (home / "info_semantic.json").write_text(json.dumps(info))
    return folder


def write_ply(
    path: Path,
    xyz: np.ndarray,
    more: Sequence[tuple[str, str, np.ndarray]],
    corners: np.ndarray | None = None,
    objects: np.ndarray | None = None,
) -> None:
    """A binary PLY file: vertices with colours and `more` properties, and faces with `object_id`."""
    colour = [(name, "uchar", np.full(len(xyz), 9, "u1")) for name in ("red", "green", "blue")]
    columns = [(axis, "float", xyz[:, i].astype("<f4")) for i, axis in enumerate("xyz")] + colour + list(more)
    rows = np.empty(len(xyz), [(name, values.dtype) for name, _, values in columns])
    for name, _, values in columns:
        rows[name] = values
    head = ["ply", "format binary_little_endian 1.0", f"element vertex {len(xyz)}"]
    head += [f"property {kind} {name}" for name, kind, _ in columns]
    body = rows.tobytes()
    if corners is not None and objects is not None:
        faces = np.empty(len(corners), [("n", "u1"), ("corners", "<i4", corners.shape[1:]), ("object_id", "<i4")])
        faces["n"], faces["corners"], faces["object_id"] = corners.shape[1], corners, objects
        head += [f"element face {len(corners)}", "property list uchar int vertex_indices", "property int object_id"]
        body += faces.tobytes()
    path.write_bytes("\n".join([*head, "end_header\n"]).encode() + body)
