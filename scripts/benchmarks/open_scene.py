"""A made-up open scene with a sky: colour, depth, and what becomes of the sky.

    python -m scripts.benchmarks.open_scene outputs/open_scene

The scene is made up: textured ground, and boxes from 1 to 80 m away, under a sky with a sun's glow and faint clouds,
traced analytically. Its photos are trained as real ones, without a setting; true depth is used for measuring only.
Prints a markdown table of one row. Held-out views: PSNR; depth error of what is no sky, and
the share of it that has no depth; the share of the sky that has none. Surface points count as wrong where they are
more than 10 % of their distance from the nearest surface.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from jaxtyping import Float
from PIL import Image

from ovseg3d.evaluate.metrics.depth import depth_errors
from ovseg3d.field.surface import SurfaceConfig, extract_surface, look
from ovseg3d.pipeline.train import train_scene
from ovseg3d.runs.devices import resolve_device
from ovseg3d.runs.fields import restore
from ovseg3d.runs.folder import RunFolder
from ovseg3d.runs.settings import make_config
from ovseg3d.scene import load_depth
from scripts.start import start

W, H, FOCAL, VIEWS = 240, 180, 170.0, 48
DEPTH_UNIT = 0.005
"""Metres of a depth file's step."""


def make_boxes(seed: int = 0) -> Float[np.ndarray, "boxes 2 3"]:
    """Lower and upper corners: the ground, things around the middle, and buildings in rings around them."""
    random = np.random.default_rng(seed)
    found = [np.array([[-400.0, -400.0, -1.0], [400.0, 400.0, 0.0]])]
    for count, low, high, size in (
        (10, 0.0, 2.5, 0.7),
        (10, 9.0, 16.0, 2.0),
        (14, 22.0, 40.0, 5.0),
        (16, 50.0, 80.0, 9.0),
    ):
        for angle in 2 * np.pi * (np.arange(count) + random.uniform(-0.3, 0.3, count)) / count:
            middle = random.uniform(low, high) * np.array([np.cos(angle), np.sin(angle)])
            half, height = size * random.uniform(0.3, 0.6, 2), size * random.uniform(0.5, 1.5)
            found.append(np.array([[*(middle - half), 0.0], [*(middle + half), height]]))
    return np.stack(found)


def _noise(p: np.ndarray) -> np.ndarray:
    """Smooth noise from -1 to 1 at points (n, 3), one feature per unit."""
    cell, within = np.floor(p).astype(np.int64), p - np.floor(p)
    within = within * within * (3 - 2 * within)
    total = np.zeros(len(p))
    for corner in np.ndindex(2, 2, 2):
        mixed = ((cell + corner) * [73856093, 19349663, 83492791]).sum(-1).astype(np.uint32)
        for _ in range(2):  # the rounds of a hash
            mixed = (mixed ^ (mixed >> np.uint32(16))) * np.uint32(0x45D9F3B)
        total += np.where(corner, within, 1 - within).prod(-1) * ((mixed >> np.uint32(8)) / 2**23 - 1.0)
    return total


def sky(d: Float[np.ndarray, "rays 3"]) -> Float[np.ndarray, "rays 3"]:
    """Colour of the sky in unit directions."""
    up = np.clip(d[:, 2:], 0, 1)
    glow = np.exp(-(1 - d @ np.array([0.64, 0.48, 0.6])) * 12)[:, None]
    clouds = 0.04 * _noise(d * 6.0)[:, None] * up
    return np.clip((1 - up) * [0.78, 0.84, 0.9] + up * [0.3, 0.5, 0.85] + 0.3 * glow + clouds, 0, 1)


def trace(
    boxes: Float[np.ndarray, "boxes 2 3"], origin: Float[np.ndarray, "3"], d: Float[np.ndarray, "rays 3"]
) -> tuple[Float[np.ndarray, "rays 3"], Float[np.ndarray, " rays"]]:
    """Colour, and how many times its direction each ray goes before it meets a box; 0 for the sky."""
    best, which, side = np.full(len(d), np.inf), np.zeros(len(d), int), np.zeros(len(d), int)
    for number, (low, high) in enumerate(boxes):
        with np.errstate(divide="ignore"):
            first, second = (low - origin) / d, (high - origin) / d
        near, far = np.minimum(first, second), np.maximum(first, second)
        enter = near.max(-1)
        hit = (enter < far.min(-1)) & (enter > 0) & (enter < best)
        best[hit], which[hit], side[hit] = enter[hit], number, near[hit].argmax(-1)
    met = np.isfinite(best)
    rgb = sky(d / np.linalg.norm(d, axis=-1, keepdims=True))
    at = origin + d[met] * best[met, None]
    size = np.where(which[met] == 0, 1.5, (boxes[which[met], 1] - boxes[which[met], 0]).max(-1))[:, None]
    pattern = sum(_noise(at / size * scale + 31.7 * which[met, None]) / 2**n for n, scale in enumerate((4, 11, 29)))
    base = 0.25 + 0.5 * np.modf(which[met, None] * [0.618, 0.414, 0.732])[0]
    shade = np.array([0.85, 0.7, 1.0])[side[met], None]
    rgb[met] = np.clip(base * shade * (1 + 0.35 * np.asarray(pattern)[:, None]), 0, 1)
    return rgb, np.where(met, best, 0.0)


def write_scene(folder: Path) -> Path:
    """Write the scene in nerfstudio's format, with true depth, and return its folder."""
    boxes, frames = make_boxes(), []
    for name in ("images", "depth"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    v, u = np.mgrid[0 : 2 * H, 0 : 2 * W] / 2 + 0.25
    camera = np.stack([(u - W / 2) / FOCAL, (v - H / 2) / FOCAL, np.ones_like(u)], -1).reshape(-1, 3)
    for view in range(VIEWS):
        angle = 2 * np.pi * view / VIEWS
        eye = np.array([4.5 * np.cos(angle), 4.5 * np.sin(angle), 1.6 + 0.4 * np.sin(5 * angle)])
        forward = np.array([0.0, 0.0, 1.1 + 0.5 * np.sin(3 * angle)]) - eye
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, [0.0, 0.0, 1.0]) / np.linalg.norm(np.cross(forward, [0.0, 0.0, 1.0]))
        c2w = np.eye(4)
        c2w[:3] = np.stack([right, np.cross(forward, right), forward, eye], 1)
        rgb, _ = trace(boxes, eye, camera @ c2w[:3, :3].T)
        rgb = rgb.reshape(H, 2, W, 2, 3).mean((1, 3))
        centres = camera.reshape(H, 2, W, 2, 3).mean((1, 3)).reshape(-1, 3)
        _, depth = trace(boxes, eye, centres @ c2w[:3, :3].T)
        name = f"{view:04d}.png"
        Image.fromarray(np.rint(rgb * 255).astype(np.uint8)).save(folder / "images" / name)
        steps = np.minimum(np.rint(depth / DEPTH_UNIT), 65535).astype(np.uint16).reshape(H, W)
        Image.fromarray(steps).save(folder / "depth" / name)
        pose = (c2w @ np.diag([1.0, -1.0, -1.0, 1.0])).tolist()
        frames.append({"file_path": f"images/{name}", "depth_file_path": f"depth/{name}", "transform_matrix": pose})
    described = {"w": W, "h": H, "fl_x": FOCAL, "fl_y": FOCAL, "cx": W / 2, "cy": H / 2, "camera_model": "OPENCV"}
    described |= {"depth_unit_scale_factor": DEPTH_UNIT, "frames": frames}
    (folder / "transforms.json").write_text(json.dumps(described))
    return folder


def off_surface(boxes: Float[np.ndarray, "boxes 2 3"], xyz: Float[np.ndarray, "points 3"]) -> np.ndarray:
    """Distance of points from the nearest surface of a box."""
    best = np.full(len(xyz), np.inf)
    for low, high in boxes:
        outside = np.maximum(low - xyz, xyz - high)
        inside = np.where((outside < 0).all(-1), -outside.max(-1), 0.0)
        best = np.minimum(best, np.linalg.norm(np.maximum(outside, 0), axis=-1) + inside)
    return best


@dataclass(frozen=True)
class OpenScene:
    """Train a made-up open scene, and print a markdown table."""

    output: Annotated[Path, tyro.conf.Positional]
    """Folder of the scene and the run."""
    steps: int = 2000
    """Steps of each training."""

    def main(self) -> int:
        """Returns 0."""
        folder = write_scene(self.output / "scene")
        print("| PSNR, dB | depth error, within 5 % | no depth | sky without depth | points | wrong points |")
        print("|---|---|---|---|---|---|")
        flags = {"scene": {"depth": "off"}, "train": {"steps": self.steps}, "only": "field"}
        run = train_scene(folder, make_config(resolve_device("auto"), flags=flags), output_dir=self.output / "run")
        print(f"| {run.metrics()['psnr']:.2f} | {' | '.join(_measure(run))} |")
        return 0


def _measure(run: RunFolder) -> list[str]:
    """The cells of a row after PSNR."""
    scene = run.load_scene()
    renderer, frames = restore(run, scene), [scene.frames[view] for view in scene.test]
    found = np.concatenate([renderer.render(frame.camera)["depth_z"].ravel() for frame in frames])[None]
    true = np.concatenate([load_depth(frame, scene).ravel() for frame in frames])[None]
    errors = depth_errors(found, true)
    views = list(look(renderer, [scene.frames[view].camera for view in scene.train], SurfaceConfig()))
    xyz = extract_surface(renderer, views, np.array([0.0, 0.0, 1.0]), scene.metric).xyz
    wrong = off_surface(make_boxes(), xyz) > 0.1 * np.linalg.norm(xyz, axis=-1)
    return [
        f"{100 * errors.rel_median:.1f}%, {100 * errors.within_5_percent:.0f}%",
        f"{100 * np.mean(found[true > 0] <= 0):.1f}%",
        f"{100 * np.mean(found[true <= 0] <= 0):.1f}%",
        f"{len(xyz):,}",
        f"{100 * wrong.mean():.1f}%",
    ]


if __name__ == "__main__":
    start(OpenScene)
