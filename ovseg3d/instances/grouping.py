"""Group surface points into instances: "chair" is one label, five chairs are five instances.

Shape and colour are used first: they are known per point, while features are blurred over cells of the photos.

1. Points are grouped into superpoints (see `superpoints`).
2. Superpoints merge into regions; pairs that are most likely one instance, by their adjacency, their appearance and
   the detection head's votes, merge first (see `adjacency`). Regions on a plane of the room that look like most of it
   are layout: floor, ceiling, walls; but for superpoints that the head takes for objects.
3. The other superpoints merge anew, until nothing touches. Instances are nodes of this tree (see `selection`). What is
   left of it are rejected fragments.
4. Where a segmenter's masks are known, instances are those that the photos agree on instead (see `consensus`). If the
   photos agree on nothing, the nodes stay.
5. Nodes above instances and fragments that are likelier one than two are kept as joined objects (see `joined`). Without
   the head's votes costs are less certain: then those that hold at most half of the points are.

Ids are 0 for none or layout, else from 1 by falling area; rejected fragments are numbered after all instances. Input
frame. Instances are named by `records.InstancePoints`, not here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float, Int

from ovseg3d.field.surface import Surface, Visibility
from ovseg3d.instances.adjacency import MergeConfig, MergeCost, tint
from ovseg3d.instances.consensus import Layers, find_mask_instances
from ovseg3d.instances.graph import EVEN_COST, MergeTree, add_up, agglomerate, merge_tree
from ovseg3d.instances.joined import join
from ovseg3d.instances.layout import CEILING, FLOOR, NONE, WALL, StructureConfig
from ovseg3d.instances.proposals import VOTES, Proposals
from ovseg3d.instances.selection import SelectionConfig, node_features
from ovseg3d.instances.superpoints import SuperpointConfig, Superpoints, find_superpoints


@dataclass(frozen=True)
class InstanceConfig:
    """How points are grouped into instances."""

    tint: float = 0.25
    """Greatest difference in tint (see `adjacency.tint`) at which a region on a plane is layout, if it looks the same.
    Where it does not, less; none at a difference in appearance of 1."""
    least: int = 15
    """Fewest points of an instance."""
    superpoint: SuperpointConfig = field(default_factory=SuperpointConfig)
    merge: MergeConfig = field(default_factory=MergeConfig)
    structure: StructureConfig = field(default_factory=StructureConfig)
    selection: SelectionConfig = field(default_factory=SelectionConfig)


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
    quality: Float[np.ndarray, " instances"] | None = None
    """Quality that was expected of each instance (see `selection`), in the order of their numbers; None: not known."""
    parents: Int[np.ndarray, " numbers"] | None = None
    """Of instances, rejected fragments and joined objects, see `joined`; None: there are no joined objects."""

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
    masks: Sequence[Layers] = (),
    propose: Callable[[Superpoints], Proposals | None] = lambda made: None,
    config: InstanceConfig | None = None,
) -> Instances:
    """Group surface points into instances.

    Args:
        surface: the points.
        features: sets of vectors, such as lifted CLIP and DINO features, weighted equally. Empty: only colour and shape
            are used.
        visibilities: which points each photo sees, and where.
        masks: a segmenter's masks of the same photos, or empty.
        propose: gives the detection head's view of the points, or None; by default there is none.
        config: thresholds and settings of the steps.
    """
    config = config or InstanceConfig()
    if len(surface) < 2:
        ids = np.full(len(surface), int(config.least <= 1))
        return Instances(ids, np.zeros(len(surface), np.int64), np.zeros(len(surface), np.int64))
    made = find_superpoints(surface, features, config.superpoint, config.structure)
    proposals = propose(made)
    layout, inside, tree = grow(made, config, proposals)
    told = node_features(tree, inside, made, layout, proposals)
    chosen = config.selection.select(tree, told, tree.sums(made.weight[inside, None])[:, 0] >= config.least)

    def points_of(nodes: np.ndarray) -> np.ndarray:
        group = np.zeros(len(layout), np.int64)
        group[inside] = 1 + tree.labels(nodes)
        return group[made.superpoint]

    left_over = _left_over(tree, chosen)
    group = points_of(chosen)
    found = _numbered(group, points_of(left_over), layout[made.superpoint], made, config.least)
    quality = np.zeros(found.count + 1)
    quality[found.instance] = np.append(0.0, config.selection.quality(told)[chosen])[group]
    found = replace(found, quality=quality[1:])
    pieces = np.zeros(found.ids.max(initial=0) + 1, np.int64)
    nodes = np.concatenate([chosen, left_over])
    pieces[found.ids] = np.append(0, nodes)[points_of(nodes)]
    points = tree.sums(made.weight[inside, None])[:, 0]
    whole = 2 * points <= points[tree.parent < 0].sum() if proposals is None else tree.cost < EVEN_COST
    found = replace(found, parents=join(tree, pieces[1:], whole))
    if not masks:
        return found
    agreed = find_mask_instances(len(surface), visibilities, masks, config.least)
    return _with_consensus(found, agreed, made, config.least) if agreed.any() else found


def grow(
    made: Superpoints, config: InstanceConfig, proposals: Proposals | None = None
) -> tuple[Int[np.ndarray, " superpoints"], Int[np.ndarray, " rest"], MergeTree]:
    """The layout class of each superpoint; those that are no layout, and their merge tree."""
    cost, means = MergeCost(config.merge, made.first, proposals is not None), region_means(made, proposals)
    region = agglomerate(made.contacts, made.weight, means, cost)
    layout = _layout(region, made.seen, made.area, made.kind, config)
    if proposals is not None:
        foreground = means[:, -len(VOTES)]
        layout = np.where(2 * foreground > 1, NONE, layout)
    rest = np.flatnonzero(layout == NONE)
    contacts = made.contacts.among(rest, len(layout))
    return layout, rest, merge_tree(contacts, made.weight[rest], means[rest], cost)


def region_means(made: Superpoints, proposals: Proposals | None) -> Float[np.ndarray, "superpoints features"]:
    """Inputs of the merge cost (see `MergeCost`): form, appearance and colour, and the head's votes."""
    known = [made.form, made.seen]
    if proposals is not None:
        known.append(proposals.votes(made.superpoint, len(made.weight)))
    return np.concatenate(known, 1)


def _left_over(tree: MergeTree, chosen: np.ndarray) -> Int[np.ndarray, " nodes"]:
    """The largest nodes apart from the chosen ones whose regions are most likely one instance."""
    apart = tree.sums((tree.labels(chosen) >= 0)[:, None].astype(np.float64))[:, 0] == 0
    good = apart & (tree.cost < EVEN_COST)
    return np.flatnonzero(good & ~np.where(tree.parent < 0, False, good[tree.parent]))


def _with_consensus(found: Instances, agreed: Int[np.ndarray, " points"], made: Superpoints, least: int) -> Instances:
    """The instances that photos agree on; grouped points without one are rejected fragments. What has the extent of a
    plane of the layout is that plane, since segmenters find walls, too."""
    plane = np.where(found.layout != NONE, made.plane[made.superpoint], 0)
    both = np.zeros((int(agreed.max()) + 1, int(plane.max()) + 1))
    np.add.at(both, (agreed, plane), 1)
    iou = both / (both.sum(0) + both.sum(1, keepdims=True) - both).clip(1)
    iou[:, 0] = 0  # points off the planes
    agreed = np.where(2 * iou.max(1)[agreed] > 1, 0, agreed)
    rest = np.where((agreed == 0) & (found.layout == NONE), found.ids, 0)
    return _numbered(agreed, rest, np.where(agreed > 0, NONE, found.layout), made, least)


def _numbered(
    instance: Int[np.ndarray, " points"],
    fragment: Int[np.ndarray, " points"],
    layout: Int[np.ndarray, " points"],
    made: Superpoints,
    least: int,
) -> Instances:
    """Instances and rejected fragments (of `least` points) of the points, from groups of any numbers but 0."""
    fragment = np.where(np.bincount(fragment)[fragment] >= least, fragment, 0)
    instance, fragment = _by_area(instance, made.point_area), _by_area(fragment, made.point_area)
    ids = np.where(fragment > 0, instance.max(initial=0) + fragment, instance)
    return Instances(ids, made.superpoint, layout, int(fragment.max(initial=0)))


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
    """The layout class of each superpoint: regions on planes that look like the largest region there.

    All walls are compared together, since a bookshelf may hide one but not all. A region may extend around a corner;
    each superpoint on a plane takes the class of that plane.
    """
    count = int(region.max()) + 1
    size = np.bincount(region, area, count)
    mean = add_up(seen * area[:, None], region, count) / size[:, None]
    look = np.concatenate([mean[:, :-3], tint(mean[:, -3:]) / config.tint], 1)
    found = np.zeros(count, np.int64)
    for name in (FLOOR, CEILING, WALL):
        on = np.bincount(region, area * (kind == name), count) / size
        there = 2 * on > 1
        if there.any():
            apart = np.linalg.norm(look - look[np.where(there, size, 0).argmax()], axis=1)
            found[there & (apart < 1)] = name
    found = found[region]
    return np.where((found != NONE) & (kind != NONE), kind, found)
