"""What things look like as wholes: each is cut out of the photos that show it best, and seen as a picture of its own.

A text-image encoder was taught with whole pictures; of a patch in the midst of one it knows less. Once the surface's
points are grouped into things, it is known which photos show most of a thing and how large, and a crop around it is
what the encoder knows best (Takmaz et al. 2023, OpenMask3D, who cut at several sizes too). In some what is around the
thing is blurred (Yang et al. 2023, Fine-Grained Visual Prompting): a picture of a ball on a floor is also one of a
floor. In others it stays: what was found may be a part, and is known by the rest. The mean of a thing's crops is its
portrait. Its points take a share of that, and of the mean of what was lifted to them; the room's planes (floor,
ceiling, walls) have no portrait, and take a share of their mean alone.

Boxes are (left, top, right, bottom) in 0..1 of a photo.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image, ImageFilter
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from ovseg3d.encoders.base import TextImageEncoder
from ovseg3d.features.extract import square_around
from ovseg3d.features.maps import normalise
from ovseg3d.features.pyramid import encode_crops
from ovseg3d.field.surface import Visibility
from ovseg3d.points.basis import Basis, fit_basis

_ROWS = 16_384


@dataclass(frozen=True)
class CropConfig:
    """How things are portrayed."""

    views: int = 6
    """Photos of each thing at most."""
    alone: tuple[float, ...] = (0.1, 0.4)
    """Borders around a thing's box, relative to its longer side; a crop for each, with what is around it blurred..."""
    within: tuple[float, ...] = (0.1, 0.4)
    """...and a crop for each of these as the photo is."""
    blur: float = 0.06
    """How far what is around a thing is blurred, as a share of the photo's shorter side."""
    cells: int = 112
    """Cells along the photo's longer side in which points tell whose pixels are whose."""
    share: float = 0.65
    """Of the portrait in the vectors of a thing's points; 0 takes none."""
    pooled: float = 0.9
    """Of the mean over the thing, or the plane of the room, in what is left; 0 takes none."""
    stray: float = 0.02
    """Share of a thing's points that may lie outside its box, on each side: silhouettes are ragged."""
    batch: int = 32
    """Crops that are encoded at once."""

    def affordable(self, instances: int, size: tuple[int, int], budget: float) -> "CropConfig":
        """The same with fewer views, if so many things would cost more than a budget; at least with one.

        Args:
            things: how many.
            size: height and width at which the encoder sees a crop.
            budget: pixels that it sees of all crops together.
        """
        each = max(instances, 1) * (len(self.alone) + len(self.within)) * size[0] * size[1]
        return replace(self, views=int(min(self.views, max(1, budget // max(each, 1)))))


@dataclass(frozen=True)
class Pose:
    """A thing in a photo."""

    instance: int
    """Number of the thing, from 1."""
    view: int
    box: tuple[float, float, float, float]


def choose_poses(
    ids: Int[np.ndarray, " points"], visibilities: Sequence[Visibility], config: CropConfig | None = None
) -> list[Pose]:
    """The photos that show each thing best: much of it, and large.

    Args:
        ids: thing of each point, from 1; 0 for none.
        sights: what each photo sees.
        config: see there.

    Returns:
        Poses, in the order of their photos. A thing that no photo sees has none.
    """
    config = config or CropConfig()
    candidates: dict[int, list[tuple[float, Pose]]] = {}
    for view, visibility in enumerate(visibilities):
        instance = ids[visibility.point]
        order = np.argsort(instance, kind="stable")
        numbers, first = np.unique(instance[order], return_index=True)
        for number, rows in zip(numbers.tolist(), np.split(order, first[1:])):
            if number == 0:
                continue
            low, high = np.quantile(visibility.xy[rows], [config.stray, 1 - config.stray], axis=0)
            # Seen area counts in full, size by its root: half of a thing nearby says less than all of it from afar.
            score = float(visibility.weight[rows].sum() * max(*(high - low), 1e-6) ** 0.5)
            candidates.setdefault(number, []).append((score, Pose(number, view, (*low.tolist(), *high.tolist()))))
    best = [
        pose
        for poses in candidates.values()
        for _, pose in sorted(poses, key=lambda one: (-one[0], one[1].view))[: config.views]
    ]
    return sorted(best, key=lambda pose: (pose.view, pose.instance))


def outlines(
    ids: Int[np.ndarray, " points"], visibility: Visibility, height: int, width: int
) -> Int[np.ndarray, "{height} {width}"]:
    """The thing that each cell of a photo shows: that of the point seen there, or nearest to it.

    Args:
        ids: thing of each point, from 1; 0 for none.
        sight: what the photo sees.
        height, width: cells of the photo.
    """
    made = np.full((height, width), -1)
    order = np.argsort(visibility.weight, kind="stable")  # whose light stops there most is told last, and stays
    column, row = (visibility.xy[order] * (width, height)).astype(int).T.clip(0)
    made[row.clip(max=height - 1), column.clip(max=width - 1)] = ids[visibility.point[order]]
    if (made < 0).all():
        return np.zeros_like(made)
    nearest = distance_transform_edt(made < 0, return_distances=False, return_indices=True)
    return made[tuple(nearest)]


def encode_instance_crops(
    poses: Sequence[Pose],
    ids: Int[np.ndarray, " points"],
    visibilities: Sequence[Visibility],
    photo: Callable[[int], UInt8[np.ndarray, "h w 3"]],
    clip: TextImageEncoder,
    config: CropConfig | None = None,
    tick: Callable[[int, int], None] | None = None,
) -> Float[np.ndarray, "things dim"]:
    """Portraits of all things, unit vectors; zero for a thing without a pose.

    Args:
        poses: from `choose_poses`, in the order of their photos: each photo is read once.
        ids: thing of each point, from 1; 0 for none.
        sights: what each photo sees.
        photo: gives the photo of a view, at any size.
        clip: the encoder.
        config: which crops.
        tick: called after each batch with crops done and in all.
    """
    config = config or CropConfig()
    total = np.zeros((int(ids.max(initial=0)), clip.dim), np.float32)
    if not poses:
        return total
    with torch.inference_mode():
        crops = _crops(poses, ids, visibilities, photo, config)
        count = len(config.alone) + len(config.within)
        vectors = encode_crops(crops, clip, config.batch, tick, 0, len(poses) * count)
    np.add.at(total, np.repeat([pose.instance - 1 for pose in poses], count), vectors)
    return normalise(total)


def add_instance_crops(
    basis: Basis,
    vectors: Float[np.ndarray, "points kept"],
    ids: Int[np.ndarray, " points"],
    instance_crops: Float[np.ndarray, "things dim"],
    room: Int[np.ndarray, " points"] | None = None,
    config: CropConfig | None = None,
    samples: int = 8192,
    seed: int = 0,
) -> tuple[Basis, Float[np.ndarray, "points kept"]]:
    """Let the points of a thing, and of a plane of the room, speak together; unit vectors, in a basis that holds them.

    Args:
        basis: of `vectors`.
        vectors: coefficients of points, unit length or zero.
        ids: thing of each point, from 1; 0 for none.
        portraits: from `encode_instance_crops`; a row of zeros is none.
        room: number of the plane that a point lies on, from 1; 0 for none.
        config: how much portraits count.
        samples: points that the new basis is fitted to, besides portraits.
        seed: which ones.
    """
    config, count = config or CropConfig(), len(instance_crops)
    group = np.where((ids == 0) & (room > 0), count + room, ids) if room is not None else ids
    means = np.zeros((int(group.max(initial=0)) + 1, vectors.shape[1]), np.float32)
    np.add.at(means, group, vectors)
    means[0] = 0
    pooled = normalise(vectors + config.pooled * (normalise(means)[group] - vectors) * (group > 0)[:, None])
    faces = np.concatenate([np.zeros((1, instance_crops.shape[1]), np.float32), instance_crops])
    share = config.share * (np.linalg.norm(faces, axis=1) > 0).astype(np.float32)

    def mixed(rows: np.ndarray) -> np.ndarray:
        own = share[ids[rows], None]
        return normalise((1 - own) * basis.expand(pooled[rows]) + own * faces[ids[rows]])

    some = np.sort(np.random.default_rng(seed).permutation(len(vectors))[:samples])
    # Portraits as well: a small thing may have no point among the samples, and speaks by its portrait.
    fitted = fit_basis(np.concatenate([mixed(some), instance_crops]), vectors.shape[1])
    parts = [fitted.reduce(mixed(rows)) for rows in np.array_split(np.arange(len(vectors)), len(vectors) // _ROWS + 1)]
    return fitted, normalise(np.concatenate(parts))


def _crops(
    poses: Sequence[Pose],
    ids: np.ndarray,
    visibilities: Sequence[Visibility],
    photo: Callable[[int], np.ndarray],
    config: CropConfig,
) -> Iterator[Tensor]:
    """Squares around each pose, rgb in 0..1, (3, h, w); as far as the photo reaches."""
    view = -1
    for pose in poses:
        if pose.view != view:
            view, whole = pose.view, photo(pose.view)
            height, width = whole.shape[:2]
            radius = config.blur * min(height, width)
            blurred = np.asarray(Image.fromarray(whole).filter(ImageFilter.GaussianBlur(radius)))
            size = [max(1, round(side * config.cells / max(height, width))) for side in (height, width)]
            shown = outlines(ids, visibilities[view], *size)
        mask = Image.fromarray((shown == pose.instance).astype(np.float32)).resize((width, height), Image.BILINEAR)
        mask = np.asarray(mask)[..., None]
        alone, within = (_planar(image) for image in (mask * whole + (1 - mask) * blurred, whole))
        left, low, right, high = pose.box
        spans = [(low * height, high * height), (left * width, right * width)]
        for pixels, contexts in ((alone, config.alone), (within, config.within)):
            for context in contexts:
                top, left, bottom, right = square_around(spans, (height, width), context)
                yield pixels[:, top:bottom, left:right]


def _planar(image: Float[np.ndarray, "h w 3"] | UInt8[np.ndarray, "h w 3"]) -> Float[Tensor, "3 h w"]:
    """0..255 to 0..1."""
    return torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32)) / 255
