"""What the detection head's proposals say of groups: which are instances.

The head sees what grouping does not: the usual shapes of objects. A group whose points it takes for background is
rarely an object, and a group well inside a larger proposal is mostly a part of one, such as a book on its shelf or the
drawer of a desk. The probability that a group is an instance is a logistic function of five standardised features,
one of which is `objectness`, fitted to rooms with known instances (`scripts/training/train_proposals.py`).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import expit, logit

FEATURES = ("objectness", "foreground", "likest proposal", "inside a larger proposal", "points")
"""Features of groups, in this order."""
WEIGHTS = Path(__file__).with_name("proposals.json")
SURE = 6.0
"""Log odds of objectness are clipped here..."""
LEAST_CHANCE = 0.005
"""...and the mean probability of foreground this far from 0 and 1."""
LARGER = 2.0
"""A proposal with so many times the points of a group may hold it as a part."""


@dataclass(frozen=True)
class Proposals:
    """The detection head's view of the points."""

    foreground: Float[np.ndarray, " points"]
    """Probability that a point belongs to an object."""
    masks: Sequence[Int[np.ndarray, " _"]]
    """Points of each proposal."""
    scores: Float[np.ndarray, " proposals"]
    """Expected box IoU of each, 0 to 1."""


def group_features(
    ids: Int[np.ndarray, " points"], objectness: Float[np.ndarray, " groups"], proposals: Proposals
) -> Float[np.ndarray, "groups 5"]:
    """`FEATURES` of groups.

    Args:
        ids: the group of each point, from 1; 0 for none.
        objectness: log odds that a group is an instance, see `objectness`.
        proposals: of the same points.
    """
    count = len(objectness)
    size = np.bincount(ids, minlength=count + 1)[1:].astype(np.float64)
    mean = np.bincount(ids, proposals.foreground, count + 1)[1:] / np.maximum(size, 1)
    alike, part = np.zeros(count), np.zeros(count)
    for mask, score in zip(proposals.masks, proposals.scores, strict=True):
        common = np.bincount(ids[mask], minlength=count + 1)[1:]
        alike = np.maximum(alike, score * common / np.maximum(size + len(mask) - common, 1))
        part = np.maximum(part, score * common / np.maximum(size, 1) * (len(mask) > LARGER * size))
    foreground = logit(mean.clip(LEAST_CHANCE, 1 - LEAST_CHANCE))
    return np.stack([objectness.clip(-SURE, SURE), foreground, alike, part, np.log(np.maximum(size, 1))], 1)


@dataclass(frozen=True)
class ProposalModel:
    """Log odds that a group is an instance."""

    mean: Float[np.ndarray, " features"]
    deviation: Float[np.ndarray, " features"]
    linear: Float[np.ndarray, " features"]
    offset: float

    def __call__(self, told: Float[np.ndarray, "groups features"]) -> Float[np.ndarray, " groups"]:
        """Log odds, from `group_features`."""
        return self.offset + (told - self.mean) / self.deviation @ self.linear


@cache
def shipped() -> ProposalModel:
    """The model of the package."""
    kept = json.loads(WEIGHTS.read_text())
    assert kept["features"] == list(FEATURES), "train_proposals.py was not run since the features changed"
    mean, deviation, linear = (np.array(kept[name], float) for name in ("mean", "deviation", "linear"))
    return ProposalModel(mean, deviation, linear, kept["offset"])


@dataclass(frozen=True)
class ProposalConfig:
    """When a group is an instance, where the head's proposals are known."""

    least: float = 0.15
    """Least probability of an instance."""
    model: ProposalModel = field(default_factory=shipped)

    def instances(self, told: Float[np.ndarray, "groups features"]) -> Bool[np.ndarray, " groups"]:
        """Whether each group is an instance."""
        return expit(self.model(told)) >= self.least
