"""Features are carried along a surface, not across its edges."""

import numpy as np

from ovseg3d.field.surface import Surface
from ovseg3d.points.smooth import SmoothConfig, smooth


def floor(side: int = 30) -> Surface:
    """A flat square of points, its left half red and its right half blue."""
    x, y = np.meshgrid(np.arange(side), np.arange(side))
    xyz = np.stack([x.ravel(), y.ravel(), np.zeros(side * side)], -1).astype(np.float32)
    rgb = np.where(xyz[:, :1] < side / 2, [200, 40, 40], [40, 40, 200]).astype(np.uint8)
    ones = np.ones(len(xyz), np.float32)
    return Surface(
        xyz, np.tile([0.0, 0, 1], (len(xyz), 1)).astype(np.float32), rgb, ones, ones, np.array([0, 0, 1.0]), True
    )


def test_an_edge_of_colour_gets_sharp_where_features_are_blurred() -> None:
    surface = floor()
    left = surface.xyz[:, 0] < 15
    share = np.clip((surface.xyz[:, 0] - 15) / 8 + 0.8, 0, 1)  # the features' edge is soft, and in the wrong place
    vectors = np.stack([1 - share, share], -1).astype(np.float32)
    before = (vectors.argmax(1) == ~left).mean()
    after = smooth(vectors, surface, np.ones(len(left), np.float32))
    assert before < 1 and (after.argmax(1) == ~left).mean() > before
    # Nothing crosses: what stood on the left before stands there afterwards, on the whole.
    np.testing.assert_allclose(after[left].mean(0), vectors[left].mean(0), atol=0.03)


def test_an_edge_of_direction_stops_features_too() -> None:
    surface = floor()
    left = surface.xyz[:, 0] < 15
    normal = np.where(left[:, None], [0.0, 0, 1], [1.0, 0, 0]).astype(np.float32)
    plain = Surface(
        surface.xyz, normal, np.full_like(surface.rgb, 128), surface.confidence, surface.cell, surface.up, True
    )
    vectors = np.stack([left, ~left], -1).astype(np.float32)
    assert (smooth(vectors, plain, np.ones(len(left), np.float32)).argmax(1) == ~left).all()


def test_a_lone_mistake_is_voted_down_and_a_point_unlike_all_others_keeps_its_own() -> None:
    surface = floor()
    vectors = np.tile(np.float32([1, 0]), (len(surface), 1))
    odd = 5 * 30 + 5
    vectors[odd] = [0, 1]
    ones = np.ones(len(surface), np.float32)
    assert smooth(vectors, surface, ones)[odd].argmax() == 0
    surface.rgb[odd] = [40, 220, 40]
    assert smooth(vectors, surface, ones)[odd].argmax() == 1


def test_nothing_to_do() -> None:
    surface, ones = floor(4), np.ones(16, np.float32)
    vectors = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
    assert (smooth(vectors, surface, ones, SmoothConfig(steps=0)) == vectors).all()
    one = surface.take(np.arange(1))
    assert (smooth(vectors[:1], one, ones[:1]) == vectors[:1]).all()
    np.testing.assert_allclose(smooth(np.ones((16, 3), np.float32), surface, ones), 1, atol=1e-5)
