"""A capture of a thousand photos that don't fit the memory: what few of them show is found, and kept."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import small_settings, with_emptying

import ovseg3d.scene.photos as photos
from ovseg3d.field.config import FieldConfig
from ovseg3d.field.occupancy import cell_at
from ovseg3d.field.stage import FieldStage
from ovseg3d.scene import Camera, load_scene

WIDTH, HEIGHT, FOCAL, COUNT, SPECIAL = 16, 12, 10.0, 1000, 20
HALF = np.array([2.0, 2.0, 1.2])
STEPS = 600


def looking(eye: np.ndarray, yaw: float) -> np.ndarray:
    """Pose of a level camera, OpenCV axes."""
    forward = np.array([np.cos(yaw), np.sin(yaw), 0.0])
    right = np.array([np.sin(yaw), -np.cos(yaw), 0.0])
    c2w = np.eye(4)
    c2w[:3] = np.stack([right, [0.0, 0.0, -1.0], forward, eye], axis=1)
    return c2w


def walls(c2w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points of the room's walls behind each pixel, and their colours: an empty box with smooth colours."""
    v, u = np.mgrid[0:HEIGHT, 0:WIDTH] + 0.5
    local = np.stack([(u - WIDTH / 2) / FOCAL, (v - HEIGHT / 2) / FOCAL, np.ones_like(u)], axis=-1)
    d = local @ c2w[:3, :3].T
    points = c2w[:3, 3] + d * ((np.sign(d) * HALF - c2w[:3, 3]) / d).min(-1, keepdims=True)
    return points, 0.5 + 0.4 * np.sin(3.0 * points + [0.0, 1.0, 2.0])


def in_corner(points: np.ndarray) -> np.ndarray:
    return (points[..., :2] > 1.0).all(-1)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """Only the last 20 photos show the corner at +x +y."""
    folder: Path = tmp_path_factory.mktemp("large")
    (folder / "images").mkdir()
    random, frames = np.random.default_rng(0), []
    while len(frames) < COUNT:
        special = len(frames) >= COUNT - SPECIAL
        eye = random.uniform((0, 0, -0.6) if special else -1, (0.6, 0.6, 0.6) if special else 1, 3)
        c2w = looking(eye, np.pi / 4 + random.uniform(-0.2, 0.2) if special else random.uniform(0, 2 * np.pi))
        points, rgb = walls(c2w)
        if special != in_corner(points).any():
            continue
        name = f"images/{len(frames):04d}.png"
        Image.fromarray(np.rint(rgb * 255).astype(np.uint8)).save(folder / name)
        frames.append({"file_path": name, "transform_matrix": (c2w @ np.diag([1.0, -1.0, -1.0, 1.0])).tolist()})
    names = [frame["file_path"] for frame in frames]
    lens = {"w": WIDTH, "h": HEIGHT, "fl_x": FOCAL, "fl_y": FOCAL, "cx": WIDTH / 2, "cy": HEIGHT / 2}
    split = {"train_filenames": names[1:], "val_filenames": names[:1], "test_filenames": names[:1]}
    (folder / "transforms.json").write_text(json.dumps({**lens, **split, "frames": frames}))
    return load_scene(folder)


def test_a_corner_that_few_photos_show_is_rendered(scene, monkeypatch):
    """With 40 of 999 photos in memory, and less than one of the 20 at a time."""
    monkeypatch.setattr(photos, "_MAX_RESIDENT", 40)
    config = FieldConfig(**with_emptying(small_settings())["field"])
    stage = FieldStage(scene, config, torch.device("cpu"), seed=1, steps=STEPS)
    with stage.workers.open():
        for step in range(STEPS):
            stage.step(step, step / STEPS)
    stage.close()
    camera = Camera(WIDTH, HEIGHT, FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2, c2w=looking(np.zeros(3), np.pi / 4))
    points, rgb = walls(camera.c2w)
    corner = in_corner(points)
    box, occupied = stage.box, stage.occupancy.occupied.view(-1)

    def at(shift: float) -> np.ndarray:
        moved = points[corner] * shift @ box.field_from_input[:3, :3].T + box.field_from_input[:3, 3]
        return occupied[cell_at(torch.tensor(moved).float(), box.cascades, config.occupancy_resolution)[0]].numpy()

    # Photos this small leave the distance uncertain.
    assert np.max([at(shift) for shift in (0.9, 0.95, 1.0, 1.05, 1.1)], axis=0).mean() > 0.65
    images = stage.renderer.render(camera)
    assert images["opacity"][corner].mean() > 0.9
    assert np.abs(images["rgb"] - rgb)[corner].mean() < 0.1
