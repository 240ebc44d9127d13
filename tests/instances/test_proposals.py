"""What the detection head says of points and regions, and what grouping makes of it."""

import numpy as np
import pytest
from box_rooms import INDOOR, floor

from ovseg3d.field.surface import Surface
from ovseg3d.instances.graph import Contacts
from ovseg3d.instances.grouping import find_instances
from ovseg3d.instances.layout import FLOOR
from ovseg3d.instances.proposals import VOTE_FEATURES, VOTES, Proposals, vote_features


def proposals(
    surface: Surface, true: np.ndarray, foreground: np.ndarray, masks: list[np.ndarray], scores: list[float]
) -> Proposals:
    """Votes for the true instances."""
    xyz = surface.xyz.astype(np.float64)
    centers, log_sizes = xyz.copy(), np.full_like(xyz, np.log(0.01))
    for instance in np.unique(true[true > 0]):
        own = true == instance
        low, high = xyz[own].min(0), xyz[own].max(0)
        centers[own] = (low + high) / 2
        level, height = np.sort(high[:2] - low[:2]), high[2:] - low[2:]
        log_sizes[own] = np.log(np.concatenate([level, height]))
    return Proposals(foreground, centers, log_sizes, masks, np.array(scores))


def test_votes_of_a_group_are_means_that_count_by_foreground() -> None:
    random = np.random.default_rng(0)
    chance, center, size = random.uniform(size=6), random.normal(size=(6, 3)), random.normal(size=(6, 3))
    found = Proposals(chance, center, size, [], np.zeros(0)).votes(np.array([0, 0, 1, 1, 1, 0]), 2)
    assert found.shape == (2, len(VOTES))
    for group, own in enumerate(([0, 1, 5], [2, 3, 4])):
        assert found[group, 0] == pytest.approx(chance[own].mean())
        assert found[group, 1:4] == pytest.approx((chance[own, None] * center[own]).mean(0))
        assert found[group, 4:] == pytest.approx((chance[own, None] * size[own]).mean(0))


def test_pairs_are_compared_by_where_they_see_their_object_and_how_large() -> None:
    chance, logit = np.array([0.8, 0.4, 0.0]), np.log([0.8 / 0.2, 0.4 / 0.6, 0.005 / 0.995])
    center = np.array([[1.0, 0, 0], [1.0, 0.3, 0.4], [5, 5, 5]])
    size = np.log([[0.5, 1.0, 2.0], [0.5, 1.0, 1.0], [1, 1, 1]])
    votes = np.concatenate([chance[:, None], chance[:, None] * center, chance[:, None] * size], 1)
    pair = Contacts(np.array([[0, 1], [0, 2]]), np.ones((2, 1)))
    told = dict(zip(VOTE_FEATURES, vote_features(pair, votes).T, strict=True))
    assert told["least foreground"] == pytest.approx(logit[1:]) and told["most foreground"] == pytest.approx(logit[0])
    scale = np.sqrt(np.prod([0.5, 1.0, 2.0]) ** (1 / 3) * np.prod([0.5, 1.0, 1.0]) ** (1 / 3))
    assert told["votes apart"][0] == pytest.approx(np.log(0.5 / scale + 0.02))
    assert told["sizes apart"][0] == pytest.approx(np.log(2) / 3)
    # Neither the unit nor the origin matters, however improbable an object is.
    votes[2] = 1e-5 * np.array([1, 5, 5, 5, 0, 0, 0])
    moved = np.concatenate([
        votes[:, :1], 100 * (votes[:, 1:4] + votes[:, :1] * [3, -70, 20]), votes[:, 4:] + votes[:, :1] * np.log(100)
    ], 1)  # fmt: skip
    np.testing.assert_allclose(vote_features(pair, moved), vote_features(pair, votes), rtol=1e-9)


def test_boxes_that_touch_and_look_alike_are_two_by_their_votes() -> None:
    room = floor().box((-0.3, 0, 0), (0.6, 0.6, 0.6), 1, 1).box((0.3, 0, 0), (0.6, 0.4, 0.4), 1, 1)
    surface, features = room.surface(0.004), [room.features()]
    true = np.where(room.instances > 0, 1 + (surface.xyz[:, 0] > 0), 0)
    by_form = find_instances(surface, features, config=INDOOR)
    assert by_form.count == 1
    masks = [np.flatnonzero(true == 1), np.flatnonzero(true == 2)]
    seen = proposals(surface, true, np.where(true > 0, 0.95, 0.01), masks, [0.8, 0.8])
    found = find_instances(surface, features, propose=lambda made: seen, config=INDOOR)
    assert found.count == 2
    for number, mask in enumerate(masks, 1):
        own = found.instance == number  # the larger box is the first
        common = own[mask].sum()
        assert common / (len(mask) + own.sum() - common) > 0.7


def test_what_the_head_takes_for_an_object_is_no_layout() -> None:
    """A mat that looks nearly like the floor that it lies on."""
    room = floor()
    surface, features = room.surface(0.004), [room.features()]
    mat = (np.abs(surface.xyz[:, :2]) < 0.4).all(1)
    by_form = find_instances(surface, features, config=INDOOR)
    assert (by_form.layout[mat] == FLOOR).mean() > 0.98
    seen = proposals(surface, mat.astype(np.int64), np.where(mat, 0.9, 0.01), [np.flatnonzero(mat)], [0.8])
    found = find_instances(surface, features, propose=lambda made: seen, config=INDOOR)
    assert (found.layout[mat] == FLOOR).mean() < 0.4 < 0.9 < (found.layout[~mat] == FLOOR).mean()
