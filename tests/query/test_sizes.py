"""The size prior: the table of sizes, extents by hand, densities against scipy, and the estimate of scale."""

import numpy as np
import pytest
from scipy.stats import norm

from ovseg3d.field.surface import Surface
from ovseg3d.query.layout_prior import plane_of
from ovseg3d.query.sizes import (
    ANY_SIZE,
    MIN_DEVIATION,
    OUTLIERS,
    RESOLUTION,
    SIZES,
    extents,
    likeliest_scale,
    size_log_odds,
    size_of,
)


def room(boxes: list[tuple[float, float, float]], up: int = 2, points: int = 4000) -> tuple[Surface, np.ndarray]:
    """Boxes of these sizes full of points, turned by 30 degrees about `up`, which may be any axis; and their ids."""
    random, xyz, ids = np.random.default_rng(0), [], []
    turn = np.array([[0.5 * 3**0.5, -0.5, 0], [0.5, 0.5 * 3**0.5, 0], [0, 0, 1]])
    for number, size in enumerate(boxes, start=1):
        xyz.append((random.uniform(-0.5, 0.5, (points, 3)) * size) @ turn.T + (5 * number, 0, 1))
        ids.append(np.full(points, number))
    order = np.roll([0, 1, 2], up - 2)
    count = len(boxes) * points
    surface = Surface(
        np.float32(np.concatenate(xyz)[:, np.argsort(order)]), np.zeros((count, 3), np.float32),
        np.zeros((count, 3), np.uint8), np.ones(count, np.float32), np.full(count, 0.02, np.float32),
        np.eye(3)[order[2]], True,
    )  # fmt: skip
    return surface, np.concatenate(ids)


def test_what_a_phrase_is_about() -> None:
    for phrase in ("Mug", "a red mug", "two mugs", "mugs on the table", "coffee-mug near a sofa"):
        assert size_of(phrase) == SIZES["mug"], phrase
    assert size_of("glass table") == SIZES["table"] and size_of("coffee table") == SIZES["coffee table"]
    assert size_of("boxes") == SIZES["box"] and size_of("dishwasher") == SIZES["dishwasher"]
    assert [size_of(p) for p in ("elephant", "", "  ", "on the table", "mug holder")] == [
        None,
        None,
        None,
        SIZES["table"],
        None,
    ]


def test_compounds_toys_and_stops() -> None:
    meant = {
        "a trash can.": "bin", "chest of drawers by the bed": "dresser", "a toy piano": "toy", "red mug?": "mug",
        "trash-can": "bin", "flower": "flowers", "(Bedside table)": "night stand", "a notebook computer": "laptop",
        "shelves": "shelf",
        "book lying on the table": "book", "mug left of the laptop": "mug", "a chair next to the desk": "chair",
        "a pair of brown shoes": "shoe", "shelf near the toy": "shelf", "two knives": "knife", "stack of books": "book",
        "a standing lamp": "lamp", "the left shoe": "shoe", "a lamp standing on a desk": "lamp",
        "the picture hanging left": "picture", "a hanging plant": "plant",
        "an orange standing lamp": "lamp", "a paper hanging lamp": "lamp",
    }  # fmt: skip
    for phrase, word in meant.items():
        assert size_of(phrase) == SIZES[word], phrase
    assert (
        size_of("a toy") == SIZES["toy"] and size_of("toyshop") is None and size_of("trash candle") == SIZES["candle"]
    )
    assert size_of("a gizmo standing on the table") is None


def test_the_table_is_of_things_that_are_as_large_as_one_would_say() -> None:
    assert len(SIZES) > 150 and not any(plane_of(word) for word in SIZES)
    for word, (width, height, *spread) in SIZES.items():
        assert (
            RESOLUTION / 2 < np.exp(width) < 4 and RESOLUTION / 2 < np.exp(height) < 4 and min(spread) >= MIN_DEVIATION
        ), word
    for small, large in (("mug", "bin"), ("chair", "sofa"), ("night stand", "wardrobe"), ("laptop", "television")):
        assert sum(SIZES[small][:2]) < sum(SIZES[large][:2])


@pytest.mark.parametrize("up", [0, 1, 2])
def test_extents_of_boxes(up: int) -> None:
    surface, ids = room([(2.0, 0.9, 0.8), (0.3, 0.3, 1.2)], up)
    ids = np.where(ids == 2, 3, ids)
    found = extents(surface, ids)
    assert found.shape == (4, 3) and not found[[0, 2]].any()
    assert found[1, 0] == pytest.approx(2.0, rel=0.08) and found[1, 1] == pytest.approx(0.8, rel=0.06)
    assert found[3, 0] == pytest.approx(0.3, rel=0.15) and found[3, 1] == pytest.approx(1.2, rel=0.06)
    np.testing.assert_allclose(found[[1, 3], 2], 0.02, rtol=1e-6)


def test_a_flat_thing_is_as_thin_as_a_cell() -> None:
    surface, ids = room([(1.5, 1.0, 0.0)])
    assert extents(surface, ids)[1, 1] == pytest.approx(0.02)


def test_likelihoods_against_scipy() -> None:
    extent = np.array([[0, 0, 0], [0.5, 0.8, 0.08], [1.9, 0.8, 0.02], [9.0, 9.0, 0.02]])

    def density(instance: np.ndarray, word: str) -> float:
        size = SIZES[word]
        spread = [np.hypot(size[2 + side], max(instance[2], RESOLUTION) / instance[side]) for side in (0, 1)]
        return float(np.prod([norm.pdf(np.log(instance[side]), size[side], spread[side]) for side in (0, 1)]))

    found = size_log_odds(extent, [SIZES["chair"], None, SIZES["sofa"]])
    assert found.shape == (4, 3) and not found[0].any(), "nothing says nothing"
    for row in (1, 2, 3):
        usual = np.mean([density(extent[row], word) for word in SIZES])
        for column, word in ((0, "chair"), (2, "sofa")):
            told = np.log((1 - OUTLIERS) * density(extent[row], word) / usual + OUTLIERS)
            assert found[row, column] == pytest.approx(told, abs=1e-6)
        told = np.log((1 - OUTLIERS) * min(np.exp(ANY_SIZE) / usual, 1) + OUTLIERS)
        assert found[row, 1] == pytest.approx(told, abs=1e-6) and told >= np.log(OUTLIERS)
    assert found[1, 0] > 1 > np.log(OUTLIERS) + 0.1 > found[1, 2] and found[2, 2] > 0 > found[2, 0]
    assert found[3, 1] == pytest.approx(0), "a piece of wall is no ship for its size"
    assert size_log_odds(extent, []).shape == (4, 0) and not size_log_odds(extent[:1], [None]).any()


THINGS = {
    "chair": (0.5, 0.5, 0.9), "sofa": (2.0, 0.9, 0.85), "desk": (1.4, 0.7, 0.75), "bin": (0.3, 0.3, 0.4),
    "door": (0.9, 0.05, 2.0), "mug": (0.1, 0.1, 0.1), "television": (1.1, 0.1, 0.65), "rug": (2.0, 1.5, 0.02),
    "bookshelf": (0.9, 0.3, 1.8), "ball": (0.22, 0.22, 0.22),
}  # fmt: skip


@pytest.mark.parametrize("unit", [0.25, 1.0, 7.0])
def test_a_scale_is_found_by_what_things_look_like(unit: float) -> None:
    surface, ids = room(list(THINGS.values()), points=500)
    extent = extents(surface, ids) / unit  # as many units as a metre has
    names, count = list(THINGS), np.bincount(ids)
    looks = np.zeros((len(extent), len(names)))
    looks[1:] = 4 * np.eye(len(names))
    looks[3] = looks[2]  # one is taken for another
    sizes = [size_of(name) for name in names]
    found = likeliest_scale(extent, looks, sizes, count)
    assert found == pytest.approx(unit, rel=0.15)
    assert likeliest_scale(extent[:2], looks[:2], sizes, count[:2]) is None, "one chair may be a toy"
    assert likeliest_scale(extent, looks, [None] * len(names), count) is None
    strange = np.concatenate([looks, np.full((len(extent), 1), 12.0)], 1)
    assert likeliest_scale(extent, strange, [*sizes, None], count) is None, "all look like what may be of any size"
    for end in (4e-4, 2300):
        assert likeliest_scale(extent * unit / end, looks, sizes, count) is None, "beyond what is tried"
    assert likeliest_scale(extent[:1], looks[:1], sizes, count[:1]) is None
