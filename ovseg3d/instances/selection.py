"""Which nodes of the merge tree are instances.

A merge may make an object whole or join two objects, so no merge is final. Each node of the tree is a candidate, and a
quadratic logistic function of its features gives its quality: the expected share of the IoU thresholds from 0.5 to 0.95
that it meets with a true instance.

    log odds = offset + linear . x + x . square x,    x: standardised features, within `REACH`

Features are a node's form, what it touches, its own merge and the next one. In rooms there are also those of the
detection head's proposals for its points: the head knows the usual shapes of objects, which merging does not. Nodes
contain one another, and an object is one of them, so disjoint nodes are chosen, with the greatest sum of

    quality - least

so that one more instance has to be worth `least`. The sum is greatest for a tree if it is for its subtrees, so one pass
from the leaves finds it (as trees are pruned: Breiman et al. 1984, Classification and Regression Trees).

The models were fitted to rooms with known instances (`scripts/training/train_selection.py`), never to real ones. Apart
from those of the head, features do not depend on units.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import expit, logit

from ovseg3d.instances.adjacency import spread
from ovseg3d.instances.graph import MergeTree, add_up
from ovseg3d.instances.layout import NONE
from ovseg3d.instances.proposals import LEAST_CHANCE, NEAR, Proposals
from ovseg3d.instances.superpoints import Superpoints

FORM = (
    "points", "own cost", "next cost", "width", "depth", "height", "bottom", "outline", "outline with the layout",
    "on planes",
)  # fmt: skip
"""Features of a node, in this order; all but the last two as logarithms."""
HEAD = (
    "foreground", "likest proposal", "IoU of the likest", "inside a larger proposal", "around a smaller proposal",
    "proposals inside", "spread of votes", "votes off the middle", "size against votes", "height against votes",
)  # fmt: skip
"""Features that follow from what the detection head says: its proposals, each of which counts with its score, and how
far the points' votes for an object agree with each other and with the points."""
WEIGHTS = Path(__file__).with_name("selection.json")
FREE = 0.01
"""Merge costs count from here up to its inverse: leaves have none, and roots no next one."""
REACH = 3.0
"""Features are clipped at so many deviations from the mean."""
LARGER = 2.0
"""A proposal with so many times the points of a node may hold it as a part, and the other way round."""


def node_features(
    tree: MergeTree,
    inside: Int[np.ndarray, " regions"],
    made: Superpoints,
    layout: Int[np.ndarray, " superpoints"],
    proposals: Proposals | None = None,
) -> Float[np.ndarray, "nodes features"]:
    """`FORM` of each node; with proposals, `HEAD` as well.

    Args:
        tree: of some superpoints...
        inside: ...namely these.
        made: all superpoints.
        layout: the class of each, NONE for objects.
        proposals: of the same points.
    """
    form = _form(tree, inside, made, layout)
    return form if proposals is None else np.concatenate([form, _head(tree, inside, made, proposals)], 1)


def _form(tree: MergeTree, inside: np.ndarray, made: Superpoints, layout: np.ndarray) -> np.ndarray:
    (a, b), edges, count = made.adjacency.pair.T, made.adjacency.sums[:, 0], len(made.weight)
    ends, beyond = np.concatenate([a, b]), np.concatenate([b, a])
    along = np.concatenate([edges, edges])
    outline = np.bincount(ends, along, count)[inside]
    with_layout = np.bincount(ends, along * (layout[beyond] != NONE), count)[inside]
    weight = made.weight[inside]
    own = np.stack([weight, weight * (made.kind[inside] != NONE), outline, with_layout], 1)
    within = np.zeros((len(tree.children), own.shape[1]))
    within[:, 2] = -2 * tree.shared[:, 0]  # the outline of neither, once they are one
    size, on_planes, outline, with_layout = tree.sums(own, within).T
    form = tree.sums(made.form[inside] * weight[:, None]) / size[:, None]
    width, depth, height = spread(form)
    following = np.where(tree.parent < 0, np.inf, tree.cost[tree.parent])
    return np.stack([
        np.log(size), np.log(tree.cost.clip(FREE, 1 / FREE)), np.log(following.clip(FREE, 1 / FREE)),
        np.log(width), np.log(depth), np.log(height),
        np.log1p(np.maximum(form[:, 2] - 2 * height, 0)), np.log1p(outline / np.sqrt(size)),
        with_layout / np.maximum(outline, 1), on_planes / size,
    ], 1)  # fmt: skip


def _head(tree: MergeTree, inside: np.ndarray, made: Superpoints, proposals: Proposals) -> np.ndarray:
    count = len(made.weight)
    common = [np.bincount(made.superpoint[mask], minlength=count) for mask in proposals.masks]
    sums = [made.weight, np.bincount(made.superpoint, proposals.foreground, count), *common]
    size, foreground, *common = tree.sums(np.stack(sums, 1)[inside]).T[:, :, None]
    common = np.concatenate([np.zeros_like(size), *common], 1)  # with one proposal of no points: there may be none
    points = np.array([1, *(max(len(mask), 1) for mask in proposals.masks)])
    score = np.concatenate([[0.0], proposals.scores])
    iou = common / (size + points - common)
    return np.stack([
        logit((foreground / size)[:, 0].clip(LEAST_CHANCE, 1 - LEAST_CHANCE)), (iou * score).max(1), iou.max(1),
        (common / size * score * (points > LARGER * size)).max(1),
        (common / points * score * (size > LARGER * points)).max(1),
        (score * (2 * common > points)).sum(1), *_votes(tree, inside, made, proposals),
    ], 1)  # fmt: skip


def _votes(tree: MergeTree, inside: np.ndarray, made: Superpoints, proposals: Proposals) -> list[np.ndarray]:
    """The last four of `HEAD`."""
    middle, chance = made.xyz.mean(0), proposals.foreground[:, None]
    xyz, center = made.xyz - middle, proposals.centers - middle
    own = [
        chance, chance * center, chance * (center**2).sum(1, keepdims=True), chance * proposals.log_sizes,
        np.ones_like(chance), xyz,
    ]  # fmt: skip
    sums = add_up(np.concatenate(own, 1), made.superpoint, len(made.weight))
    sums = tree.sums(np.concatenate([sums, made.form * made.weight[:, None]], 1)[inside])
    widths = [values.shape[1] for values in own]
    chance, center, square, log_size, points, xyz, form = np.split(sums, np.cumsum(widths), 1)
    center, square, log_size = (value / np.maximum(chance, 1e-12) for value in (center, square, log_size))
    xyz, size = xyz / points, np.exp(log_size.mean(1))
    extent = np.log(np.stack(spread(form / points), 1) * made.gap)
    apart = np.sqrt(np.maximum(square[:, 0] - (center**2).sum(1), 0)) / size
    off = np.linalg.norm(center - xyz, axis=1) / size
    return [
        np.log(apart + NEAR), np.log(off + NEAR), extent.mean(1) - log_size.mean(1), extent[:, 2] - log_size[:, 2]
    ]  # fmt: skip


@dataclass(frozen=True)
class SelectionModel:
    """Log odds of the quality of a node."""

    mean: Float[np.ndarray, " features"]
    deviation: Float[np.ndarray, " features"]
    linear: Float[np.ndarray, " features"]
    square: Float[np.ndarray, "features features"]
    offset: float

    def __call__(self, features: Float[np.ndarray, "nodes features"]) -> Float[np.ndarray, " nodes"]:
        """Log odds, from `node_features`."""
        x = self.scaled(features)
        return self.offset + x @ self.linear + ((x @ self.square) * x).sum(1)

    def scaled(self, features: Float[np.ndarray, "nodes features"]) -> Float[np.ndarray, "nodes features"]:
        """Standardised, within `REACH`."""
        return ((features - self.mean) / self.deviation).clip(-REACH, REACH)


@cache
def shipped(name: str) -> SelectionModel:
    """A model of the package: "form", or "head" with all features."""
    kept = json.loads(WEIGHTS.read_text())
    assert kept["features"] == [*FORM, *HEAD], "train_selection.py was not run since the features changed"
    values = kept[name]
    mean, deviation, linear, square = (np.array(values[key]) for key in ("mean", "deviation", "linear", "square"))
    return SelectionModel(mean, deviation, linear, square, values["offset"])


@dataclass(frozen=True)
class SelectionConfig:
    """Which nodes are instances."""

    least: float = 0.06
    """Least quality of an instance where there are proposals..."""
    least_by_form: float = 0.1
    """...and where there are none: then quality is less certain."""
    form: SelectionModel | None = None
    """Where there are no proposals; by default the package's..."""
    head: SelectionModel | None = None
    """...and where there are."""

    def select(
        self,
        tree: MergeTree,
        features: Float[np.ndarray, "nodes features"],
        allowed: Bool[np.ndarray, " nodes"],
    ) -> Int[np.ndarray, " instances"]:
        """The nodes that are instances.

        Args:
            tree: of regions.
            features: from `node_features`.
            allowed: which nodes may be instances.
        """
        least = self.least_by_form if features.shape[1] == len(FORM) else self.least
        return best_nodes(tree, np.where(allowed, self.quality(features) - least, -1.0))

    def quality(self, features: Float[np.ndarray, "nodes features"]) -> Float[np.ndarray, " nodes"]:
        """Quality of each node, 0 to 1, from `node_features`."""
        by_form = features.shape[1] == len(FORM)
        model = self.form or shipped("form") if by_form else self.head or shipped("head")
        return expit(model(features))


def best_nodes(tree: MergeTree, value: Float[np.ndarray, " nodes"]) -> Int[np.ndarray, " chosen"]:
    """The disjoint nodes with the greatest sum of values, none of them 0 or less; rather one than many of its sum."""
    best = np.maximum(value, 0.0)
    for node, children in enumerate(tree.children, tree.regions):
        best[node] = max(best[node], best[children].sum())
    chosen, parent = value >= best, tree.parent
    chosen &= value > 0
    covered = np.zeros(len(tree), bool)
    for node in range(len(tree) - 1, -1, -1):
        above = parent[node]
        covered[node] = above >= 0 and (covered[above] or chosen[above])
    return np.flatnonzero(chosen & ~covered)
