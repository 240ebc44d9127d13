"""Merge scores of two regions: edge features with known values, and the network that weighs them."""

from dataclasses import replace

import numpy as np
import pytest
from box_rooms import floor

from ovseg3d.instances.adjacency import (
    GROWING,
    MOMENTS,
    PAIR_FEATURES,
    MergeConfig,
    MergeCost,
    MergeModel,
    bends,
    edge_features,
    moments,
    pair_features,
    shipped,
    tint,
)
from ovseg3d.instances.graph import Contacts
from ovseg3d.instances.grouping import region_means
from ovseg3d.instances.proposals import VOTE_FEATURES
from ovseg3d.instances.superpoints import find_superpoints

ROOT = 2**-0.5


def with_forms(means: np.ndarray) -> np.ndarray:
    """Regions that are all in one place."""
    return np.concatenate([np.zeros((len(means), len(MOMENTS))), means], 1)


def test_bends_are_above_0_in_corners_and_below_on_edges() -> None:
    pair = np.array([[0, 1], [0, 2], [0, 3]])
    xyz = np.array([[0.0, 0, 0], [1, 0, 1], [1, 0, -1], [1, 0, 0]])
    # Beside a floor: a wall that rises from it, one that falls from its edge, and more floor.
    normal = np.array([[0.0, 0, 1], [-1, 0, 0], [1, 0, 0], [0, 0, 1]])
    assert bends(pair, xyz, normal) == pytest.approx([2 * ROOT, -2 * ROOT, 0.0])


def test_shade_does_not_change_a_tint() -> None:
    from skimage.color import xyz2lab

    lit = np.array([[0.5, 0.4, 0.2], [0.3, 0.4, 0.6]])
    lab, shaded = xyz2lab(lit) / 100, xyz2lab(lit * 0.3) / 100
    moved = np.linalg.norm(tint(lab) - tint(shaded), axis=1)
    assert (moved < 0.4 * np.linalg.norm(lab - shaded, axis=1)[:, None][:, 0]).all()
    assert (moved < 0.2 * np.linalg.norm(tint(lab)[0] - tint(lab)[1])).all()
    assert tint(np.array([[0.7, 0.1, -0.2]])) == pytest.approx(np.array([[0.1, -0.2]]))


def test_cues_are_means_over_the_border() -> None:
    border = Contacts(np.array([[0, 1], [1, 2], [2, 3]]), np.array([[4.0, 0.4, 0.8], [2.0, 0.0, 4.0], [2.0, 0.0, 1.0]]))
    # Off planes; onto one; within one, where bends are noise.
    found = edge_features(border, np.array([0, 0, 1, 1]))
    told = dict(zip(PAIR_FEATURES, (found.sums[:, 1:] / found.sums[:, :1]).T))
    assert found.sums[:, 0] == pytest.approx([4, 2, 2])
    assert told["step"] == pytest.approx([0.1, 0, 0])
    assert told["bend"] == pytest.approx([0.2, 2.0, 0]) and told["concave"] == pytest.approx([0.2, 2.0, 0])
    assert told["leaves"] == pytest.approx([0, 1, 0]) and told["flat"] == pytest.approx([0, 0, 1])
    assert told["corner"] == pytest.approx([0, 0, 0]) and told["convex"] == pytest.approx([0, 0, 0])
    around = edge_features(border, np.array([1, 2, 2, 0]))
    assert dict(zip(PAIR_FEATURES, around.sums[0, 1:] / 4))["corner"] == 1
    # What two borders say together when their regions merge: the mean over all edges.
    both = found.merged(np.array([0, 1, 0, 2]), 3)
    assert both.sums[0, 0] == 6 and dict(zip(PAIR_FEATURES, both.sums[0, 1:] / 6))["step"] == pytest.approx(0.4 / 6)


def test_regions_are_compared_as_wholes() -> None:
    contact = Contacts(np.array([[0, 1]]), np.array([[6.0, *np.zeros(7)]]))
    weight = np.array([100.0, 9.0])
    means = with_forms(np.array([[0.3, 0.0, 0.0, 0.7, 0.0, 0.0], [0.0, 0.4, 0.0, 0.5, 0.08, 0.0]]))
    told = dict(zip(PAIR_FEATURES, pair_features(contact, weight, means, 1)[0]))
    assert told["look"] == pytest.approx(0.5)
    assert told["look of the first features"] == pytest.approx(0.3)
    assert told["look of the others"] == pytest.approx(0.4)
    assert told["tint"] == pytest.approx(0.08 / 0.8) and told["lightness"] == pytest.approx(0.2)
    assert np.exp([told["smaller"], told["larger"]]) == pytest.approx([9, 100])
    # 6 of the small one's 54 edges lead out of it, which takes 2/9 of it.
    assert np.exp([told["smaller core"], told["larger core"]]) == pytest.approx([7, 98])
    assert told["share of outline"] == 1 and np.exp(told["length"]) == pytest.approx(2)
    alike = dict(zip(PAIR_FEATURES, pair_features(contact, weight, means, None)[0]))
    assert alike["look of the first features"] == alike["look of the others"] == pytest.approx(0.5 / 2**0.5)


def test_shapes_are_those_of_the_points() -> None:
    """A small box on a large one, on a floor that is tilted, in units of a millimetre."""
    random, gap = np.random.default_rng(0), 10.0
    large = random.uniform((-400, -200, 0), (400, 200, 600), (3000, 3))
    small = random.uniform((100, -50, 600), (200, 150, 700), (1000, 3))
    turn = np.linalg.qr(random.normal(size=(3, 3)))[0]
    up, xyz = turn[:, 2], np.concatenate([small, large]) @ turn.T + 5000.0
    form = moments(xyz, up, float(turn[:, 2].sum() * 5000), gap)
    means = np.stack([form[:1000].mean(0), form[1000:].mean(0)])
    contact = Contacts(np.array([[0, 1]]), np.array([[50.0, *np.zeros(7)]]))
    weight = np.array([1000.0, 3000.0])
    told = dict(zip(PAIR_FEATURES, pair_features(contact, weight, np.concatenate([means, np.zeros((2, 5))], 1), 1)[0]))
    both = np.concatenate([small, large])
    for name, points, axis in (
        ("width", both, 0), ("depth", both, 1), ("height", both, 2), ("width of the larger", large, 0),
        ("height of the larger", large, 2), ("width of the smaller", small, 1), ("height of the smaller", small, 2),
    ):  # fmt: skip
        assert np.exp(told[name]) == pytest.approx(points.std(0)[axis] / gap, rel=0.02), name
    apart, (inner, outer) = small.mean(0) - large.mean(0), (small.std(0) / gap, large.std(0) / gap)
    assert told["above"] == pytest.approx(apart[2] / gap / (inner[2] + outer[2]), rel=0.02)
    assert told["aside"] == pytest.approx(np.hypot(*apart[:2]) / gap / (inner[1] + outer[0]), rel=0.02)
    assert np.exp(told["growth"]) == pytest.approx((both.std(0) / large.std(0)).prod(), rel=0.02)
    # The two reach from the floor upwards; by themselves, one on a shelf does not.
    assert told["bottom"] == pytest.approx(0, abs=0.1)
    higher = moments(xyz, up, float(turn[:, 2].sum() * 5000) - 1000, gap)
    means[:] = higher[:1000].mean(0), higher[1000:].mean(0)
    raised = dict(
        zip(PAIR_FEATURES, pair_features(contact, weight, np.concatenate([means, np.zeros((2, 5))], 1), 1)[0])
    )
    bottom = (1000 + both[:, 2].mean() - 2 * both[:, 2].std()) / gap
    assert np.expm1(raised["bottom"]) == pytest.approx(bottom, rel=0.02)
    assert {name for name in told if abs(raised[name] - told[name]) > 1e-6} == {"bottom"}
    # Which of them comes first does not matter, nor where both are equally large.
    for sizes in (weight, np.full(2, 500.0)):
        one, other = (
            pair_features(contact, size, np.concatenate([rows, np.zeros((2, 5))], 1), 1)[0]
            for size, rows in ((sizes, means), (sizes[::-1], means[::-1]))
        )
        np.testing.assert_allclose(one, other)


@pytest.mark.parametrize("unit", [1.0, 1000.0])
def test_forms_of_patches_are_in_gaps_above_the_floor(unit: float) -> None:
    made = floor(2.0).box((0, 0, 0), (0.5, 0.5, 0.5), 1, 1)
    surface = made.surface(0.003)
    surface = replace(surface, xyz=(surface.xyz * unit + 7).astype(np.float32), cell=surface.cell * unit)
    found = find_superpoints(surface, [])
    height = np.bincount(found.superpoint, found.xyz[:, 2]) / found.weight
    top = height > 0.49 * unit + 7
    assert top.any() and found.form[top, 2] * found.gap == pytest.approx(0.5 * unit, rel=0.05)
    on_floor = height < 0.01 * unit + 7
    assert on_floor.any() and np.abs(found.form[on_floor, 2]).max() < 1
    assert (region_means(found, None) == np.concatenate([found.form, found.seen], 1)).all()


@pytest.mark.parametrize("name", ["form", "head"])
def test_the_model_says_what_its_network_says_in_torch(name: str) -> None:
    import torch

    own = shipped(name)
    random = np.random.default_rng(0)
    told = own.mean + 3 * own.deviation * random.normal(size=(50, len(own.mean)))
    hidden, output = (torch.from_numpy(value) for value in (own.hidden, own.output))
    layers = torch.nn.Linear(len(own.mean), hidden.shape[1]).double(), torch.nn.Linear(hidden.shape[1], 1).double()
    with torch.no_grad():
        for layer, weight in zip(layers, (hidden, output[:, None])):
            layer.weight.copy_(weight[:-1].T)
            layer.bias.copy_(weight[-1])
        scaled = torch.from_numpy((told - own.mean) / own.deviation)
        expected = (layers[1](torch.tanh(layers[0](scaled)))[:, 0] + scaled @ torch.from_numpy(own.direct)).numpy()
    assert own(told) == pytest.approx(expected)


def test_the_cost_is_1_where_two_things_are_as_likely_as_the_limit() -> None:
    nothing = np.zeros((len(PAIR_FEATURES) + 1, 1))
    said = MergeModel(
        np.zeros(len(PAIR_FEATURES)),
        np.ones(len(PAIR_FEATURES)),
        nothing,
        np.array([0.0, np.log(0.2 / 0.8)]),
        nothing[1:, 0],
    )
    contact, weight, means = Contacts(np.array([[0, 1]]), np.ones((1, 8))), np.ones(2), with_forms(np.zeros((2, 5)))
    assert MergeCost(MergeConfig(0.2, said))(contact, weight, means) == pytest.approx(1)
    assert MergeCost(MergeConfig(0.1, said))(contact, weight, means) > 1
    assert MergeCost(MergeConfig(0.3, said))(contact, weight, means) < 1


@pytest.mark.parametrize("name", ["form", "head"])
def test_more_difference_is_never_one_thing(name: str) -> None:
    """Far beyond what was seen, too, and of regions of any kind."""
    own, random = shipped(name), np.random.default_rng(0)
    told = own.mean + 3 * own.deviation * random.normal(size=(200, len(own.mean)))
    names = [*PAIR_FEATURES, *VOTE_FEATURES][: len(own.mean)]
    grows, first = [k for k, feature in enumerate(names) if feature in GROWING], own(told)
    for _ in range(8):
        more = told.copy()
        more[:, grows] += own.deviation[grows] * random.exponential(2.0, (len(told), len(grows)))
        assert (own(more) >= own(told) - 1e-9).all()
        told = more
    assert (own(told) > first + 0.5).mean() > 0.9


def test_what_comes_with_the_package_knows_one_thing_from_two() -> None:
    """Halves of one thing, and a box that stands on another one and looks different."""
    edges = 40.0
    same = np.array([edges, *np.zeros(7)])
    stands = edges * np.array([1, 0.15, 0.5, 0, 0, 0.9, 0, 0])
    price, weight = MergeCost(MergeConfig(), 1), np.array([600.0, 500.0])
    form = np.array([[0, 0, z, 30, 0, 30, z**2 + 30.0] for z in (10, 30)])  # boxes of some 20 gaps on each other
    alike = np.concatenate([form * [1, 1, 0, 1, 1, 1, 0], [[0.1, 0.1, 0.6, 0.05, 0.05]] * 2], 1)
    alike[:, [0, 2, 3, 6]] = [[-10, 10, 130, 130], [10, 10, 130, 130]]  # side by side
    unlike = np.concatenate([form, [[0.1, 0.1, 0.6, 0.05, 0.05], [0.7, 0.8, 0.4, 0.2, -0.1]]], 1)
    pair = np.array([[0, 1]])
    assert price(Contacts(pair, same[None]), weight, alike) < 1 < price(Contacts(pair, stands[None]), weight, unlike)
