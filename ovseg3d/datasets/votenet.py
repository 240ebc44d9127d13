"""VoteNet's layouts of SUN RGB-D and ScanNet: one set of numpy files for each scene, side by side in a folder.

SUN RGB-D, made by its sunrgbd_data.py (frames, say, in sunrgbd_pc_bbox_votes_50k_v1_val):

    000017_pc.npz     `pc`: x y z r g b, upright, white is 1
    000017_bbox.npy   centre, half size, heading, class number; the heading is clockwise, so the yaw is its negative
    000017_votes.npz  `point_votes`: whether a point is in a box, and the way to the centres of up to three such boxes

ScanNet, made by its batch_load_scannet_data.py (scannet_train_detection_data):

    scene0000_00_vert.npy       x y z r g b after axis alignment, white is 255
    scene0000_00_sem_label.npy  NYU40 number of each point
    scene0000_00_ins_label.npy  instance of each point, from 1
    scene0000_00_bbox.npy       centre, full size, NYU40 number; parallel to the axes
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from ovseg3d.datasets.box_scenes import BoxScene, each_once
from ovseg3d.datasets.detection_protocols import DetectionProtocol
from ovseg3d.datasets.tables import as_boxes, as_cloud, as_table, named_files, read_array
from ovseg3d.errors import SceneError
from ovseg3d.files import write_together
from ovseg3d.geometry.overlap import inside_boxes


def read_votenet(folder: Path, protocol: DetectionProtocol, names: Sequence[str] | None = None) -> Iterator[BoxScene]:
    """Scenes of a folder in VoteNet's layout of the protocol's data set.

    Args:
        folder: the folder of the numpy files.
        protocol: gives the layout and the class list.
        names: such as 000017; by default all in the folder.

    Raises:
        SceneError: a file is missing, damaged or not in this layout.
    """
    read = _read_sunrgbd if protocol.dataset == "sunrgbd" else _read_scannet
    for name in named_files(folder, "_bbox.npy") if names is None else names:
        yield read(folder, name, protocol)


def write_votenet(folder: Path, scenes: Iterable[BoxScene], protocol: DetectionProtocol) -> None:
    """Write scenes in VoteNet's layout of the protocol's data set, all or none; other classes' boxes are left out.

    Raises:
        SceneError: ScanNet's layout cannot hold a scene: it lacks labels of points, or a box has a yaw.
        OutputError: the folder is not writable, or the like.
    """
    write = _write_sunrgbd if protocol.dataset == "sunrgbd" else _write_scannet
    with write_together(folder, None) as staging:
        for scene in each_once(scenes):
            write(staging / scene.name, scene.select(protocol.classes), protocol)


def votes(xyz: Float[np.ndarray, "points 3"], boxes: Float[np.ndarray, "boxes 7"]) -> Float[np.ndarray, "points 10"]:
    """VoteNet's votes: 1 in a box, else 0, and three offsets to centres of boxes that hold the point.

    A point in one box has its offset three times, in two boxes the second's in the middle. The third offset is that of
    the last box, if there are three or more.
    """
    found, count = np.zeros((len(xyz), 10)), np.zeros(len(xyz), dtype=np.int64)
    for box, inside in zip(boxes, inside_boxes(xyz, boxes)):
        offset = box[:3] - xyz
        found[inside, 0] = 1
        for place in range(3):
            chosen = inside & ((count == 0) | (np.minimum(count, 2) == place))
            found[chosen, 1 + 3 * place : 4 + 3 * place] = offset[chosen]
        count += inside
    return found


def _read_sunrgbd(folder: Path, name: str, protocol: DetectionProtocol) -> BoxScene:
    cloud, path = folder / f"{name}_pc.npz", folder / f"{name}_bbox.npy"
    xyz, rgb = as_cloud(read_array(cloud, "pc"), cloud, white=1)
    rows = _table(path, 8)
    boxes = as_boxes(rows[:, :7] * [1, 1, 1, 2, 2, 2, -1], path)
    numbers = rows[:, 7]
    if not np.isin(numbers, np.arange(len(protocol.classes))).all():
        raise SceneError(f"A class number is not one of {protocol.name}", where=path, fix="name the right protocol")
    return BoxScene(name, xyz, rgb, boxes, tuple(protocol.classes[int(k)] for k in numbers))


def _write_sunrgbd(start: Path, scene: BoxScene, protocol: DetectionProtocol) -> None:
    rows = np.column_stack([scene.boxes * [1, 1, 1, 0.5, 0.5, 0.5, -1], scene.numbers(protocol.classes)])
    np.savez_compressed(f"{start}_pc.npz", pc=as_table(scene.xyz, scene.rgb, white=1))
    np.save(f"{start}_bbox.npy", rows)
    np.savez_compressed(f"{start}_votes.npz", point_votes=votes(scene.xyz, scene.boxes))


def _read_scannet(folder: Path, name: str, protocol: DetectionProtocol) -> BoxScene:
    cloud, path = folder / f"{name}_vert.npy", folder / f"{name}_bbox.npy"
    xyz, rgb = as_cloud(read_array(cloud), cloud, white=255)
    semantic, instance = (read_array(folder / f"{name}_{kind}_label.npy") for kind in ("sem", "ins"))
    if semantic.shape != (len(xyz),) or instance.shape != (len(xyz),):
        raise SceneError("Points and their labels differ in number", where=cloud, fix="make the files again")
    rows = _table(path, 7)
    rows = rows[np.isin(rows[:, 6], _nyu40(protocol))]  # other classes, and empty rows of instances without points
    labels = tuple(protocol.classes[protocol.nyu40.index(int(k))] for k in rows[:, 6])
    boxes = as_boxes(rows[:, :6], path)
    return BoxScene(
        name, xyz, rgb, boxes, labels, semantic=semantic.astype(np.int64), instance=instance.astype(np.int64)
    )


def _write_scannet(start: Path, scene: BoxScene, protocol: DetectionProtocol) -> None:
    if scene.semantic is None or scene.instance is None or scene.boxes[:, 6].any():
        raise SceneError(
            "ScanNet's layout needs class and instance of each point, and boxes parallel to the axes", where=scene.name
        )
    numbers = np.array(_nyu40(protocol))[scene.numbers(protocol.classes)]
    np.save(f"{start}_vert.npy", as_table(scene.xyz, scene.rgb, white=255))
    np.save(f"{start}_sem_label.npy", scene.semantic.astype(np.uint32))
    np.save(f"{start}_ins_label.npy", scene.instance.astype(np.uint32))
    np.save(f"{start}_bbox.npy", np.column_stack([scene.boxes[:, :6], numbers]))


def _nyu40(protocol: DetectionProtocol) -> tuple[int, ...]:
    if not protocol.nyu40:
        raise SceneError(f"{protocol.name} has no class numbers of NYU40", fix="use ScanNet-18")
    return protocol.nyu40


def _table(path: Path, columns: int) -> Float[np.ndarray, "boxes columns"]:
    rows = read_array(path).astype(np.float64)
    if rows.ndim != 2 or rows.shape[1] != columns or not np.isfinite(rows).all():
        raise SceneError(f"Boxes of this layout are rows of {columns} numbers", where=path, fix="fetch the file again")
    return rows
