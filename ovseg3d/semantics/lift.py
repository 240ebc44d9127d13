"""Carry the photos' features to the surface points: one pass, no training.

A point's vector is the mean of what the photos that see it say at its place, each weighted by the share of that ray's
light that stops there (its render weight; see `field.surface`). Photos contradict each other: an encoder errs in some
of them. So the mean is taken again with each photo's word weighted by how well it agrees with the mean so far, and by
how well that photo agrees with the others at all its points. Agreement is the cosine after the scene's mean vector is
taken away: what all vectors have in common says nothing (cosines of CLIP's picture vectors lie close together).

Maps are reduced to a `Basis` before they are lifted, so that memory is points x kept, not points x dim.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import cKDTree

from ovseg3d.field.surface import Sight
from ovseg3d.semantics.basis import Basis, fit_basis

Speaker = Callable[[Float[np.ndarray, "samples 2"]], Float[np.ndarray, "samples dim"]]
"""A photo's features at places in 0..1 of it; unit length."""


@dataclass(frozen=True)
class Lifted:
    """Features of surface points."""

    vectors: Float[np.ndarray, "points dim"]
    """Weighted means; their length falls where photos disagree."""
    agreement: Float[np.ndarray, " points"]
    """How well the photos agree about a point, 0 to 1."""
    support: Float[np.ndarray, " points"]
    """Sum of the render weights of the photos that see a point; 0 where its neighbours spoke for it."""
    trust: Float[np.ndarray, " views"]
    """How well each photo agrees with the others, 0 to 1."""


@dataclass(frozen=True)
class LiftConfig:
    """How features are lifted."""

    rounds: int = 2
    """How often the mean is taken again with weights by agreement; 0 takes the plain mean."""
    power: float = 2.0
    """How sharply disagreement counts."""
    samples: int = 8192
    """Points whose full vectors the basis is fitted to."""
    kept: int = 64
    """Numbers kept of a vector."""
    seed: int = 0


def lift(sights: Sequence[Sight], photos: Sequence[Speaker], points: int, config: LiftConfig | None = None) -> Lifted:
    """Features of surface points from those of photos.

    Args:
        sights: which points each photo sees.
        photos: what each says, in the same order.
        points: how many points there are.
        config: see there.
    """
    config = config or LiftConfig()
    said = [photo(sight.xy).astype(np.float32) for photo, sight in zip(photos, sights)]
    trust = np.ones(len(sights), np.float32)
    share = [np.ones(len(sight.point), np.float32) for sight in sights]
    mean, support = _mean(sights, said, share, points)
    for _ in range(config.rounds):
        common = mean[support > 0].mean(0)
        agreement = [_cosine(own - common, mean[sight.point] - common) for own, sight in zip(said, sights)]
        trust = np.array([_weighted(a, sight.weight) for a, sight in zip(agreement, sights)], np.float32).clip(0, 1)
        relative = (trust / max(float(np.median(trust)), 1e-6)).clip(0.05, 1.0)
        share = [(a.clip(0.02, 1) * t) ** config.power for a, t in zip(agreement, relative)]
        mean, _ = _mean(sights, said, share, points)
    common = mean[support > 0].mean(0) if (support > 0).any() else 0.0
    total, weights = np.zeros(points), np.zeros(points)
    for own, sight in zip(said, sights):
        near = _cosine(own - common, mean[sight.point] - common)
        total += np.bincount(sight.point, sight.weight * near, minlength=points)
        weights += np.bincount(sight.point, sight.weight, minlength=points)
    agreement = (total / np.maximum(weights, 1e-9)).clip(0, 1)
    return Lifted(mean, agreement.astype(np.float32), support, trust)


def lift_reduced(
    sights: Sequence[Sight],
    photos: Sequence[Speaker],
    xyz: Float[np.ndarray, "points 3"],
    config: LiftConfig | None = None,
) -> tuple[Basis, Lifted]:
    """Fit a basis to the lifted vectors of some points, and lift the coefficients of all.

    Points that no photo sees take the vector of the nearest that one does.
    """
    config = config or LiftConfig()
    random = np.random.default_rng(config.seed)
    chosen = np.sort(random.permutation(len(xyz))[: config.samples])
    basis = fit_basis(lift([_only(sight, chosen, len(xyz)) for sight in sights], photos, len(chosen), config).vectors,
                      config.kept)  # fmt: skip
    reduced = [lambda xy, photo=photo: basis.reduce(photo(xy)) for photo in photos]
    lifted = lift(sights, reduced, len(xyz), config)
    unseen = lifted.support == 0
    if unseen.any() and not unseen.all():
        _, nearest = cKDTree(xyz[~unseen]).query(xyz[unseen])
        lifted.vectors[unseen] = lifted.vectors[~unseen][nearest]
    return basis, lifted


def _only(sight: Sight, chosen: Int[np.ndarray, " some"], points: int) -> Sight:
    """What a view sees of some of the points, which are then numbered anew."""
    number = np.full(points, -1)
    number[chosen] = np.arange(len(chosen))
    kept = number[sight.point] >= 0
    through = number[sight.through]
    return Sight(number[sight.point[kept]], sight.xy[kept], sight.weight[kept], through[through >= 0])


def _mean(
    sights: Sequence[Sight], said: Sequence[np.ndarray], share: Sequence[np.ndarray], points: int
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted means (points, dim) and sums of the render weights (points,)."""
    total = np.zeros((points, said[0].shape[1] if said else 0), np.float32)
    weights, support = np.zeros(points, np.float32), np.zeros(points, np.float32)
    for own, sight, factor in zip(said, sights, share):
        weight = (sight.weight * factor).astype(np.float32)
        # A view names each point once, so a plain addition by index is right.
        total[sight.point] += weight[:, None] * own
        weights[sight.point] += weight
        support[sight.point] += sight.weight.astype(np.float32)
    return total / np.maximum(weights, 1e-9)[:, None], support


def _cosine(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return (one * other).sum(1) / np.maximum(lengths, 1e-9)


def _weighted(values: np.ndarray, weight: np.ndarray) -> float:
    return float((values * weight).sum() / max(weight.sum(), 1e-9))
