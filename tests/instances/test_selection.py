"""Which nodes of the merge tree are instances."""

import math
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from box_rooms import INDOOR, floor, two_boxes
from test_proposals import proposals

from ovseg3d.instances import selection
from ovseg3d.instances.graph import Contacts, MergeTree, agglomerate, merge_tree
from ovseg3d.instances.grouping import NONE, InstanceConfig, find_instances, grow
from ovseg3d.instances.selection import FORM, HEAD, SelectionConfig, SelectionModel, best_nodes, node_features
from ovseg3d.instances.superpoints import find_superpoints


def ward(contacts: Contacts, weight: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Ward's cost: merging never makes a pair cheaper."""
    a, b = contacts.pair.T
    return weight[a] * weight[b] / (weight[a] + weight[b]) * ((means[a] - means[b]) ** 2).sum(1)


def chain(count: int, seed: int = 0) -> tuple[Contacts, np.ndarray, np.ndarray]:
    """Regions in contact along a chain and at random, with weights and two numbers each."""
    random = np.random.default_rng(seed)
    pairs = {(i, i + 1) for i in range(count - 1)}
    pairs |= {tuple(sorted(random.choice(count, 2, replace=False).tolist())) for _ in range(count)}
    pair = np.array(sorted(pairs))
    return Contacts(pair, np.ones((len(pair), 1))), random.uniform(0.5, 2, count), random.normal(size=(count, 2))


def regions_of(tree: MergeTree, node: int) -> set[int]:
    if node < tree.regions:
        return {node}
    return set().union(*(regions_of(tree, int(child)) for child in tree.children[node - tree.regions]))


@pytest.mark.parametrize("seed", range(5))
def test_a_tree_cut_at_a_cost_is_the_agglomeration_up_to_it(seed: int) -> None:
    contacts, weight, means = chain(40, seed)
    tree = merge_tree(contacts, weight, means, ward)
    assert len(tree) == 2 * 40 - 1 and (tree.parent[:-1] > np.arange(len(tree) - 1)).all() and tree.parent[-1] == -1
    for most in (0.05, 0.3, 2.0):
        group = agglomerate(contacts, weight, means, ward, most)
        cut = (tree.cost < most) & ((tree.parent < 0) | (tree.cost[tree.parent] >= most))
        whole = np.flatnonzero(cut).tolist()
        assert {frozenset(regions_of(tree, k)) for k in whole} == {
            frozenset(np.flatnonzero(group == k).tolist()) for k in range(group.max() + 1)
        }
        labels = tree.labels(np.array(whole))
        assert all(regions_of(tree, whole[label]) == set(np.flatnonzero(labels == label)) for label in set(labels))


def test_what_does_not_touch_has_trees_of_its_own() -> None:
    contacts = Contacts(np.array([[0, 1], [2, 3]]), np.array([[2.0], [3.0]]))
    tree = merge_tree(contacts, np.ones(5), np.arange(5.0)[:, None], ward)
    assert (tree.parent < 0).sum() == 3 and len(tree) == 7
    np.testing.assert_array_equal(np.sort(tree.shared[:, 0]), [2, 3])
    np.testing.assert_array_equal(tree.labels(np.array([5])) >= 0, [True, True, False, False, False])


def test_sums_are_those_of_the_regions_of_a_node() -> None:
    contacts, weight, means = chain(30)
    tree = merge_tree(contacts, weight, means, ward)
    sums = tree.sums(means)
    for node in range(len(tree)):
        np.testing.assert_allclose(sums[node], means[sorted(regions_of(tree, node))].sum(0), atol=1e-9)
    # Each contact lies within the node that joins its two regions, and within none below.
    within = tree.sums(np.zeros((30, 1)), tree.shared)[:, 0]
    for node in range(len(tree)):
        inside = regions_of(tree, node)
        assert within[node] == sum({*pair} <= inside for pair in contacts.pair.tolist())


@pytest.mark.parametrize("seed", range(30))
def test_the_best_nodes_have_the_greatest_sum_of_all_disjoint_ones(seed: int) -> None:
    contacts, weight, means = chain(6, seed)
    tree = merge_tree(contacts, weight, means, ward)
    value = np.random.default_rng(seed).normal(size=len(tree))
    held = [regions_of(tree, k) for k in range(len(tree))]
    disjoint = [
        nodes
        for count in range(7)
        for nodes in combinations(range(len(tree)), count)
        if len(set().union(*(held[k] for k in nodes))) == sum(len(held[k]) for k in nodes)
    ]
    found = best_nodes(tree, value)
    assert tuple(found) in disjoint
    assert value[found].sum() == pytest.approx(max(value[list(nodes)].sum() for nodes in disjoint))
    assert len(best_nodes(tree, -np.ones(len(tree)))) == 0


def test_form_is_what_the_points_of_a_node_say() -> None:
    room = floor(2.0).box((-0.3, 0, 0), (0.4, 0.4, 0.4), 1, 1).box((0.4, 0, 0), (0.4, 0.4, 0.2), 2, 2)
    surface = room.surface(0.003)
    made = find_superpoints(surface, [room.features()], structure=INDOOR.structure)
    layout, inside, tree = grow(made, INDOOR)
    told = dict(zip(FORM, node_features(tree, inside, made, layout).T, strict=True))
    (a, b), edges = made.adjacency.pair.T, made.adjacency.sums[:, 0]
    for node in range(len(tree)):
        own = np.isin(np.arange(len(layout)), inside[sorted(regions_of(tree, node))])
        assert told["points"][node] == pytest.approx(np.log(own[made.superpoint].sum()))
        leaves = own[a] != own[b]
        beyond = np.where(own[a], layout[b], layout[a])[leaves] > 0
        size = own[made.superpoint].sum()
        assert told["outline"][node] == pytest.approx(np.log1p(edges[leaves].sum() / np.sqrt(size)))
        share = edges[leaves][beyond].sum() / max(edges[leaves].sum(), 1)
        assert told["outline with the layout"][node] == pytest.approx(share)
        height = made.xyz[own[made.superpoint], 2] / made.gap
        assert told["height"][node] == pytest.approx(np.log(np.sqrt(height.var() + 0.25)), abs=0.05)


def test_the_head_says_of_a_node_how_its_proposals_lie() -> None:
    room = two_boxes()
    surface, true = room.surface(0.004), room.instances
    made = find_superpoints(surface, [room.features()], structure=INDOOR.structure)
    layout, inside, tree = grow(made, INDOOR)
    masks = [np.flatnonzero(true == 1)[:100], np.flatnonzero(true > 0)]
    seen = proposals(surface, true, np.where(true == 1, 0.9, 0.0), masks, [0.5, 0.8])
    told = dict(zip(HEAD, node_features(tree, inside, made, layout, seen)[:, len(FORM) :].T, strict=True))
    for node in range(len(tree)):
        own = np.isin(made.superpoint, inside[sorted(regions_of(tree, node))])
        size, common = own.sum(), np.array([own[mask].sum() for mask in masks])
        iou = common / (size + [len(mask) for mask in masks] - common)
        assert told["IoU of the likest"][node] == pytest.approx(iou.max())
        assert told["likest proposal"][node] == pytest.approx((iou * [0.5, 0.8]).max())
        mean = np.clip(seen.foreground[own].mean(), 0.005, 0.995)
        assert told["foreground"][node] == pytest.approx(math.log(mean / (1 - mean)))
        larger = len(masks[1]) > 2 * size
        assert told["inside a larger proposal"][node] >= larger * common[1] / size * 0.8 - 1e-9
        assert told["around a smaller proposal"][node] == pytest.approx(0.5 * common[0] / 100 * (size > 200))
        assert told["proposals inside"][node] == pytest.approx(
            0.5 * (common[0] > 50) + 0.8 * (common[1] > 0.5 * len(masks[1]))
        )
    empty = replace(seen, masks=[*masks, np.zeros(0, np.int64)], scores=np.array([0.5, 0.8, 0.9]))
    again = node_features(tree, inside, made, layout, empty)[:, len(FORM) :]
    np.testing.assert_allclose(again, np.stack(list(told.values()), 1))
    nothing = node_features(tree, inside, made, layout, replace(seen, masks=[], scores=np.zeros(0)))
    assert not nothing[:, len(FORM) + 1 : len(FORM) + 6].any()


def test_the_head_says_of_a_node_how_its_votes_agree() -> None:
    room, random = two_boxes(), np.random.default_rng(0)
    surface, true = room.surface(0.004), room.instances
    made = find_superpoints(surface, [room.features()], structure=INDOOR.structure)
    layout, inside, tree = grow(made, INDOOR)
    seen = proposals(surface, true, random.uniform(0.1, 0.9, len(true)), [], [])
    seen = replace(seen, centers=seen.centers + random.normal(0, 0.1, seen.centers.shape))
    told = dict(zip(HEAD, node_features(tree, inside, made, layout, seen)[:, len(FORM) :].T, strict=True))
    for node in range(len(tree)):
        own = np.isin(made.superpoint, inside[sorted(regions_of(tree, node))])
        share = seen.foreground[own] / seen.foreground[own].sum()
        center, log_size = share @ seen.centers[own], share @ seen.log_sizes[own]
        size = np.exp(log_size.mean())
        apart = np.sqrt(share @ ((seen.centers[own] - center) ** 2).sum(1)) / size
        assert told["spread of votes"][node] == pytest.approx(np.log(apart + 0.02))
        off = np.linalg.norm(center - made.xyz[own].mean(0)) / size
        assert told["votes off the middle"][node] == pytest.approx(np.log(off + 0.02))
        height = np.log(np.sqrt(made.xyz[own, 2].var() + (0.5 * made.gap) ** 2)) - log_size[2]
        assert told["height against votes"][node] == pytest.approx(height)
        flat = np.linalg.eigvalsh(np.cov(made.xyz[own, :2].T, bias=True)) + (0.5 * made.gap) ** 2
        volume = (np.log(flat).sum() / 2 + height + log_size[2]) / 3 - log_size.mean()
        assert told["size against votes"][node] == pytest.approx(volume)


def test_log_odds_are_quadratic_within_reach() -> None:
    model = SelectionModel(
        np.array([1.0, 0.0]), np.array([2.0, 1.0]), np.array([0.5, -1.0]), np.array([[0.1, 0.3], [0.0, 0.0]]), 0.25
    )
    told = np.array([[3.0, 2.0], [100.0, -100.0]])
    assert model(told) == pytest.approx([
        0.25 + 0.5 * 1 - 2 + 0.1 * 1 + 0.3 * 2, 0.25 + 0.5 * 3 + 3 + 0.1 * 9 - 0.3 * 9
    ])  # fmt: skip


def test_without_proposals_an_instance_has_a_least_quality_of_its_own() -> None:
    surface = two_boxes().surface(0.004)
    strict = InstanceConfig(selection=SelectionConfig(least_by_form=1.0))
    assert find_instances(surface, []).count > 0 == find_instances(surface, [], config=strict).count
    strict = InstanceConfig(selection=SelectionConfig(least=1.0))
    assert find_instances(surface, [], config=strict).count == find_instances(surface, []).count


def test_instances_have_the_quality_that_selection_expects() -> None:
    surface = two_boxes().surface(0.004)
    found, made = find_instances(surface, []), find_superpoints(surface, [])
    layout, inside, tree = grow(made, InstanceConfig())
    quality = SelectionConfig().quality(node_features(tree, inside, made, layout))
    nodes = [set(inside[sorted(regions_of(tree, node))].tolist()) for node in range(len(tree))]
    own = [set(made.superpoint[found.instance == number].tolist()) for number in range(1, found.count + 1)]
    assert found.quality is not None and len(set(found.quality)) > 1
    assert found.quality.tolist() == pytest.approx([quality[nodes.index(each)] for each in own])


def test_what_the_head_proposes_is_an_instance_and_what_it_takes_for_background_is_none() -> None:
    room = two_boxes()
    surface, true = room.surface(0.004), room.instances
    masks = [np.flatnonzero(true == 1), np.flatnonzero(true != 1)]
    seen = proposals(surface, true, np.where(true == 1, 0.95, 0.01), masks, [0.8, 0.8])
    found = find_instances(surface, [room.features()], propose=lambda made: seen, config=INDOOR)
    assert found.count == 1 and found.rejected_fragments >= 1
    assert (found.instance[true == 1] == 1).mean() > 0.95 and not found.instance[true == 2].any()
    assert (found.ids[true == 2] > 1).mean() > 0.95


def test_fragments_are_numbered_after_instances_and_are_none_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    room = floor(2.0).box((-0.4, 0, 0), (0.5, 0.5, 0.5), 1, 1).box((0.5, 0.3, 0), (0.2, 0.3, 0.3), 2, 2)
    surface, features = room.surface(0.003), [room.features()]
    usual = find_instances(surface, features, config=INDOOR)
    assert usual.count == 2 and (usual.instance[usual.ids <= 2] == usual.ids[usual.ids <= 2]).all()
    select = SelectionConfig.select

    def fewer(self: SelectionConfig, tree: MergeTree, features: np.ndarray, allowed: np.ndarray) -> np.ndarray:
        """All but the largest."""
        chosen = select(self, tree, features, allowed)
        return np.delete(chosen, features[chosen, 0].argmax())

    monkeypatch.setattr(SelectionConfig, "select", fewer)
    found = find_instances(surface, features, config=INDOOR)
    assert (found.layout == usual.layout).all() and (found.layout[found.ids > 0] == NONE).all()
    assert found.count == 1 and (found.instance[usual.ids == 2] == 1).all()
    assert found.rejected_fragments >= 1 and found.ids.max() == 1 + found.rejected_fragments
    assert (found.ids[usual.ids == 1] > 1).mean() > 0.9 and not found.instance[usual.ids == 1].any()


def test_the_shipped_weights_are_of_these_features() -> None:
    assert selection.shipped("form").linear.shape == (len(FORM),)
    assert selection.shipped("head").square.shape == (len(FORM) + len(HEAD),) * 2
