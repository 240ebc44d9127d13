"""Instance embeddings: each instance is cropped from the photos that show it best, and the crops are encoded.

Text-image encoders are trained on whole images and know less about a small region of one. Once points are grouped into
instances, the photos that show most of an instance are known, and crops around it suit the encoder best (Takmaz et al.
2023, OpenMask3D, who also crop at several sizes). In some crops the surroundings are blurred (Yang et al. 2023,
Fine-Grained Visual Prompting): an image of a ball on a floor is also an image of a floor. In others they are kept,
since an instance may be a part that is recognised by its context. The mean over an instance's crops is its embedding.
Its points take a share of that, and a share of the mean of their lifted features. Planes of the layout (floor, ceiling,
walls) have no crops and take a share of their mean only.

Boxes are (left, top, right, bottom) in 0..1 of a photo.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, product

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image, ImageFilter
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from ovseg3d.encoders.base import TextImageEncoder
from ovseg3d.features.extract import square_around
from ovseg3d.features.maps import normalise
from ovseg3d.features.pyramid import CROPS_AT_ONCE, encode_crops
from ovseg3d.field.surface import Visibility
from ovseg3d.points.basis import Basis, fit_basis
from ovseg3d.points.lift import LiftConfig


@dataclass(frozen=True)
class CropConfig:
    """How instances are cropped, and how their embeddings are used."""

    views: int = 6
    """Most photos of each instance."""
    margins: tuple[float, ...] = (0.1, 0.4)
    """Margins around an instance's box, relative to its longer side: one crop each with blurred surroundings, and one
    of the unchanged photo."""
    blur: float = 0.06
    """Radius of the blur, as a share of the photo's shorter side."""
    cells: int = 112
    """Cells along the photo's longer side in which points assign pixels to instances."""
    share: float = 0.65
    """Share of the embedding in the vectors of an instance's points."""
    pooled: float = 0.9
    """Share of the mean over the instance, or the plane of the layout, in the rest."""
    stray: float = 0.02
    """Share of an instance's points that may lie outside its box, on each side, since silhouettes are ragged."""

    @property
    def count(self) -> int:
        """Number of crops of an instance in a photo."""
        return 2 * len(self.margins)

    def affordable(self, instances: int, size: tuple[int, int], budget: float) -> "CropConfig":
        """The same with as many views as a budget allows; at least one.

        Args:
            instances: number of instances.
            size: height and width of the encoder's input.
            budget: most pixels of all crops together, at the encoder's input.
        """
        each = max(instances, 1) * self.count * size[0] * size[1]
        return replace(self, views=int(min(self.views, max(1, budget // max(each, 1)))))


@dataclass(frozen=True)
class Pose:
    """An instance in a photo."""

    instance: int
    """From 1."""
    view: int
    box: tuple[float, float, float, float]


def choose_poses(
    ids: Int[np.ndarray, " points"], visibilities: Sequence[Visibility], config: CropConfig | None = None
) -> list[Pose]:
    """The photos that show each instance best: much of it, and large.

    Args:
        ids: instance of each point, from 1; 0 for none.
        visibilities: the points that each photo sees.
        config: number of views, and how boxes are trimmed.

    Returns:
        Poses, in the order of their photos. An instance that no photo sees has none.
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
            # Visible area counts in full, size by its root: half of a near instance is worth less than a far one.
            score = float(visibility.weight[rows].sum() * np.sqrt(max(*(high - low), 1e-6)))
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
    """The instance in each cell of a photo: that of the point seen there, else of the nearest seen point.

    Args:
        ids: instance of each point, from 1; 0 for none.
        visibility: the points that the photo sees.
        height, width: cells of the photo.
    """
    made = np.full((height, width), -1)
    order = np.argsort(visibility.weight, kind="stable")  # the heaviest is written last, and stays
    column, row = (visibility.xy[order] * (width, height)).astype(int).T.clip(0)
    made[row.clip(max=height - 1), column.clip(max=width - 1)] = ids[visibility.point[order]]
    if (made < 0).all():
        return np.zeros_like(made)
    nearest = distance_transform_edt(made < 0, return_distances=False, return_indices=True)
    return made[tuple(np.asarray(nearest))]


def encode_instance_crops(
    poses: Sequence[Pose],
    ids: Int[np.ndarray, " points"],
    visibilities: Sequence[Visibility],
    photo: Callable[[int], UInt8[np.ndarray, "h w 3"]],
    clip: TextImageEncoder,
    config: CropConfig | None = None,
    tick: Callable[[int, int], None] | None = None,
) -> Float[np.ndarray, "instances dim"]:
    """Embeddings of all instances, unit vectors; zero for an instance without a pose.

    Args:
        poses: from `choose_poses`, in the order of their photos: each photo is read once.
        ids: instance of each point, from 1; 0 for none.
        visibilities: the points that each photo sees.
        photo: returns the photo of a view, at any size.
        clip: the encoder.
        config: which crops.
        tick: called after each batch with the numbers of crops done and in total.
    """
    config = config or CropConfig()
    total = np.zeros((int(ids.max(initial=0)), clip.dim), np.float32)
    if not poses:
        return total
    with torch.inference_mode():
        crops = _crops(poses, ids, visibilities, photo, config)
        vectors = encode_crops(crops, clip, CROPS_AT_ONCE, tick, 0, len(poses) * config.count)
    np.add.at(total, np.repeat([pose.instance - 1 for pose in poses], config.count), vectors)
    return normalise(total)


def add_instance_crops(
    basis: Basis,
    vectors: Float[np.ndarray, "points kept"],
    ids: Int[np.ndarray, " points"],
    instance_crops: Float[np.ndarray, "instances dim"],
    room: Int[np.ndarray, " points"] | None = None,
    config: CropConfig | None = None,
    samples: int = LiftConfig.samples,
    seed: int = 0,
) -> tuple[Basis, Float[np.ndarray, "points kept"]]:
    """Blend embeddings and means of instances, and means of layout planes, into the vectors of their points.

    Args:
        basis: of `vectors`.
        vectors: coefficients of points, unit length or zero.
        ids: instance of each point, from 1; 0 for none.
        instance_crops: from `encode_instance_crops`; a row of zeros is none.
        room: layout plane of each point, from 1; 0 for none.
        config: the shares of embeddings and means.
        samples: points that the new basis is fitted to, besides the embeddings.
        seed: of the choice of samples.

    Returns:
        A basis that holds the embeddings, and unit vectors in it.
    """
    config, count = config or CropConfig(), len(instance_crops)
    group = np.where((ids == 0) & (room > 0), count + room, ids) if room is not None else ids
    means = np.zeros((int(group.max(initial=0)) + 1, vectors.shape[1]), np.float32)
    np.add.at(means, group, vectors)
    means[0] = 0
    pooled = normalise(vectors + config.pooled * (normalise(means)[group] - vectors) * (group > 0)[:, None])
    faces = np.concatenate([np.zeros((1, instance_crops.shape[1]), np.float32), instance_crops])
    own = (config.share * (np.linalg.norm(faces, axis=1) > 0).astype(np.float32))[ids, None]
    some = np.sort(np.random.default_rng(seed).permutation(len(vectors))[:samples])
    mixed = (1 - own[some]) * basis.expand(pooled[some]) + own[some] * faces[ids[some]]
    # Embeddings as well: a small instance may have no point among the samples.
    fitted = fit_basis(np.concatenate([mixed, instance_crops]), vectors.shape[1])
    blended = pooled @ (basis.axes.T @ fitted.axes)  # in place, since there may be a million points
    blended *= 1 - own
    blended += own * fitted.reduce(faces)[ids]
    return fitted, normalise(blended)


def _crops(
    poses: Sequence[Pose],
    ids: np.ndarray,
    visibilities: Sequence[Visibility],
    photo: Callable[[int], np.ndarray],
    config: CropConfig,
) -> Iterator[Tensor]:
    """Squares around each pose, clipped to the photo; rgb in 0..1, (3, h, w)."""
    for view, own in groupby(poses, key=lambda pose: pose.view):
        whole = photo(view)
        height, width = whole.shape[:2]
        radius = config.blur * min(height, width)
        sharp = Image.fromarray(whole)
        blurred = sharp.filter(ImageFilter.GaussianBlur(radius))
        rows, columns = (max(1, round(side * config.cells / max(height, width))) for side in (height, width))
        shown = outlines(ids, visibilities[view], rows, columns)
        for pose in own:
            covered = Image.fromarray(np.equal(shown, pose.instance)).convert("L")
            mask = covered.resize((width, height), Image.Resampling.BILINEAR)
            alone, within = _planar(Image.composite(sharp, blurred, mask)), _planar(sharp)
            left, low, right, high = pose.box
            spans = [(low * height, high * height), (left * width, right * width)]
            for pixels, margin in product((alone, within), config.margins):
                top, start, bottom, end = square_around(spans, (height, width), margin)
                yield pixels[:, top:bottom, start:end]


def _planar(image: Image.Image) -> Float[Tensor, "3 h w"]:
    """Values in 0..1."""
    from skimage.util import img_as_float32

    return torch.from_numpy(img_as_float32(np.asarray(image)).transpose(2, 0, 1))
