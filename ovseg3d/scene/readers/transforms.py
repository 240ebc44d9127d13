"""Readers for `transforms*.json`: nerfstudio, instant-ngp and Blender (NeRF-synthetic).

All three state camera-to-world with OpenGL camera axes (x right, y up, looking along -z) in a z-up world. Poses are
used as saved: nerfstudio's `applied_transform` and instant-ngp's `scale` and `offset` lead away from the input frame
and are ignored. Blender's has one field of view for all frames and a file per split. Keys of our own: per-frame
`label_file_path`, top-level `metric` (the unit is the metre), `classes`, `ignore_label`, `recommended_encoder`.
"""

import math
import os
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ovseg3d.errors import SceneError, printable
from ovseg3d.files import read_json
from ovseg3d.limits import (
    DEPTH_UNITS,
    LABELS,
    MAX_FRAMES,
    MAX_LENGTH,
    NO_TRUST,
    Trust,
    check_name,
    inside,
    shorten,
)
from ovseg3d.scene.cameras import OPENGL_AXES, LensModel
from ovseg3d.scene.images import PHOTO_SUFFIXES
from ovseg3d.scene.readers.ply import read_ply
from ovseg3d.scene.readers.raw import Incomplete, Lens, RawCapture, RawFrame

_PERSPECTIVE = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "PERSPECTIVE")
_SPLITS = ("train", "val", "test")


def read_transforms(path: Path, trust: Trust = NO_TRUST) -> RawCapture:
    """Read nerfstudio's or instant-ngp's single file.

    Args:
        path: the .json file.
        trust: what the user allows.

    Raises:
        SceneError: broken JSON, a wrong type, a missing key, or a lens that we have no rays for.
    """
    data = read_json(path)
    frames = _frames(data, path, split=None)
    names = {name: _file_list(data, f"{name}_filenames", path) for name in _SPLITS}
    notes: list[str] = []
    if any(names.values()):
        # With val and test alike in a file (nerfstudio's habit), test wins.
        by_name = {name: split for split in _SPLITS for name in names[split]}
        for frame in frames:
            frame.split = by_name.get(frame.name, "unused")
        unknown = sorted(set(by_name) - {frame.name for frame in frames})
        if unknown:
            notes.append(f"names in the split lists that match no frame: {len(unknown)}, such as {unknown[0]}")
    return _capture(data, path, frames, notes, trust)


def read_blender(folder: Path, trust: Trust = NO_TRUST) -> RawCapture:
    """Read Blender's (or instant-ngp's) `transforms_train.json` and, where present, `_val` and `_test`.

    Raises:
        SceneError: as `read_transforms`.
        Incomplete: there is no transforms_train.json.
    """
    path = folder / "transforms_train.json"
    if not path.exists():
        raise Incomplete("transforms_train.json is missing")
    data = read_json(inside(folder, path.name, trust=trust))
    frames = _frames(data, path, split="train")
    others = 0
    for split in ("val", "test"):
        other = folder / f"transforms_{split}.json"
        if other.exists():
            more = _frames(read_json(inside(folder, other.name, trust=trust)), other, split=split)
            others += len(more)
            frames += more
    if not others:  # one file alone states no split
        for frame in frames:
            frame.split = None
    capture = _capture(data, path, frames, [], trust)
    if capture.format == "nerfstudio":
        capture.format = "blender"
    return capture


def _capture(data: dict[str, Any], path: Path, frames: list[RawFrame], notes: list[str], trust: Trust) -> RawCapture:
    aabb_scale = _number(data, "aabb_scale", path, 1e-6, MAX_LENGTH)
    unit = _number(data, "depth_unit_scale_factor", path, *DEPTH_UNITS)
    # instant-ngp's word for it; there, what is not positive says that there is no depth.
    if unit is None and ((_number(data, "integer_depth_scale", path) or 0) > 0 or any(frame.depth for frame in frames)):
        unit = _number(data, "integer_depth_scale", path, *DEPTH_UNITS)
    points = points_rgb = None
    ply = _optional(path.parent, data, ("ply_file_path",), path)
    if ply is not None:
        if inside(path.parent, data["ply_file_path"].replace("\\", "/"), trust=trust).exists():
            points, points_rgb = read_ply(ply)
        else:
            notes.append(f"The sparse points {data['ply_file_path']} are missing")
    ignore = _number(data, "ignore_label", path, *LABELS)
    if ignore is not None and ignore != int(ignore):
        raise SceneError(f"'ignore_label' is {ignore:g}, expected a whole number", where=path, fix="correct the file")
    ngp = aabb_scale is not None and "camera_model" not in data
    return RawCapture(
        path=path.parent,
        format="instant-ngp" if ngp else "nerfstudio",
        frames=frames,
        z_up=True,
        points=points,
        points_rgb=points_rgb,
        depth_unit=0.001 if unit is None else unit,
        # Depth in millimetres fits the poses only when the poses are in metres.
        depth_is_metric=unit is None or math.isclose(unit, 0.001, rel_tol=1e-6),
        metric=_flag(data, "metric", path),
        classes=_classes(data, path),
        ignore_label=None if ignore is None else int(ignore),
        recommended_encoder=_texts(data, "recommended_encoder", path),
        aabb_scale=aabb_scale,
        notes=notes,
    )


def _frames(data: dict[str, Any], path: Path, split: str | None) -> list[RawFrame]:
    listed = data.get("frames")
    if not isinstance(listed, list):
        found = "is missing" if listed is None else f"is {_kind(listed)}, expected a list"
        raise SceneError(f"'frames' {found}", where=path, fix='it should read "frames": [{"file_path": ...}, ...]')
    if len(listed) > MAX_FRAMES:
        raise SceneError(f"The list of frames has more than {MAX_FRAMES}", where=path, fix="split the capture")
    if not listed:
        raise SceneError("The list of frames is empty", where=path, fix="run structure from motion again")
    frames = []
    for index, entry in enumerate(listed):
        where = f"{path}, frames[{index}]"
        if not isinstance(entry, dict):
            raise SceneError(f"A frame is {_kind(entry)}, expected an object", where=where)
        name = entry.get("file_path")
        if not isinstance(name, str) or not name:
            found = "is missing" if name is None else f"is {_kind(name)}, expected text"
            raise SceneError(f"'file_path' {found}", where=where, fix='such as "images/0001.jpg"')
        check_name(name, where, what="file_path")
        where = f"{path}, frames[{index}] ({name})"
        photo = _resolve_photo(path.parent, name)
        frames.append(
            RawFrame(
                name=frame_name(name, photo),
                photo=photo,
                c2w=_pose(entry, where) * OPENGL_AXES.diagonal(),
                lens=_lens(data, entry, where),
                file=path,
                mask=_optional(path.parent, entry, ("mask_path",), where),
                depth=_optional(path.parent, entry, ("depth_file_path", "depth_path"), where),
                label=_optional(path.parent, entry, ("label_file_path",), where),
                split=split,
            )
        )
    return frames


def frame_name(text: str, photo: Path) -> str:
    """A frame's name as we spell it: forward slashes, no leading "./", with the photo's suffix."""
    name = PurePosixPath(text.replace("\\", "/")).as_posix()
    return name if name.lower().endswith(photo.suffix.lower()) else name + photo.suffix


def _resolve_photo(folder: Path, text: str) -> Path:
    """The file behind a `file_path`, which may lack its suffix."""
    path = folder / text.replace("\\", "/")
    if path.suffix.lower() in PHOTO_SUFFIXES:
        return path
    for suffix in (".png", ".jpg", ".jpeg", *PHOTO_SUFFIXES):
        for candidate in (f"{path}{suffix}", f"{path}{suffix.upper()}"):
            if os.path.isfile(candidate):
                return Path(candidate)
    return Path(f"{path}.png")


def _pose(entry: dict[str, Any], where: str) -> np.ndarray:
    rows = entry.get("transform_matrix", entry.get("transform_matrix_start"))
    if rows is None:
        raise SceneError("'transform_matrix' is missing", where=where, fix="remove the frame")
    try:
        if not all(_is_number(value) for row in rows for value in row):
            raise TypeError("texts and truth values are no numbers, though numpy makes some of them")
        matrix = np.array(rows, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        matrix = np.zeros(0)
    if matrix.shape == (3, 4):
        matrix = np.vstack([matrix, [0, 0, 0, 1]])
    if matrix.shape != (4, 4):
        raise SceneError("'transform_matrix' is not 4 rows of 4 numbers", where=where)
    return matrix


def _lens(data: dict[str, Any], entry: dict[str, Any], where: str) -> Lens:
    """The lens of one frame: its own keys before the top-level ones."""

    def number(key: str) -> float | None:
        return _number(entry if key in entry else data, key, where)

    angle_x, angle_y = number("camera_angle_x"), number("camera_angle_y")
    fx, fy = number("fl_x"), number("fl_y")
    if fx is None and fy is None and angle_x is None and angle_y is None:
        raise SceneError(
            "No focal length: neither fl_x nor camera_angle_x is given",
            where=where,
            fix="add fl_x (pixels) or camera_angle_x (radians) to the file",
        )
    width, height = number("w"), number("h")
    size = None if width is None or height is None else (round(width), round(height))
    model, distortion = _distortion(data, entry, where)
    return Lens(size, fx, fy, number("cx"), number("cy"), angle_x, angle_y, model, distortion)


def _distortion(data: dict[str, Any], entry: dict[str, Any], where: str) -> tuple[LensModel, tuple[float, ...]]:
    model = entry.get("camera_model", data.get("camera_model", "OPENCV"))
    if not isinstance(model, str):
        raise SceneError(f"'camera_model' is {_kind(model)}, expected text", where=where)
    if _flag(entry if "is_fisheye" in entry else data, "is_fisheye", where):  # instant-ngp's way
        model = "OPENCV_FISHEYE"
    if model not in (*_PERSPECTIVE, "OPENCV_FISHEYE"):
        raise SceneError(
            f"The camera model {shorten(printable(model))} is not supported",
            where=where,
            fix="undistort the photos to OPENCV or PINHOLE first",
        )
    values = {key: _number(entry if key in entry else data, key, where) or 0.0 for key in _COEFFICIENTS}
    listed = entry.get("distortion_params", data.get("distortion_params"))
    if listed is not None:  # nerfstudio's order: k1 k2 k3 k4 p1 p2
        if not isinstance(listed, list) or len(listed) > 6 or not all(_is_number(v) for v in listed):
            raise SceneError("'distortion_params' is not a list of up to six numbers", where=where)
        stated: dict[str, Any] = dict(zip(("k1", "k2", "k3", "k4", "p1", "p2"), listed))
        values.update({key: _number(stated, key, where) or 0.0 for key in stated})
    order = ("k1", "k2", "k3", "k4") if model == "OPENCV_FISHEYE" else _COEFFICIENTS
    distortion = tuple(values[key] for key in order)
    kind: LensModel = "OPENCV_FISHEYE" if model == "OPENCV_FISHEYE" else "OPENCV"
    return kind, distortion if any(distortion) else ()


_COEFFICIENTS = ("k1", "k2", "p1", "p2", "k3", "k4")


def _optional(folder: Path, entry: dict[str, Any], keys: tuple[str, ...], where: str | Path) -> Path | None:
    for key in keys:
        value = entry.get(key)
        if value is None or value == "":
            continue
        if not isinstance(value, str):
            raise SceneError(f"'{key}' is {_kind(value)}, expected text", where=where)
        check_name(value, where, what=key)
        return folder / value.replace("\\", "/")
    return None


def _file_list(data: dict[str, Any], key: str, path: Path) -> list[str]:
    value = data.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise SceneError(f"'{key}' is not a list of file names", where=path)
    if len(value) > MAX_FRAMES:
        raise SceneError(f"'{key}' has more than {MAX_FRAMES} names", where=path, fix="split the capture")
    for item in value:
        check_name(item, path, what=f"name in '{key}'")
    return [frame_name(item, _resolve_photo(path.parent, item)) for item in value]


def _classes(data: dict[str, Any], path: Path) -> dict[int, str]:
    classes: dict[int, str] = {}
    for key, text in _texts(data, "classes", path).items():
        fix = 'write {"1": "table", ...}'
        if not (key.isascii() and key.isdecimal() and len(key) <= 10 and int(key) <= LABELS[1]):
            shown = shorten(ascii(key))
            raise SceneError(f"'classes' has the key {shown}, which is no number of a label", where=path, fix=fix)
        if int(key) in classes:
            raise SceneError(f"'classes' has the key {int(key)} twice", where=path, fix=fix)
        classes[int(key)] = text
    return dict(sorted(classes.items()))


def _texts(data: dict[str, Any], key: str, path: Path) -> dict[str, str]:
    value = data.get(key) or {}
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise SceneError(f"'{key}' is not an object of texts", where=path, fix='write {"name": "text", ...}')
    for text in (*value, *value.values()):
        check_name(text, path, what=f"text in '{key}'")
    return value


def _flag(data: dict[str, Any], key: str, where: str | Path) -> bool | None:
    value = data.get(key)
    if value is None or isinstance(value, bool):
        return value
    raise SceneError(f"'{key}' is {_kind(value)}, expected true or false", where=where, fix="correct the file")


def _number(
    source: dict[str, Any], key: str, where: str | Path, low: float | int = -math.inf, high: float | int = math.inf
) -> float | None:
    value = source.get(key)
    if value is None:
        return None
    found = None
    if not _is_number(value):
        found = f"{_kind(value)}, expected a number"
    else:
        try:
            value = float(value)
            found = None if math.isfinite(value) else "not finite"
            if not found and not low <= value <= high:
                found = f"{value:g}, expected {low:g} to {high:g}"
        except OverflowError:  # a whole number of some hundred digits
            found = "too large"
    if found:
        raise SceneError(f"'{key}' is {found}", where=where, fix="correct the file")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
