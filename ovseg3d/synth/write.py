"""Writes a room as a scene folder: photos, labels, depth, boxes, lists; completely or not at all.

Frames are named by number in the order of `transforms.json`: first training views, then test views on the camera
path, then test views off it. Poses in transforms.json are OpenGL camera-to-world (x right, y up, z backwards), metres,
z up, as in nerfstudio. Labels are index images (0 none); depth is uint16 millimetres.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ovseg3d.errors import OutputError
from ovseg3d.synth.cameras import OPENGL_FROM_OPENCV, fitted, plan_views
from ovseg3d.synth.materials import Real
from ovseg3d.synth.render import Picture
from ovseg3d.synth.rooms import Room
from ovseg3d.synth.world import Flat, flatten, trace

Shot = tuple[Picture, np.ndarray, str]
"""A photo, its c2w, and its split."""

VERSION = 1


@dataclass(frozen=True)
class Views:
    """How many photos, and how large."""

    train: int = 64
    test: int = 16
    width: int = 240
    height: int = 180
    depth: str = "test"  # "test", "all" or "none"
    quality: int = 92


@dataclass(frozen=True)
class Written:
    """What was made."""

    folder: Path
    frames: int
    classes: tuple[str, ...]
    objects: int
    bytes: int
    skipped: tuple[str, ...] = ()


def write_room(
    room: Room,
    out: Path,
    origin: dict,
    *,
    views: Views | None = None,
    detail=None,
    seed: int = 0,
    report: Callable[[str, float], None] = lambda what, done: None,
) -> Written:
    """Renders `room` into the new folder `out`; `origin` goes into synth.json.

    Raises OutputError when `out` is not empty or cannot be written; nothing is left behind then.

    Args:
        room: what is rendered.
        out: the new folder.
        origin: what synth.json says of where the room comes from.
        views: how many, and how large.
        detail: how carefully they are drawn.
        seed: of cameras and light.
        report: gets a sentence and the share done, 0 to 1.
    """
    views = views or Views()
    out = Path(out)
    check_free(out)
    flat = flatten(room)
    tracer = trace(flat, room, detail=detail, seed=seed, report=report)
    focal = views.width / 2 / np.tan(room.cameras.field_of_view / 2)

    def usable(c2w) -> bool:
        tiny = tracer.photo(c2w, 16, 12, 16 / views.width * focal, side=0)
        near = np.sort(tiny.depth_z.ravel())
        return bool(near[0] > room.cameras.near and near[len(near) // 3] > room.cameras.open)

    walk = fitted(room.cameras, usable)
    train, on, off = plan_views(walk, views.train, views.test, seed, usable)
    tracer.bake()
    tracer.meter([*train[:: max(1, len(train) // 12)]], focal / views.width)
    pictures = tracer.photos([*train, *on, *off], views.width, views.height, focal)
    splits = ["train"] * len(train) + ["on_path"] * len(on) + ["off_path"] * len(off)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    except OSError as error:
        raise OutputError(
            f"cannot make a folder here ({error.strerror})", where=out.parent, fix="choose another OUT"
        ) from error
    try:
        shots = list(zip(pictures, [*train, *on, *off], splits))
        _write(folder, out.name, flat, shots, views, focal, origin)
        for name, value in room.notes.items():
            (folder / name).write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")
        os.chmod(folder, 0o755)
        if out.exists():
            out.rmdir()
        os.replace(folder, out)
    except OSError as error:
        raise OutputError(
            f"cannot write the scene ({error.strerror})", where=out, fix="free some space, or choose another OUT"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    size = sum(p.stat().st_size for p in out.rglob("*") if p.is_file())
    return Written(out, len(pictures), flat.classes, len(flat.objects), size, room.skipped)


def check_free(out: Path) -> None:
    """Raises OutputError when `out` exists and is a file or holds anything."""
    if out.is_dir() and not any(out.iterdir()):
        return
    if out.exists() or out.is_symlink():
        what = "the folder is not empty" if out.is_dir() else "there is a file of this name"
        raise OutputError(what, where=out, fix="name a new folder, or remove this one first")


def palette() -> list[int]:
    """256 distinct colours for label images; index 0 is black."""
    index = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= (((index >> (3 * (bit // 3) + channel)) & 1) << (7 - bit // 3)).astype(np.uint8)
    return colours.ravel().tolist()


def _write(folder: Path, name: str, flat: Flat, shots: list[Shot], views: Views, focal: Real, origin: dict) -> None:
    many = max(2, len(str(len(shots) - 1)))
    for sub in ("images", "labels", "segmentations"):
        (folder / sub).mkdir()
    frames = []
    for number, (shot, c2w, split) in enumerate(shots):
        stem = f"{number:0{many}d}"
        frame = {"file_path": f"images/{stem}.jpg", "label_file_path": f"labels/{stem}.png"}
        Image.fromarray(shot.rgb).save(folder / frame["file_path"], quality=views.quality, subsampling=0, optimize=True)
        label = label_image(flat, shot.face)
        image = Image.fromarray(label, mode="P")
        image.putpalette(palette())
        image.save(folder / frame["label_file_path"], optimize=True)
        if views.depth == "all" or (views.depth == "test" and split != "train"):
            (folder / "depth").mkdir(exist_ok=True)
            frame["depth_file_path"] = f"depth/{stem}.png"
            millimetres = np.round(shot.depth_z * 1000).clip(0, 65535).astype(np.uint16)
            Image.fromarray(millimetres).save(folder / frame["depth_file_path"], optimize=True)
        if split != "train":
            masks = folder / "segmentations" / stem
            masks.mkdir()
            # Every class has a file in every annotated view, as that layout's readers expect.
            for index, phrase in enumerate(flat.classes, start=1):
                Image.fromarray(label == index).save(masks / f"{phrase}.png", optimize=True)
        frame["split"] = split
        frame["transform_matrix"] = np.round(c2w @ OPENGL_FROM_OPENCV, 8).tolist()
        frames.append(frame)
    (folder / "segmentations" / "classes.txt").write_text("".join(f"{c}\n" for c in flat.classes))
    test = [f["file_path"] for f in frames if f["split"] != "train"]
    transforms = {
        "camera_model": "PINHOLE",
        "w": views.width,
        "h": views.height,
        "fl_x": round(focal, 8),
        "fl_y": round(focal, 8),
        "cx": views.width / 2,
        "cy": views.height / 2,
        "metric": True,
        "depth_unit_scale_factor": 0.001,
        "classes": {str(k): c for k, c in enumerate(flat.classes, start=1)},
        "ignore_label": 255,
        "recommended_encoder": {"clip": "builtin", "dino": "builtin"},
        "train_filenames": [f["file_path"] for f in frames if f["split"] == "train"],
        "val_filenames": test,
        "test_filenames": test,
        "frames": frames,
    }
    if not any("depth_file_path" in f for f in frames):
        del transforms["depth_unit_scale_factor"]
    (folder / "transforms.json").write_text(compact(transforms))
    (folder / "objects.json").write_text(compact(list(flat.objects)))
    (folder / "synth.json").write_text(json.dumps({"version": VERSION, **origin}, indent=1) + "\n")


def label_image(flat: Flat, face: np.ndarray) -> np.ndarray:
    """Class index per pixel (uint8, 0 = nothing) from hit faces (-1 = nothing)."""
    per_face = np.concatenate([flat.face_label, [0]])
    return per_face[face].astype(np.uint8)


def compact(value) -> str:
    """JSON with one line per inner record: readable, and small in a repository."""

    def lines(v, depth):
        if isinstance(v, dict) and (depth == 0 or any(isinstance(x, dict) for x in v.values())):
            inner = ",\n".join(" " * (depth + 1) + json.dumps(k) + ": " + lines(x, depth + 1) for k, x in v.items())
            return "{\n" + inner + "\n" + " " * depth + "}"
        if isinstance(v, list) and v and isinstance(v[0], dict):
            return "[\n" + ",\n".join(" " * (depth + 1) + lines(x, depth + 1) for x in v) + "\n" + " " * depth + "]"
        return json.dumps(v)

    return lines(value, 0) + "\n"
