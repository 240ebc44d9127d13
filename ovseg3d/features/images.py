"""Visualisations of features: vectors as colours, regions as outlines, and the preview of a run.

Vectors are coloured by their three largest principal components, fitted over all photos that are shown together, or
over a whole surface, so that colours are comparable. Images are uint8 (h, w, 3), rows from the top.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Integer, UInt8
from PIL import Image

from ovseg3d.features.maps import Dense, PhotoFeatures, Pyramid, Regions
from ovseg3d.features.scenes import SceneFeatures, read_photo
from ovseg3d.render.images import contact_sheet, save_image, side_by_side
from ovseg3d.scene import Scene

SIDE = 240
"""Height of a panel, pixels."""
ROWS = 4
"""Photos in a preview."""
_AT_ONCE = 4096
"""Positions that are sampled at once."""


def places(h: int, w: int) -> Float[np.ndarray, "samples 2"]:
    """The centres of an image's pixels as xy in 0..1, row by row."""
    v, u = np.mgrid[0:h, 0:w] + 0.5
    return np.stack([u / w, v / h], axis=-1).reshape(-1, 2)


def vector_colours(vectors: Float[np.ndarray, "points dim"]) -> Float[np.ndarray, "points 3"]:
    """Vectors as colours, 0..1: each component from its 2nd to its 98th percentile; 0.5 for one that is missing."""
    apart = vectors - vectors.mean(0)
    _, axes = np.linalg.eigh(apart.T @ apart)
    shown = apart @ axes[:, ::-1][:, :3]
    low, high = np.percentile(shown, [2, 98], axis=0)
    made = np.full((len(vectors), 3), 0.5, np.float32)
    made[:, : shown.shape[1]] = ((shown - low) / np.maximum(high - low, 1e-9)).clip(0, 1)
    return made


def vector_images(
    maps: Sequence[Dense | Regions | Pyramid], sizes: Sequence[tuple[int, int]]
) -> list[UInt8[np.ndarray, "h w 3"]]:
    """Features as colours.

    Args:
        maps: features of one kind and one encoder, of several photos.
        sizes: height and width of each image.
    """
    some = np.concatenate(
        [features.at(places(h, w)[:: max(1, h * w // _AT_ONCE)]) for features, (h, w) in zip(maps, sizes)]
    ).astype(np.float64)
    mean = some.mean(axis=0)
    _, axes = np.linalg.eigh(np.cov((some - mean).T).reshape(some.shape[1], -1))
    axes = axes[:, ::-1][:, :3]
    shown = (some - mean) @ axes
    low, high = np.percentile(shown, [2, 98], axis=0)
    images = []
    for features, (h, w) in zip(maps, sizes):
        # In chunks: all vectors of an image would take a thousand times its memory.
        xy = places(h, w)
        parts = [(features.at(xy[i : i + _AT_ONCE]) - mean) @ axes for i in range(0, len(xy), _AT_ONCE)]
        share = (np.concatenate(parts) - low) / np.maximum(high - low, 1e-6)
        colours = np.full((h * w, 3), 128, dtype=np.uint8)
        colours[:, : share.shape[1]] = np.rint(np.clip(share, 0, 1) * 255)
        images.append(colours.reshape(h, w, 3))
    return images


def region_image(photo: UInt8[np.ndarray, "h w 3"], index: Integer[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """The photo with a line between regions: white where it is dark, black where it is bright."""
    line = np.zeros(index.shape, dtype=bool)
    line[:, 1:] |= index[:, 1:] != index[:, :-1]
    line[1:] |= index[1:] != index[:-1]
    contrast = np.where(photo.mean(axis=-1, keepdims=True) < 128, np.uint8(255), np.uint8(0))
    return np.where(line[..., None], contrast, photo)


def feature_preview(scene: Scene, features: SceneFeatures) -> Image.Image:
    """Some photos, one per row: photo | regions | CLIP | DINO, as far as available."""
    chosen = sorted({round(i * (len(features) - 1) / max(1, ROWS - 1)) for i in range(ROWS)})
    found: list[PhotoFeatures] = [features[i] for i in chosen]
    photos = [_small(read_photo(scene.frames[i], features.settings)) for i in chosen]
    sizes = [photo.shape[:2] for photo in photos]
    clips = vector_images([one.clip for one in found], sizes)
    dinos = [one.dino for one in found if one.dino is not None]
    dino_images = vector_images(dinos, sizes) if dinos else []
    rows = []
    for row, (number, one, photo) in enumerate(zip(chosen, found, photos)):
        panels = [(f"photo {Path(features.names[number]).name}", photo)]
        if isinstance(one.clip, Regions):
            index = one.clip.region_at(places(*sizes[row])).reshape(sizes[row])
            panels.append((f"{len(one.clip.vectors)} regions", region_image(photo, index)))
        panels.append(("CLIP, three components", clips[row]))
        if dino_images:
            panels.append(("DINO, three components", dino_images[row]))
        rows.append(side_by_side(panels))
    return contact_sheet(rows)


def save_feature_preview(path: Path, scene: Scene, features: SceneFeatures) -> None:
    """Write `feature_preview` to `path`. Raises OutputError."""
    save_image(path, feature_preview(scene, features))


def _small(photo: np.ndarray) -> np.ndarray:
    h, w = photo.shape[:2]
    width = min(max(1, round(w * SIDE / h)), 4 * SIDE)
    return np.asarray(
        Image.fromarray(photo).resize((width, SIDE), Image.Resampling.BOX if h > SIDE else Image.Resampling.BICUBIC)
    )
