"""Lift the photos' features to the surface points, without training.

A point's vector is the mean of the features of the photos that see it, weighted by the render weight of the point in
each (see `field.surface`). Photos may contradict each other, since an encoder errs in some of them. So the mean is
recomputed with each photo weighted by its agreement with the mean of the others, at the point and over all its points.
Agreement is the cosine after the scene's mean vector is subtracted, since the common part carries no information
(cosines of CLIP's image vectors lie close together). It is 1 where all photos agree. Features that are not finite or
have no direction are ignored.

Maps are reduced to a `Basis` before they are lifted, and sampled photo by photo in every round, so memory is
points x kept, whatever their dim and number.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree  # pyright: ignore[reportAttributeAccessIssue]

from ovseg3d.errors import RunError
from ovseg3d.features.maps import Dense, Pyramid, Regions
from ovseg3d.field.surface import Visibility
from ovseg3d.points.basis import Basis, fit_basis

FeatureSampler = Callable[[Float[np.ndarray, "samples 2"]], Float[np.ndarray, "samples dim"]]
"""A photo's features at positions in 0..1 of it; unit length."""
ODD = 0.25
"""Photos whose agreement is below this share of the median agreement are not trusted."""
LEAST = 1e-3
"""Least agreement that counts in a photo's weight, so that no weight is 0."""
ALIKE = 1e-6
"""Squared difference of unit vectors below which they count as equal."""


@dataclass(frozen=True)
class Lifted:
    """Features of surface points."""

    vectors: Float[np.ndarray, "points dim"]
    """Weighted means; shorter where photos disagree."""
    agreement: Float[np.ndarray, " points"]
    """Agreement of the `trusted` photos that see a point, 0 to 1; 1 where one sees it, 0 where none does."""
    support: Float[np.ndarray, " points"]
    """Sum of the render weights of the photos that see a point; 0 where its vector is a neighbour's."""
    trust: Float[np.ndarray, " views"]
    """Agreement of each photo with the others, 0 to 1; 1 where no other sees the same points."""
    compared: Bool[np.ndarray, " views"]
    """Photos that share points with another; only these count towards the median agreement."""

    @property
    def trusted(self) -> Bool[np.ndarray, " views"]:
        """Photos that do not contradict the others far more than the median photo does, see `ODD`."""
        return _trusted(self.trust, self.compared)


@dataclass(frozen=True)
class LiftConfig:
    """How features are lifted."""

    rounds: int = 2
    """How often the mean is recomputed with weights by agreement; 0: the plain mean."""
    power: float = 2.0
    """Exponent of the agreement in the weights."""
    samples: int = 8192
    """Points whose full vectors the basis is fitted to."""
    kept: int = 80
    """Axes of the basis."""
    seed: int = 0


def lift(
    visibilities: Sequence[Visibility], photos: Sequence[FeatureSampler], points: int, config: LiftConfig | None = None
) -> Lifted:
    """Features of surface points from those of photos.

    Args:
        visibilities: the points that each photo sees.
        photos: each photo's features, in the same order; sampled several times.
        points: number of points.
        config: rounds, and how disagreement counts.

    Raises:
        ValueError: visibilities and photos differ in number.
    """
    config = config or LiftConfig()
    visibilities = [_informative(visibility, photo) for visibility, photo in zip(visibilities, photos, strict=True)]
    words = _RunningMean(visibilities, photos, points)
    words.average([visibility.weight for visibility in visibilities])
    for _ in range(config.rounds):
        agreement, *known = words.agreement()
        relative = _relative(*known).clip(LEAST, 1)
        factors = ((a.clip(LEAST, 1) * t) ** config.power for a, t in zip(agreement, relative))
        words.average([visibility.weight * factor for visibility, factor in zip(visibilities, factors)])
    agreement, trust, compared = words.agreement()
    support, heard, total = np.zeros((3, points), np.float32)
    for own, visibility, good in zip(agreement, visibilities, _trusted(trust, compared)):
        support[visibility.point] += visibility.weight
        heard[visibility.point] += visibility.weight * good
        total[visibility.point] += visibility.weight * good * own
    return Lifted(words.mean, (total / np.maximum(heard, 1e-9)).clip(0, 1), support, trust, compared)


def _usual(trust: np.ndarray, compared: np.ndarray) -> float:
    return float(np.median(trust[compared])) if compared.any() else 1.0


def _trusted(trust: np.ndarray, compared: np.ndarray) -> np.ndarray:
    return trust >= ODD * _usual(trust, compared)


def _relative(trust: np.ndarray, compared: np.ndarray) -> np.ndarray:
    return trust / max(_usual(trust, compared), 1e-6)


def lift_reduced(
    visibilities: Sequence[Visibility],
    photos: Sequence[Dense | Regions | Pyramid | FeatureSampler],
    xyz: Float[np.ndarray, "points 3"],
    config: LiftConfig | None = None,
) -> tuple[Basis, Lifted]:
    """Fit a basis to the lifted vectors of some points, and lift the coefficients of all.

    Points that no photo sees take the vector of the nearest visible point; their support and agreement stay 0.

    Args:
        visibilities: the points that each photo sees.
        photos: each photo's features, in the same order. Maps, or their `at`, are reduced once; others are slower.
        xyz: the points.
        config: how features are lifted, and the size of the basis.

    Raises:
        RunError: no photo sees a point, or no photo has usable features.
    """
    config = config or LiftConfig()
    samplers = [cast(FeatureSampler, getattr(photo, "at", photo)) for photo in photos]
    seen = np.zeros(len(xyz), bool)
    for visibility in visibilities:
        seen[visibility.point] = True
    chosen = np.random.default_rng(config.seed).permutation(np.flatnonzero(seen))[: config.samples]
    chosen.sort()
    some = lift([_only(visibility, chosen, len(xyz)) for visibility in visibilities], samplers, len(chosen), config)
    if not some.vectors.any():
        raise RunError(
            "No photo says anything about the field's surface",
            fix="check the poses, and remove cached features (doctor --clear-cache)",
        )
    basis = fit_basis(some.vectors, config.kept)
    lifted = lift(visibilities, [_reduced(photo, basis) for photo in photos], len(xyz), config)
    unseen = lifted.support == 0
    if unseen.any() and not unseen.all():
        _, nearest = cKDTree(xyz[~unseen]).query(xyz[unseen])
        lifted.vectors[unseen] = lifted.vectors[~unseen][nearest]
    return basis, lifted


def _reduced(photo: Dense | Regions | Pyramid | FeatureSampler, basis: Basis) -> FeatureSampler:
    """The same photo, with coefficients instead of vectors."""
    # A map's own `at` is replaced by the map, which is reduced once. Another function gives full vectors every time.
    whole = getattr(photo, "__self__", photo)
    if isinstance(whole, Dense | Regions | Pyramid):
        return cast(FeatureSampler, whole.projected(basis.axes).at)
    sampler = cast(FeatureSampler, photo)
    return lambda xy: basis.reduce(sampler(xy))


def _only(visibility: Visibility, chosen: Int[np.ndarray, " some"], points: int) -> Visibility:
    """The part of a view's visibility that is of some points, which are renumbered."""
    number = np.full(points, -1)
    number[chosen] = np.arange(len(chosen))
    kept = number[visibility.point] >= 0
    through = number[visibility.through]
    return Visibility(
        number[visibility.point[kept]], visibility.xy[kept], visibility.weight[kept], through[through >= 0]
    )


def _informative(visibility: Visibility, photo: FeatureSampler) -> Visibility:
    """The part of a view's visibility where the photo's features are finite and have a direction."""
    own = photo(visibility.xy)
    square = np.einsum("pd,pd->p", own, own)
    good = np.isfinite(square) & (square > 0) & (visibility.weight > 0)
    return visibility if good.all() else visibility.where(good)


class _RunningMean:
    """The weighted mean of the photos' features at points."""

    def __init__(self, visibilities: Sequence[Visibility], photos: Sequence[FeatureSampler], points: int) -> None:
        self.visibilities, self.photos, self.points = visibilities, photos, points

    def average(self, weights: Sequence[np.ndarray]) -> None:
        """Compute the mean with these weights, one for each point that a photo sees."""
        self.weights = weights
        self.total, self.mean = np.zeros(self.points, np.float32), np.zeros((self.points, 0), np.float32)
        for photo, visibility, weight in zip(self.photos, self.visibilities, weights):
            own = photo(visibility.xy)
            if not self.mean.shape[1]:
                self.mean = np.zeros((self.points, own.shape[1]), np.float32)
            # A view has each point once, so addition by index is correct.
            self.mean[visibility.point] += weight[:, None] * own
            self.total[visibility.point] += weight
        np.divide(self.mean, self.total[:, None], out=self.mean, where=self.total[:, None] > 0)

    def agreement(self) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
        """Agreement of each photo with the mean of the others: at each of its points, over all its points, and whether
        it shares points with others.

        With m a point's mean of total weight W, to which the photo contributes v with weight w, the others' mean is
        (W m - w v) / (W - w).
        """
        known = self.total > 0
        common = self.mean[known].mean(0) if known.any() else np.float32(0)
        apart = self.mean - common
        lengths = np.einsum("pd,pd->p", apart, apart)
        found, trust = [], np.ones(len(self.visibilities), np.float32)
        compared = np.zeros(len(self.visibilities), bool)
        for view, (photo, visibility, w) in enumerate(zip(self.photos, self.visibilities, self.weights)):
            own = photo(visibility.xy) - common
            whole = self.total[visibility.point].astype(np.float64)
            rest = whole - w
            alone = rest < 1e-4 * whole
            share, rest = whole / np.where(alone, 1, rest), w / np.where(alone, 1, rest)
            both, square = np.einsum("pd,pd->p", own, apart[visibility.point]), np.einsum("pd,pd->p", own, own)
            product = share * both - rest * square
            others = share**2 * lengths[visibility.point] - 2 * share * rest * both + rest**2 * square
            cosine = (product + ALIKE) / np.sqrt((square + ALIKE) * (np.maximum(others, 0) + ALIKE))
            found.append(np.where(alone, 1, cosine).astype(np.float32))
            counted = np.where(alone, 0, visibility.weight)
            if counted.any():
                trust[view], compared[view] = np.clip((cosine * counted).sum() / counted.sum(), 0, 1), True
        return found, trust, compared
