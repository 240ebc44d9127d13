"""The merge cost of adjacent regions, learnt from edge features and region features.

Edge features are means over the common edges, so they can be added up when regions merge:

- the step in colour. Within a plane of the layout only this and the tint count, since pictures and rugs have no shape.
- bends. Concave ones lie where objects stand on or lean against each other (Stein et al. 2014); convex ones lie within
  one object.
- shares of edges that leave a plane of the layout, join two planes, or lie within one.

Region features compare whole regions: appearance (features are blurred over cells of the photos, so edges alone say
little), tint and lightness, size (fragments belong to something), and shape. Shape means width, depth, height and
height above the floor of the union, its growth over either, and which region is above or beside the other: a seat is
within its chair, a mug is on top of its table.

Where the detection head has a say, its votes for the centre and the size of a region's object are compared as well
(see `proposals`).

A network of six thousand weights maps these to the probability of two instances; there is one with votes and one
without. They were trained on rooms with known instances (`scripts/training/train_merging.py`, which also measures them
in held-out rooms), never on real ones. Inputs do not depend on units: sizes are in points, lengths in gaps between
points or in sizes of objects. A greater difference never makes one instance more likely (see `GROWING`).

Colours are CIELAB / 100. Bends are those of `bends`.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from scipy.special import logit

from ovseg3d.instances.graph import Contacts
from ovseg3d.instances.layout import across
from ovseg3d.instances.proposals import VOTE_FEATURES, VOTES, vote_features

PAIR_FEATURES = (
    "step", "bend", "leaves", "convex", "concave", "corner", "flat", "look", "look of the first features",
    "look of the others", "tint", "lightness", "smaller core", "larger core", "smaller", "larger", "share of outline",
    "length", "width", "depth", "height", "bottom", "above", "aside", "growth", "width of the larger",
    "height of the larger", "width of the smaller", "height of the smaller",
)  # fmt: skip
"""Inputs of the network, in this order; the first seven are edge features."""
GROWING = (
    "step", "look", "look of the first features", "look of the others", "tint", "lightness", "votes apart",
    "sizes apart",
)  # fmt: skip
"""Increasing these never makes one instance more likely: the network's weights are constrained."""
WEIGHTS = Path(__file__).with_name("merge_model.json")
ROUND = 0.2
"""Greatest convex bend that counts in "bend": a ball on a ball is convex all around."""
EDGES = 3.0
"""Edges of a point that lead out of a region take the point from its core size."""
MOMENTS = ("x", "y", "z", "x x", "x y", "y y", "z z")
"""Moments of a form, see `moments`."""
THIN = 0.5
"""Deviation of a single point, in gaps: the least extent."""


def tint(lab: Float[np.ndarray, "places 3"]) -> Float[np.ndarray, "places 2"]:
    """Chroma without shade, relative to lightness.

    Less light scales a colour's three numbers alike. CIELAB takes cube roots, so that a, b and L + 16 are scaled alike
    too, and (a, b) / (L + 16) stays; a little more than 16 keeps noise in the dark small.

    Args:
        lab: CIELAB / 100.
    """
    return lab[:, 1:] / (lab[:, :1] + 0.3)


def bends(
    pair: Int[np.ndarray, "edges 2"], xyz: Float[np.ndarray, "points 3"], normal: Float[np.ndarray, "points 3"]
) -> Float[np.ndarray, " edges"]:
    """Bend of the surface between neighbouring points: 0 flat, above 0 concave, below 0 convex.

    The difference of the normals along the line between them: (n_i - n_j) . (x_j - x_i) / |x_j - x_i|, after the
    criterion for convex connections of Stein et al. (2014), Object Partitioning using Local Convexity.
    """
    i, j = pair.T
    apart = xyz[j] - xyz[i]
    apart = apart / np.maximum(np.linalg.norm(apart, axis=1, keepdims=True), 1e-12)
    return ((normal[i] - normal[j]) * apart).sum(1)


def edge_features(border: Contacts, plane: Int[np.ndarray, " superpoints"]) -> Contacts:
    """Edge features of each contact: `sums` are its number of edges, and that times each edge feature.

    Args:
        border: sums are the number of edges, their steps in colour and their bends.
        plane: layout plane of each superpoint, from 1; 0 for none.
    """
    edges, step, bend = border.sums.T
    first, second = plane[border.pair].T
    flat = (first == second) & (first > 0)
    bend = np.where(flat, 0.0, bend / edges)  # bends within a plane are noise
    corner = (first > 0) & (second > 0) & (first != second)
    found = [
        np.ones(len(edges)), step / edges, np.maximum(bend, -ROUND), first != second, np.minimum(bend, 0),
        np.maximum(bend, 0), corner, flat,
    ]  # fmt: skip
    return Contacts(border.pair, edges[:, None] * np.stack(found, 1))


def moments(
    xyz: Float[np.ndarray, "points 3"], up: Float[np.ndarray, "3"], floor: float, gap: float
) -> Float[np.ndarray, "points moments"]:
    """Moments of points, whose means describe a form: x, y, z, x^2, xy, y^2, z^2.

    In gaps; z is the height above the floor, x and y are relative to the mean of all points.

    Args:
        up: unit vector.
        floor: its height along `up`.
        gap: typical distance between points.
    """
    x, y, z = (((xyz - xyz.mean(0)) @ axis) / gap for axis in (*across(up), up))
    z += (xyz.mean(0) @ up - floor) / gap
    return np.stack([x, y, z, x * x, x * y, y * y, z * z], 1)


def spread(
    form: Float[np.ndarray, "regions moments"],
) -> tuple[Float[np.ndarray, " regions"], Float[np.ndarray, " regions"], Float[np.ndarray, " regions"]]:
    """Standard deviations of regions' points in gaps, from their mean `moments`: the largest and the least horizontal
    one, and that of their heights."""
    x, y, z, xx, xy, yy, zz = form.T
    xx, xy, yy, zz = xx - x * x, xy - x * y, yy - y * y, zz - z * z
    middle, off = (xx + yy) / 2, np.sqrt(((xx - yy) / 2) ** 2 + xy**2)
    width, depth, height = (np.sqrt(np.maximum(value, 0) + THIN**2) for value in (middle + off, middle - off, zz))
    return width, depth, height


def _shapes(form: np.ndarray, weight: np.ndarray, a: np.ndarray, b: np.ndarray) -> list[np.ndarray]:
    """The features of pairs that follow from their regions' forms."""
    # Of two equally large regions the lower one counts as the larger, whatever their numbers.
    less = np.where(weight[a] == weight[b], form[a, 2] > form[b, 2], weight[a] < weight[b])
    small, large = np.where(less, a, b), np.where(less, b, a)
    share = (weight[small] / (weight[small] + weight[large]))[:, None]
    both = share * form[small] + (1 - share) * form[large]
    inner, outer, (width, depth, height) = spread(form[small]), spread(form[large]), spread(both)
    bottom = np.log1p(np.maximum(both[:, 2] - 2 * height, 0))
    above = (form[small, 2] - form[large, 2]) / (inner[2] + outer[2])
    aside = np.linalg.norm(form[small, :2] - form[large, :2], axis=1) / (inner[0] + outer[0])
    growth = width * depth * height / np.maximum(np.prod(inner, 0), np.prod(outer, 0))
    logs = (np.log(value) for value in (growth, outer[0], outer[2], inner[0], inner[2]))
    return [np.log(width), np.log(depth), np.log(height), bottom, above, aside, *logs]


def pair_features(
    contacts: Contacts,
    weight: Float[np.ndarray, " regions"],
    means: Float[np.ndarray, "regions dim"],
    first: int | None,
) -> Float[np.ndarray, "contacts features"]:
    """Inputs of the network for each pair of regions, see `PAIR_FEATURES`.

    Args:
        contacts: from `edge_features`, merged or not.
        weight: number of points of each region.
        means: form of each region (see `moments`), its appearance, then its colour (3).
        first: columns of appearance that are of the first set of features; None: there is one set, and its distance is
            split equally.
    """
    a, b = contacts.pair.T
    edges = contacts.sums[:, 0]
    form, means = np.split(means, [len(MOMENTS)], 1)
    outline = np.bincount(a, edges, len(weight)) + np.bincount(b, edges, len(weight))
    core = weight * np.clip(1 - outline / (EDGES * weight), 0.05, 1)
    apart, hue = means[a] - means[b], tint(means[:, -3:])
    look = np.linalg.norm(apart[:, :-3], axis=1)
    if first is None:
        halves = [look / np.sqrt(2)] * 2
    else:
        halves = [np.linalg.norm(apart[:, :first], axis=1), np.linalg.norm(apart[:, first:-3], axis=1)]
    size = np.minimum(weight[a], weight[b])
    whole = [
        look, *halves, np.linalg.norm(hue[a] - hue[b], axis=1), np.abs(apart[:, -3]),
        np.log(np.minimum(core[a], core[b])), np.log(np.maximum(core[a], core[b])), np.log(size),
        np.log(np.maximum(weight[a], weight[b])), edges / np.minimum(outline[a], outline[b]),
        np.log(edges / np.sqrt(size)), *_shapes(form, weight, a, b),
    ]  # fmt: skip
    return np.concatenate([contacts.sums[:, 1:] / edges[:, None], np.stack(whole, 1)], 1)


@dataclass(frozen=True)
class MergeModel:
    """Log-odds of two instances: the mean logit of networks with one hidden layer and a linear skip connection.

    The skip connection still grows where the hidden layer saturates.
    """

    mean: Float[np.ndarray, " features"]
    deviation: Float[np.ndarray, " features"]
    hidden: Float[np.ndarray, "features+1 hidden"]
    """Weights, and offsets in the last row; all networks side by side."""
    output: Float[np.ndarray, " hidden+1"]
    direct: Float[np.ndarray, " features"]

    def __call__(self, told: Float[np.ndarray, "contacts features"]) -> Float[np.ndarray, " contacts"]:
        """Log-odds of two instances against one, from `MergeCost.inputs`."""
        scaled = (told - self.mean) / self.deviation
        hidden = np.tanh(scaled @ self.hidden[:-1] + self.hidden[-1])
        return hidden @ self.output[:-1] + self.output[-1] + scaled @ self.direct


@cache
def shipped(name: str) -> MergeModel:
    """A model of the package: "form", or "head" with the detection head's votes."""
    kept = json.loads(WEIGHTS.read_text())[name]
    features = [*PAIR_FEATURES, *VOTE_FEATURES] if name == "head" else [*PAIR_FEATURES]
    assert kept["features"] == features, "train_merging.py was not run since the features changed"
    return MergeModel(*(np.array(kept[name]) for name in ("mean", "deviation", "hidden", "output", "direct")))


@dataclass(frozen=True)
class MergeConfig:
    """When two regions merge."""

    limit: float = 0.2
    """Probability of two instances from which they do not merge."""
    form: Callable[[np.ndarray], np.ndarray] | None = None
    """Log-odds of two instances where the head has no votes, see `MergeCost.inputs`; by default the package's..."""
    head: Callable[[np.ndarray], np.ndarray] | None = None
    """...and where it has."""


@dataclass(frozen=True)
class MergeCost:
    """The merge cost of two regions, for `agglomerate`: below 1 they merge.

    It is the negative logarithm of the probability of one instance, relative to that at the limit. Means are those of
    `pair_features`, then, where the head has a say, its votes (`Proposals.votes`).
    """

    config: MergeConfig
    first: int | None = None
    """See `pair_features`."""
    votes: bool = False
    """Whether the head has a say."""

    def inputs(
        self, contacts: Contacts, weight: Float[np.ndarray, " regions"], means: Float[np.ndarray, "regions dim"]
    ) -> Float[np.ndarray, "contacts features"]:
        """Inputs of the network: `PAIR_FEATURES`, then `VOTE_FEATURES` where the head has a say."""
        if not self.votes:
            return pair_features(contacts, weight, means, self.first)
        means, votes = np.split(means, [-len(VOTES)], 1)
        own = pair_features(contacts, weight, means, self.first)
        return np.concatenate([own, vote_features(contacts, votes)], 1)

    def __call__(
        self, contacts: Contacts, weight: Float[np.ndarray, " regions"], means: Float[np.ndarray, "regions dim"]
    ) -> Float[np.ndarray, " contacts"]:
        if self.votes:
            model = self.config.head or shipped("head")
        else:
            model = self.config.form or shipped("form")
        two = model(self.inputs(contacts, weight, means))
        # In single precision equal pairs cost the same wherever they stand in a matrix product.
        return (np.logaddexp(0, two) / np.logaddexp(0, logit(self.config.limit))).astype(np.float32)
