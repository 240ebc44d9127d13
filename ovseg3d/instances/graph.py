"""The graph of surface points, and its agglomeration into regions.

Points are joined to their nearest neighbours where the surface is closed. Regions grow as in Ward's clustering (1963):
pairs in contact merge that are each other's cheapest. Merging many such pairs at once gives the same tree as always
merging the cheapest pair, as long as merging makes no pair cheaper. A round is a few array operations.

Contacts are pairs (first < second) of regions, each once. Ties are broken by number, so results are deterministic.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_array
from scipy.spatial import cKDTree  # pyright: ignore[reportAttributeAccessIssue]

EVEN_COST = 1.0
"""Merge cost of regions that are as likely one instance as two."""


@dataclass(frozen=True)
class Contacts:
    """Pairs of regions that touch, and sums over their common edges."""

    pair: Int[np.ndarray, "contacts 2"]
    """First below second."""
    sums: Float[np.ndarray, "contacts sums"]
    """Edge features summed over the common edges; added up when regions merge."""

    def merged(self, group: Int[np.ndarray, " old"], count: int) -> "Contacts":
        """The contacts between groups."""
        pair = np.sort(group[self.pair].astype(np.int64), axis=1)
        outer = pair[:, 0] != pair[:, 1]
        key, place = np.unique(pair[outer, 0] * count + pair[outer, 1], return_inverse=True)
        return Contacts(np.stack([key // count, key % count], -1), add_up(self.sums[outer], place, len(key)))

    def among(self, some: Int[np.ndarray, " some"], count: int) -> "Contacts":
        """The contacts among some of `count` regions, which are numbered by their places in `some` (ascending)."""
        place = np.full(count, -1)
        place[some] = np.arange(len(some))
        pair = place[self.pair]
        inner = (pair >= 0).all(1)
        return Contacts(pair[inner], self.sums[inner])


MergeCost = Callable[[Contacts, np.ndarray, np.ndarray], np.ndarray]
"""(contacts, weight of each region, features of each region) -> cost of each contact."""


def add_up(
    values: Float[np.ndarray, "rows columns"], group: Int[np.ndarray, " rows"], count: int
) -> Float[np.ndarray, "groups columns"]:
    """Sums of the rows of each group, float64."""
    ones = csr_array((np.ones(len(group)), (group, np.arange(len(group)))), shape=(count, len(group)))
    return np.asarray(ones @ values, dtype=np.float64)


def majority(
    group: Int[np.ndarray, " rows"], value: Int[np.ndarray, " rows"], count: int
) -> Int[np.ndarray, " groups"]:
    """The value that more than half of a group's rows have; 0 without one.

    Args:
        group: of each row, from 0.
        value: of each row, 0 or more.
        count: how many groups there are.
    """
    base = int(value.max(initial=0)) + 1
    key, number = np.unique(group.astype(np.int64) * base + value, return_counts=True)
    most = key[2 * number > np.bincount(group)[key // base]]
    found = np.zeros(count, np.int64)
    found[most // base] = most % base
    return found


def spacing(xyz: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, " points"]:
    """Typical distance of each point to its neighbours: to the fourth one; 0 for a single point."""
    count = min(5, len(xyz))
    if count < 2:
        return np.zeros(len(xyz))
    return cKDTree(xyz).query(xyz, k=count)[0][:, -1].astype(np.float64)


def touching(
    xyz: Float[np.ndarray, "points 3"],
    gap: Float[np.ndarray, " points"],
    normal: Float[np.ndarray, "points 3"] | None = None,
    neighbours: int = 10,
) -> Contacts:
    """Points that are neighbours on the surface; `sums` has one column, the number of edges (1).

    Args:
        xyz: positions.
        gap: from `spacing`; edges are at most twice as long as the larger one of their ends.
        normal: unit length; if given, points that face each other across air are not joined.
        neighbours: of each point.
    """
    count = min(neighbours + 1, len(xyz))
    if count < 2:
        return Contacts(np.zeros((0, 2), np.int64), np.zeros((0, 1)))
    distance, index = cKDTree(xyz).query(xyz, k=count)
    first, second = np.repeat(np.arange(len(xyz)), count - 1), index[:, 1:].ravel().astype(np.int64)
    near = distance[:, 1:].ravel() <= 2 * np.maximum(gap[first], gap[second])
    pair = np.unique(np.sort(np.stack([first[near], second[near]], -1), axis=1), axis=0)
    pair = pair[pair[:, 0] != pair[:, 1]]
    if normal is not None:
        one, other = normal[pair[:, 0]], normal[pair[:, 1]]
        apart = xyz[pair[:, 1]] - xyz[pair[:, 0]]
        facing = ((one * other).sum(1) < -0.5) & ((one * apart).sum(1) > 0) & ((other * apart).sum(1) < 0)
        pair = pair[~facing]
    return Contacts(pair, np.ones((len(pair), 1)))


def agglomerate(
    contacts: Contacts,
    weight: Float[np.ndarray, " regions"],
    means: Float[np.ndarray, "regions dim"],
    merge_cost: MergeCost,
    most: float = EVEN_COST,
) -> Int[np.ndarray, " regions"]:
    """Merge regions in contact, mutually cheapest pairs first, while the cost is below `most`.

    Args:
        contacts: between the initial regions.
        weight: of each region, such as its area; above 0.
        means: features of each region; a merged region has the weighted mean.
        merge_cost: (contacts, weight, means) -> cost of each contact.
        most: pairs of this cost or more are not merged.

    Returns:
        The group of each region, 0 .. groups - 1 without gaps.
    """
    group = np.arange(len(weight))
    for number, *_ in _rounds(contacts, weight, means, merge_cost, most):
        group = number[group]
    return group


@dataclass(frozen=True)
class MergeTree:
    """What agglomeration makes of regions, up to the last merge (a dendrogram).

    Nodes are the regions, 0 .. regions - 1, then the merges; children come before their parents.
    """

    regions: int
    children: Int[np.ndarray, "merges 2"]
    cost: Float[np.ndarray, " nodes"]
    """Merge cost, or that of a child if it is greater, so that it never falls towards the root; 0 for the regions."""
    shared: Float[np.ndarray, "merges sums"]
    """Sums of the contact of the two children."""

    def __len__(self) -> int:
        return self.regions + len(self.children)

    @property
    def parent(self) -> Int[np.ndarray, " nodes"]:
        """Parent of each node; -1 for roots."""
        parent = np.full(len(self), -1)
        parent[self.children] = np.arange(self.regions, len(self))[:, None]
        return parent

    def sums(
        self, values: Float[np.ndarray, "regions dim"], at_merge: Float[np.ndarray, "merges dim"] | float = 0.0
    ) -> Float[np.ndarray, "nodes dim"]:
        """Sums over the regions of each node, and over its merges if they have values, too."""
        found = np.zeros((len(self), values.shape[1]))
        found[: self.regions], found[self.regions :] = values, at_merge
        for node, (one, other) in enumerate(self.children, self.regions):
            found[node] += found[one] + found[other]
        return found

    def labels(self, nodes: Int[np.ndarray, " chosen"]) -> Int[np.ndarray, " regions"]:
        """Which of some disjoint nodes holds each region, by its place in `nodes`; -1 for none."""
        found = np.full(len(self), -1)
        found[nodes] = np.arange(len(nodes))
        for node in range(len(self) - 1, self.regions - 1, -1):
            if found[node] >= 0:
                found[self.children[node - self.regions]] = found[node]
        return found[: self.regions]


def merge_tree(
    contacts: Contacts, weight: Float[np.ndarray, " regions"], means: Float[np.ndarray, "regions dim"],
    merge_cost: MergeCost,
) -> MergeTree:  # fmt: skip
    """The tree of merges until nothing is in contact; arguments as of `agglomerate`."""
    count = len(weight)
    cost, node, children, shared = [0.0] * count, np.arange(count), [], []
    for number, pairs, sums, price in _rounds(contacts, weight, means, merge_cost, np.inf):
        merged = np.empty(int(number.max()) + 1, np.int64)
        merged[number] = node
        for (a, b), row, own in zip(pairs, sums, price, strict=True):
            one, other = int(node[a]), int(node[b])
            merged[number[a]] = len(cost)
            cost.append(max(float(own), cost[one], cost[other]))
            children.append((one, other))
            shared.append(row)
        node = merged
    return MergeTree(
        count,
        np.array(children, np.int64).reshape(-1, 2),
        np.array(cost),
        np.array(shared).reshape(-1, contacts.sums.shape[1]),
    )


def _rounds(
    contacts: Contacts, weight: np.ndarray, means: np.ndarray, merge_cost: MergeCost, most: float
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """In each round: the new number of each region, and the pairs that merge, with their sums and costs."""
    weight = weight.astype(np.float64)
    sums = means.astype(np.float64) * weight[:, None]
    while len(contacts.pair):
        cost = merge_cost(contacts, weight, sums / weight[:, None])
        chosen = _mutual(contacts.pair, cost, len(weight), most)
        if not len(chosen):
            break
        pairs, count = contacts.pair[chosen], len(weight) - len(chosen)
        number = np.empty(len(weight), np.int64)
        keeps = np.ones(len(weight), bool)
        keeps[pairs[:, 1]] = False
        number[keeps] = np.arange(count)
        number[pairs[:, 1]] = number[pairs[:, 0]]
        yield number, pairs, contacts.sums[chosen], cost[chosen]
        sums, weight = add_up(sums, number, count), np.bincount(number, weight, minlength=count)
        contacts = contacts.merged(number, count)


def _mutual(pair: np.ndarray, cost: np.ndarray, count: int, most: float) -> np.ndarray:
    """Rows of the pairs in which each region is the other's cheapest partner."""
    order = np.lexsort((np.arange(len(cost)), cost))
    order = order[cost[order] < most]
    ends = pair[order].ravel()
    best = np.full(count, -1)
    # Written from the most to the least costly, so that the least costly stays.
    best[ends[::-1]] = np.repeat(order, 2)[::-1]
    first, second = pair[order].T
    return order[(best[first] == order) & (best[second] == order)]
