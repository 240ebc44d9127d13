"""Objectness: regions that are instances, and rejected fragments."""

from dataclasses import replace

import numpy as np
import pytest
from test_grouping import INDOOR, floor

from ovseg3d.instances.adjacency import moments
from ovseg3d.instances.graph import Contacts
from ovseg3d.instances.grouping import find_instances
from ovseg3d.instances.layout import FLOOR
from ovseg3d.instances.objectness import (
    REACH,
    REGION_FEATURES,
    ObjectnessConfig,
    ObjectnessModel,
    region_features,
    shipped,
)


def told_of(room, units: float = 1.0) -> np.ndarray:
    """Traits of what is found in a room."""
    kept, surface = [], room.surface(0.003)
    surface = replace(surface, xyz=(surface.xyz * units).astype(np.float32), cell=surface.cell * np.float32(units))
    config = ObjectnessConfig(evaluator=lambda told: kept.append(told) or np.ones(len(told)))
    find_instances(surface, [room.features()], config=replace(INDOOR, objectness=config))
    return kept[0]


def test_traits_of_three_regions() -> None:
    """A box (of 1000 points) stands on the floor and touches a fragment of 20 points, half of it on the floor."""
    random, up = np.random.default_rng(0), np.array([0.0, 0.0, 1.0])
    box = random.uniform((-4, -2, 0), (4, 2, 10), (1000, 3))
    form = moments(np.concatenate([box, box[:20], box[:5] * 0]), up, 0.0, 1.0)
    means = np.stack([form[:1000].mean(0), form[1000:1020].mean(0), form[1020:].mean(0)])
    contacts = Contacts(np.array([[0, 1], [0, 2], [1, 2]]), np.array([[30.0], [60.0], [10.0]]))
    two, weight = np.array([-2.0, 9.0, 0.0]), np.array([1000.0, 20.0, 5000.0])
    found = region_features(contacts, two, weight, means, np.array([0, 0.5, 1.0]), np.array([False, False, True]))
    first, second = (dict(zip(REGION_FEATURES, row)) for row in found[:2])
    assert first["points"] == pytest.approx(np.log(1000)) and first["apart from the likest"] == -2
    chance = 1 / (1 + np.exp(-two))
    assert first["apart"] == pytest.approx((30 * chance[0] + 60 * chance[1]) / 90)
    assert first["outline that may be none"] == pytest.approx(1 / 3)
    assert first["outline"] == pytest.approx(np.log1p(90 / 1000**0.5))
    assert first["outline with the room"] == pytest.approx(2 / 3) and second["outline with the room"] == 0.25
    assert (first["on planes"], second["on planes"]) == (0, 0.5)
    for name, axis in (("width", 0), ("depth", 1), ("height", 2)):
        assert np.exp(first[name]) == pytest.approx(np.hypot(box.std(0)[axis], 0.5), rel=0.01), name
    assert first["bottom"] == pytest.approx(0, abs=0.1)
    assert dict(zip(REGION_FEATURES, found[2]))["apart from the likest"] == 0
    alone = region_features(
        Contacts(np.zeros((0, 2), int), np.zeros((0, 1))), two[:0], weight, means, weight * 0, weight < 0
    )
    assert np.isfinite(alone).all() and (alone[:, REGION_FEATURES.index("apart")] == 0).all()


def test_traits_do_not_depend_on_units() -> None:
    room = floor(2.0).box((-0.4, 0, 0), (0.5, 0.5, 0.5), 1, 1).box((0.5, 0.3, 0), (0.2, 0.3, 0.3), 2, 2)
    told = told_of(room)
    assert len(told) == 2
    np.testing.assert_allclose(told_of(room, 1000.0), told, rtol=1e-3, atol=1e-3)


def test_odds_are_a_sum_of_traits_and_squares_as_far_as_they_reach() -> None:
    random = np.random.default_rng(0)
    mean, deviation, linear, square = random.uniform(0.5, 1, (4, 3))
    whole = ObjectnessModel(mean, deviation, linear, square, -1.0)
    x = random.normal(size=(5, 3))
    expected = -1 + (x * linear).sum(1) + (x**2 * square).sum(1)
    np.testing.assert_allclose(whole(mean + x * deviation), expected)
    far = whole(mean + np.array([[50.0, 0, 0]]) * deviation)
    np.testing.assert_allclose(far, -1 + REACH * linear[0] + REACH**2 * square[0])


def test_fragments_are_numbered_after_instances_and_are_none_of_them() -> None:
    room = floor(2.0).box((-0.4, 0, 0), (0.5, 0.5, 0.5), 1, 1).box((0.5, 0.3, 0), (0.2, 0.3, 0.3), 2, 2)
    surface, features = room.surface(0.003), [room.features()]
    usual = find_instances(surface, features, config=INDOOR)
    assert (usual.count, usual.rejected_fragments) == (2, 0) and (usual.instance == usual.ids).all()
    # The large box is said to be none.
    largest = ObjectnessConfig(evaluator=lambda told: np.where(told[:, 0] == told[:, 0].max(), -9.0, 9.0))
    found = find_instances(surface, features, config=replace(INDOOR, objectness=largest))
    assert (found.count, found.rejected_fragments) == (1, 1)
    np.testing.assert_array_equal(found.ids, np.choose(usual.ids, [0, 2, 1]))
    np.testing.assert_array_equal(found.instance, np.choose(usual.ids, [0, 0, 1]))
    np.testing.assert_array_equal(found.layout, usual.layout)
    assert (found.layout[found.ids > 0] != FLOOR).all()


def test_what_comes_with_the_package_knows_a_box_from_a_patch_of_floor() -> None:
    """A box that stands by itself; a few points that lie flat among those of the floor."""
    (box,) = told_of(floor(2.0).box((0, 0, 0), (0.5, 0.5, 0.5), 1, 1))
    patch = dict(zip(REGION_FEATURES, box)) | {
        "points": np.log(20), "apart from the likest": -1.0, "apart": 0.4, "outline that may be none": 0.6,
        "outline": np.log1p(15), "outline with the room": 1.0, "on planes": 1.0, "width": 0.8, "depth": 0.5,
        "height": np.log(0.5), "bottom": 0.0,
    }  # fmt: skip
    config = ObjectnessConfig()
    assert config.instances(np.stack([box, list(patch.values())])).tolist() == [True, False]
    assert shipped() is config.evaluator
