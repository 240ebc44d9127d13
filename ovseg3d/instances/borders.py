"""Whether two regions of surface that touch are one thing: what speaks against it along their common border.

Cues of a border are means over its edges, so that what is known of it stays known when regions merge:

- the step in colour from one side to the other. Within a plane of the room this and the tint are all there is, since
  pictures and rugs have no shape.
- bends. Concave ones are where things stand on or lean against each other (Stein et al. 2014); convex ones are of one
  thing.
- photos one of whose regions ends there.
- how much of it leads from a plane of the room to none or another one, between two planes, or lies within one.

Regions as wholes are compared in looks (features are blurred over their cells in the photos, so that at the border
itself they say little), tint and lightness, and sizes count: scraps belong to something. So do shapes: what both
together would be (how wide, deep and high, how far above the floor, how much larger than either), and which of them is
above or beside the other. A seat is within its chair, and a mug is on top of its table.

What all of that is worth together was learnt, by a network of six thousand weights, from rooms whose things are known
(`scripts/training/train_borders.py`, which also tells how well it does in rooms that it was not taught with). It says
how likely two regions are two things. Real rooms it never saw. Measures do not depend on units (sizes are counted in
points, and lengths in gaps between them), the more that two regions differ the more likely they are two (see
`GROWING`), and what is far beyond what was seen counts as if it were less.

Colours are CIELAB / 100. Bends are those of `bends`.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, Integer
from scipy.special import logit

from ovseg3d.field.surface import Visibility
from ovseg3d.instances.graph import Contacts, majority

MEASURES = (
    "step", "bend", "photos", "leaves", "convex", "concave", "corner", "flat", "look", "look of the first features",
    "look of the others", "tint", "lightness", "smaller core", "larger core", "smaller", "larger", "share of outline",
    "length", "width", "depth", "height", "bottom", "above", "aside", "growth", "width of the larger",
    "height of the larger", "width of the smaller", "height of the smaller",
)  # fmt: skip
"""What the network is told of two regions, in this order; the first eight are cues of their border."""
GROWING = ("step", "photos", "look", "look of the first features", "look of the others", "tint", "lightness")
"""More of these never makes one thing more likely: the network's weights are such that it cannot."""
WEIGHTS = Path(__file__).with_name("borders.json")
DEEP, ROUND = 0.5, 0.2
"""Bends, concave and convex, beyond which "bend" does not tell more: normals that were fitted to points turn little
from a point to the next, and a ball on a ball is convex all around."""
RIGHT = 1.5
"""The same for "concave". A right angle is 1 from a face to its edge, and more across a corner."""
SEAM, EDGES = 2.0, 6.0
"""A region counts as small where it consists of border: of about six edges that a point has, how many lead out of it,
and how much of its size each share of these takes."""
MOMENTS = 7
"""Numbers of a form, see `moments`."""
THIN = 0.5
"""Deviation of a point's own place, in gaps: nothing is thinner."""
REACH = 8.0
"""Standard deviations from the mean of what was seen in training that a measure can be."""


def tint(lab: Float[np.ndarray, "places 3"]) -> Float[np.ndarray, "places 2"]:
    """Chroma without shade: that of the same colour at a lightness of 0.5.

    Less light scales a colour's three numbers alike. CIELAB takes cube roots, so that a, b and L + 16 are scaled alike
    too, and (a, b) / (L + 16) stays; a little more than 16 keeps noise in the dark small.

    Args:
        lab: CIELAB / 100.
    """
    return 0.8 * lab[:, 1:] / (lab[:, :1] + 0.3)


def bends(
    pair: Int[np.ndarray, "edges 2"], xyz: Float[np.ndarray, "points 3"], normal: Float[np.ndarray, "points 3"]
) -> Float[np.ndarray, " edges"]:
    """How the surface bends from one point to the next: 0 flat, above 0 concave, below 0 convex.

    The difference of the normals along the line between them: (n_i - n_j) . (x_j - x_i) / |x_j - x_i|, after the
    criterion for convex connections of Stein et al. (2014), Object Partitioning using Local Convexity.
    """
    i, j = pair.T
    apart = xyz[j] - xyz[i]
    apart = apart / np.maximum(np.linalg.norm(apart, axis=1, keepdims=True), 1e-12)
    return ((normal[i] - normal[j]) * apart).sum(1)


def votes(
    pair: Int[np.ndarray, "contacts 2"],
    patch: Int[np.ndarray, " points"],
    count: int,
    visibilities: Sequence[Visibility],
    regions: Sequence[Integer[np.ndarray, "_ _"]],
) -> Float[np.ndarray, " contacts"]:
    """How much less often than usual the photos that see both patches of a pair put them on one region, -1 to 1.

    Args:
        pair: patches that touch.
        patch: of each point.
        count: how many patches there are.
        sights: what each photo sees.
        regions: a map for each of `visibilities`, or none at all.
    """
    same, both = np.zeros(len(pair)), np.zeros(len(pair))
    for visibility, region in zip(visibilities, regions, strict=True) if regions else ():
        h, w = region.shape
        column, row = np.clip((visibility.xy * (w, h)).astype(np.int64), 0, (w - 1, h - 1)).T
        most = majority(patch[visibility.point], region[row, column].astype(np.int64), count, 0.0, missing=-1)
        first, second = most[pair].T
        seen = (first >= 0) & (second >= 0)
        both += seen
        same += seen & (first == second)
    asked = both > 0
    share = same / np.maximum(both, 1)
    # Photos may be cut finely or coarsely: only the difference to the other borders says anything.
    usual = float(np.median(share[asked])) if asked.any() else 0.0
    return np.where(asked, usual - share, 0.0)


def cues(border: Contacts, plane: Int[np.ndarray, " patches"], vote: Float[np.ndarray, " contacts"]) -> Contacts:
    """What is known of each contact of patches: `sums` are its edges, and these times the border's cues.

    Args:
        border: its sums are edges, their steps in colour and their bends, each added up.
        plane: of the room that a patch lies on, from 1; 0 for none.
        vote: from `votes`.
    """
    edges, step, bend = border.sums.T
    first, second = plane[border.pair].T
    flat = (first == second) & (first > 0)
    bend = np.where(flat, 0.0, bend / edges)  # noise makes dents in walls; what is flat on one differs in colour alone
    corner = (first > 0) & (second > 0) & (first != second)
    found = [
        np.ones(len(edges)), step / edges, bend.clip(-ROUND, DEEP), vote, first != second, bend.clip(-1, 0),
        bend.clip(0, RIGHT), corner, flat,
    ]  # fmt: skip
    return Contacts(border.pair, edges[:, None] * np.stack(found, 1))


def moments(
    xyz: Float[np.ndarray, "points 3"], up: Float[np.ndarray, "3"], floor: float, gap: float
) -> Float[np.ndarray, "points moments"]:
    """What a form is the mean of: x, y and z of points, x^2, xy, y^2 and z^2.

    In gaps; z is the height above the floor, x and y count from the middle of all points.

    Args:
        up: unit vector.
        floor: its height along `up`.
        gap: typical distance between points.
    """
    aside = np.eye(3)[np.abs(up).argmin()]
    aside = np.cross(up, aside) / np.linalg.norm(np.cross(up, aside))
    x, y, z = (((xyz - xyz.mean(0)) @ axis) / gap for axis in (aside, np.cross(up, aside), up))
    z += (xyz.mean(0) @ up - floor) / gap
    return np.stack([x, y, z, x * x, x * y, y * y, z * z], 1)


def spread(
    form: Float[np.ndarray, "regions moments"],
) -> tuple[Float[np.ndarray, " regions"], Float[np.ndarray, " regions"], Float[np.ndarray, " regions"]]:
    """Deviations of regions' points in gaps, from their mean `moments`: the largest and the least seen from above, and
    that of their heights."""
    x, y, z, xx, xy, yy, zz = form.T
    xx, xy, yy, zz = xx - x * x, xy - x * y, yy - y * y, zz - z * z
    middle, off = (xx + yy) / 2, np.sqrt(((xx - yy) / 2) ** 2 + xy**2)
    width, depth, height = (np.sqrt(np.maximum(value, 0) + THIN**2) for value in (middle + off, middle - off, zz))
    return width, depth, height


def _shapes(form: np.ndarray, weight: np.ndarray, a: np.ndarray, b: np.ndarray) -> list[np.ndarray]:
    """The measures of pairs that their regions' forms tell."""
    # Of two that are equally large the lower one is the larger, whatever their numbers.
    less = np.where(weight[a] == weight[b], form[a, 2] > form[b, 2], weight[a] < weight[b])
    small, large = np.where(less, a, b), np.where(less, b, a)
    share = (weight[small] / (weight[small] + weight[large]))[:, None]
    both = share * form[small] + (1 - share) * form[large]
    inner, outer, (width, depth, height) = spread(form[small]), spread(form[large]), spread(both)
    bottom = np.log1p(np.maximum(both[:, 2] - 2 * height, 0))
    above = ((form[small, 2] - form[large, 2]) / (inner[2] + outer[2])).clip(-3, 3)
    aside = np.linalg.norm(form[small, :2] - form[large, :2], axis=1) / (inner[0] + outer[0])
    growth = width * depth * height / np.maximum(np.prod(inner, 0), np.prod(outer, 0))
    logs = (np.log(value) for value in (growth, outer[0], outer[2], inner[0], inner[2]))
    return [np.log(width), np.log(depth), np.log(height), bottom, above, aside, *logs]


def measures(
    contacts: Contacts,
    weight: Float[np.ndarray, " regions"],
    means: Float[np.ndarray, "regions dim"],
    first: int | None,
) -> Float[np.ndarray, "contacts measures"]:
    """What the network is told of each pair of regions, see `MEASURES`.

    Args:
        contacts: from `cues`, merged or not.
        weight: points of each region.
        means: its form (see `moments`), its looks, then the three numbers of its colour.
        first: how many of the looks are of the first features; None where all are of the same, and each half is told
            half of it.
    """
    a, b = contacts.pair.T
    edges = contacts.sums[:, 0]
    form, means = means[:, :MOMENTS], means[:, MOMENTS:]
    outline = np.bincount(a, edges, len(weight)) + np.bincount(b, edges, len(weight))
    core = weight * np.clip(1 - SEAM * outline / (EDGES * weight), 0.05, 1)
    apart, hue = means[a] - means[b], tint(means[:, -3:])
    look = np.linalg.norm(apart[:, :-3], axis=1)
    if first is None:
        halves = [look / 2**0.5] * 2
    else:
        halves = [np.linalg.norm(apart[:, :first], axis=1), np.linalg.norm(apart[:, first:-3], axis=1)]
    size = np.minimum(weight[a], weight[b])
    whole = [
        look, *halves, np.linalg.norm(hue[a] - hue[b], axis=1), np.abs(apart[:, -3]),
        np.log(np.minimum(core[a], core[b])), np.log(np.maximum(core[a], core[b])), np.log(size),
        np.log(np.maximum(weight[a], weight[b])), edges / np.minimum(outline[a], outline[b]),
        np.log(edges / size**0.5), *_shapes(form, weight, a, b),
    ]  # fmt: skip
    return np.concatenate([contacts.sums[:, 1:] / edges[:, None], np.stack(whole, 1)], 1)


@dataclass(frozen=True)
class BorderModel:
    """How likely two regions are two things: networks with one hidden layer and a direct way, whose mean logit counts.

    The direct way still says more where the hidden layer has said all it can.
    """

    mean: Float[np.ndarray, " measures"]
    deviation: Float[np.ndarray, " measures"]
    hidden: Float[np.ndarray, "measures+1 hidden"]
    """Weights, and offsets in the last row; of all networks side by side."""
    output: Float[np.ndarray, " hidden+1"]
    direct: Float[np.ndarray, " measures"]

    def __call__(self, told: Float[np.ndarray, "contacts measures"]) -> Float[np.ndarray, " contacts"]:
        """Log-odds of two things against one, from `measures`."""
        scaled = ((told - self.mean) / self.deviation).clip(-REACH, REACH)
        hidden = np.tanh(scaled @ self.hidden[:-1] + self.hidden[-1])
        return hidden @ self.output[:-1] + self.output[-1] + scaled @ self.direct


@cache
def shipped() -> BorderModel:
    """The one that comes with the package."""
    kept = json.loads(WEIGHTS.read_text())
    assert kept["measures"] == list(MEASURES), "train_borders.py was not run since measures changed"
    return BorderModel(*(np.array(kept[name]) for name in ("mean", "deviation", "hidden", "output", "direct")))


@dataclass(frozen=True)
class BorderConfig:
    """When two regions are one."""

    limit: float = 0.2
    """How likely they are two things, at least, where they stay two."""
    evaluator: Callable[[np.ndarray], np.ndarray] = field(default_factory=shipped)
    """From what `measures` tells of pairs to the log-odds of two things."""


@dataclass(frozen=True)
class Price:
    """What merging two regions costs, for `agglomerate`: below 1 they are one.

    It is minus the logarithm of how likely they are one thing, in units of what it is at the limit. Means are those
    of `measures`.
    """

    config: BorderConfig
    first: int | None = None
    """See `measures`."""

    def __call__(
        self, contacts: Contacts, weight: Float[np.ndarray, " regions"], means: Float[np.ndarray, "regions dim"]
    ) -> Float[np.ndarray, " contacts"]:
        two = self.config.evaluator(measures(contacts, weight, means, self.first))
        # Rounded, so that what is alike costs the same, wherever it stands in a product of matrices.
        return np.round(np.logaddexp(0, two) / np.logaddexp(0, logit(self.config.limit)), 9)
