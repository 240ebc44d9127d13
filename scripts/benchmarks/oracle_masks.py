"""Do better masks give better instances? Instances of runs with true masks of known errors.

    python -m scripts.benchmarks.oracle_masks outputs/room/run --seeds 0 1 2

The true masks of a synthetic room's photos stand in for a segmenter's, with errors: in a photo an object is split at
random into two or three parts (30 %), joined with a neighbour (20 %), or missing (20 %), and borders are off by up to 3
pixels. Rows: no masks; the masks by view consensus (`instances.consensus`), as `--segments sam:...` has them. Recall
and precision are those of instances at point IoU 0.25 and 0.5, whatever their names, against the room's exact cloud.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from scipy.ndimage import binary_dilation, gaussian_filter

from ovseg3d.errors import ConfigError
from ovseg3d.evaluate.measure import exact_cloud, limit_of, read_objects
from ovseg3d.evaluate.metrics.instances import FoundInstance, InstanceScores, measure_instances, true_instances
from ovseg3d.instances.grouping import find_instances
from ovseg3d.scene import Scene
from ovseg3d.session import load
from ovseg3d.synth.cloud import instance_images
from scripts.start import start
from scripts.training.train_merging import Points, points_of

COLUMNS = ("recall_25", "precision_25", "recall_50", "precision_50")
NEIGHBOUR = 4
"""Objects at most so many pixels apart can be joined."""


@dataclass(frozen=True)
class Errors:
    """Errors of the masks: shares of the objects in a photo, and pixels."""

    split: float = 0.3
    merged: float = 0.2
    missing: float = 0.2
    border: float = 3.0


@dataclass(frozen=True)
class OracleMasks:
    """Measure instances with true masks that have errors, and print a markdown table."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Runs of synthetic rooms, with the stages field and features."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of the errors."""
    errors: Errors = Errors()

    def main(self) -> None:
        """Print a row for each run, way and seed."""
        if not self.runs:
            raise ConfigError("There is no run to measure", fix="name a run of a synthetic room")
        print(f"{self.errors}\n| room | masks | {' | '.join(COLUMNS)} |\n|{' --- |' * (2 + len(COLUMNS))}")
        for folder in self.runs:
            run = load(folder)
            scene = run.load_scene()
            name, points, true = scene.path.parent.name, points_of(run, scene.path.name), true_masks(scene)
            _print(name, "none", measure(scene, points, _grouped(points)))
            for seed in self.seeds:
                random = np.random.default_rng(seed)
                masks = [spoiled(image, random, self.errors) for image in true]
                layers = [image[None] for image in masks]
                _print(name, f"consensus, seed {seed}", measure(scene, points, _grouped(points, masks=layers)))


def true_masks(scene: Scene) -> list[np.ndarray]:
    """Index images of the objects in each training photo, (h, w), 0 for none. Raises SceneError."""
    ids = [int(record["id"]) for record in read_objects(scene)]
    images = instance_images(scene.path, [scene.frames[view].camera for view in scene.train])
    return [np.where(np.isin(image, ids), image, 0) for image in images]


def spoiled(image: np.ndarray, random: np.random.Generator, errors: Errors) -> np.ndarray:
    """An index image of masks with errors; parts get new numbers."""
    h, w = image.shape
    rows, columns = np.indices((h, w))
    # A smooth random shift of each pixel.
    away = np.stack([gaussian_filter(random.normal(size=(h, w)), 6) for _ in range(2)])
    away *= errors.border / max(float(np.abs(away).max()), 1e-12)
    rows, columns = (np.rint(at + by).astype(int) for at, by in zip((rows, columns), away))
    image = image[rows.clip(0, h - 1), columns.clip(0, w - 1)]
    objects = [int(number) for number in np.unique(image) if number]
    made, fresh = image.copy(), max(objects, default=0) + 1
    for number in objects:
        if random.random() < errors.split:
            place = np.argwhere(image == number)
            middles = place[random.choice(len(place), min(int(random.integers(2, 4)), len(place)), replace=False)]
            part = ((place[:, None] - middles) ** 2).sum(-1).argmin(1)
            made[tuple(place.T)] = fresh + part
            fresh += len(middles)
    for number in objects:
        own = image == number
        if random.random() < errors.merged:
            around = np.unique(made[binary_dilation(own, iterations=NEIGHBOUR) & ~own])
            if around.any():
                made[own & (made > 0)] = random.choice(around[around > 0])
    for number in objects:
        if random.random() < errors.missing:
            made[image == number] = 0
    return made


def measure(scene: Scene, points: Points, ids: np.ndarray) -> InstanceScores:
    """Scores of instances without names: `ids` of the surface points, from 1, 0 for none."""
    truth = exact_cloud(scene)
    assert truth.seen is not None
    found = [FoundInstance(np.flatnonzero(ids == one), None, None) for one in range(1, int(ids.max(initial=0)) + 1)]
    return measure_instances(
        found,
        true_instances(read_objects(scene)),
        xyz=points.surface.xyz.astype(np.float64),
        true_xyz=truth.xyz.astype(np.float64),
        true_id=truth.instance,
        limit=limit_of(truth),
        keep=truth.seen >= 2,
    )


def _grouped(points: Points, masks: Sequence[np.ndarray] = ()) -> np.ndarray:
    found = find_instances(
        points.surface,
        points.appearance,
        visibilities=points.visibilities,
        masks=masks,
    )
    return found.instance


def _print(room: str, masks: str, scores: InstanceScores) -> None:
    values = " | ".join(f"{getattr(scores, column):.1%}" for column in COLUMNS)
    print(f"| {room}, {scores.true_instances} objects | {masks} | {values} |", flush=True)


if __name__ == "__main__":
    start(OracleMasks)
