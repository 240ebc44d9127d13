"""Hubness correction: phrases that are known to be in the scene get comparable cosines.

In spaces of many dimensions a few texts are the nearest of most images ("hubs", Radovanovic et al. 2010), and other
names are rarely the nearest of anything, even where they belong. The inverted softmax (Smith et al. 2017) compares a
phrase with itself at other instances first. With the encoder's logit scale s,

    log p(instance | phrase) = s (cosine - peak),    peak = 1/s log sum over instances w exp(s cosine)

where w is the root of an instance's size, so that fragments do not determine peaks. A phrase's cosines are shifted by
the difference between its peak and the mean peak of the known phrases. Other phrases of a list are shifted down only: a
phrase that is nowhere must not be raised. So are canonical phrases, where a list contains all known ones.

Planes of the layout that a phrase names (see `layout_prior`) are left out; others count as instances, since a list may
say "sand" for a floor.
"""

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import logsumexp

from ovseg3d.instances.layout import NONE


def groups_of(
    instance: Int[np.ndarray, " points"], plane: Int[np.ndarray, " points"] | None, named: frozenset[int]
) -> Int[np.ndarray, " points"]:
    """Group of each point: its instance, or after these its layout plane; 0 for none.

    Args:
        instance: instance of each point, from 1; 0 for none.
        plane: layout class of each point; None: no layout was estimated.
        named: classes of planes that are left out.
    """
    if plane is None:
        return instance.astype(np.int64)
    free = (instance == 0) & (plane != NONE) & ~np.isin(plane, list(named))
    numbers = int(instance.max(initial=0)) + plane.astype(np.int64)  # planes are stored in 8 bits
    return np.where(free, numbers, instance).astype(np.int64)


def group_means(
    vectors: Float[np.ndarray, "points kept"], groups: Int[np.ndarray, " points"]
) -> tuple[Float[np.ndarray, "groups kept"], Float[np.ndarray, " groups"]]:
    """The mean vector of each group that has points, and its weight, 1 for the largest; group 0 is none."""
    total = np.zeros((int(groups.max(initial=0)) + 1, vectors.shape[1]))
    np.add.at(total, groups, vectors)
    count = np.bincount(groups, minlength=len(total))
    there = np.flatnonzero(count[1:]) + 1
    return total[there] / count[there, None], np.sqrt(count[there] / count[1:].max(initial=1))


def peaks(
    cosines: Float[np.ndarray, "groups phrases"], weight: Float[np.ndarray, " groups"], logit_scale: float
) -> Float[np.ndarray, " phrases"]:
    """A smooth maximum of each phrase's cosines over at least one group."""
    return logsumexp(logit_scale * cosines, axis=0, b=weight[:, None]) / logit_scale


def shifts(
    own: Float[np.ndarray, " phrases"], known: Bool[np.ndarray, " phrases"], level: float
) -> Float[np.ndarray, " phrases"]:
    """The shift of each phrase's cosines with points of groups.

    Args:
        own: peak of each phrase.
        known: whether it is known to be in the scene.
        level: mean peak of the known phrases.
    """
    return np.where(known, level - own, np.minimum(level - own, 0.0))
