"""Names for things, evened out: some phrases are near to everything, and some to nothing.

In spaces of many dimensions a few texts are the nearest of most pictures ("hubs", Radovanovic et al. 2010), and a name
that is rarely the nearest of anything is lost, even where it belongs. So where it is known which phrases are in the
scene, each is compared with itself first: how near is it to this thing, for how near it gets to anything here? With
the encoder's logit scale s,

    log p(thing | phrase) = s (cosine - peak),    peak = 1/s log sum over things w exp(s cosine)

(the inverted softmax of Smith et al. 2017; Bogolin et al. 2022 search videos with it). A phrase's cosines are moved by
what brings its peak most of the way (EVENED) to the mean peak of the known phrases: in part, peaks differ because some
things look more like themselves. Things weigh by the root of their size (w), so that scraps of something do not set
peaks. Another phrase that stands beside the known ones in a list is moved down only: what is nowhere must not be raised
to the best of what looks a little like it. So are canonical phrases ("object"), where a list holds all that is known to
be there: they are hubs like others, and what they take is left without a name.

A plane of the room that a phrase names (see `room`) is no thing here. One that none names is: where the list says
"sand" and not "floor", sand has to be somewhere.
"""

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import logsumexp

from ovseg3d.instances.layout import NONE

EVENED = 0.7
"""How far names are evened out; 1: all get equally near to something."""


def groups_of(
    instance: Int[np.ndarray, " points"], plane: Int[np.ndarray, " points"] | None, named: frozenset[int]
) -> Int[np.ndarray, " points"]:
    """What points speak together: the number of their thing, or of their plane; 0 for none.

    Args:
        instance: number of the thing that a point belongs to, from 1; 0 for none.
        plane: kind of the plane that a point lies on; None: nobody looked.
        named: kinds of planes that have names of their own, and are left out.
    """
    if plane is None:
        return instance.astype(np.int64)
    free = (instance == 0) & (plane != NONE) & ~np.isin(plane, list(named))
    numbers = int(instance.max(initial=0)) + plane.astype(np.int64)  # kinds of planes are kept in 8 bits
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
    """How near each phrase gets to any group: a smooth maximum of its cosines. There is at least one group."""
    return logsumexp(logit_scale * cosines, axis=0, b=weight[:, None]) / logit_scale


def shifts(
    own: Float[np.ndarray, " phrases"], known: Bool[np.ndarray, " phrases"], level: float
) -> Float[np.ndarray, " phrases"]:
    """What to add to the cosines of each phrase with points of groups.

    Args:
        own: peak of each phrase.
        known: whether it is known to be in the scene.
        level: mean peak of all that are.
    """
    return EVENED * np.where(known, level - own, np.minimum(level - own, 0.0))
