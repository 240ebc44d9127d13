"""Instances by view consensus: masks of the photos are clustered in 3D by the other photos that agree with them.

A segmenter's masks may be parts of an object, or cover two, and some objects have none. No mask is trusted by itself;
all other photos judge it (after Yan et al. 2024, MaskClustering):

1. A mask holds the surface points that its photo sees inside it. Another photo observes the mask if it sees enough of
   these points, most of them inside masks of its own. It *contains* the mask in each of its masks that holds most of
   the points that it sees.
2. For each pair of masks, the photos that observe both are trials, and those that contain both in one mask are
   successes. Their rates, p1 where both masks are of one object and p0 where they are not, depend on the segmenter,
   and are estimated from the scene: a mixture of two binomial distributions, fitted by EM (Dempster et al. 1977; with
   a single annotator it is the model of Dawid & Skene 1979). The two are equally likely at the share

       theta = log((1 - p0) / (1 - p1)) / log(p1 (1 - p0) / (p0 (1 - p1)))

3. Pairs merge while the share of successes of all pairs between their clusters exceeds theta (average linkage).
4. A point belongs to the cluster whose masks hold it in most photos, if they hold it in at least half of the photos
   that see it and have a mask of the cluster.
5. A cluster is an instance if it was segmented in several photos, and in enough of those that see most of it.

Masks of one photo may overlap; they are kept in layers, index images without overlap.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Integer
from scipy.sparse import coo_array, csr_array
from scipy.special import expit, logit

from ovseg3d.field.surface import Visibility
from ovseg3d.instances.graph import Contacts, agglomerate

Layers = Integer[np.ndarray, "_ _ _"]
"""Masks of one photo, (layers, h, w): numbers from 1, 0 for no mask. A number occurs in one layer only."""


SOME = 0.25
"""Share of a mask's points that a photo sees if it observes the mask, and of the photos that see most of an instance
those that must segment it..."""
SETTLED = 1e-6
"""Change of the rates at which the EM ends."""
VIEWS = 2
"""...which are at least so many."""
MAX_MASKS = 2000
"""Most masks, since pairs are compared. Of more, only those of every second, third... photo are used."""


@dataclass(frozen=True)
class Agreement:
    """Rates at which photos put two masks into one, see the top of the file."""

    one: float
    """p1, for masks of one object."""
    two: float
    """p0, for masks of two."""

    @property
    def limit(self) -> float:
        """theta: the share of agreeing photos at which one and two objects are equally likely."""
        p1, p0 = self.one, self.two
        if np.isclose(p1, p0):
            return p1
        return float(np.log((1 - p0) / (1 - p1)) / np.log(p1 * (1 - p0) / (p0 * (1 - p1))))


def find_mask_instances(
    points: int, visibilities: Sequence[Visibility], masks: Sequence[Layers], least: int, max_masks: int = MAX_MASKS
) -> Int[np.ndarray, " points"]:
    """The instance of each surface point, from 1; 0 for none.

    Args:
        points: number of surface points.
        visibilities: the points that each photo sees.
        masks: of the same photos, of any size.
        least: fewest points of an instance.
        max_masks: see `MAX_MASKS`.
    """
    stride = max(1, -(-sum(len(np.unique(layers)) for layers in masks) // max_masks))
    held, view = _points_of_masks(points, visibilities[::stride], masks[::stride])
    if not len(view):
        return np.zeros(points, np.int64)
    seen = _rows([visibility.point for visibility in visibilities[::stride]], points)
    pairs = _agreeing(held, seen, view)
    limit = fit_agreement(*pairs.sums.T).limit
    # A trial and `limit` successes more: a share of few trials is not exact.
    cluster = agglomerate(
        pairs,
        np.ones(len(view)),
        np.zeros((len(view), 0)),
        lambda pairs, *_: 1 - (pairs.sums[:, 0] + limit) / (pairs.sums[:, 1] + 1),
        1 - limit,
    )
    return _instances(cluster, held, seen, view, (len(visibilities[::stride]), points), least)


def fit_agreement(successes: Float[np.ndarray, " pairs"], trials: Float[np.ndarray, " pairs"]) -> Agreement:
    """The rates of a mixture of two binomial distributions, by EM. It starts from the pairs' own rates. Pairs without a
    success say nothing about masks that touch, and are left out. Two trials more, one of them a success, keep rates off
    0 and 1 (Laplace's rule)."""
    s, t = successes[successes > 0], trials[successes > 0]

    def rates(chance: np.ndarray) -> list[float]:
        return [float((weight @ s + 1) / (weight @ t + 2)) for weight in (chance, 1 - chance)]

    chance = s / t
    (one, two), before = rates(chance), (np.inf, np.inf)
    while max(abs(one - before[0]), abs(two - before[1])) > SETTLED:
        before = one, two
        share = (chance.sum() + 1) / (len(s) + 2)
        chance = expit(logit(share) + s * np.log(one / two) + (t - s) * np.log((1 - one) / (1 - two)))
        one, two = rates(chance)
    return Agreement(one, two)


def _rows(points: Sequence[np.ndarray], count: int) -> csr_array:
    """Sets of points as the rows of a matrix of ones."""
    starts = np.cumsum([0, *(len(some) for some in points)])
    ones = np.ones(starts[-1], np.float32)
    return csr_array((ones, np.concatenate([np.zeros(0, np.int64), *points]), starts), shape=(len(points), count))


def _points_of_masks(
    points: int, visibilities: Sequence[Visibility], masks: Sequence[Layers]
) -> tuple[csr_array, Int[np.ndarray, " masks"]]:
    """Masks x points: 1 where a mask holds a point; and the photo of each mask."""
    members: list[np.ndarray] = []
    views: list[int] = []
    for view, (visibility, layers) in enumerate(zip(visibilities, masks, strict=True)):
        h, w = layers.shape[1:]
        column, row = np.clip((visibility.xy * (w, h)).astype(np.int64), 0, (w - 1, h - 1)).T
        for layer in layers:
            number = layer[row, column].astype(np.int64)
            order = np.argsort(number, kind="stable")
            _, first = np.unique(number[order], return_index=True)
            for rows in np.split(order, first[1:]):
                if number[rows[0]] > 0:
                    members.append(np.sort(visibility.point[rows]))
                    views.append(view)
    return _rows(members, points), np.array(views, np.int64)


def _agreeing(held: csr_array, seen: csr_array, view: np.ndarray) -> Contacts:
    """Pairs of masks that some photo observes both; sums are the photos that contain both in one mask, and that
    observe both."""
    size = np.asarray(held.sum(1)).ravel()
    visible = (held @ seen.T).toarray()
    common = (held @ held.T).tocoo()
    mask, other = common.coords
    masked = np.zeros_like(visible)
    np.add.at(masked, (mask, view[other]), common.data)  # points in overlapping masks count more than once
    observed = (visible >= SOME * size[:, None]) & (2 * masked >= visible)
    where = view[other]
    contained = observed[mask, where] & (2 * common.data >= visible[mask, where])
    mask, other, where = mask[contained], other[contained], where[contained]
    trials = observed.astype(np.float32) @ observed.T.astype(np.float32)
    successes = np.zeros_like(trials)
    for photo in range(visible.shape[1]):
        own = where == photo
        within = csr_array((np.ones(int(own.sum())), (mask[own], other[own])), shape=successes.shape)
        successes[(within @ within.T).nonzero()] += 1  # once, however many masks contain both
    first, second = np.nonzero(np.triu(trials, 1))
    sums = np.stack([successes[first, second], trials[first, second]], 1).astype(np.float64)
    return Contacts(np.stack([first, second], 1).astype(np.int64), sums)


def _instances(
    cluster: np.ndarray,
    held: csr_array,
    seen: csr_array,
    view: np.ndarray,
    shape: tuple[int, int],
    least: int,
) -> Int[np.ndarray, " points"]:
    """The instance of each point, from clusters of masks: steps 4 and 5. `shape`: numbers of photos and of points."""
    count, (photos, points) = int(cluster.max()) + 1, shape
    ones = np.ones(len(cluster), np.float32)
    members = csr_array((ones, (cluster, np.arange(len(cluster)))), shape=(count, len(cluster)))
    segmented = csr_array((ones, (cluster, view)), shape=(count, photos))
    segmented.data[:] = 1  # several masks of a photo count once
    votes = coo_array(members @ held)
    group, point = votes.coords
    trials = np.asarray((segmented @ seen)[group, point]).ravel()
    inside = 2 * votes.data >= trials
    group, point, votes = group[inside], point[inside], votes.data[inside]
    own = csr_array((np.ones(len(group), np.float32), (group, point)), shape=(count, points))
    size = np.asarray(own.sum(1)).ravel()
    most = 2 * (own @ seen.T).toarray() >= np.maximum(size, 1)[:, None]
    rate = (segmented.toarray() * most).sum(1) / np.maximum(most.sum(1), 1)
    views = np.asarray(segmented.sum(1)).ravel()
    good = (size >= least) & (views >= VIEWS) & (rate >= SOME)
    kept = np.flatnonzero(good[group])
    kept = kept[np.argsort(votes[kept], kind="stable")]  # of several clusters, the one of most votes is written last
    ids = np.zeros(points, np.int64)
    ids[point[kept]] = group[kept] + 1
    return np.unique(np.append(ids, 0), return_inverse=True)[1][:-1]
