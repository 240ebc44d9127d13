"""A tiny scene with known answers: coloured boxes, 8 views of 32 x 32, as a nerfstudio folder with depth.

Analytic: every pixel's colour and z-depth come from intersecting its ray with boxes, in numpy. Metric (metres),
z up; the cameras stand on a ring and look at the middle. Views 0 and 4 are held out.
"""

import json
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

SIZE, FOCAL, VIEWS = 32, 30.0, 8
# Lower corner, upper corner, colour.
BOXES = (
    ((-3.0, -3.0, -0.6), (3.0, 3.0, -0.5), (0.75, 0.7, 0.6)),
    ((-0.5, -0.5, -0.5), (0.1, 0.1, 0.3), (0.9, 0.2, 0.1)),
    ((0.2, -0.1, -0.5), (0.6, 0.5, 0.0), (0.1, 0.3, 0.9)),
)
SKY = (0.55, 0.75, 0.9)
FAR = 12.0


def camera_to_world(index: int) -> np.ndarray:
    """Pose of view `index`, 4 x 4, OpenCV axes."""
    angle = 2 * np.pi * index / VIEWS
    eye = np.array([2.2 * np.cos(angle), 2.2 * np.sin(angle), 1.0 + 0.2 * (index % 2)])
    forward = -eye / np.linalg.norm(eye)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    c2w = np.eye(4)
    c2w[:3] = np.stack([right, np.cross(forward, right), forward, eye], axis=1)
    return c2w


def draw(c2w: np.ndarray, size: int = SIZE, focal: float = FOCAL) -> tuple[np.ndarray, np.ndarray]:
    """Colour (size, size, 3) in 0..1 and z-depth (size, size) in metres, 0 for the sky, seen from `c2w`."""
    v, u = np.mgrid[0:size, 0:size] + 0.5
    camera = np.stack([(u - size / 2) / focal, (v - size / 2) / focal, np.ones_like(u)], axis=-1)
    return meet(c2w[:3, 3], camera @ c2w[:3, :3].T)


def meet(origins: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Colour (..., 3) and how many times its direction (..., 3) each ray goes before it meets a box; 0 for the sky."""
    rgb, depth = np.tile(np.array(SKY), (*directions.shape[:-1], 1)), np.full(directions.shape[:-1], FAR)
    for low, high, colour in BOXES:
        with np.errstate(divide="ignore"):
            first = (np.array(low) - origins) / directions
            second = (np.array(high) - origins) / directions
        near, far = np.minimum(first, second), np.maximum(first, second)
        enter, side = near.max(axis=-1), near.argmax(axis=-1)
        hit = (enter < far.min(axis=-1)) & (enter > 0) & (enter < depth)
        shade = np.array([0.8, 0.65, 1.0])[side]
        rgb = np.where(hit[..., None], np.array(colour) * shade[..., None], rgb)
        depth = np.where(hit, enter, depth)
    return rgb, np.where(depth < FAR, depth, 0.0)


def small_settings(**train: object) -> dict:
    """Settings of a field that trains in a second, on photos and poses alone; keywords go to the section `train`."""
    scene = dict.fromkeys(("depth", "sparse_depth", "refine_poses", "exposure"), "off")
    field = {"levels": 4, "features": 2, "log2_table": 11, "max_resolution": 64, "hidden": 16}
    field |= {"samples": 8192, "max_rays": 1024, "occupancy_resolution": 32, "cascades": 2}
    return {"scene": scene, "field": field, "train": {"device": "cpu", **(train or {"steps": 40})}, "only": "field"}


def with_emptying(settings: dict) -> dict:
    """The same settings, but cells are emptied and tried again within a few steps."""
    return settings | {"field": settings["field"] | {"occupancy_every": 4, "occupancy_warmup": 8}}


def write_tiny_scene(folder: Path, with_depth: bool = True) -> Path:
    """Write the scene to `folder` and return it."""
    (folder / "images").mkdir(parents=True)
    (folder / "depth").mkdir()
    frames = []
    for index in range(VIEWS):
        c2w = camera_to_world(index)
        rgb, depth = draw(c2w)
        name = f"{index:04d}.png"
        Image.fromarray(np.rint(rgb * 255).astype(np.uint8)).save(folder / "images" / name)
        frame = {
            "file_path": f"images/{name}",
            "transform_matrix": (c2w @ np.diag([1.0, -1.0, -1.0, 1.0])).tolist(),
        }
        if with_depth:
            Image.fromarray(np.rint(depth * 1000).astype(np.uint16)).save(folder / "depth" / name)
            frame["depth_file_path"] = f"depth/{name}"
        frames.append(frame)
    held_out = [frames[i]["file_path"] for i in (0, 4)]
    others = [frame["file_path"] for frame in frames if frame["file_path"] not in held_out]
    description = {
        "w": SIZE, "h": SIZE, "fl_x": FOCAL, "fl_y": FOCAL, "cx": SIZE / 2, "cy": SIZE / 2,
        "camera_model": "OPENCV", "depth_unit_scale_factor": 0.001, "frames": frames,
        "train_filenames": others, "val_filenames": held_out, "test_filenames": held_out,
    }  # fmt: skip
    (folder / "transforms.json").write_text(json.dumps(description, indent=1))
    return folder


def copy_runs(run: Path, scene: Path, folder: Path, names: str) -> Path:
    """Copies of a run of the tiny scene, one for each letter, whose capture has exact poses; returns `folder`.

    Other processes, in which alignment is not replaced, would align held-out views for long.
    """
    exact = shutil.copytree(scene, folder.parent / "exact")
    (exact / "synth.json").write_text("{}")
    for name in names:
        config = shutil.copytree(run, folder / name) / "config.json"
        config.write_text(config.read_text().replace(str(scene), str(exact)))
    return folder
