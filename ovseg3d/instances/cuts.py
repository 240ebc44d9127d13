"""Separate instances that touch: normalised cuts (Shi & Malik 2000) of the superpoint graph.

Two chairs pushed together look alike and touch, so only shape separates them: where they meet, the surface is concave
and the contact is narrow. The cut is the best one along the second eigenvector of the normalised Laplacian of the
superpoint graph, in which concave contacts have low weight. It is made if both sides are large and the contact is
concave enough for its length. Then each side is tried again.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

EDGES_PER_GAP = 10.0
"""Edges of a point graph with 10 neighbours that cross a crease, for each distance between points of its length."""
TOO_MANY = 1500
"""Regions with more superpoints are not cut: an instance has tens, and the eigenvectors take cubic time."""


@dataclass(frozen=True)
class CutConfig:
    """When an instance is cut in two."""

    share: float = 0.2
    """Least size of a side, as a share of the instance."""
    least: float = 60.0
    """Least weight (points) of a side."""
    touch: float = -0.1
    """Concavity (1: a right angle) that a contact of hardly any length needs..."""
    neck: float = 1.7
    """...plus this for each length that is the root of the smaller side's size..."""
    crease: float = 0.55
    """...up to this, which is enough for any length."""
    stacked: float = 0.05
    """Additional concavity where one side is above the other: a table top on its leg is one instance."""


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
    """Repeatedly cut regions in two at narrow or concave contacts.

    Args:
        pair: superpoints that touch.
        border: point edges across each contact.
        crease: concavity of each contact, 1 for a right angle, negative for convex ones.
        weight: number of points of each superpoint.
        middle: centre of each superpoint.
        up: unit vector.
        region: of each superpoint; regions below 0 are ignored.
        config: when a region is cut.

    Returns:
        The new region of each superpoint: one part of a region keeps its number, others get numbers above the largest.
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
    """The members on one side of the best cut, its concavity, and its length over the root of the smaller side."""
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
    """The cut of least cost along the second eigenvector whose sides are both large."""
    hold = hold + hold.T
    degree = hold.sum(1)
    scale = 1 / np.sqrt(degree)
    _, vectors = np.linalg.eigh(np.eye(len(hold)) - scale[:, None] * hold * scale)
    order = np.argsort(vectors[:, 1] * scale, kind="stable")
    sorted_hold = hold[order][:, order]
    # The cut of the first k grows by each superpoint's degree and falls by twice its weight to earlier ones.
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
