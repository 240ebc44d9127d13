"""Objectness: which regions are instances, and which are fragments of one or of the layout.

Most small regions are not instances: a drawer's front, a lamp's light on a wall, a ragged edge. The probability that a
region is a complete instance is a logistic function of its region features and their squares, fitted to rooms with
known instances (`scripts/training/train_merging.py`):

    log odds = offset + linear . x + square . x^2,    x: standardised features, within `REACH`

Features do not depend on units. It was never fitted to real rooms, so only clear fragments are rejected
(`ObjectnessConfig.least`).
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import expit

from ovseg3d.instances.adjacency import MOMENTS, spread
from ovseg3d.instances.graph import Contacts

REGION_FEATURES = (
    "points", "apart from the likest", "apart", "outline that may be none", "outline", "outline with the room",
    "on planes", "width", "depth", "height", "bottom",
)  # fmt: skip
"""Region features, in this order; sizes and lengths as logarithms."""
WEIGHTS = Path(__file__).with_name("objectness.json")
SURE = 6.0
"""Log-odds of contacts are clipped here."""
REACH = 3.0
"""Features are clipped at so many deviations from the mean."""


def region_features(
    contacts: Contacts,
    two: Float[np.ndarray, " contacts"],
    weight: Float[np.ndarray, " regions"],
    means: Float[np.ndarray, "regions dim"],
    on_planes: Float[np.ndarray, " regions"],
    room: Bool[np.ndarray, " regions"],
) -> Float[np.ndarray, "regions features"]:
    """`REGION_FEATURES` of regions.

    Args:
        contacts: of regions; the first sum is the number of edges.
        two: log-odds that the regions of a contact are two instances, see `adjacency.MergeModel`.
        weight: number of points of each region.
        means: features of each region, beginning with its form (see `adjacency.moments`).
        on_planes: share of its points that lie on a plane of the layout.
        room: whether a region is layout.
    """
    count, edges = len(weight), contacts.sums[:, 0]
    chance, least = expit(two), np.full(count, SURE)

    def along(values: np.ndarray) -> np.ndarray:
        """Sums of values of contacts, or of the regions on their other sides, over each region's outline."""
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
class ObjectnessModel:
    """Log-odds that a region is an instance."""

    mean: Float[np.ndarray, " features"]
    deviation: Float[np.ndarray, " features"]
    linear: Float[np.ndarray, " features"]
    square: Float[np.ndarray, " features"]
    offset: float

    def __call__(self, told: Float[np.ndarray, "regions features"]) -> Float[np.ndarray, " regions"]:
        """Log-odds, from `region_features`."""
        x = self.scaled(told)
        return self.offset + x @ self.linear + x**2 @ self.square

    def scaled(self, told: Float[np.ndarray, "regions features"]) -> Float[np.ndarray, "regions features"]:
        """Standardised, within `REACH`."""
        return ((told - self.mean) / self.deviation).clip(-REACH, REACH)


@cache
def shipped() -> ObjectnessModel:
    """The model of the package."""
    kept = json.loads(WEIGHTS.read_text())
    assert kept["features"] == list(REGION_FEATURES), "train_merging.py was not run since the features changed"
    mean, deviation, linear, square = (
        np.array(kept[name], float) for name in ("mean", "deviation", "linear", "square")
    )
    return ObjectnessModel(mean, deviation, linear, square, kept["offset"])


@dataclass(frozen=True)
class ObjectnessConfig:
    """When a region is an instance."""

    least: float = 0.03
    """Least probability of an instance."""
    evaluator: Callable[[np.ndarray], np.ndarray] = field(default_factory=shipped)
    """`region_features` of regions -> log-odds of instances."""

    def instances(self, told: Float[np.ndarray, "regions features"]) -> Bool[np.ndarray, " regions"]:
        """Whether each region is an instance."""
        return expit(self.evaluator(told)) >= self.least
