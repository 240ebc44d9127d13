"""mmdet3d's layouts of SUN RGB-D and ScanNet: one pickle that lists the scenes, and binary files beside it.

    sunrgbd_infos_val.pkl             {"metainfo": ..., "data_list": [...]}: boxes, calibration, names of files
    points/000017.bin                 x y z r g b as float32; SUN RGB-D: upright, white is 1; ScanNet: raw scan, 255
    sunrgbd_trainval/image/000017.jpg
    semantic_mask/scene0000_00.bin    NYU40 number of each point, int64; instance_mask/ likewise

Version 1.1 and later. Boxes have full sizes and gravity centres; the yaw is counter-clockwise. ScanNet's are parallel
to the axes of the aligned scan, and `axis_align_matrix` brings the points there. Older pickles hold a list; before 1.0
their yaw had the other sign, and nothing in them tells which they are, so they are refused.
"""

import pickle
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from ovseg3d.datasets.box_scenes import BoxScene, each_once
from ovseg3d.datasets.detection_protocols import DETECTION_PROTOCOLS, DetectionProtocol
from ovseg3d.datasets.plain_pickle import read_plain_pickle
from ovseg3d.datasets.sunrgbd import DEPTH_FROM_CAMERA, copy_photo, intrinsics_and_tilt, upright_camera
from ovseg3d.datasets.tables import as_boxes, as_cloud, as_table, moved, read_binary
from ovseg3d.errors import SceneError
from ovseg3d.files import write_together
from ovseg3d.limits import first_line, inside
from ovseg3d.scene.cameras import Camera

FOLDERS = {
    "points": ("points", "."),
    "image": ("sunrgbd_trainval/image", "image", "."),
    "semantic": ("semantic_mask",),
    "instance": ("instance_mask",),
}
"""Where the listed files may be, relative to the pickle."""


def read_mmdet3d(infos: Path, *, folder: Path | None = None) -> Iterator[BoxScene]:
    """Scenes of a pickle, in its order. Objects of other classes, numbered -1, are left out.

    Args:
        infos: the pickle, such as sunrgbd_infos_val.pkl.
        folder: where points/ and the other folders are; by default beside the pickle.

    Raises:
        SceneError: the pickle holds more than plain data, or a file is missing, damaged or not in this layout.
    """
    entries, names, dataset = _read_list(infos)
    for entry in entries:
        try:
            scene = _scene(entry, names, dataset, folder or infos.parent)
        except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as cause:
            reason = f"An entry is not in mmdet3d's layout: {first_line(cause)}"
            raise SceneError(reason, where=infos, fix="make the pickle again") from cause
        yield scene


def write_mmdet3d(folder: Path, scenes: Iterable[BoxScene], protocol: DetectionProtocol, infos: str) -> None:
    """Write scenes in mmdet3d's layout, all or none; other classes' boxes are left out.

    Args:
        folder: the data set's folder.
        scenes: in any order.
        protocol: gives the data set and the class list.
        infos: name of the pickle, such as scannet_infos_val.pkl.

    Raises:
        SceneError: the layout cannot hold a scene.
        OutputError: the folder is not writable, or the like.
    """
    write = _write_sunrgbd if protocol.dataset == "sunrgbd" else _write_scannet
    categories = {name: number for number, name in enumerate(protocol.classes)}
    with write_together(folder, infos) as staging:
        (staging / "points").mkdir()
        entries = [write(staging, scene.select(protocol.classes), categories) for scene in each_once(scenes)]
        metainfo = {"categories": categories, "dataset": protocol.dataset, "info_version": "1.1"}
        (staging / infos).write_bytes(pickle.dumps({"metainfo": metainfo, "data_list": entries}, protocol=4))


def _read_list(infos: Path) -> tuple[list[Any], dict[int, str], str]:
    """The scenes' entries, the classes by number, and the data set."""
    listed = read_plain_pickle(infos)
    if not isinstance(listed, dict) or not isinstance(listed.get("data_list"), list):
        raise SceneError(
            "This is no list of scenes of mmdet3d 1.1 or later",
            where=infos,
            fix="convert older ones with its tools/dataset_converters/update_infos_to_v2.py",
        )
    try:
        meta = {str(key).lower(): value for key, value in dict(listed["metainfo"]).items()}
        dataset = str(meta["dataset"]).lower()
        default = {"sunrgbd": "SUN-10", "scannet": "ScanNet-18"}[dataset]
        numbers = {name: number for number, name in enumerate(DETECTION_PROTOCOLS[default].classes)}
        names = {int(number): str(name) for name, number in dict(meta.get("categories") or numbers).items()}
    except (KeyError, TypeError, ValueError, OverflowError) as cause:
        reason = "The pickle does not say that it is about SUNRGBD or SCANNET"
        raise SceneError(reason, where=infos, fix="make the pickle again") from cause
    return listed["data_list"], names, dataset


def _scene(entry: Mapping[str, Any], names: Mapping[int, str], dataset: str, folder: Path) -> BoxScene:
    """One entry's scene."""
    objects = [one for one in entry.get("instances") or [] if int(one["bbox_label_3d"]) >= 0]
    labels = tuple(names[int(one["bbox_label_3d"])] for one in objects)
    lidar = entry["lidar_points"]
    path = _find(folder, "points", lidar["lidar_path"])
    table = read_binary(path, np.float32, int(lidar["num_pts_feats"]))
    xyz, rgb = as_cloud(table, path, white=1 if dataset == "sunrgbd" else 255)
    boxes = as_boxes([one["bbox_3d"] for one in objects], path)
    if dataset == "sunrgbd":
        flat = np.array([one["bbox"] for one in objects], dtype=np.float64).reshape(-1, 4)
        view = entry["images"]["CAM0"]
        photo = _find(folder, "image", view["img_path"])
        camera = _camera(np.array(view["depth2img"], dtype=np.float64), int(view["width"]), int(view["height"]), path)
        return BoxScene(path.stem, xyz, rgb, boxes, labels, boxes_2d=flat, camera=camera, photo=photo)
    align = np.array(entry["axis_align_matrix"], dtype=np.float64).reshape(4, 4)
    semantic, instance = (_mask(folder, kind, entry, len(xyz)) for kind in ("semantic", "instance"))
    xyz = moved(xyz, align)
    return BoxScene(path.stem, xyz, rgb, boxes, labels, semantic=semantic, instance=instance, axis_align=align)


def _mask(folder: Path, kind: str, entry: Mapping[str, Any], points: int) -> Int[np.ndarray, " points"] | None:
    """ScanNet's number of each point; None if the file is not there, as in copies without labels of points."""
    name = entry.get(f"pts_{kind}_mask_path")
    path = None if name is None else _find(folder, kind, name)
    if path is None or not path.exists():
        return None
    mask = read_binary(path, np.int64)
    if len(mask) != points:
        raise SceneError("Points and their labels differ in number", where=path, fix="make the file again")
    return mask


def _find(folder: Path, kind: str, name: str) -> Path:
    """Where a listed file is, or should be."""
    places = [inside(folder, Path(place) / name) for place in FOLDERS[kind]]
    return next((path for path in places if path.exists()), places[0])


def _camera(depth_to_image: Float[np.ndarray, "3 3"], width: int, height: int, where: Path) -> Camera:
    """The camera of K times the rotation from the upright frame to the camera, by RQ decomposition."""
    from scipy.linalg import rq

    upper, rotation = rq(depth_to_image)
    signs = np.sign(np.diag(upper))
    upper, rotation = upper * signs, rotation * signs[:, None]
    return upright_camera(upper / upper[2, 2], rotation.T @ DEPTH_FROM_CAMERA.T, (width, height), where)


def _write_sunrgbd(staging: Path, scene: BoxScene, categories: dict[str, int]) -> dict[str, Any]:
    if scene.camera is None or scene.photo is None or scene.boxes_2d is None:
        raise SceneError("SUN RGB-D needs a camera, a photo, and each box in the photo", where=scene.name)
    images = staging / FOLDERS["image"][0]
    images.mkdir(parents=True, exist_ok=True)
    photo = f"{scene.name}{scene.photo.suffix}"
    copy_photo(scene.photo, images / photo)
    intrinsics, _ = intrinsics_and_tilt(scene.camera)
    objects = [
        {"bbox_3d": box.tolist(), "bbox_label_3d": number, "bbox": flat.tolist(), "bbox_label": number}
        for box, flat, number in zip(scene.boxes, scene.boxes_2d, scene.numbers(list(categories)))
    ]
    return {
        "images": {
            "CAM0": {
                "img_path": photo,
                "depth2img": (intrinsics @ scene.camera.c2w[:3, :3].T).tolist(),
                "height": scene.camera.height,
                "width": scene.camera.width,
            }
        },
        "lidar_points": _write_points(staging, scene, as_table(scene.xyz, scene.rgb, white=1)),
        "instances": objects,
    }


def _write_scannet(staging: Path, scene: BoxScene, categories: dict[str, int]) -> dict[str, Any]:
    if scene.boxes[:, 6].any():
        raise SceneError("ScanNet's layout needs boxes parallel to the axes", where=scene.name)
    align = np.eye(4) if scene.axis_align is None else scene.axis_align
    raw = moved(scene.xyz, np.linalg.inv(align))
    entry: dict[str, Any] = {
        "lidar_points": _write_points(staging, scene, as_table(raw, scene.rgb, white=255)),
        "axis_align_matrix": align.tolist(),
        "instances": [
            {"bbox_3d": box[:6].tolist(), "bbox_label_3d": number}
            for box, number in zip(scene.boxes, scene.numbers(list(categories)))
        ],
    }
    for kind, mask in (("semantic", scene.semantic), ("instance", scene.instance)):
        if mask is not None:
            (staging / f"{kind}_mask").mkdir(exist_ok=True)
            mask.astype(np.int64).tofile(staging / f"{kind}_mask" / f"{scene.name}.bin")
            entry[f"pts_{kind}_mask_path"] = f"{scene.name}.bin"
    return entry


def _write_points(staging: Path, scene: BoxScene, table: Float[np.ndarray, "points 6"]) -> dict[str, Any]:
    table.tofile(staging / "points" / f"{scene.name}.bin")
    return {"num_pts_feats": 6, "lidar_path": f"{scene.name}.bin"}
