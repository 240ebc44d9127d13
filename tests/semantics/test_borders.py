"""What speaks against a border: small shapes whose answers are known."""

import numpy as np
import pytest

from ovseg3d.field.surface import Sight
from ovseg3d.semantics.borders import BorderConfig, Price, bends, tint, votes, weigh
from ovseg3d.semantics.graph import Contacts

ROOT = 2**-0.5


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
    assert tint(np.array([[0.5, 0.1, -0.2]])) == pytest.approx(np.array([[0.1, -0.2]]))


def test_photos_vote_by_how_their_regions_end() -> None:
    """Three patches in a row; both photos see all, and have one region over the first two."""
    patch = np.repeat([0, 1, 2], 4)
    xy = np.stack([(np.arange(12) + 0.5) / 12, np.full(12, 0.5)], -1)
    sight = Sight(np.arange(12), xy, np.ones(12), np.zeros(0, np.int64))
    region = np.repeat([5, 5, 9], 4)[None]
    pair = np.array([[0, 1], [1, 2]])
    # On one region: 1 and 0; usual is the median, 0.5.
    assert votes(pair, patch, 3, [sight] * 2, [region] * 2) == pytest.approx([-0.5, 0.5])
    assert votes(pair, patch, 3, [sight] * 2, []) == pytest.approx([0.0, 0.0])


def test_evidence_is_a_mean_over_the_border() -> None:
    config = BorderConfig(step=10.0, bend=4.0, vote=1.0, leaves=3.0)
    border = Contacts(np.array([[0, 1], [1, 2], [2, 3]]), np.array([[4.0, 0.4, 0.8], [2.0, 0.0, 4.0], [2.0, 0.0, 1.0]]))
    found = weigh(border, np.array([0, 0, 1, 1]), np.array([0.5, 0.0, 0.0]), config)
    # 10 * 0.1 + 4 * 0.2 + 0.5; a bend beyond the deepest, onto a plane; within a plane bends are noise.
    assert found.sums[:, 0] == pytest.approx([4, 2, 2])
    assert found.sums[:, 1] / found.sums[:, 0] == pytest.approx([2.3, 4 * 0.5 + 3, 0.0])


def test_small_regions_merge_though_more_speaks_against_it() -> None:
    price = Price(BorderConfig(look=1.0, tint=0.0, limit=2.0, small=30.0, seam=0.0))
    contact = Contacts(np.array([[0, 1]]), np.array([[5.0, 15.0]]))  # 3 for each edge
    means = np.array([[0.0, 0.5, 0, 0], [1.0, 0.5, 0, 0]])  # looks 1 apart, one colour
    assert price(contact, np.array([1000.0, 10.0]), means) == pytest.approx(4 / (2 + 3))
    assert price(contact, np.array([1000.0, 300.0]), means) == pytest.approx(4 / (2 + 0.1))
