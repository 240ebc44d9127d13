"""Teaching the network of `borders`: lessons from a room made by hand, and what is learnt from lessons."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from test_instances import floor  # noqa: E402
from train_borders import ROOM, Lessons, Material, Points, _best, by_hand, lessons, material, teach  # noqa: E402

from ovseg3d.semantics.borders import MEASURES  # noqa: E402


def room_of_two() -> Points:
    made = floor(2.0).box((-0.25, 0, 0), (0.5, 0.5, 0.5), 1, 1).box((0.25, 0, 0), (0.5, 0.5, 0.3), 2, 2)
    true = np.where(made.things > 0, made.things, ROOM + 1)
    return Points("two", made.surface(0.003), [made.features(), made.features()], [], [], true)


def test_lessons_are_pairs_of_one_thing_and_of_two() -> None:
    points = room_of_two()
    full = material(points)
    assert len(full.ways) == 7 and {share for _, share in full.ways} == {1.0, 0.3, 0.2, 0.1, 0.02}
    own = Material(full.scene, full.true, full.ways[:1])
    dear = lambda told: by_hand(told) + 5  # noqa: E731  so that parts of one thing stay apart for a while
    found = lessons(own, dear)
    assert found.told.shape == (len(found.two), len(MEASURES)) and np.isfinite(found.told).all()
    assert found.two.any() and not found.two.all()
    # These features tell things apart nearly always.
    look = found.told[:, MEASURES.index("look")]
    assert np.median(look[found.two]) > 2 * np.median(look[~found.two])
    unknown = Material(full.scene, np.zeros_like(full.true), full.ways[:1])
    assert len(lessons(unknown, dear).two) == 0


def test_what_is_taught_is_learnt() -> None:
    """Two things where a bend or a step is there, but not both: no sum of measures says that."""
    random = np.random.default_rng(0)

    def scene() -> Lessons:
        told = random.normal(size=(4000, len(MEASURES)))
        return Lessons(told, (told[:, 0] > 0) != (told[:, 1] > 0), random.uniform(0.5, 1.5, 4000))

    judge, unseen = teach([[scene()], [scene(), scene()]]), scene()
    right = (judge(unseen.told) > 0) == unseen.two
    assert right.mean() > 0.9


def test_each_true_thing_is_held_against_its_best_match() -> None:
    ids = np.array([1] * 20 + [2] * 10 + [0] * 10)
    true = np.array([1] * 16 + [2] * 14 + [ROOM + 3] * 10)
    assert _best(ids, true) == pytest.approx([16 / 20])  # the other has too few points
    assert _best(ids, true, least=1) == pytest.approx([16 / 20, 10 / 14])
