"""The layout prior: instances are not named after planes, and planes only after themselves."""

import numpy as np

from ovseg3d.instances.layout import CEILING, FLOOR, NONE, WALL
from ovseg3d.query.layout_prior import NEVER, bare_plane_of, may_oppose, plane_of, with_layout

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


def test_a_bare_name_says_nothing_else_of_its_plane() -> None:
    assert [bare_plane_of(p) for p in ("Floor", "the walls!", "a  ceiling.")] == [FLOOR, WALL, CEILING]
    others = ("a white wall", "white walls", "ceiling light", "the", "a", "", "mug", "a picture on the wall", "wall a")
    assert [bare_plane_of(p) for p in others] == [NONE] * len(others)


def test_planes_and_things_decide_among_the_words_that_name_planes() -> None:
    before = COSINES.copy()
    told = with_layout(COSINES, PHRASES, PLANE, INSTANCE)
    assert (COSINES == before).all()
    assert [PHRASES[i] for i in told.argmax(1)] == ["floor", "a white wall", "rug", "rug", "rug"]
    # What a plane is takes the place of what it was taken for; a rug is as likely as before.
    np.testing.assert_allclose(told[0], [0.3, NEVER, NEVER, 0.2, NEVER])
    np.testing.assert_allclose(told[1, 1:3], [0.5, 0.4], atol=1e-6)
    np.testing.assert_allclose(told[3:, [0, 1, 2, 4]], NEVER)
    np.testing.assert_allclose(told[:, 3], COSINES[:, 3])


def test_without_such_words_nothing_changes() -> None:
    assert with_layout(COSINES[:, 3:4], ("rug",), PLANE, INSTANCE) is not None
    np.testing.assert_array_equal(with_layout(COSINES[:, 3:4], ("rug",), PLANE, INSTANCE), COSINES[:, 3:4])
    free = np.zeros(5, np.int64)
    np.testing.assert_array_equal(with_layout(COSINES, PHRASES, free, free), COSINES)
