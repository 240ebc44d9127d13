"""Whether two regions of surface that touch are one thing: what speaks against it along their common border.

Cues are added up in the order of how well they told things apart on development rooms (synthetic, a weak encoder):

- a step in colour from one side to the other, and another tint of the regions as wholes, which shade does not change.
  Within a plane of the room this is all there is, since pictures and rugs have no shape.
- a concave bend, where things stand on or lean against each other (Stein et al. 2014); convex bends are of one thing.
- one of the two lies on a plane of the room, and the other does not, or on another one.
- features, which are blurred over their cells in the photos: regions as wholes are compared, not their border.
- photos one of whose regions ends there.

Colours are CIELAB / 100. Bends are those of `bends`. Evidence adds up along a border (a mean over its edges), so that
what is known of a border stays known when regions merge; looks and tints are compared afresh.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Integer

from ovseg3d.field.surface import Sight
from ovseg3d.semantics.graph import Contacts, majority

DEEP = 0.5
"""A bend that counts in full: normals that were fitted to points turn little from a point to the next."""
ROUND = 0.2
"""The same for convex ones, which say less: a ball on a ball is convex all around."""


@dataclass(frozen=True)
class BorderConfig:
    """What a cue counts. Regions merge while what speaks against it is below `limit`."""

    step: float = 9.0
    """A step in colour, in units of CIELAB / 100."""
    tint: float = 5.0
    """A difference in tint, in about the same units."""
    look: float = 3.2
    """A distance of looks, which have a variance of 1 over the scene."""
    bend: float = 6.5
    """A concave bend, up to DEEP."""
    vote: float = 1.0
    """Photos all of which end a region there, and nowhere else."""
    leaves: float = 2.4
    """One lies on a plane of the room, the other does not."""
    limit: float = 4.4
    small: float = 40.0
    """How much more of it may speak against a region of one point."""
    seam: float = 2.0
    """How much a region counts as small because it consists of border."""


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
    sights: Sequence[Sight],
    regions: Sequence[Integer[np.ndarray, "_ _"]],
) -> Float[np.ndarray, " contacts"]:
    """How much less often than usual the photos that see both patches of a pair put them on one region, -1 to 1.

    Args:
        pair: patches that touch.
        patch: of each point.
        count: how many patches there are.
        sights: what each photo sees.
        regions: a map for each of `sights`, or none at all.
    """
    same, both = np.zeros(len(pair)), np.zeros(len(pair))
    for sight, region in zip(sights, regions, strict=True) if regions else ():
        h, w = region.shape
        column, row = np.clip((sight.xy * (w, h)).astype(np.int64), 0, (w - 1, h - 1)).T
        most = majority(patch[sight.point], region[row, column].astype(np.int64), count, 0.0, missing=-1)
        first, second = most[pair].T
        seen = (first >= 0) & (second >= 0)
        both += seen
        same += seen & (first == second)
    asked = both > 0
    share = same / np.maximum(both, 1)
    # Photos may be cut finely or coarsely: only the difference to the other borders says anything.
    usual = float(np.median(share[asked])) if asked.any() else 0.0
    return np.where(asked, usual - share, 0.0)


def weigh(
    border: Contacts,
    plane: Int[np.ndarray, " patches"],
    vote: Float[np.ndarray, " contacts"],
    config: BorderConfig | None = None,
) -> Contacts:
    """What speaks against each contact of patches: `sums` are its edges, and these times what does, for `Price`.

    Args:
        border: its sums are edges, their steps in colour and their bends, each added up.
        plane: of the room that a patch lies on, from 1; 0 for none.
        vote: from `votes`.
        config: see there.
    """
    config = config or BorderConfig()
    edges, step, bend = border.sums.T
    first, second = plane[border.pair].T
    # Noise makes dents in walls; what is flat on one differs in colour alone.
    bend = np.where((first == second) & (first > 0), 0.0, (bend / edges).clip(-ROUND, DEEP))
    against = config.step * step / edges + config.bend * bend + config.vote * vote
    against += config.leaves * (first != second)
    return Contacts(border.pair, edges[:, None] * np.stack([np.ones(len(edges)), against], 1))


@dataclass(frozen=True)
class Price:
    """What merging two regions costs, for `agglomerate`: below 1 they are one. See the head of this file.

    Means are looks, then the three numbers of a colour.
    """

    config: BorderConfig

    def __call__(
        self, contacts: Contacts, weight: Float[np.ndarray, " regions"], means: Float[np.ndarray, "regions dim"]
    ) -> Float[np.ndarray, " contacts"]:
        config = self.config
        a, b = contacts.pair.T
        edges, against = contacts.sums.T
        open_ends = np.bincount(a, edges, len(weight)) + np.bincount(b, edges, len(weight))
        # A point has about six edges, so this is the share of a region's edges that lead out of it.
        core = weight * np.clip(1 - config.seam * open_ends / (6 * weight), 0.05, 1)
        apart = means[a] - means[b]
        hue = tint(means[:, -3:])
        against = against / edges + config.look * np.linalg.norm(apart[:, :-3], axis=1)
        against += config.tint * np.linalg.norm(hue[a] - hue[b], axis=1)
        return against / (config.limit + config.small / np.minimum(core[a], core[b]))
