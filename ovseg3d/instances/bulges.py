"""Where the room bulges: pieces of wall, floor or ceiling whose depth is poor, and which lie on none of its planes.

Corners that few photos see, and bare stretches, come off their planes by tens of centimetres. They are told from things
by what a thing hardly ever is: of one colour, and of the room's own colour, with no step where it meets the room, all
around. No cue is enough by itself: a stool of the floor's colour has no step either, but more shades. So the cues are
added up, squared, each in units of what is much of it. These and the limit were chosen on development rooms.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from ovseg3d.instances.borders import tint
from ovseg3d.instances.graph import Contacts, add_up
from ovseg3d.instances.layout import NONE


@dataclass(frozen=True)
class BulgeConfig:
    """What still is the room. Colours are CIELAB / 100."""

    share: float = 0.5
    """Of a region's border, how much must be with the room."""
    most: float = 2.5
    """Sum of squares of the following, each divided by what is much of it."""
    step: float = 0.035
    """Mean step in colour along that border..."""
    bend: float = 0.25
    """...and mean bend: things stand on the room at an angle."""
    tint: float = 0.02
    """Difference from what it borders in tint..."""
    shade: float = 0.08
    """...in lightness..."""
    look: float = 0.8
    """...and in looks, which have a variance of 1 over the scene."""
    spread: float = 0.08
    """How much the region's own colour varies."""
    rounds: int = 4
    """Bulges on bulges."""


def bulges(
    border: Contacts,
    region: Int[np.ndarray, " superpoints"],
    room: Int[np.ndarray, " superpoints"],
    seen: Float[np.ndarray, "superpoints seen"],
    area: Float[np.ndarray, " superpoints"],
    config: BulgeConfig | None = None,
) -> Int[np.ndarray, " superpoints"]:
    """`room` with the regions that bulge off it: each of the kind that it borders most.

    Args:
        border: of patches; its sums are edges, their steps in colour and their bends, each added up.
        region: of each patch, from 0; of no account where `room` is known.
        room: FLOOR, CEILING or WALL of patches that are known to be the room, NONE elsewhere.
        seen: looks, with a variance of 1 over the scene, then the three numbers of a colour.
        area: of each patch.
        config: see there.
    """
    config, room, count = config or BulgeConfig(), room.copy(), int(region.max(initial=-1)) + 2
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
