"""From surface points to things: "chair" is one label, five chairs are five instances.

Shape and colour come first: they are known to the point, while features are blurred over cells of the photos.

1. Points become small patches that are alike (see `superpoints`).
2. The planes of the room (floor, walls, ceiling; see `structure`) are found, and which of them a patch lies on.
3. Patches merge into regions, those first that are most surely one thing, as far as their border and what they look
   like can tell (see `borders`).
4. What lies on the planes of the room is told by colour and look: most of it is the layout, the rest hangs or lies there.
   Pieces that hang side by side, with much of their outline in common, are one: a picture is of many colours. Fog above
   the walls is ceiling.
5. What touches and looks alike is cut apart by shape (see `cuts`). Where the room bulges off its planes it is told by
   colour (see `bulges`). What is left and large enough is an instance, or a scrap of one or of the room (see `wholes`).

Ids are 0 for none or the layout, else from 1, the largest area first; those of scraps come after all others. Input frame.
What things are called is not asked here: `instances.instances_of` names them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int, Integer
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from ovseg3d.field.surface import Surface, Visibility
from ovseg3d.instances.borders import BorderConfig, Price, bends, measures, tint
from ovseg3d.instances.bulges import BulgeConfig, bulges
from ovseg3d.instances.cuts import CutConfig, cut_apart
from ovseg3d.instances.graph import Contacts, add_up, agglomerate, majority
from ovseg3d.instances.layout import CEILING, FLOOR, NONE, WALL, StructureConfig, upper_edge
from ovseg3d.instances.superpoints import SuperpointConfig, Superpoints, find_superpoints
from ovseg3d.instances.wholes import WholeConfig, traits

WHOLE = 0.9
"""Share of a region above a room's walls from which it is the ceiling, and nothing that is high..."""
FRAYED = 6.0
"""...and how far below their edge that is still above them, in gaps between points."""


@dataclass(frozen=True)
class InstanceConfig:
    """How points become things."""

    tint: float = 0.2
    """Difference in tint (see `borders.tint`) up to which a region on a plane of the room is the room..."""
    shade: float = 0.6
    """...and in lightness..."""
    alike: float = 1.1
    """...and distance of looks; together they are an ellipsoid."""
    flat: float = 0.9
    """Share of a piece on a wall that lies on its plane..."""
    hung: float = 0.3
    """...most of the plane that it may be, a wall of another colour being none..."""
    common: float = 0.4
    """...and share of the shorter outline of two that is common to both, from which they are one."""
    least: int = 15
    """Points that an instance has at least."""
    superpoint: SuperpointConfig = field(default_factory=SuperpointConfig)
    merge: BorderConfig = field(default_factory=BorderConfig)
    structure: StructureConfig = field(default_factory=StructureConfig)
    bulge: BulgeConfig = field(default_factory=BulgeConfig)
    cut: CutConfig = field(default_factory=CutConfig)
    whole: WholeConfig = field(default_factory=WholeConfig)


@dataclass(frozen=True)
class Instances:
    """What `find_instances` made of the points."""

    ids: Int[np.ndarray, " points"]
    """Instance of each point, 0 for none; scraps have the highest numbers."""
    superpoint: Int[np.ndarray, " points"]
    """The small patch that a point belongs to, from 0."""
    layout: Int[np.ndarray, " points"]
    """FLOOR, CEILING or WALL for points of the layout, else NONE."""
    rejected_fragments: int = 0
    """How many numbers are of scraps."""

    @property
    def count(self) -> int:
        """How many instances there are that are no scraps."""
        return int(self.ids.max(initial=0)) - self.rejected_fragments

    @property
    def instance(self) -> Int[np.ndarray, " points"]:
        """Instance of each point that is of no scrap, else 0."""
        return np.where(self.ids <= self.count, self.ids, 0)


def find_instances(
    surface: Surface,
    features: Sequence[Float[np.ndarray, "points _"]],
    *,
    visibilities: Sequence[Visibility] = (),
    regions: Sequence[Integer[np.ndarray, "_ _"]] = (),
    config: InstanceConfig | None = None,
) -> Instances:
    """Group surface points into things.

    Args:
        surface: the points.
        features: one or more sets of vectors, such as lifted CLIP and DINO ones; each counts the same. None at all:
            colour and shape alone.
        sights: which points each photo sees and where.
        regions: region maps of the same photos, of any size and numbering, one for each of `visibilities`; or none at all.
        config: see there.
    """
    config = config or InstanceConfig()
    if len(surface) < 2:
        ids = np.full(len(surface), int(config.least <= 1))
        return Instances(ids, np.zeros(len(surface), np.int64), np.zeros(len(surface), np.int64))
    made = find_superpoints(surface, features, visibilities, regions, config.superpoint, config.structure)
    plane, kind, contacts = made.plane, made.kind, made.contacts
    region = agglomerate(contacts, made.weight, made.region_features, Price(config.merge, made.first))
    layout = _layout(region, made.seen, made.area, kind, config)
    layout[_ceiling(region, layout, plane, kind, made, surface.up.astype(np.float64), config.structure)] = CEILING
    region = np.where(layout == NONE, _hung(region, layout, plane, kind, made, config), -1)
    # Photos may hold together what shape would part, not the other way: their regions end inside of things too.
    crease = bends(contacts.pair, made.middle, made.facing) + np.minimum(made.vote, 0)
    up, edges = surface.up.astype(np.float64), contacts.sums[:, 0]
    region = cut_apart(contacts.pair, edges, crease, made.weight, made.middle, up, region, config.cut)
    layout = bulges(made.adjacency, region, layout, made.seen, made.area, config.bulge)
    region = np.where(layout == NONE, region, -1)
    number = _numbered(region, made.weight, made.area, config.least)
    whole = config.whole.instances(_traits(number, layout, made, contacts, config.merge))
    order = np.argsort(~whole, kind="stable")
    after = np.zeros(len(whole) + 1, np.int64)
    after[order + 1] = np.arange(1, len(whole) + 1)
    return Instances(after[number][made.superpoint], made.superpoint, layout[made.superpoint], int((~whole).sum()))


def _layout(
    region: np.ndarray, seen: np.ndarray, area: np.ndarray, kind: np.ndarray, config: InstanceConfig
) -> Int[np.ndarray, " superpoints"]:
    """What each patch is of the room: regions on its planes that look as most of them do.

    Walls are judged together: one may be hidden by a bookshelf, all are not. A region may go around a corner: what of
    it lies on a plane is what that plane is.
    """
    count = int(region.max()) + 1
    size = np.bincount(region, area, count)
    mean = add_up(seen * area[:, None], region, count) / size[:, None]
    found = np.zeros(count, np.int64)
    for name in (FLOOR, CEILING, WALL):
        on = np.bincount(region, area * (kind == name), count) / size
        there = np.flatnonzero(on > 0.5)
        if len(there):
            usual = there[size[there].argmax()]
            apart, hue = mean - mean[usual], tint(mean[:, -3:])
            look, light, other = (apart[:, :-3] ** 2).sum(1), apart[:, -3] ** 2, ((hue - hue[usual]) ** 2).sum(1)
            far = look / config.alike**2 + light / config.shade**2 + other / config.tint**2
            found[(far < 1) & (on > 0.4) & (found == NONE)] = name
    found = found[region]
    return np.where((found != NONE) & (kind != NONE), kind, found)


def _ceiling(
    region: np.ndarray,
    layout: np.ndarray,
    plane: np.ndarray,
    kind: np.ndarray,
    made: Superpoints,
    up: np.ndarray,
    config: StructureConfig,
) -> Bool[np.ndarray, " superpoints"]:
    """Patches above a room's walls that lie on none of its planes, but for those of things: these begin below, or touch
    no wall, as a lamp that hangs and the crown of a tree."""
    wall = (layout == WALL) & (kind == WALL)
    if len(np.unique(plane[wall])) < config.around:
        return np.zeros(len(room), bool)
    edge = upper_edge(made.xyz @ up, made.point_area, wall[made.superpoint], made.gap, config)
    height, size = made.middle @ up, np.bincount(region, made.area)
    fog = np.bincount(region, made.area * height) > edge * size
    fog &= np.bincount(region, made.area * (height > edge - FRAYED * made.gap)) >= WHOLE * size
    fog &= size < config.little * size.sum()  # more of it is a wall
    pair = made.adjacency.pair
    fog &= np.isin(np.arange(len(size)), region[pair[wall[pair[:, ::-1]]]])
    return (kind == NONE) & np.where(layout == NONE, fog[region], height > edge)


def _hung(
    region: np.ndarray, layout: np.ndarray, plane: np.ndarray, kind: np.ndarray, made: Superpoints, config: InstanceConfig
) -> Int[np.ndarray, " superpoints"]:
    """Regions, of which those are one that hang side by side on a wall."""
    count = int(region.max()) + 1
    usual = majority(region, plane, count, 0.0)
    size, there = np.bincount(region, made.area, count), np.bincount(plane, made.area)
    on = np.bincount(region, made.area * (plane == usual[region]), count)
    walls = np.zeros(len(there), bool)
    walls[plane[kind == WALL]] = True
    hangs = walls[usual] & (on >= config.flat * size) & (on <= config.hung * there[usual])
    hangs &= np.bincount(region, layout != NONE, count) == 0
    border = made.adjacency.merged(region, count)
    pair, edges = border.pair, border.sums[:, 0]
    outline = np.bincount(pair.ravel(), np.repeat(edges, 2), count)
    one = hangs[pair].all(1) & (usual[pair[:, 0]] == usual[pair[:, 1]])
    one &= edges >= config.common * outline[pair].min(1)
    graph = csr_array((np.ones(int(one.sum())), pair[one].T), shape=(count, count))
    return connected_components(graph, directed=False)[1][region]


def _traits(
    number: np.ndarray, layout: np.ndarray, made: Superpoints, contacts: Contacts, config: BorderConfig
) -> Float[np.ndarray, "numbers traits"]:
    """What `wholes` tells scraps by, beside the room's planes and what is left between."""
    count = int(number.max())
    alone = np.where(layout != NONE, count + layout, count + WALL + 1 + np.arange(len(number)))
    group = np.unique(np.where(number > 0, number, alone), return_inverse=True)[1]
    total = int(group.max()) + 1
    weight = np.bincount(group, made.weight)
    means = add_up(made.region_features * made.weight[:, None], group, total) / weight[:, None]
    contacts = contacts.merged(group, total)
    on_planes = np.bincount(group, made.weight * (made.kind != NONE)) / weight
    inside = np.bincount(group, layout != NONE) > 0
    two = config.evaluator(measures(contacts, weight, means, made.first))
    return traits(contacts, two, weight, means, on_planes, inside)[:count]


def _numbered(region: np.ndarray, weight: np.ndarray, area: np.ndarray, least: int) -> np.ndarray:
    """Instance of each patch: regions (from 0) with enough points, by falling area."""
    inside = region >= 0
    if not inside.any():
        return np.zeros(len(region), np.int64)
    size, points = np.bincount(region[inside], area[inside]), np.bincount(region[inside], weight[inside])
    order = np.argsort(-size, kind="stable")
    order = order[points[order] >= least]
    number = np.zeros(len(size), np.int64)
    number[order] = np.arange(1, len(order) + 1)
    return np.where(inside, number[np.maximum(region, 0)], 0)
