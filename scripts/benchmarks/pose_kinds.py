"""Photos of procedural objects, each alone before a backdrop, with their viewpoints as ImageNet3D states them."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from ovseg3d.datasets import PosedObject
from ovseg3d.geometry import viewpoint
from ovseg3d.heads.pose import mask_box
from ovseg3d.synth.holdout import ALL, SEEN, pick
from ovseg3d.synth.still import VARIANTS, Scene, some_thing
from scripts.training.pose_crops import LEAST_SEEN, PHOTO, order_of

SEEDS = {"train": 0, "choice": 1, "val": 2}


def category(kind: str) -> str:
    """The name of a kind in the layout, which has no spaces."""
    return kind.replace(" ", "_")


def kind_photos(
    folder: Path, split: str, kinds: Sequence[str], views: int, seed: int
) -> Iterator[tuple[PosedObject, int]]:
    """Photos of individuals of some kinds, with their orders of symmetry.

    Args:
        folder: where the photos go.
        split: one of SEEDS; those to train on show individuals that the encoders were trained on, others do not.
        kinds: which.
        views: of each kind, each of an individual.
        seed: of individuals and views.
    """
    for number, kind in enumerate(kinds):
        rng = np.random.default_rng([seed, SEEDS[split], number])
        for view in range(views):
            photo, one, order = _photo(rng, kind, seen=split == "train")
            path = folder / f"{split}-{kind}-{view}.JPEG"
            Image.fromarray(photo).save(path, quality=95)
            name = f"{category(kind)}/{split}_{view:02}"
            yield PosedObject(photo=path, name=name, category=category(kind), **one), order


def _photo(rng: np.random.Generator, kind: str, *, seen: bool) -> tuple[np.ndarray, dict, int]:
    """A photo of an individual, and what is annotated of it."""
    while True:
        pool = SEEN if seen else ALL
        thing = some_thing(rng, kind, pool, pick(rng, SEEN.styles[kind]), first_variant=0 if seen else VARIANTS)
        scene = Scene(rng, thing, pool, not seen, PHOTO)
        image, shot = scene.shoot()
        mask = shot.owner == 0
        if mask.mean() >= LEAST_SEEN:
            break
    pose, radius = np.eye(4), float(np.linalg.norm(thing.high - thing.low)) / 2
    pose[:3, 3] = (thing.low + thing.high) / 2
    local = scene.c2w[:3, :3].T @ (pose[:3, 3] - scene.c2w[:3, 3])
    center = local[:2] / local[2] * scene.focal + PHOTO / 2
    angles = viewpoint(scene.c2w, pose)
    box = [value * PHOTO / len(mask) for value in mask_box(mask)]
    return image, {
        "number": 0,
        "viewpoint": replace(angles, distance=angles.distance / radius),
        "center_px": (float(center[0]), float(center[1])),
        "bbox": tuple(box),
        "focal_px": float(scene.focal),
        "size": (PHOTO, PHOTO),
        "status": "status_good",
        "dense": False,
    }, order_of(thing)  # fmt: skip
