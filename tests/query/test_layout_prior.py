"""The layout prior: instances are not named after planes, and planes only after themselves."""

import numpy as np

from ovseg3d.instances.layout import CEILING, FLOOR, NONE, WALL
from ovseg3d.query.layout_prior import LOG_ODDS, layout_log_odds, may_oppose, plane_of

PHRASES = ("floor", "a white wall", "wall", "rug", "the ceiling")
PLANE = np.array([FLOOR, WALL, FLOOR, NONE, WALL])
INSTANCE = np.array([0, 0, 0, 3, 4])
COSINES = np.array(
    [
        [0.1, 0.3, 0.2, 0.2, 0.0],  # on the floor, and looks like a white wall
        [0.5, 0.2, 0.1, 0.3, 0.0],  # on a wall, and looks like floor
        [0.1, 0.1, 0.1, 0.4, 0.2],  # on the floor, and looks like a rug
        [0.5, 0.1, 0.1, 0.3, 0.0],  # an instance that looks like floor
        [0.1, 0.6, 0.1, 0.2, 0.0],  # an instance on a wall that looks like it
    ],
    np.float32,
)


def test_a_phrase_names_a_plane_by_its_last_word() -> None:
    assert [plane_of(p) for p in ("Floor", "a white wall", "red walls", "ceiling")] == [FLOOR, WALL, WALL, CEILING]
    others = ("ceiling light", "wall clock", "floor lamp", "", "mug", "a picture on the wall", "the lamp near a wall")
    assert [plane_of(p) for p in others] == [NONE] * len(others)
    assert [plane_of(p) for p in ("Floor.", "a wall?", '"ceiling"')] == [FLOOR, WALL, CEILING]
    assert [plane_of(p) for p in ("the wall behind the sofa", "on the wall", "top of the wall")] == [WALL, NONE, NONE]


def test_what_shares_a_word_is_no_rival_but_for_a_plane() -> None:
    for name, phrase in (("chair", "office chairs"), ("wall", "a white wall"), ("a white wall", "wall")):
        assert not may_oppose(name, phrase)
    for name, phrase in (("floor", "floor lamp"), ("wall", "wall picture"), ("wall", "picture on the wall")):
        assert may_oppose(name, phrase)
    assert not may_oppose("a lamp", "floor lamp") and may_oppose("mug", "a cup")


def test_planes_and_instances_change_the_odds_of_words_that_name_planes() -> None:
    odds = layout_log_odds(PHRASES, PLANE, INSTANCE)
    step = LOG_ODDS
    np.testing.assert_array_equal(odds[0], [step, -step, -step, 0, -step])
    np.testing.assert_array_equal(odds[1], [-step, step, step, 0, -step])
    np.testing.assert_array_equal(odds[3:], [[-step, -step, -step, 0, -step]] * 2)
    told = [PHRASES[i] for i in (COSINES * 10 + odds).argmax(1)]
    assert told == ["floor", "a white wall", "floor", "rug", "a white wall"]
    sure = [PHRASES[i] for i in (COSINES * 100 + odds).argmax(1)]
    assert sure == ["a white wall", "floor", "rug", "floor", "a white wall"], (
        "features that are sure have the last word"
    )


def test_without_such_words_nothing_changes() -> None:
    assert not layout_log_odds(("rug",), PLANE, INSTANCE).any()
    free = np.zeros(5, np.int64)
    assert not layout_log_odds(PHRASES, free, free).any()
