"""Portraits of things: which photos are chosen, what is cut out of them, and what points take of it."""

import numpy as np
import pytest
import torch
from fake_encoders import MeanColour, direction

from ovseg3d.field.surface import Sight
from ovseg3d.semantics.basis import Basis, fit_basis
from ovseg3d.semantics.portraits import PortraitConfig, Pose, add_portraits, choose_poses, portray

NOTHING = np.zeros(0, np.int32)
RED, BLUE = (200, 20, 20), (20, 20, 200)


def square(first: int, count: int, left: float, side: float, weight: float = 1.0) -> Sight:
    """A view of points `first`... in a square of that side at (left, 0.2), on a lattice without its border's jitter."""
    along = np.linspace(0, side, round(count**0.5))
    x, y = np.meshgrid(left + along, 0.2 + along)
    points = np.arange(first, first + x.size, dtype=np.int32)
    return Sight(points, np.stack([x.ravel(), y.ravel()], -1).astype(np.float32), np.full(x.size, weight), NOTHING)


def both(*sights: Sight) -> Sight:
    return Sight(*(np.concatenate(parts) for parts in zip(*(vars(sight).values() for sight in sights))))


def test_photos_that_show_more_of_a_thing_or_show_it_larger_are_chosen() -> None:
    ids = np.repeat([1, 2, 0], 100)
    small, large, faint = (square(0, 100, 0.1, side, w) for side, w in ((0.1, 1.0), (0.4, 1.0), (0.4, 0.1)))
    views = [small, both(large, square(100, 100, 0.6, 0.3)), faint, both(square(200, 100, 0.0, 0.9))]
    poses = choose_poses(ids, views, PortraitConfig(views=2, stray=0.0))
    assert [(pose.view, pose.thing) for pose in poses] == [(0, 1), (1, 1), (1, 2)], "nothing of points without a thing"
    assert poses[1].box == pytest.approx((0.1, 0.2, 0.5, 0.6), abs=1e-6)
    assert poses[2].box == pytest.approx((0.6, 0.2, 0.9, 0.5), abs=1e-6)


def test_ragged_points_do_not_stretch_a_box() -> None:
    sight = square(0, 400, 0.4, 0.2)
    sight.xy[0], sight.xy[-1] = (0.0, 0.0), (1.0, 1.0)
    (pose,) = choose_poses(np.ones(400, int), [sight], PortraitConfig(stray=0.02))
    assert pose.box == pytest.approx((0.4, 0.2, 0.6, 0.4), abs=0.02)


def test_a_portrait_is_the_mean_of_what_its_crops_show() -> None:
    photo = np.zeros((40, 60, 3), np.uint8)
    photo[:], photo[10:30, 30:50] = BLUE, RED
    read = []

    def give(view: int) -> np.ndarray:
        read.append(view)
        return photo

    clip, done = MeanColour(), []
    poses = [
        Pose(2, 0, (0.5, 0.25, 50 / 60, 0.75)),
        Pose(3, 1, (0.0, 0.0, 0.4, 0.5)),
        Pose(2, 1, (0.5, 0.25, 40 / 60, 0.5)),
    ]
    config = PortraitConfig(context=(0.0,), batch=2)
    found = portray(poses, give, clip, 3, config, lambda crops, total: done.append((crops, total)))
    red, blue = (direction(torch.tensor(colour) / 255.0).numpy() for colour in (RED, BLUE))
    np.testing.assert_allclose(found, np.stack([0 * red, red, blue]), atol=1e-3)
    assert read == [0, 1] and done == [(2, 3), (3, 3)]
    # With half of its side around it on each side, a quarter of the crop is the thing.
    wide = portray(poses[:1], give, clip, 2, PortraitConfig(context=(0.5,)))[1]
    mean = (np.array(RED) + 3 * np.array(BLUE)) / 4 / 255
    np.testing.assert_allclose(wide, direction(torch.tensor(mean, dtype=torch.float32)).numpy(), atol=0.02)


def test_points_take_a_share_that_the_basis_can_hold() -> None:
    """The portrait points out of the old basis; afterwards cosines are those of the full vectors."""
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(size=(16, 3)))[0].astype(np.float32)
    vectors = rng.normal(size=(600, 3)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = np.repeat([0, 1, 2], 200)
    portraits = np.stack([np.eye(16, dtype=np.float32)[5], np.zeros(16, np.float32)])
    wide = Basis(np.pad(axes, ((0, 0), (0, 3))), 0.0)
    basis, mixed = add_portraits(wide, np.pad(vectors, ((0, 0), (0, 3))), ids, portraits, 0.4)
    full = vectors @ axes.T
    full[ids == 1] = 0.6 * full[ids == 1] + 0.4 * portraits[0]
    full /= np.linalg.norm(full, axis=1, keepdims=True)
    asked = rng.normal(size=(16, 5)).astype(np.float32)
    np.testing.assert_allclose(basis.expand(mixed) @ asked, full @ asked, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(mixed, axis=1), 1, atol=1e-4)


def test_nothing_to_portray_changes_nothing() -> None:
    assert choose_poses(np.zeros(100, int), [square(0, 100, 0.1, 0.2)]) == []
    clip = MeanColour()
    none = portray([], lambda view: np.zeros((4, 4, 3), np.uint8), clip, 2)
    assert none.shape == (2, clip.dim) and not none.any() and not clip.crops
    vectors = np.eye(4, dtype=np.float32)[np.arange(40) % 3]
    basis = fit_basis(vectors, 3)
    same = add_portraits(basis, basis.reduce(vectors), np.ones(40, int), none[:1], 0.5)
    np.testing.assert_allclose(same[0].expand(same[1]), vectors, atol=1e-5)
