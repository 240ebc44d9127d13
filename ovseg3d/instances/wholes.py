"""Which regions of surface are things, and which are scraps of one, or of the room.

Every region that stands apart may be a thing, and most small ones are none: a drawer's front, what a lamp's light left
on a wall, a ragged edge. How likely a region is a thing, found more or less whole, was learnt from rooms whose things
are known (`scripts/training/train_borders.py`) as a logistic function of its traits and their squares,

    log odds = offset + linear . x + square . x^2,    x: traits by their mean and deviation, within `REACH`

Traits do not depend on units. Real rooms it never saw, so it has to be sure of a scrap (`WholeConfig.least`).
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import expit

from ovseg3d.instances.borders import MOMENTS, spread
from ovseg3d.instances.graph import Contacts

TRAITS = (
    "points", "apart from the likest", "apart", "outline that may be none", "outline", "outline with the room",
    "on planes", "width", "depth", "height", "bottom",
)  # fmt: skip
"""What is told of a region, in this order; sizes and lengths as logarithms."""
WEIGHTS = Path(__file__).with_name("wholes.json")
SURE = 6.0
"""Log-odds of a border beyond which it does not matter how sure it is."""
REACH = 3.0
"""Deviations from the mean that a trait can be."""


def traits(
    contacts: Contacts,
    two: Float[np.ndarray, " contacts"],
    weight: Float[np.ndarray, " regions"],
    means: Float[np.ndarray, "regions dim"],
    on_planes: Float[np.ndarray, " regions"],
    room: Bool[np.ndarray, " regions"],
) -> Float[np.ndarray, "regions traits"]:
    """`TRAITS` of regions.

    Args:
        contacts: of regions; their sums begin with edges.
        two: log-odds that the two regions of a contact are two things, see `borders.BorderModel`.
        weight: points of each region.
        means: what a region is like, beginning with its form (see `borders.moments`).
        on_planes: share of its points that lie on a plane of the room.
        room: which regions are the room.
    """
    count, edges = len(weight), contacts.sums[:, 0]
    chance, least = expit(two), np.full(count, SURE)

    def along(values: np.ndarray) -> np.ndarray:
        """Sums over each region's outline of what is known of a contact, or of the region on its other side."""
        values = np.broadcast_to(values, (len(edges), 2)) * edges[:, None]
        return np.bincount(contacts.pair.ravel(), values.ravel(), count)

    for side in contacts.pair.T:
        np.minimum.at(least, side, two.clip(-SURE, SURE))
    outline = along(np.ones((1, 1)))
    whole = np.maximum(outline, 1)
    width, depth, height = spread(means[:, :MOMENTS])
    found = [
        np.log(weight), least, along(chance[:, None]) / whole, along((chance < 0.5)[:, None]) / whole,
        np.log1p(outline / np.sqrt(weight)), along(room[contacts.pair[:, ::-1]]) / whole, on_planes,
        np.log(width), np.log(depth), np.log(height), np.log1p(np.maximum(means[:, 2] - 2 * height, 0)),
    ]  # fmt: skip
    return np.stack(found, 1)


@dataclass(frozen=True)
class WholeModel:
    """How likely a region is a thing."""

    mean: Float[np.ndarray, " traits"]
    deviation: Float[np.ndarray, " traits"]
    linear: Float[np.ndarray, " traits"]
    square: Float[np.ndarray, " traits"]
    offset: float

    def __call__(self, told: Float[np.ndarray, "regions traits"]) -> Float[np.ndarray, " regions"]:
        """Log-odds, from `traits`."""
        x = self.scaled(told)
        return self.offset + x @ self.linear + x**2 @ self.square

    def scaled(self, told: Float[np.ndarray, "regions traits"]) -> Float[np.ndarray, "regions traits"]:
        """By mean and deviation, within `REACH`."""
        return ((told - self.mean) / self.deviation).clip(-REACH, REACH)


@cache
def shipped() -> WholeModel:
    """The one that comes with the package."""
    kept = json.loads(WEIGHTS.read_text())
    assert kept["traits"] == list(TRAITS), "train_borders.py was not run since traits changed"
    return WholeModel(
        *(np.array(kept[name], float) for name in ("mean", "deviation", "linear", "square")), kept["offset"]
    )


@dataclass(frozen=True)
class WholeConfig:
    """When a region is a thing."""

    least: float = 0.03
    """How likely it is one, at least."""
    evaluator: Callable[[np.ndarray], np.ndarray] = field(default_factory=shipped)
    """From `traits` of regions to the log-odds that each is a thing."""

    def instances(self, told: Float[np.ndarray, "regions traits"]) -> Bool[np.ndarray, " regions"]:
        """Which regions are things."""
        return expit(self.evaluator(told)) >= self.least
