"""What the detection head says of the points: it helps to merge regions (`adjacency`) and to choose instances
(`selection`).

Each point has a probability of belonging to an object, and a vote for that object's centre and size. Regions of one
object have the same votes, though their colours and forms differ: seat and back of a chair vote for one chair. Votes
count by the probability that there is an object.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.special import logit

from ovseg3d.instances.graph import Contacts, add_up

VOTE_FEATURES = ("least foreground", "most foreground", "votes apart", "sizes apart")
"""Inputs of the merge model for each pair of regions, in this order."""
VOTES = ("foreground", "x", "y", "z", "shorter", "longer", "height")
"""Columns of `Proposals.votes`."""
LEAST_CHANCE = 0.005
"""Mean probabilities of foreground are clipped this far from 0 and 1."""
NEAR = 0.02
"""Distances of votes, in sizes of the object, count from here."""


@dataclass(frozen=True)
class Proposals:
    """The detection head's view of the points; lengths in the unit of the points."""

    foreground: Float[np.ndarray, " points"]
    """Probability that a point belongs to an object."""
    centers: Float[np.ndarray, "points 3"]
    """Centre of the object that each point votes for."""
    log_sizes: Float[np.ndarray, "points 3"]
    """Logarithms of that object's lengths: the shorter and the longer level one, and the height."""
    masks: Sequence[Int[np.ndarray, " _"]]
    """Points of each proposal."""
    scores: Float[np.ndarray, " proposals"]
    """Expected box IoU of each, 0 to 1."""

    def votes(self, group: Int[np.ndarray, " points"], count: int) -> Float[np.ndarray, "groups columns"]:
        """Means over the points of each group: foreground, and that times centres and logarithmic sizes."""
        chance = self.foreground[:, None]
        columns = np.concatenate([chance, chance * self.centers, chance * self.log_sizes], 1)
        return add_up(columns, group, count) / np.bincount(group, minlength=count)[:, None]


def vote_features(
    contacts: Contacts, votes: Float[np.ndarray, "regions columns"]
) -> Float[np.ndarray, "contacts features"]:
    """`VOTE_FEATURES` of each pair: log odds of foreground, the logarithm of the distance between the votes for the
    centre in sizes of the object, and the mean difference of the logarithmic sizes.

    Args:
        contacts: pairs of regions.
        votes: of each region, see `Proposals.votes`.
    """
    a, b = contacts.pair.T
    chance = votes[:, 0].clip(LEAST_CHANCE, 1 - LEAST_CHANCE)
    center, size = np.split(votes[:, 1:] / np.maximum(votes[:, :1], 1e-12), 2, axis=1)
    apart = np.linalg.norm(center[a] - center[b], axis=1) / np.exp((size[a] + size[b]).mean(1) / 2)
    low, high = np.minimum(chance[a], chance[b]), np.maximum(chance[a], chance[b])
    return np.stack([
        logit(low), logit(high), np.log(apart + NEAR), np.abs(size[a] - size[b]).mean(1)
    ], 1)  # fmt: skip
