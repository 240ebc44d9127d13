"""Clouds of rods with a ball at their front, and plain photographs, as `scripts.benchmarks.pose_shapes` reads them."""

from pathlib import Path

import numpy as np
from PIL import Image

from scripts.benchmarks.pose_shapes import BACKGROUNDS

GREEN = (0, 255, 0)


def write_shapes(folder: Path, categories: tuple[str, ...] = ("bottle", "car", "key", "pan")) -> None:
    """Four shapes of each category, along y, the ball at -y; and a green photograph in each capture."""
    rng = np.random.default_rng(0)
    ball = rng.normal(size=(2500, 3))
    ball = 0.15 * ball / np.linalg.norm(ball, axis=1, keepdims=True) + [0, -0.35, 0]
    rod = rng.uniform(-0.02, 0.02, (2500, 3)) + np.linspace(-0.3, 0.5, 2500)[:, None] * [0, 1, 0]
    names = np.repeat(categories, 4)
    cloud = np.concatenate([ball, rod]).astype(np.float16)
    (folder / "shapes").mkdir()
    np.savez(folder / "shapes" / "shapes.npz", points=np.tile(cloud, (len(names), 1, 1)), category=names)
    for name in {name for names in BACKGROUNDS.values() for name in names}:
        (folder / name).mkdir(parents=True)
        Image.new("RGB", (200, 150), GREEN).save(folder / name / "0.png")
