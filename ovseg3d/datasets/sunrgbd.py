"""SUN RGB-D as its toolbox extracts it: the folder sunrgbd_trainval, from which VoteNet's and mmdet3d's are made.

    calib/000017.txt     Rtilt and K, nine numbers each, column by column
    depth/000017.mat     the upright cloud `instance` (x y z r g b; white is 1), or the same as .txt
    image/000017.jpg     the photo
    label_v1/000017.txt  one object a line: name, left, top, width, height of its box in the photo; centre; half sizes
                         along y, x, z of the box; and the direction (x, y) of the box's x axis

Rtilt turns depth axes (x right, y forward, z up of the tilted camera) to upright ones.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from io import StringIO
from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import Image

from ovseg3d.datasets.box_scenes import BoxScene, each_once
from ovseg3d.datasets.matlab import read_matlab
from ovseg3d.datasets.tables import as_boxes, as_cloud, as_table, check_size, named_files, numbers_from
from ovseg3d.errors import SceneError
from ovseg3d.files import write_together
from ovseg3d.limits import check_regular, first_line, read_text
from ovseg3d.scene.cameras import Camera

DEPTH_FROM_CAMERA = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
"""Depth axes (x right, y forward, z up) from a camera's (x right, y down, z forward)."""


def read_sunrgbd(folder: Path, names: Sequence[str] | None = None, *, labels: str = "label_v1") -> Iterator[BoxScene]:
    """Scenes of a folder sunrgbd_trainval, with all their classes.

    Args:
        folder: the folder.
        names: such as 000017; by default all that have a label file.
        labels: the folder of the labels, `label` or `label_v1`.

    Raises:
        SceneError: a file is missing, damaged or not in this layout.
    """
    for name in named_files(folder / labels, ".txt") if names is None else names:
        path = folder / "depth" / f"{name}.mat"
        table = _matlab(path) if path.exists() else _text_table(path.with_suffix(".txt"))
        xyz, rgb = as_cloud(table, path, white=1)
        words, boxes, boxes_2d = _read_labels(folder / labels / f"{name}.txt")
        photo = folder / "image" / f"{name}.jpg"
        intrinsics, tilt = _read_calibration(folder / "calib" / f"{name}.txt")
        camera = upright_camera(intrinsics, tilt, photo_size(photo), photo)
        yield BoxScene(name, xyz, rgb, boxes, words, boxes_2d=boxes_2d, camera=camera, photo=photo)


def write_sunrgbd(folder: Path, scenes: Iterable[BoxScene], *, labels: str = "label_v1") -> None:
    """Write scenes as a folder sunrgbd_trainval, all or none.

    Raises:
        SceneError: a scene has no camera, no photo or no boxes in the photo.
        OutputError: the folder is not writable, or the like.
    """
    from scipy.io import savemat

    with write_together(folder, None) as staging:
        for part in ("calib", "depth", "image", labels):
            (staging / part).mkdir()
        for scene in each_once(scenes):
            if scene.camera is None or scene.photo is None or scene.boxes_2d is None:
                raise SceneError("SUN RGB-D needs a camera, a photo, and each box in the photo", where=scene.name)
            matrices = intrinsics_and_tilt(scene.camera)
            text = "".join(" ".join(repr(float(v)) for v in m.ravel(order="F")) + "\n" for m in matrices[::-1])
            (staging / "calib" / f"{scene.name}.txt").write_text(text)
            savemat(staging / "depth" / f"{scene.name}.mat", {"instance": as_table(scene.xyz, scene.rgb, white=1)})
            copy_photo(scene.photo, staging / "image" / f"{scene.name}.jpg")
            lines = [_label_line(*one) for one in zip(scene.labels, scene.boxes, scene.boxes_2d)]
            (staging / labels / f"{scene.name}.txt").write_text("".join(lines), encoding="utf-8")


def upright_camera(
    intrinsics: Float[np.ndarray, "3 3"], tilt: Float[np.ndarray, "3 3"], size: tuple[int, int], where: Path
) -> Camera:
    """The camera of K and Rtilt, in the upright frame.

    Raises SceneError: K is not that of a camera, or Rtilt is no rotation.
    """
    fx, fy, cx, cy = (float(intrinsics[at]) for at in ((0, 0), (1, 1), (0, 2), (1, 2)))
    is_rotation = np.abs(tilt @ tilt.T - np.eye(3)).max() < 1e-3 and np.linalg.det(tilt) > 0
    if not is_rotation or not all(map(math.isfinite, (fx, fy, cx, cy))) or min(fx, fy) <= 0:
        raise SceneError("The calibration is no rotation and intrinsics", where=where, fix="fetch it again")
    c2w = np.eye(4)
    c2w[:3, :3] = tilt @ DEPTH_FROM_CAMERA
    return Camera(*size, fx, fy, cx, cy, c2w)


def intrinsics_and_tilt(camera: Camera) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "3 3"]]:
    """K and Rtilt of a camera: the reverse of `upright_camera`."""
    intrinsics = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]], dtype=np.float64)
    return intrinsics, camera.c2w[:3, :3] @ DEPTH_FROM_CAMERA.T


def photo_size(photo: Path) -> tuple[int, int]:
    """Width and height of a photo. Raises SceneError: it is missing or damaged."""
    check_regular(photo, SceneError, "photo")
    try:
        with Image.open(photo) as image:
            return image.size
    except Exception as cause:  # Pillow raises errors of all kinds
        reason = f"The photo cannot be read: {first_line(cause)}"
        raise SceneError(reason, where=photo, fix="fetch it again") from cause


def copy_photo(photo: Path, target: Path) -> None:
    """Copy a photo unchanged. Raises SceneError: it is missing or too large."""
    check_size(check_regular(photo, SceneError, "photo"), photo)
    target.write_bytes(photo.read_bytes())


def _matlab(path: Path) -> np.ndarray:
    return numbers_from(lambda: read_matlab(path, "instance"), path)


def _text_table(path: Path) -> np.ndarray:
    text = read_text(path, SceneError, "cloud")
    return numbers_from(lambda: np.loadtxt(StringIO(text), ndmin=2), path)


def _read_calibration(path: Path) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "3 3"]]:
    """K and Rtilt."""
    lines = read_text(path, SceneError, "calibration").splitlines()
    try:
        tilt, intrinsics = (np.array(line.split(), dtype=np.float64).reshape(3, 3, order="F") for line in lines[:2])
    except ValueError as cause:
        raise SceneError("A calibration has two lines of nine numbers", where=path, fix="fetch it again") from cause
    return intrinsics, tilt


def _read_labels(path: Path) -> tuple[tuple[str, ...], Float[np.ndarray, "boxes 7"], Float[np.ndarray, "boxes 4"]]:
    """Names, boxes, and boxes in the photo."""
    lines = [line.split() for line in read_text(path, SceneError, "label file").splitlines() if line.strip()]
    try:
        rows = np.array([line[-12:] for line in lines], dtype=np.float64).reshape(len(lines), 12)
    except ValueError as cause:
        raise SceneError("An object is a name and twelve numbers", where=path, fix="fetch it again") from cause
    names = tuple(" ".join(line[:-12]) for line in lines)
    corner, size_2d, centre, half, front = np.split(rows, [2, 4, 7, 10], axis=1)
    yaw = np.arctan2(front[:, 1], front[:, 0])
    boxes = as_boxes(np.column_stack([centre, 2 * half[:, [1, 0, 2]], yaw]), path)
    return names, boxes, np.hstack([corner, corner + size_2d])


def _label_line(name: str, box: np.ndarray, box_2d: np.ndarray) -> str:
    x, y, z = box[3:6] / 2
    numbers = (*box_2d[:2], *(box_2d[2:] - box_2d[:2]), *box[:3], y, x, z, math.cos(box[6]), math.sin(box[6]))
    return f"{name} {' '.join(repr(float(v)) for v in numbers)}\n"
