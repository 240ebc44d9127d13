"""Tiny copies of the layouts of ScanNet and Replica, written from arrays, independently of the readers."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from colours import true_labels
from PIL import Image
from tiny import FOCAL, SIZE, VIEWS, camera_to_world, draw

SCAN = "scene0000_00"
CATEGORIES = (
    # id (of the 200), raw_category, nyu40id
    (2, "chair", 5), (4, "table", 7), (1, "wall", 1), (3, "floor", 2), (1191, "mattress", 39), (12, "bag of flour", 40),
    (9, "chair", 14),  # listed again: the first one counts
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


DEPTH_SIZE, DEPTH_FOCAL = 24, 20.0


def write_tiny_scan(folder: Path) -> Path:
    """The scene of tiny.py as ScanNet's SensReader would export it: smaller depth with a lens of its own."""
    for name in ("color", "depth", "pose", "intrinsic"):
        (folder / name).mkdir(parents=True)
    for i in range(VIEWS):
        pose = camera_to_world(i)
        Image.fromarray(np.rint(255 * draw(pose)[0]).astype(np.uint8)).save(folder / "color" / f"{i}.png")
        depth_z = draw(pose, DEPTH_SIZE, DEPTH_FOCAL)[1]
        Image.fromarray(np.rint(1000 * depth_z).astype(np.uint16)).save(folder / "depth" / f"{i}.png")
        np.savetxt(folder / "pose" / f"{i}.txt", pose)
    for kind, size, focal in (("color", SIZE, FOCAL), ("depth", DEPTH_SIZE, DEPTH_FOCAL)):
        matrix = np.diag([focal, focal, 1.0, 1.0])
        matrix[:2, 2] = size / 2 - 0.5
        np.savetxt(folder / "intrinsic" / f"intrinsic_{kind}.txt", matrix)
    return folder


def tiny_vertices() -> tuple[np.ndarray, np.ndarray]:
    """Points that views of the tiny scene see, and what they are: 1 sand, 2 the red box, 3 the blue box."""
    xyz, label = [], []
    for i in range(0, VIEWS, 2):
        pose, size = camera_to_world(i), 2 * SIZE
        depth_z, shown = draw(pose, size, 2 * FOCAL)[1], true_labels(pose, size)
        v, u = np.mgrid[0:size, 0:size] + 0.5
        camera = np.stack([(u - size / 2) / (2 * FOCAL), (v - size / 2) / (2 * FOCAL), np.ones_like(u)], -1)
        seen = shown > 0
        xyz.append(((camera * depth_z[..., None]) @ pose[:3, :3].T + pose[:3, 3])[seen])
        label.append(shown[seen])
    return np.concatenate(xyz), np.concatenate(label).astype(np.int64)
