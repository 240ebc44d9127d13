"""Take apart things that touch: normalised cuts (Shi & Malik 2000) of a graph of patches.

Two chairs pushed together have one look and are in contact, so only shape tells them apart: where they meet the
surface is creased inwards, and the contact is narrow. The cut is the best one along the second eigenvector of the
normalised Laplacian of the patches' contacts, in which concave borders hold little. It is made when both sides are
large and the border is concave enough for its length; then each side is looked at again.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

EDGES_PER_GAP = 10.0
"""Edges of a point graph with 10 neighbours that cross a crease, for each distance between points of its length."""
TOO_MANY = 1500
"""Patches of one thing from which it is not looked at: a thing has tens, and the eigenvectors take cubic time."""


@dataclass(frozen=True)
class CutConfig:
    """When a thing is cut in two."""

    share: float = 0.2
    """Least area of a side, as a share of the thing."""
    least: float = 60.0
    """Least weight (points) of a side."""
    touch: float = -0.1
    """How concave (1: as a right angle) a border must be that is hardly more than a point."""
    neck: float = 1.7
    """How much more concave for each length of it that is the root of the smaller side's area..."""
    crease: float = 0.55
    """...up to this, which is enough for any length."""
    stacked: float = 0.05
    """How much more concave one must be between two sides above each other: a table top on its leg is one thing."""


def cut_apart(
    pair: Int[np.ndarray, "contacts 2"],
    border: Float[np.ndarray, " contacts"],
    crease: Float[np.ndarray, " contacts"],
    weight: Float[np.ndarray, " superpoints"],
    middle: Float[np.ndarray, "superpoints 3"],
    up: Float[np.ndarray, "3"],
    region: Int[np.ndarray, " superpoints"],
    config: CutConfig | None = None,
) -> Int[np.ndarray, " superpoints"]:
    """Cut regions of patches in two where they hang together by a narrow or concave border, as often as that holds.

    Args:
        pair: patches that touch.
        border: point edges across each contact.
        crease: how concave each contact is, 1 for a right angle, negative for convex ones.
        weight: points of each patch.
        middle: of each patch.
        up: unit vector.
        region: of each patch; patches of a region below 0 are left alone.
        config: see there.

    Returns the new region of each patch: parts of old regions keep the number or get new ones above the largest.
    """
    config = config or CutConfig()
    region = region.copy()
    if not len(region):
        return region
    todo = [int(r) for r in np.unique(region[region >= 0])]
    fresh = int(region.max()) + 1
    inner = region[pair[:, 0]] == region[pair[:, 1]]
    pair, border, crease = pair[inner], border[inner], crease[inner]
    while todo:
        number = todo.pop()
        members = np.flatnonzero(region == number)
        side = _best_cut(members, pair, border, crease, weight, config)
        if side is None:
            continue
        chosen, bent, length = side
        one, other = (np.average(middle[m], axis=0, weights=weight[m]) for m in (members[chosen], members[~chosen]))
        rise = abs((one - other) @ up) / max(float(np.linalg.norm(one - other)), 1e-12)
        needed = min(config.touch + config.neck * length, config.crease) + config.stacked * (rise > 0.8)
        if bent > needed:
            region[members[chosen]] = fresh
            todo += [number, fresh]
            fresh += 1
    return region


def _best_cut(
    members: np.ndarray, pair: np.ndarray, border: np.ndarray, crease: np.ndarray, weight: np.ndarray, config: CutConfig
) -> tuple[np.ndarray, float, float] | None:
    """Which members are on one side of the best cut, how concave it is, and its length by the smaller side's root."""
    if not 2 <= len(members) <= TOO_MANY or weight[members].sum() < 2 * config.least:
        return None
    place = np.full(len(weight), -1)
    place[members] = np.arange(len(members))
    inside = (place[pair] >= 0).all(1)
    a, b = place[pair[inside]].T
    border, crease, weight = border[inside], crease[inside], weight[members]
    hold = border * np.exp(-2 * crease.clip(-0.5, 1))
    graph = csr_array((hold, (a, b)), shape=(len(members),) * 2)
    if connected_components(graph, directed=False)[0] > 1:
        return None
    side = _sweep(graph.toarray(), weight, config)
    if side is None:
        return None
    across = side[a] != side[b]
    length = border[across].sum() / EDGES_PER_GAP
    smaller = min(weight[side].sum(), weight[~side].sum())
    bent = (border[across] * crease[across]).sum() / border[across].sum()
    return side, float(bent), float(length / np.sqrt(smaller))


def _sweep(hold: np.ndarray, weight: np.ndarray, config: CutConfig) -> Bool[np.ndarray, " superpoints"] | None:
    """Of all cuts along the second eigenvector with two large sides, the one that costs least."""
    hold = hold + hold.T
    degree = hold.sum(1)
    scale = 1 / np.sqrt(degree)
    _, vectors = np.linalg.eigh(np.eye(len(hold)) - scale[:, None] * hold * scale)
    order = np.argsort(vectors[:, 1] * scale, kind="stable")
    sorted_hold = hold[order][:, order]
    # What is cut between the first k and the rest grows by a patch's degree and falls by what it holds of the first.
    cut = np.cumsum(degree[order] - 2 * np.tril(sorted_hold, -1).sum(1))[:-1]
    inside = np.cumsum(degree[order])[:-1]
    low = np.cumsum(weight[order])[:-1]
    least = max(config.least, config.share * weight.sum())
    allowed = (low >= least) & (weight.sum() - low >= least)
    if not allowed.any():
        return None
    cost = np.where(allowed, cut / inside + cut / (degree.sum() - inside), np.inf)
    side = np.zeros(len(weight), dtype=bool)
    side[order[: int(cost.argmin()) + 1]] = True
    return side
