"""Group surface points into instances: "chair" is one label, five chairs are five instances.

Shape and colour are used first: they are known per point, while features are blurred over cells of the photos.

1. Points are grouped into superpoints (see `superpoints`).
2. The planes of the layout (floor, walls, ceiling; see `layout`) are found, and each superpoint's plane.
3. Superpoints merge into regions. Pairs that are most likely one instance, by their adjacency and appearance, merge
   first (see `adjacency`).
4. Colour and appearance decide which regions on a plane are layout; the others hang or lie on it. Fog above the walls
   is ceiling.
5. Instances that touch and look alike are separated by shape (see `cuts`). Poorly reconstructed layout off its planes
   is recognised by colour (see `off_plane`). What remains and is large enough is an instance or a rejected fragment
   (see `objectness`, and `proposals` where the detection head's view is known).
6. Where a segmenter's masks are known, instances are those that the photos agree on (see `consensus`); what has no mask
   is a rejected fragment. If the photos agree on nothing, the groups stay.

Ids are 0 for none or layout, else from 1 by falling area; rejected fragments are numbered after all instances. Input
frame. Instances are named by `records.instances_of`, not here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int, Integer

from ovseg3d.field.surface import Surface, Visibility
from ovseg3d.instances.adjacency import MergeConfig, MergeCost, bends, pair_features, tint
from ovseg3d.instances.consensus import ConsensusConfig, Layers, find_mask_instances
from ovseg3d.instances.cuts import CutConfig, cut_apart
from ovseg3d.instances.graph import Contacts, add_up, agglomerate
from ovseg3d.instances.layout import CEILING, FLOOR, NONE, WALL, StructureConfig, upper_edge
from ovseg3d.instances.objectness import ObjectnessConfig, region_features
from ovseg3d.instances.off_plane import OffPlaneConfig, off_plane_residuals
from ovseg3d.instances.proposals import ProposalConfig, Proposals, group_features
from ovseg3d.instances.superpoints import SuperpointConfig, Superpoints, find_superpoints

WHOLE = 0.9
"""Least share of a region above the walls of a ceiling; less is a high object..."""
FRAYED = 6.0
"""...and how far below the walls' edge still counts as above, in gaps between points."""


@dataclass(frozen=True)
class InstanceConfig:
    """How points are grouped into instances."""

    tint: float = 0.2
    """Greatest difference in tint (see `adjacency.tint`) at which a region on a plane is layout..."""
    shade: float = 0.6
    """...and in lightness..."""
    alike: float = 1.1
    """...and in appearance; the three are the axes of an ellipsoid."""
    least: int = 15
    """Fewest points of an instance."""
    superpoint: SuperpointConfig = field(default_factory=SuperpointConfig)
    merge: MergeConfig = field(default_factory=MergeConfig)
    structure: StructureConfig = field(default_factory=StructureConfig)
    off_plane: OffPlaneConfig = field(default_factory=OffPlaneConfig)
    cut: CutConfig = field(default_factory=CutConfig)
    objectness: ObjectnessConfig = field(default_factory=ObjectnessConfig)
    proposal: ProposalConfig = field(default_factory=ProposalConfig)
    consensus: ConsensusConfig = field(default_factory=ConsensusConfig)


@dataclass(frozen=True)
class Instances:
    """What `find_instances` made of the points."""

    ids: Int[np.ndarray, " points"]
    """Instance of each point, 0 for none; rejected fragments have the highest numbers."""
    superpoint: Int[np.ndarray, " points"]
    """Superpoint of each point, from 0."""
    layout: Int[np.ndarray, " points"]
    """FLOOR, CEILING or WALL for points of the layout, else NONE."""
    rejected_fragments: int = 0
    """Number of rejected fragments."""

    @property
    def count(self) -> int:
        """Number of instances, without rejected fragments."""
        return int(self.ids.max(initial=0)) - self.rejected_fragments

    @property
    def instance(self) -> Int[np.ndarray, " points"]:
        """Instance of each point, 0 for none and for rejected fragments."""
        return np.where(self.ids <= self.count, self.ids, 0)


def find_instances(
    surface: Surface,
    features: Sequence[Float[np.ndarray, "points _"]],
    *,
    visibilities: Sequence[Visibility] = (),
    regions: Sequence[Integer[np.ndarray, "_ _"]] = (),
    masks: Sequence[Layers] = (),
    proposals: Proposals | None = None,
    config: InstanceConfig | None = None,
) -> Instances:
    """Group surface points into instances.

    Args:
        surface: the points.
        features: sets of vectors, such as lifted CLIP and DINO features, weighted equally. Empty: only colour and shape
            are used.
        visibilities: which points each photo sees, and where.
        regions: region maps of the same photos, of any size and numbering, one for each of `visibilities`; or empty.
        masks: a segmenter's masks of the same photos, or empty.
        proposals: the detection head's view of the points, if known.
        config: thresholds and settings of the steps.
    """
    config = config or InstanceConfig()
    if len(surface) < 2:
        ids = np.full(len(surface), int(config.least <= 1))
        return Instances(ids, np.zeros(len(surface), np.int64), np.zeros(len(surface), np.int64))
    made = find_superpoints(surface, features, visibilities, regions, config.superpoint, config.structure)
    plane, kind, contacts = made.plane, made.kind, made.contacts
    region = agglomerate(contacts, made.weight, made.region_features, MergeCost(config.merge, made.first))
    layout = _layout(region, made.seen, made.area, kind, config)
    layout[_ceiling(region, layout, plane, kind, made, surface.up.astype(np.float64), config.structure)] = CEILING
    region = np.where(layout == NONE, region, -1)
    # Votes of photos may only prevent a cut: photo regions also end inside instances.
    crease = bends(contacts.pair, made.middle, made.facing) + np.minimum(made.vote, 0)
    up, edges = surface.up.astype(np.float64), contacts.sums[:, 0]
    region = cut_apart(contacts.pair, edges, crease, made.weight, made.middle, up, region, config.cut)
    layout = off_plane_residuals(made.adjacency, region, layout, made.seen, made.area, config.off_plane)
    region = np.where(layout == NONE, region, -1)
    number = _numbered(region, made.weight, made.area, config.least)
    told = _region_features(number, layout, made, contacts, config.merge)
    if proposals is None:
        whole = config.objectness.instances(told)
    else:
        told = group_features(number[made.superpoint], config.objectness.evaluator(told), proposals)
        whole = config.proposal.instances(told)
    order = np.argsort(~whole, kind="stable")
    after = np.zeros(len(whole) + 1, np.int64)
    after[order + 1] = np.arange(1, len(whole) + 1)
    found = Instances(after[number][made.superpoint], made.superpoint, layout[made.superpoint], int((~whole).sum()))
    if not masks:
        return found
    agreed = find_mask_instances(len(surface), visibilities, masks, config.consensus)
    return _with_consensus(found, agreed, made, config.least) if agreed.any() else found


def _with_consensus(found: Instances, agreed: Int[np.ndarray, " points"], made: Superpoints, least: int) -> Instances:
    """The instances that photos agree on; grouped points without one are rejected fragments. What has the extent of a
    plane of the layout is that plane, since segmenters find walls, too."""
    plane = np.where(found.layout != NONE, made.plane[made.superpoint], 0)
    both = np.zeros((int(agreed.max()) + 1, int(plane.max()) + 1))
    np.add.at(both, (agreed, plane), 1)
    iou = both / (both.sum(0) + both.sum(1, keepdims=True) - both).clip(1)
    iou[:, 0] = 0  # points off the planes
    agreed = np.where(iou.max(1)[agreed] > 0.5, 0, agreed)
    rest = np.where((agreed == 0) & (found.layout == NONE), found.ids, 0)
    rest = np.where(np.bincount(rest)[rest] >= least, rest, 0)
    numbers = [_by_area(ids, made.point_area) for ids in (agreed, rest)]
    count = int(numbers[0].max(initial=0))
    ids = np.where(numbers[1] > 0, count + numbers[1], numbers[0])
    layout = np.where(agreed > 0, NONE, found.layout)
    return Instances(ids, found.superpoint, layout, int(numbers[1].max(initial=0)))


def _by_area(ids: Int[np.ndarray, " points"], area: Float[np.ndarray, " points"]) -> Int[np.ndarray, " points"]:
    """The same groups, numbered from 1 by falling area; 0 stays."""
    there, number = np.unique(ids, return_inverse=True)
    size = np.where(there > 0, np.bincount(number, area), -1.0)
    order = np.argsort(-size, kind="stable")
    rank = np.empty(len(there), np.int64)
    rank[order] = np.arange(1, len(there) + 1)
    return np.where(there > 0, rank, 0)[number]


def _layout(
    region: np.ndarray, seen: np.ndarray, area: np.ndarray, kind: np.ndarray, config: InstanceConfig
) -> Int[np.ndarray, " superpoints"]:
    """The layout class of each superpoint: regions on planes whose appearance is that of most regions there.

    All walls are compared together, since a bookshelf may hide one but not all. A region may extend around a corner;
    each superpoint on a plane takes the class of that plane.
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
    """Superpoints above the walls that lie on no plane and belong to no object.

    Objects begin below the walls' edge or touch no wall, such as a hanging lamp or the crown of a tree.
    """
    wall = (layout == WALL) & (kind == WALL)
    if len(np.unique(plane[wall])) < config.around:
        return np.zeros(len(layout), bool)
    edge = upper_edge(made.xyz @ up, made.point_area, wall[made.superpoint], made.gap, config)
    height, size = made.middle @ up, np.bincount(region, made.area)
    fog = np.bincount(region, made.area * height) > edge * size
    fog &= np.bincount(region, made.area * (height > edge - FRAYED * made.gap)) >= WHOLE * size
    fog &= size < config.little * size.sum()  # more of it is a wall
    pair = made.adjacency.pair
    fog &= np.isin(np.arange(len(size)), region[pair[wall[pair[:, ::-1]]]])
    return (kind == NONE) & np.where(layout == NONE, fog[region], height > edge)


def _region_features(
    number: np.ndarray, layout: np.ndarray, made: Superpoints, contacts: Contacts, config: MergeConfig
) -> Float[np.ndarray, "numbers features"]:
    """Features of each region by which `objectness` recognises rejected fragments."""
    count = int(number.max())
    alone = np.where(layout != NONE, count + layout, count + WALL + 1 + np.arange(len(number)))
    group = np.unique(np.where(number > 0, number, alone), return_inverse=True)[1]
    total = int(group.max()) + 1
    weight = np.bincount(group, made.weight)
    means = add_up(made.region_features * made.weight[:, None], group, total) / weight[:, None]
    contacts = contacts.merged(group, total)
    on_planes = np.bincount(group, made.weight * (made.kind != NONE)) / weight
    inside = np.bincount(group, layout != NONE) > 0
    two = config.evaluator(pair_features(contacts, weight, means, made.first))
    return region_features(contacts, two, weight, means, on_planes, inside)[:count]


def _numbered(region: np.ndarray, weight: np.ndarray, area: np.ndarray, least: int) -> np.ndarray:
    """Instance of each superpoint: regions (from 0) with enough points, by falling area."""
    inside = region >= 0
    if not inside.any():
        return np.zeros(len(region), np.int64)
    size, points = np.bincount(region[inside], area[inside]), np.bincount(region[inside], weight[inside])
    order = np.argsort(-size, kind="stable")
    order = order[points[order] >= least]
    number = np.zeros(len(size), np.int64)
    number[order] = np.arange(1, len(order) + 1)
    return np.where(inside, number[np.maximum(region, 0)], 0)
