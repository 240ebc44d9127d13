"""Lifting of the photos' features to points, against sums by hand and with wrong photos."""

from dataclasses import replace

import numpy as np
import pytest

from ovseg3d.errors import RunError
from ovseg3d.features.maps import Dense, Level, Pyramid, Regions
from ovseg3d.field.surface import Visibility
from ovseg3d.points.lift import LiftConfig, lift, lift_reduced

PLAIN = LiftConfig(rounds=0)
NOTHING = np.zeros(0, np.int32)


def visibility(points, weights=None, many: int = 100) -> Visibility:
    """A view that sees `points`; each appears at the place x = (number + 0.5) / many."""
    points = np.asarray(points, dtype=np.int32)
    weights = np.full(len(points), 0.5) if weights is None else np.asarray(weights)
    place = (points + 0.5) / many
    return Visibility(points, np.stack([place, place], -1).astype(np.float32), weights.astype(np.float32), NOTHING)


def saying(vectors, many: int | None = None):
    """A photo that says `vectors[i]` of point i."""
    vectors = np.asarray(vectors, dtype=np.float32)
    count = many or len(vectors)
    return lambda xy: vectors[np.floor(xy[:, 0] * count).astype(int)]


def unit(vectors):
    vectors = np.asarray(vectors, dtype=float)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def room(seed=0, points=600, views=24, instances=30, dim=32, see=0.4, margin=0.5):
    """Points of objects of known kinds; photos that see some, and their features: a large common vector + kind."""
    rng = np.random.default_rng(seed)
    common, kinds = unit(rng.normal(size=dim)), unit(rng.normal(size=(8, dim)))
    words = unit(common + margin * kinds)
    instance = np.arange(points) * instances // points
    kind = rng.integers(0, 8, instances)
    visibilities = [visibility(np.flatnonzero(rng.random(points) < see), many=points) for _ in range(views)]
    said = [kind.copy() for _ in range(views)]
    return rng, words, instance, kind, visibilities, said


def photos_of(said, words, instance, rng, noise=0.05):
    made = []
    for kinds in said:
        vectors = unit(words[kinds] + noise * rng.normal(size=(len(kinds), words.shape[1])) / words.shape[1] ** 0.5)
        made.append(saying(vectors[instance]))
    return made


def accuracy(lifted, words, truth):
    seen = lifted.support > 0
    middle = words.mean(0)
    return float((((lifted.vectors - middle) @ (words - middle).T).argmax(1) == truth)[seen].mean())


# -- the mean --------------------------------------------------------------------------------------------------


def test_the_plain_mean_is_weighted_by_the_light():
    one, two = np.eye(3, dtype=np.float32)[[0, 0, 1]], np.eye(3, dtype=np.float32)[[2, 2, 2]]
    visibilities = [visibility([0, 2], [0.3, 0.5], 3), visibility([0, 1], [0.9, 0.4], 3)]
    lifted = lift(visibilities, [saying(one), saying(two)], 3, PLAIN)
    np.testing.assert_allclose(lifted.vectors, [[0.25, 0, 0.75], [0, 0, 1], [0, 1, 0]], atol=1e-6)
    np.testing.assert_allclose(lifted.support, [1.2, 0.4, 0.5], atol=1e-6)


def test_agreement_by_hand():
    """Two points, two photos: of the first they say the same, of the second the opposite (less the common vector)."""
    a, b, c = unit([[1, 0.2, 0], [1, -0.1, 0.3], [1, -0.1, -0.3]])
    visibilities = [visibility([0, 1], [0.5, 0.8], 2), visibility([0, 1], [0.5, 0.4], 2)]
    lifted = lift(visibilities, [saying([a, b]), saying([a, c])], 2, PLAIN)
    mean = np.stack([a, (0.8 * b + 0.4 * c) / 1.2])
    common = mean.mean(0)

    def cosine(v, w):
        return (v @ w) / np.linalg.norm(v) / np.linalg.norm(w)

    second = cosine(b - common, c - common)
    np.testing.assert_allclose(lifted.agreement, [1, max(second, 0)], atol=1e-3)
    expected = [(0.5 + 0.8 * second) / 1.3, (0.5 + 0.4 * second) / 0.9]
    np.testing.assert_allclose(lifted.trust, np.clip(expected, 0, 1), atol=1e-3)


def test_photos_that_all_say_the_same_agree_fully():
    words = unit(np.random.default_rng(0).normal(size=(20, 8)))
    lifted = lift([visibility(range(20), many=20)] * 4, [saying(words)] * 4, 20)
    np.testing.assert_allclose(lifted.vectors, words, atol=1e-5)
    np.testing.assert_allclose(lifted.agreement, 1, atol=1e-3)
    np.testing.assert_allclose(lifted.trust, 1, atol=1e-3)


def test_a_scene_of_one_thing_is_agreed_on_too():
    """All vectors are the same: nothing is left after the common vector is subtracted."""
    lifted = lift([visibility(range(9), many=9)] * 3, [saying(np.tile(unit([1, 2, 2]), (9, 1)))] * 3, 9)
    np.testing.assert_allclose(lifted.vectors, np.tile(unit([1, 2, 2]), (9, 1)), atol=1e-5)
    assert lifted.agreement.min() > 0.99 and lifted.trust.min() > 0.99


def test_a_photo_that_says_one_thing_of_everything_is_not_trusted():
    rng, words, instance, kind, visibilities, said = room()
    photos = photos_of(said, words, instance, rng)
    flat = words[kind][instance].mean(0)
    photos[3] = saying(np.tile(unit(flat), (len(instance), 1)))
    trust = lift(visibilities, photos, len(instance)).trust
    assert trust[3] < 0.3 and np.delete(trust, 3).min() > 0.8


def test_what_only_an_odd_photo_sees_nobody_agrees_about():
    rng, words, instance, kind, visibilities, said = room()
    said[5] = (said[5] + 1 + rng.integers(0, 6, len(kind))) % 8
    lonely = np.setdiff1d(
        np.arange(len(instance)), np.concatenate([s.point for i, s in enumerate(visibilities) if i != 5])
    )
    visibilities = [
        s if i == 5 else replace(s, **_without(s, visibilities[5].point[:20])) for i, s in enumerate(visibilities)
    ]
    lifted = lift(visibilities, photos_of(said, words, instance, rng), len(instance))
    lonely = np.union1d(lonely, visibilities[5].point[:20])
    assert lifted.trusted.tolist() == [view != 5 for view in range(len(visibilities))]
    assert (lifted.agreement[lonely] == 0).all() and np.median(lifted.agreement) > 0.8


def _without(view, points):
    """A visibility's fields less some points."""
    kept = ~np.isin(view.point, points)
    return {"point": view.point[kept], "xy": view.xy[kept], "weight": view.weight[kept]}


# -- photos that err -------------------------------------------------------------------------------------------


def test_a_photo_that_is_all_wrong_is_not_trusted_and_changes_little():
    rng, words, instance, kind, visibilities, said = room()
    clean = lift(visibilities, photos_of(said, words, instance, np.random.default_rng(1)), len(instance))
    said[5] = (said[5] + 1 + rng.integers(0, 6, len(kind))) % 8
    photos = photos_of(said, words, instance, np.random.default_rng(1))
    spoilt, plain = lift(visibilities, photos, len(instance)), lift(visibilities, photos, len(instance), PLAIN)
    assert spoilt.trust[5] < 0.15 and np.delete(spoilt.trust, 5).min() > 0.8
    change = np.linalg.norm(spoilt.vectors - clean.vectors, axis=1)
    assert change.mean() < 0.1 * np.linalg.norm(plain.vectors - clean.vectors, axis=1).mean()
    assert spoilt.agreement.min() > 0.5


def test_wrong_regions_are_voted_down():
    better = []
    for seed in range(3):
        rng, words, instance, kind, visibilities, said = room(seed, see=0.25)
        for view, kinds in enumerate(said):
            wrong = rng.random(len(kinds)) < (1.0 if view in (2, 9) else 0.2)
            kinds[wrong] = rng.integers(0, 8, wrong.sum())
        photos = photos_of(said, words, instance, rng)
        plain, voted = lift(visibilities, photos, len(instance), PLAIN), lift(visibilities, photos, len(instance))
        assert accuracy(voted, words, kind[instance]) > 0.97
        assert accuracy(voted, words, kind[instance]) >= accuracy(plain, words, kind[instance])
        assert voted.trust[[2, 9]].max() < 0.5 * np.delete(voted.trust, [2, 9]).min()
        # Where the photos are right, the voted mean is closer to what is true.
        truth = words[kind[instance]]
        better.append(((plain.vectors - truth) ** 2).sum() / ((voted.vectors - truth) ** 2).sum())
    assert min(better) > 2


# -- degenerate cases ------------------------------------------------------------------------------------------


def test_no_photo_sees_anything():
    lifted = lift([visibility([])] * 2, [saying(np.ones((1, 4)))] * 2, 3)
    assert lifted.vectors.shape == (3, 4)
    for values in (lifted.vectors, lifted.agreement, lifted.support):
        assert not values.any()
    with pytest.raises(RunError) as caught:
        lift_reduced([visibility([])] * 2, [saying(np.ones((1, 4)))] * 2, np.zeros((3, 3)))
    assert caught.value.fix
    assert len(lift([], [], 3).vectors) == 3


def test_one_point_and_one_view():
    lifted = lift([visibility([0], many=1)], [saying([unit([3, 4])])], 1)
    np.testing.assert_allclose(lifted.vectors, [[0.6, 0.8]], atol=1e-6)
    assert lifted.agreement.tolist() == [1] and lifted.trust.tolist() == [1]
    basis, reduced = lift_reduced([visibility([0], many=1)], [saying([unit([3, 4])])], np.zeros((1, 3)))
    np.testing.assert_allclose(basis.expand(reduced.vectors), [[0.6, 0.8]], atol=1e-6)


def test_a_photo_that_sees_nothing_says_nothing_about_the_others():
    rng, words, instance, kind, visibilities, said = room()
    photos = photos_of(said, words, instance, rng)
    few = lift(visibilities[:3], photos[:3], len(instance))
    more = lift([*visibilities[:3], *[visibility([])] * 5], photos[:8], len(instance))
    np.testing.assert_allclose(more.vectors, few.vectors, atol=1e-6)
    assert np.isfinite(more.trust).all()


def test_photos_that_see_nothing_do_not_say_what_is_usual():
    """Photos that disagree a lot, as encoders' do, beside more that see nothing, or what no other sees."""
    rng, words, instance, kind, visibilities, said = room()
    for kinds in said:
        wrong = rng.random(len(kinds)) < 0.7
        kinds[wrong] = rng.integers(0, 8, wrong.sum())
    photos = photos_of(said, words, instance, rng)
    points, count = len(instance), len(visibilities)
    few = lift(visibilities, photos, points)
    blind, alone = [visibility([])] * count, [visibility([points], many=points + 1)]
    more = lift([*visibilities, *blind, *alone], [*photos, *photos, saying(words[:1])], points + 1)
    assert 0 < few.trust.max() < 0.5 and more.trust[count:].tolist() == [1] * (count + 1)
    np.testing.assert_allclose(more.trust[:count], few.trust, rtol=0.05)
    assert more.trusted[:count].tolist() == few.trusted.tolist()
    assert more.compared.tolist() == [True] * count + [False] * (count + 1)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0])
def test_what_is_no_direction_is_not_heard(bad):
    rng, words, instance, kind, visibilities, said = room()
    photos = photos_of(said, words, instance, rng)
    spoilt = photos[1](np.stack([(np.arange(600) + 0.5) / 600] * 2, -1))
    spoilt[100:300] = bad
    with np.errstate(invalid="ignore"):
        lifted = lift(visibilities, [photos[0], saying(spoilt), *photos[2:]], len(instance))
    cut = visibilities[1]
    kept = (cut.point < 100) | (cut.point >= 300)
    cut = replace(cut, point=cut.point[kept], xy=cut.xy[kept], weight=cut.weight[kept])
    expected = lift([visibilities[0], cut, *visibilities[2:]], photos, len(instance))
    assert np.isfinite(lifted.vectors).all()
    for name in ("vectors", "agreement", "support", "trust"):
        np.testing.assert_array_equal(getattr(lifted, name), getattr(expected, name))


def test_visibilities_and_photos_belong_together():
    with pytest.raises(ValueError):
        lift([visibility([0])] * 2, [saying(np.ones((1, 4)))], 1)


# -- reduced ---------------------------------------------------------------------------------------------------


def test_points_that_no_photo_sees_take_the_nearest_word():
    words = unit(np.eye(4))
    xyz = np.array([[0, 0, 0], [1, 0, 0], [5, 0, 0], [5.4, 0, 0]], dtype=float)
    basis, lifted = lift_reduced([visibility([0, 1], many=4), visibility([2], many=4)], [saying(words)] * 2, xyz)
    np.testing.assert_allclose(basis.expand(lifted.vectors), words[[0, 1, 2, 2]], atol=1e-5)
    assert lifted.support[3] == 0 and lifted.agreement[3] == 0


def test_few_seen_points_among_many_are_found_for_the_basis():
    words = unit(np.random.default_rng(0).normal(size=(5000, 6)))
    _, lifted = lift_reduced(
        [visibility([7, 4000], many=5000)], [saying(words)], np.zeros((5000, 3)), LiftConfig(samples=4)
    )
    assert np.isfinite(lifted.vectors).all() and (lifted.support > 0).sum() == 2


def maps(words, instance, rng):
    """One photo as each kind of map: objects side by side, from left to right."""
    vectors = words.astype(np.float16)
    index = np.arange(len(words))[None].repeat(2, 0).astype(np.uint16)
    grid = vectors[None].repeat(2, 0)
    level = Level(grid, 0.5, (0.5 / len(words), 0.25), (1 / len(words), 0.5))
    return Regions(vectors, index), Dense(grid), Pyramid((level, replace(level, scale=0.2)))


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_reduced_maps_say_what_full_ones_say(kind):
    rng = np.random.default_rng(0)
    words = unit(unit(rng.normal(size=40)) + 0.5 * unit(rng.normal(size=(12, 40))))
    points = 240
    place = (np.arange(points) + 0.5) / points
    xyz = np.stack([place, place, place], -1)
    visibilities = [visibility(np.flatnonzero(rng.random(points) < 0.6), many=points) for _ in range(5)]
    photos = []
    for _ in range(5):
        said = unit(words + 0.02 * rng.normal(size=words.shape))
        photos.append(maps(said, None, rng)[kind])
    config = LiftConfig(kept=30)
    full = lift(visibilities, [photo.at for photo in photos], points, config)
    functions = [lambda xy, photo=photo: photo.at(xy) for photo in photos]
    (basis, lifted), (other, by_function) = (
        lift_reduced(visibilities, some, xyz, config) for some in (photos, functions)
    )
    _, by_method = lift_reduced(visibilities, [photo.at for photo in photos], xyz, config)
    np.testing.assert_array_equal(by_method.vectors, lifted.vectors)
    np.testing.assert_array_equal(basis.axes, other.axes)
    seen = full.support > 0
    for found in (lifted, by_function):
        np.testing.assert_array_equal(found.support, full.support)
        cosine = (unit(basis.expand(found.vectors)) * unit(full.vectors + 1e-12))[seen].sum(1)
        assert cosine.min() > 0.995
        np.testing.assert_allclose(found.agreement[seen], full.agreement[seen], atol=0.05)


def test_the_same_photos_give_the_same_bits():
    rng, words, instance, kind, visibilities, said = room()
    photos = photos_of(said, words, instance, rng)
    xyz = rng.normal(size=(len(instance), 3))
    (basis, one), (again, two) = (lift_reduced(visibilities, photos, xyz, LiftConfig(samples=100)) for _ in range(2))
    assert basis.axes.tobytes() == again.axes.tobytes()
    assert one.vectors.tobytes() == two.vectors.tobytes() and one.agreement.tobytes() == two.agreement.tobytes()


def test_memory_does_not_grow_with_the_photos():
    import tracemalloc

    rng = np.random.default_rng(0)
    points, peaks = 8000, []
    index = (np.arange(4000).reshape(40, 100) // 100).astype(np.uint16)
    for views in (4, 24):
        photos = [Regions(unit(rng.normal(size=(40, 256))).astype(np.float16), index)] * views
        visibilities = [visibility(np.flatnonzero(rng.random(points) < 0.5), many=points)] * views
        tracemalloc.start()
        lift_reduced(visibilities, photos, rng.normal(size=(points, 3)), LiftConfig(samples=500, kept=32))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # Only a few numbers for each point and photo stay; all words together would be 12 MB more.
    assert peaks[1] - peaks[0] < 4e6
