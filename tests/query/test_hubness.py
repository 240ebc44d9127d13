"""Hubness correction of names over a scene's instances."""

import numpy as np

from ovseg3d.features.maps import normalise
from ovseg3d.instances.layout import CEILING, FLOOR, NONE, WALL
from ovseg3d.query.hubness import group_means, groups_of, peaks, shifts


def test_groups_are_things_and_planes_that_nobody_names() -> None:
    instance, plane = np.array([0, 2, 2, 0, 0, 1]), np.array([FLOOR, NONE, FLOOR, WALL, NONE, NONE])
    assert groups_of(instance, None, frozenset()).tolist() == instance.tolist()
    named = groups_of(instance, plane, frozenset({FLOOR, CEILING}))
    assert named.tolist() == [0, 2, 2, 2 + WALL, 0, 1]
    assert (groups_of(instance, plane, frozenset({FLOOR, WALL})) == instance).all()


def test_planes_are_numbered_after_any_number_of_things() -> None:
    instance = np.array([125, 0, 0], np.int32)
    plane = np.array([NONE, FLOOR, WALL], np.int8)
    for instances in (125, 200, 40_000):
        instance[0] = instances
        assert groups_of(instance, plane, frozenset()).tolist() == [instances, instances + FLOOR, instances + WALL]


def test_means_of_groups_by_hand() -> None:
    vectors = np.float32([[1, 0], [0, 1], [1, 1], [5, 5]])
    means, weight = group_means(vectors, np.array([3, 1, 3, 0]))
    np.testing.assert_allclose(means, [[0, 1], [1, 0.5]])
    np.testing.assert_allclose(weight, [0.5**0.5, 1.0])
    means, weight = group_means(vectors, np.zeros(4, np.int64))
    assert means.shape == (0, 2) and weight.shape == (0,)


def test_a_peak_lies_between_the_greatest_and_that_and_the_logarithm_of_their_number() -> None:
    cosines = np.random.default_rng(0).uniform(-1, 1, (7, 3))
    found = peaks(cosines, np.ones(7), 50.0)
    assert (found >= cosines.max(0)).all() and (found <= cosines.max(0) + np.log(7) / 50).all()
    np.testing.assert_allclose(peaks(cosines, np.ones(7), 1e4), cosines.max(0), atol=1e-3)
    # A rejected fragment that is nearest says less than what is large: log w / s less.
    rejected_fragment = np.array([[0.5], [0.1]])
    np.testing.assert_allclose(peaks(rejected_fragment, np.array([0.1, 1.0]), 50.0), 0.5 + np.log(0.1) / 50, atol=1e-3)


def test_what_is_not_known_is_never_raised() -> None:
    own, known = np.array([0.2, 0.6, 0.2, 0.6]), np.array([True, True, False, False])
    np.testing.assert_allclose(shifts(own, known, 0.4), np.array([0.2, -0.2, 0.0, -0.2]))


def test_it_finds_what_a_hub_hides() -> None:
    """An encoder whose pictures all lie nearer to some texts: plain cosines name most instances by those."""
    random = np.random.default_rng(1)
    texts = normalise(random.normal(size=(12, 64)))
    bias = random.normal(size=12) * 0.4
    instances = normalise(texts + 0.8 * random.normal(size=(12, 64)) / 8)
    cosines = instances @ texts.T + bias  # what a common direction of all pictures does to cosines
    own = peaks(cosines, np.ones(12), 40.0)
    moved = cosines + shifts(own, np.full(12, True), float(own.mean()))
    right = [(found.argmax(1) == np.arange(12)).mean() for found in (cosines, moved)]
    assert right[1] == 1.0 > right[0]
