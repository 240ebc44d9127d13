"""Off-plane residuals: parts of wall, floor or ceiling whose depth is poor, so that they lie on no layout plane.

Corners that few photos see, and bare surfaces, may be off their planes by tens of centimetres. Unlike objects they have
one colour, that of the adjacent layout, with no step in colour along their outline. No criterion suffices by itself: a
stool of the floor's colour has no step either, but more shades. So the squared criteria are added up, each relative to
a large value of it. These values and the limit were chosen on development rooms.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from ovseg3d.instances.adjacency import tint
from ovseg3d.instances.graph import Contacts, add_up
from ovseg3d.instances.layout import NONE


@dataclass(frozen=True)
class OffPlaneConfig:
    """Which regions are off-plane residuals. Colours are CIELAB / 100."""

    share: float = 0.5
    """Least share of a region's outline that touches layout."""
    most: float = 2.5
    """Greatest sum of squares of the following criteria, each divided by its value here."""
    step: float = 0.035
    """Mean step in colour along the common outline..."""
    bend: float = 0.25
    """...and mean bend: objects meet the layout at an angle."""
    tint: float = 0.02
    """Difference from the adjacent layout in tint..."""
    shade: float = 0.08
    """...in lightness..."""
    look: float = 0.8
    """...and in appearance, which has a variance of 1 over the scene."""
    spread: float = 0.08
    """Deviation of the region's own colour."""
    rounds: int = 4
    """Passes; in each, residuals may adjoin those found before."""


def off_plane_residuals(
    border: Contacts,
    region: Int[np.ndarray, " superpoints"],
    room: Int[np.ndarray, " superpoints"],
    seen: Float[np.ndarray, "superpoints seen"],
    area: Float[np.ndarray, " superpoints"],
    config: OffPlaneConfig | None = None,
) -> Int[np.ndarray, " superpoints"]:
    """`room` with the off-plane residuals, each of the class that it touches most.

    Args:
        border: contacts of superpoints; sums are the number of edges, their steps in colour and their bends.
        region: of each superpoint, from 0; ignored where `room` is known.
        room: FLOOR, CEILING or WALL for superpoints of the layout, else NONE.
        seen: appearance, with a variance of 1 over the scene, then the colour (3).
        area: of each superpoint.
        config: the criteria.
    """
    config, room, count = config or OffPlaneConfig(), room.copy(), int(region.max(initial=-1)) + 2
    region = np.where(room == NONE, region, count - 1)
    both = np.concatenate([border.pair, border.pair[:, ::-1]])
    sums = np.concatenate([border.sums, border.sums])
    leaves = region[both[:, 0]] != region[both[:, 1]]
    both, sums = both[leaves], sums[leaves]
    size = np.maximum(np.bincount(region, area, count), 1e-12)[:, None]
    colour = seen[:, -3:]
    mean = add_up(seen * area[:, None], region, count) / size
    spread = add_up(((colour - mean[region, -3:]) ** 2).sum(1, keepdims=True) * area[:, None], region, count) / size
    for _ in range(config.rounds):
        inside, beyond = both[:, 0], room[both[:, 1]]
        met = (room[inside] == NONE) & (beyond != NONE)
        own, edges = region[inside[met]], sums[met, 0]
        around = np.bincount(region[inside], sums[:, 0], count)
        along = np.maximum(np.bincount(own, edges, count), 1e-12)[:, None]
        step, bend = (add_up(sums[met, 1:], own, count) / along).T
        beside = add_up(seen[both[met, 1]] * edges[:, None], own, count) / along
        apart, hue = mean - beside, tint(mean[:, -3:]) - tint(beside[:, -3:])
        off = (step / config.step) ** 2 + (bend / config.bend) ** 2 + (apart[:, -3] / config.shade) ** 2
        off += (hue**2).sum(1) / config.tint**2 + (apart[:, :-3] ** 2).sum(1) / config.look**2
        off += spread[:, 0] / config.spread**2
        found = ((off < config.most) & (along[:, 0] > config.share * around))[region] & (room == NONE)
        if not found.any():
            break
        kinds = np.stack([np.bincount(own, edges * (beyond[met] == k), count) for k in range(4)], 1)
        room[found] = kinds.argmax(1)[region[found]]
    return room
