"""Crops of real shapes before real photographs: a benchmark of poses that no procedural kind is in.

Shapes are surface clouds of ObjectNet3D's models (`$OVSEG3D_DATA/shapes/shapes.npz`: z up, front -y), drawn as shaded
splats of one colour. Categories are drawn into known and novel ones by chance; of a known category some shapes are for
training and others for the test. Photographs of the background are of other captures in the test.

The frames agree within a category; `shape_fronts` turns each category to ImageNet3D's front.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image
from scipy.spatial.transform import Rotation

from ovseg3d.errors import ConfigError
from ovseg3d.geometry import rotation_of_angles
from ovseg3d.heads.naming.splat import nearness, relief
from scripts.benchmarks.shape_fronts import front_of
from scripts.training.pose_crops import CropSet

SIDE = 128
"""Pixels of a crop's side."""
KNOWN_COUNT, LEAST_SHAPES, TRAINING_SHARE = 24, 4, 0.65
"""Known categories, of those with so many shapes; and the share of their shapes to train on."""
BACKGROUNDS = {
    "training": ("fox/images", "llff_fern/images_8", "tabletop_box/images"),
    "test": ("tum_cabinet/raw_imgs", "studio_room/images"),
}
"""Photographs that stand behind the shapes."""
MAX_PHOTOS = 25
"""Of each capture."""
Part = Literal["training", "known", "novel"]


@dataclass(frozen=True)
class ShapeCrops:
    """Crops in which one shape fills most of the square."""

    image: UInt8[np.ndarray, "crops side side 3"]
    category: tuple[str, ...]
    angles: Float[np.ndarray, "crops 3"]
    """Azimuth, elevation, theta, radians, of the camera that looks at the shape's middle."""

    @property
    def order(self) -> Int[np.ndarray, " crops"]:
        """Of the symmetry about the up axis."""
        return np.array([front_of(name).order for name in self.category])

    @property
    def as_set(self) -> CropSet:
        """The crops for the training of a head that is told no phrase, so that kinds do not count."""
        none = np.zeros(len(self.category), np.int64)
        return CropSet(self.image, none, self.angles.astype(np.float32), self.order, none)


@dataclass(frozen=True)
class Shapes:
    """The clouds, split into parts.

    Args:
        folder: with shapes/shapes.npz and the captures.
    """

    folder: Path

    @cached_property
    def clouds(self) -> tuple[Float[np.ndarray, "shapes points 3"], np.ndarray]:
        """All clouds, z up and ImageNet3D's front at -y, and their categories."""
        with np.load(self.folder / "shapes" / "shapes.npz", allow_pickle=False) as kept:
            points, categories = kept["points"].astype(np.float64), kept["category"]
        yaws = np.radians([front_of(name).yaw_deg for name in categories.tolist()])
        turns = Rotation.from_euler("z", yaws[:, None]).as_matrix()
        return np.einsum("nij,npj->npi", turns, points), categories

    @cached_property
    def known(self) -> tuple[str, ...]:
        """The known categories, in the order of the alphabet."""
        names, counts = np.unique(self.clouds[1], return_counts=True)
        drawn = np.random.default_rng(29).choice(names[counts >= LEAST_SHAPES], KNOWN_COUNT, replace=False)
        return tuple(sorted(drawn.tolist()))

    def of(self, part: Part) -> list[int]:
        """Numbers of the shapes of a part."""
        rows = []
        for name in np.unique(self.clouds[1]).tolist():
            own = np.flatnonzero(self.clouds[1] == name).tolist()
            if name not in self.known:
                rows += own if part == "novel" else []
            elif part != "novel":
                first = round(TRAINING_SHARE * len(own))
                rows += own[:first] if part == "training" else own[first:]
        return rows

    def crops(self, part: Part, views: int, seed: int) -> ShapeCrops:
        """Crops of a part.

        Args:
            part: which shapes.
            views: crops of each.
            seed: of viewpoints, colours and backgrounds.
        """
        images, names, angles = [], [], []
        points, categories = self.clouds
        behind = background_photos(self.folder, BACKGROUNDS["training" if part == "training" else "test"])
        for shape in self.of(part):
            rng = np.random.default_rng([seed, shape])
            seen = viewpoints(rng, views)
            turns = rotation_of_angles(seen).as_matrix()
            grey, there = relief(points[shape], turns, SIDE), nearness(points[shape], turns, SIDE) > 0
            images += [_composed(rng, g, t, behind) for g, t in zip(grey, there)]
            names += [str(categories[shape])] * views
            angles.append(seen)
        return ShapeCrops(np.stack(images), tuple(names), np.concatenate(angles))


def shapes_at_hand() -> Shapes:
    """The shapes of $OVSEG3D_DATA. Raises ConfigError: they are not there."""
    folder = Path(os.environ.get("OVSEG3D_DATA", ""))
    wanted = [folder / "shapes" / "shapes.npz", *(folder / one for names in BACKGROUNDS.values() for one in names)]
    missing = [path for path in wanted if not os.environ.get("OVSEG3D_DATA") or not path.exists()]
    if missing:
        raise ConfigError(
            "The shapes and captures of this benchmark are not there", where=missing[0],
            fix="set OVSEG3D_DATA to the folder of captures",
        )  # fmt: skip
    return Shapes(folder)


def viewpoints(rng: np.random.Generator, views: int) -> Float[np.ndarray, "views 3"]:
    """Azimuths all around, elevations and in-plane rotations as people take photos, radians."""
    azimuth = rng.uniform(0, 2 * np.pi, views)
    elevation = np.radians(rng.normal(15, 15, views).clip(-20, 70))
    return np.stack([azimuth, elevation, np.radians(rng.normal(0, 6, views))], 1)


def lit(rng: np.random.Generator, grey: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """A relief in a colour of its own."""
    colour = rng.uniform(0.25, 1.0, 3) if rng.random() < 0.5 else np.full(3, rng.uniform(0.3, 1.0))
    return (255 * (grey[..., None] * colour * rng.uniform(0.8, 1.2)).clip(0, 1)).astype(np.uint8)


@lru_cache(maxsize=4)
def background_photos(folder: Path, names: Sequence[str]) -> list[np.ndarray]:
    """Photographs of captures, their shorter sides 400 pixels."""
    found = []
    for name in names:
        paths = sorted(path for ending in ("jpg", "png") for path in (folder / name).glob(f"*.{ending}"))
        for path in paths[:: max(1, len(paths) // MAX_PHOTOS)][:MAX_PHOTOS]:
            photo = Image.open(path).convert("RGB")
            share = 400 / min(photo.size)
            found.append(np.asarray(photo.resize((round(photo.width * share), round(photo.height * share)))))
    return found


def _composed(
    rng: np.random.Generator, grey: np.ndarray, there: np.ndarray, photos: Sequence[np.ndarray]
) -> np.ndarray:
    """The shape in a colour of its own before a part of a photograph."""
    photo = photos[int(rng.integers(len(photos)))]
    size = int(rng.integers(SIDE, min(photo.shape[:2]) + 1))
    top, left = (int(rng.integers(0, length - size + 1)) for length in photo.shape[:2])
    cut = Image.fromarray(photo[top : top + size, left : left + size]).resize((SIDE, SIDE))
    return np.where(there[..., None], lit(rng, grey), np.asarray(cut))
